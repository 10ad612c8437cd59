// Who changed what: entries as sentences, older ones on demand.

import { ask, empty, failure, page, query, say, stamp } from "./app.js";
import { listen } from "./live.js";
import { byId, el, typed } from "./theme/elements.js";
import { count, moment, plain } from "./words.js";

const LIMIT = 50;
const WORDS = {
  change_settings: "changed the settings of", resolve_alarm: "resolved an alarm of", pin: "pinned a revision of", unpin: "unpinned",
  create_token: "made a token", revoke_token: "revoked a token", open_session: "logged in with", decide_review: "decided a case of",
  correct_review: "corrected a case of", import_reviews: "imported decisions for", publish: "published a revision of",
};
let entries = [], next = null;

/** What changed: pairs of before and after as such, anything else as it is. */
function details(detail) {
  if (detail === null || detail === undefined) return null;
  if (typeof detail !== "object" || Array.isArray(detail)) return el("p", { class: "soft" }, typed(plain(detail)));
  const pairs = Object.entries(detail);
  if (!pairs.length) return null;
  const said = (key, value) => (Array.isArray(value) && value.length === 2 ? [typed(plain(value[0])), " → ", typed(plain(value[1]))] : [typed(key.endsWith("_at") && typeof value === "number" ? moment(value) : plain(value))]);
  const every = ([key, value]) => key === "models" && value === null; // a token without a list of models is for all of them
  return el("dl", { class: "facts" }, ...pairs.map((pair) => (every(pair) ? ["models", "all"] : pair)).flatMap(([key, value]) => [el("dt", {}, typed(key.replaceAll("_", " "))), el("dd", {}, ...said(key, value))]));
}

function item(entry) {
  const time = el("time", { datetime: new Date(entry.at * 1000).toISOString() }, moment(entry.at));
  return el("li", {}, el("p", {}, time, " ", el("span", { class: "who" }, typed(entry.actor)), " ", typed(Object.hasOwn(WORDS, entry.action) ? WORDS[entry.action] : String(entry.action).replaceAll("_", " ")), " ", entry.subject ? typed(plain(entry.subject)) : ""), details(entry.detail));
}

function draw() {
  const wanted = byId("find").value.trim().toLowerCase();
  const found = wanted ? entries.filter((entry) => JSON.stringify(entry).toLowerCase().includes(wanted)) : entries;
  const place = byId("entries");
  place.setAttribute("aria-busy", "false");
  byId("found").textContent = entries.length ? `${count(found.length)} of ${count(entries.length)} shown entries` : "";
  byId("older").hidden = next === null;
  place.replaceChildren(entries.length ? el("ol", { class: "trail" }, ...found.map(item)) : empty(el("p", {}, "Nothing was changed yet. Thresholds, pins, decisions and tokens leave a line here.")));
}

async function load(before = null) {
  try {
    const found = await ask(`/audit${query({ limit: LIMIT, before })}`);
    entries = before === null ? found.entries : [...entries, ...found.entries];
    next = found.next;
    draw();
    stamp(byId("asof"));
  } catch (error) {
    if (entries.length) say(error.message);
    else byId("entries").replaceChildren(failure(error, () => load()));
  }
}

byId("older").addEventListener("click", () => load(next));
byId("find").addEventListener("input", draw);
byId("filter").addEventListener("submit", (event) => event.preventDefault());
// Only the first page is fetched again: whoever reads further back stays there.
listen(() => null, () => { if (entries.length <= LIMIT) load(); });
if (page.name) load();
