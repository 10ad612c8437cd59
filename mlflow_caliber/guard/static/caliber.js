// What the guard's pages share: asking the server. Texts are put in as text, never as markup.

import { byId, el, typed } from "./elements.js";

export { byId, el, facts, interval, number, signed, sure, typed } from "./elements.js";

const SIGNS = { pass: "✓", passed: "✓", fail: "✕", failed: "✕", inconclusive: "?", overridden: "!" };
const FLASH = "caliber-said";

/** The body's data attributes: the server's base path and what the page is about. */
export const page = document.body.dataset;

export const status = (kind) =>
  el("span", { class: `status ${Object.hasOwn(SIGNS, kind) ? kind : "other"}` },
    el("span", { "aria-hidden": "true" }, SIGNS[kind] ?? "·"), ` ${kind}`);

export const address = (path, values) => `${page.base}${path}?${new URLSearchParams(values)}`;

export const get = (path, values) => ask(address(`/ajax-api/2.0/caliber/${path}`, values), {});

export const post = (path, body) =>
  ask(`${page.base}/ajax-api/2.0/caliber/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

/** The answer as an object; an Error with the server's sentence otherwise. */
async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, { ...options, credentials: "same-origin", cache: "no-store" });
  } catch {
    throw new Error("The server cannot be reached. Nothing was changed as far as is known; look again before you repeat it.");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  throw new Error(body?.message || `The server answered ${response.status} without a reason.`);
}

/** A sentence in the place for answers. */
export function say(sentence, { wrong = false } = {}) {
  const place = byId("said");
  place.replaceChildren(typed(sentence));
  place.classList.toggle("wrong", wrong);
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" });
}

/** Do something that writes: once at a time, refusals as sentences, and on success the page anew with the answer on it. */
export async function act(button, work) {
  const buttons = [...document.querySelectorAll("button")].filter((each) => !each.disabled && !each.closest("dialog"));
  buttons.forEach((each) => { each.disabled = true; });
  const label = button.textContent;
  button.textContent = `${label} …`;
  try {
    const sentence = await work();
    sessionStorage.setItem(FLASH, sentence);
    location.reload();
  } catch (error) {
    say(error.message, { wrong: true });
    button.textContent = label;
    buttons.forEach((each) => { each.disabled = false; });
    button.focus();
  }
}

const left = sessionStorage.getItem(FLASH);
if (left !== null) {
  sessionStorage.removeItem(FLASH);
  byId("flash").replaceChildren(typed(left));
  byId("flash").hidden = false;
}
