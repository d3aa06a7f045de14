// The plan as a form: what a target depends on can be changed, the rest is shown.

const LEVELS = ["L1", "L2", "L3", "L4", "interpectoral", "IMN"];
const CHOICES = ["side", "surgery", "volume", "guideline"];

export class PlanForm {
  #form;
  #fields = null;

  constructor(form, changed) {
    this.#form = form;
    for (const level of LEVELS) {
      const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "level", value: level });
      const label = document.createElement("label");
      label.append(box, ` ${level}`);
      form.querySelector("#levels").append(label);
    }
    form.addEventListener("change", () => {
      this.#show(this.read());
      changed(this.differences());
    });
  }

  clear() {
    this.#fields = null;
    this.#form.hidden = true;
  }

  // Whether these fields are the ones it was filled with.
  holds(fields) {
    return JSON.stringify(fields) === JSON.stringify(this.#fields);
  }

  fill(fields) {
    this.#fields = fields;
    const inputs = this.#form.elements;
    for (const name of CHOICES) inputs[name].value = fields[name] || "";
    for (const box of inputs.level) box.checked = fields.levels.includes(box.value);
    // Without a target there is no dose either, so the page has nothing to make another plan of.
    for (const input of [...CHOICES.map((name) => inputs[name]), ...inputs.level]) input.disabled = !fields.volume;
    this.#form.querySelector("#again").parentElement.hidden = !fields.volume;
    this.#show(fields);
    this.#form.hidden = false;
  }

  read() {
    const inputs = this.#form.elements;
    const edited = { ...this.#fields };
    for (const name of CHOICES) edited[name] = inputs[name].value || null;
    edited.levels = [...inputs.level].filter((box) => box.checked).map((box) => box.value);
    if (edited.volume === "chest wall") edited.boost = null;
    return edited;
  }

  // Names of the fields that differ from those it was filled with.
  differences() {
    const edited = this.read();
    return Object.keys(edited).filter((name) => JSON.stringify(edited[name]) !== JSON.stringify(this.#fields[name]));
  }

  // The fields that are only shown.
  #show(fields) {
    const shown = {
      boost: fields.boost ? `${fields.boost.kind}, ${dose(fields.boost.dose)}` : "none",
      dose: fields.dose ? dose(fields.dose) : "none",
      technique: fields.technique || "none",
    };
    for (const [name, text] of Object.entries(shown)) {
      this.#form.querySelector(`[data-field="${name}"] .value`).textContent = text;
    }
  }
}

export function dose(value) {
  return `${value.gy} Gy in ${value.fractions} fractions`;
}

export function inWords(plan) {
  return `${plan.side}, ${plan.volume}, ${plan.levels.join(" ") || "no nodes"}`;
}
