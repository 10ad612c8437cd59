// Building elements, and numbers in words. Texts are put in as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** Attributes and children on an element; children that are no elements become text. */
function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** An element with attributes and children. */
export const el = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

/** The same for the parts of a drawing. */
export const svg = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** A text that somebody typed: it keeps its direction to itself. */
export const typed = (text) => el("bdi", {}, String(text));

export const number = (value) => (value === null || value === undefined ? "–" : Number(value).toFixed(4));

export const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(4)}`;

export const interval = (low, high, write = number) =>
  (low === null || low === undefined ? "–" : `${write(low)} to ${write(high)}`);

/** A list of terms for a <dl class="facts">. */
export function facts(list, pairs) {
  list.replaceChildren(...pairs.filter((pair) => pair).flatMap(([term, ...said]) => [el("dt", {}, term), el("dd", {}, ...said)]));
}

/** Ask before something that cannot be taken back; resolves to whether the answer was yes. */
export function sure(title, text, yes) {
  const dialog = byId("sure");
  byId("sure-title").textContent = title;
  byId("sure-text").replaceChildren(typed(text));
  byId("sure-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
