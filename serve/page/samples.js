// Synthetic patients that the endpoint draws, to try it without anybody's data.

import { ask } from "./api.js";

// Fill `box` with a button for each; `chosen(sample, file)` is called with her CT once it is there.
export async function offer(box, state, chosen, failed) {
  const { samples } = await (await ask("/v1/samples")).json();
  const buttons = samples.map((sample) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: sample.title });
    button.dataset.name = sample.name;
    button.addEventListener("click", async () => {
      buttons.forEach((other) => (other.disabled = true));
      state.textContent = "Drawing her CT, some seconds the first time …";
      try {
        const blob = await (await ask(sample.ct)).blob();
        chosen(sample, new File([blob], `synthetic-${sample.name}.nii.gz`, { type: "application/gzip" }));
      } catch (error) {
        failed(error);
      } finally {
        state.textContent = "";
        buttons.forEach((other) => (other.disabled = false));
        if (document.activeElement === document.body) button.focus(); // it lost the focus while it was disabled
      }
    });
    return button;
  });
  box.querySelector(".choices").replaceChildren(...buttons);
  box.hidden = !buttons.length;
}

// Put a file into a file input, as if it had been chosen there.
export function put(input, file) {
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
}
