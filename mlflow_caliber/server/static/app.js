// What all pages share: asking the server, saying what went wrong, and parts of a page that load by themselves.

import { byId, el, sure, typed } from "./theme/elements.js";
import { clock } from "./words.js";

const API = `${document.body.dataset.base}/api/v1`;

/** What the page is about and who looks at it. */
export const page = {
  base: document.body.dataset.base,
  model: document.body.dataset.model,
  version: document.body.dataset.version,
  name: document.body.dataset.name,
  roles: document.body.dataset.roles.split(" ").filter(Boolean),
};

export const may = (role) => page.roles.includes("admin") || page.roles.includes(role);

/** A sentence of the server's, with its status; 0 stands for a server that did not answer. */
export class Refused extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

const part = (text) => encodeURIComponent(text);

/** The address of a model version in the API, or of a page about it. */
export const ofModel = (path = "", model = page.model, version = page.version) =>
  `/models/${part(model)}/versions/${part(version)}${path}`;
export const modelPage = (model, version) => `${page.base}/models/${part(model)}/${part(version)}`;
export const loginPage = () => `${page.base}/login?next=${part(location.pathname.slice(page.base.length) + location.search)}`;

/** Values that are set, as a query. */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

/** The answer as an object; a Refused with the server's sentence otherwise. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRF-Token"] = document.querySelector('meta[name="csrf"]').content;
  const options = { method, headers, body: JSON.stringify(body), credentials: "same-origin", cache: "no-store" };
  let response;
  try {
    response = await fetch(API + path, { ...options, signal: signal ?? AbortSignal.timeout(20_000) });
  } catch {
    const changed = method === "GET" ? "" : " Whether anything was changed is not known; look before you repeat it.";
    throw new Refused(`The server does not answer.${changed}`, 0);
  }
  const text = await response.text().catch(() => "");
  const answer = parsed(text);
  if (response.ok && (answer !== null || text === "")) return answer ?? {};
  if (response.status === 401) expired();
  throw new Refused(sentenceOf(answer) ?? `The server answered ${response.status} without a reason.`, response.status);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const sentenceOf = (answer) => (typeof answer?.detail === "string" ? answer.detail : answer?.title);

/** Put children into a place, unless they come from the same content as what is there. */
export function redraw(place, content, make) {
  const key = JSON.stringify(content);
  if (place.drawn === key) return false;
  place.drawn = key;
  place.replaceChildren(...[make(content)].flat().filter(Boolean));
  return true;
}

/** Something to draw again although its content is the same. */
export const forget = (place) => { place.drawn = undefined; };

/** A sentence in the page's place for answers. */
export function say(sentence, { wrong = true, place = "said" } = {}) {
  const said = byId(place);
  said.replaceChildren(typed(sentence));
  said.classList.toggle("wrong", wrong);
  said.hidden = false;
  said.scrollIntoView({ block: "nearest" });
}

export const unsay = (place = "said") => { byId(place).hidden = true; };

/** Ask first if there is something to ask, then do it once; refusals become sentences. Resolves to whether it was done. */
export async function act(button, work, question) {
  if (question && !(await sure(...question))) return false;
  button.disabled = true;
  unsay();
  try {
    const sentence = await work();
    if (sentence) say(sentence, { wrong: false });
    return true;
  } catch (error) {
    say(error.message);
    return false;
  } finally {
    button.disabled = false;
  }
}

/** When figures were fetched, beside them; the style says so loudly once the server is gone. */
export function stamp(place) {
  place.textContent = `as of ${clock(Date.now() / 1000)}`;
}

/**
 * A part of a page that loads by itself: `fetched` gives the content, `make` the elements.
 * It shows what it had when a later fetch fails, and a sentence with a button when the first one does. What the reader
 * has the focus in is not drawn anew, unless by `load.again`.
 */
export function panel(id, fetched, make) {
  const section = byId(id);
  const body = section.querySelector(".body");
  let turn = 0;
  const load = async () => {
    const mine = ++turn;
    try {
      const content = await fetched();
      if (mine !== turn || (body.drawn !== undefined && body.contains(document.activeElement))) return;
      redraw(body, content, make);
      stamp(section.querySelector(".asof"));
    } catch (error) {
      if (!(error instanceof Refused)) console.error(error);
      if (mine === turn && body.drawn === undefined) body.replaceChildren(failure(error, load));
    }
    section.setAttribute("aria-busy", "false");
  };
  return Object.assign(load, { again: () => { forget(body); return load(); } });
}

/** One request for all who ask while it is on its way. */
export function shared(fetched) {
  let coming = null;
  return () => (coming ??= fetched().finally(() => { coming = null; }));
}

export function failure(error, again) {
  const button = el("button", { type: "button" }, "Try again");
  button.addEventListener("click", again);
  return el("div", { class: "failure" }, el("p", {}, typed(error.message)), button);
}

export const empty = (...said) => el("div", { class: "empty" }, ...said);

/** How the first prediction is sent, for pages that have nothing to show yet. */
export function firstSteps(model = "churn", version = "1") {
  const where = `${location.origin}${API}/models/${part(model)}/versions/${part(version)}`;
  const lines = [
    `curl -X POST '${where}/predictions' \\`,
    "  -H 'Authorization: Bearer cal_…' -H 'Content-Type: application/json' \\",
    "  -d '{\"prediction_id\": \"a-1\", \"probability\": 0.83}'",
  ];
  return el("pre", {}, el("code", {}, lines.join("\n")));
}

// --- the banner and the header -----------------------------------------------------------------------------------------

export function banner(...said) {
  const place = byId("banner");
  place.hidden = said.length === 0;
  place.replaceChildren(...said);
}

let over = false;

/** The session has ended: nothing more can be asked. */
export function expired() {
  over = true;
  document.documentElement.toggleAttribute("data-gone", true);
  banner("Your session has ended. ", el("a", { href: loginPage() }, "Log in again"), "; you come back to this page.");
}

export const isOver = () => over;

const THEMES = ["auto", "light", "dark"];
const themeButton = byId("theme");
const themeNow = () => document.documentElement.dataset.theme ?? "auto";

function showTheme() {
  themeButton.textContent = `Theme: ${themeNow()}`;
}

themeButton.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(themeNow()) + 1) % THEMES.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("caliber-theme", next);
  } catch {
    // It then holds for this page only.
  }
  showTheme();
});
showTheme();

byId("logout")?.addEventListener("click", async () => {
  const csrf = document.querySelector('meta[name="csrf"]').content;
  await fetch(`${page.base}/logout`, { method: "POST", headers: { "X-CSRF-Token": csrf }, redirect: "manual" }).catch(() => null);
  location.assign(`${page.base}/login`);
});
