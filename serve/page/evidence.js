// Which sentences of the note support which field of the plan, shown on both sides: a field and its sentences light up
// together, whether the mouse, a finger or the keyboard is on the one or the other.
//
// The endpoint counts Unicode code points of the note as sent, a line end as one, however a form writes it; JavaScript
// counts UTF-16 units. So everything here is counted in code points.

export const FIELDS = {
  side: "Side", surgery: "Surgery", volume: "Volume", levels: "Nodes", boost: "Boost", dose: "Prescription",
  technique: "Technique", guideline: "Borders after",
};

export function asSent(note) {
  return note.trim().replace(/\r\n?/g, "\n");
}

// The pointers that can be shown: of known fields and within the note.
export function usable(note, pointers) {
  const length = Array.from(note).length;
  return (pointers || []).filter(
    ({ field, start, end }) =>
      field in FIELDS && Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start < end && end <= length,
  );
}

// The note cut wherever a sentence begins or ends: [{text, fields}], in order and without a gap.
export function pieces(note, pointers) {
  const points = Array.from(note);
  const cuts = new Set([0, points.length]);
  for (const { start, end } of pointers) cuts.add(start).add(end);
  const at = [...cuts].sort((a, b) => a - b);
  return at.slice(0, -1).map((start, number) => {
    const covering = pointers.filter((pointer) => pointer.start <= start && at[number + 1] <= pointer.end);
    const text = points.slice(start, at[number + 1]).join("");
    return { text, fields: [...new Set(covering.map(({ field }) => field))] };
  });
}

export class Links {
  // `view` shows the note; `rows` is the form whose children with data-field are the plan's fields.
  constructor(view, rows) {
    this.view = view;
    this.rows = rows;
    for (const part of [view, rows]) {
      for (const name of ["pointerover", "focusin", "click"]) {  // a finger only clicks
        part.addEventListener(name, (event) => this.#light(event.target));
      }
      part.addEventListener("focusout", () => this.#light(null));
      part.addEventListener("pointerleave", () => this.#light(document.activeElement));
    }
  }

  // Show a note. `pointers` null: nothing is known of its sentences (yet).
  show(note, pointers) {
    const found = pointers === null ? [] : usable(note, pointers);
    this.view.replaceChildren(
      ...pieces(note, found).map(({ text, fields }) => {
        if (!fields.length) return document.createTextNode(text);
        const mark = Object.assign(document.createElement("mark"), { textContent: text, tabIndex: 0 });
        mark.dataset.fields = fields.join(" ");
        mark.title = `Supports: ${fields.map((field) => FIELDS[field]).join(", ")}`;
        return mark;
      }),
    );
    for (const row of this.rows.querySelectorAll("[data-field]")) {
      const sentences = found.filter(({ field }) => field === row.dataset.field).length;
      this.#why(row, pointers === null ? null : sentences);
    }
  }

  // A value that the reader has changed is not the note's any more.
  edited(field, now) {
    const why = this.rows.querySelector(`[data-field="${field}"] .why`);
    const button = why.querySelector("button");
    why.classList.toggle("edited", now);
    if (now && !why.dataset.said) {
      why.dataset.said = why.textContent;
      (button || why).textContent = "changed by you";
    } else if (!now && why.dataset.said) {
      (button || why).textContent = why.dataset.said;
      delete why.dataset.said;
    }
  }

  #why(row, sentences) {
    const why = row.querySelector(".why");
    delete why.dataset.said;
    why.classList.remove("edited");
    why.classList.toggle("missing", sentences === 0);
    if (!sentences) {
      why.textContent = sentences === 0 ? "not found in the note" : "";
      return;
    }
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.textContent = sentences === 1 ? "1 sentence" : `${sentences} sentences`;
    button.setAttribute("aria-label", `${FIELDS[row.dataset.field]}: ${button.textContent} in the note`);
    button.addEventListener("click", () => this.view.querySelector("mark.lit")?.focus());
    why.replaceChildren(button);
  }

  // Light up what belongs to an element: a sentence and its fields, or a field and its sentences.
  #light(element) {
    const mark = element?.closest?.("mark");
    const row = element?.closest?.("[data-field]");
    const fields = mark ? fieldsOf(mark) : row ? [row.dataset.field] : [];
    for (const other of this.view.querySelectorAll("mark")) {
      const lit = mark ? other === mark : fieldsOf(other).some((field) => fields.includes(field));
      other.classList.toggle("lit", lit);
    }
    for (const other of this.rows.querySelectorAll("[data-field]")) {
      other.classList.toggle("lit", fields.includes(other.dataset.field));
    }
    const first = this.view.querySelector("mark.lit");
    if (first && !mark) reveal(this.view, first);
  }
}

function fieldsOf(mark) {
  return mark.dataset.fields.split(" ");
}

// Scroll the box to the sentence, and nothing but the box.
function reveal(box, mark) {
  const [outer, inner] = [box.getBoundingClientRect(), mark.getBoundingClientRect()];
  if (inner.top < outer.top) box.scrollTop -= outer.top - inner.top + 8;
  else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + 8;
}
