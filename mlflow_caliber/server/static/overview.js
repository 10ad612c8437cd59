// All models: how each is at a glance, worst first, and kept up to date by the server's frames.

import { ask, empty, failure, firstSteps, modelPage, page, query, stamp } from "./app.js";
import { listen, seldom } from "./live.js";
import { byId, el, svg, typed } from "./theme/elements.js";
import { STATES, count, figure, ofKind, range, severityBadge, share, since, stateBadge, stateOf } from "./words.js";

const HEADS = ["Model", "How it is", "ECE", "Labelled", "Abstained", "Reviews", "Alarms", "Last prediction"];
const WIDEST = 0.2; // the calibration error at the right end of the small scale

let models = [], state = "";
const rows = new Map();
const keyOf = (each) => JSON.stringify([each.model, String(each.version)]);

const ORDERS = {
  worst: (a, b) => stateOf(a.state).rank - stateOf(b.state).rank || weight(b) - weight(a) || (b.ece ?? -1) - (a.ece ?? -1) || byName(a, b),
  name: (a, b) => byName(a, b),
  reviews: (a, b) => b.open_reviews - a.open_reviews || byName(a, b),
  labelled: (a, b) => b.n_labelled - a.n_labelled || byName(a, b),
  last: (a, b) => (b.last_prediction_at ?? 0) - (a.last_prediction_at ?? 0) || byName(a, b),
};
const weight = ({ alarms }) => 100 * (alarms?.critical ?? 0) + (alarms?.warning ?? 0);
const byName = (a, b) => a.model.localeCompare(b.model) || String(b.version).localeCompare(String(a.version), "en", { numeric: true });

function scale({ ece, ece_low: low, ece_high: high }) {
  if (ece === null || low === null || high === null) return null;
  const at = (value) => 2 + 56 * Math.min(1, value / WIDEST);
  return svg("svg", { class: "glyph", width: 60, height: 10, "aria-hidden": "true" }, svg("path", { class: "grid", d: "M2 5H58" }),
    svg("path", { class: "span", d: `M${at(low)} 5H${Math.max(at(high), at(low) + 1)}` }), svg("circle", { class: "dot served", cx: at(ece), cy: 5, r: 3 }));
}

function alarmCell({ critical = 0, warning = 0, info = 0 } = {}) {
  const found = [[critical, "critical"], [warning, "warning"], [info, "info"]].filter(([n]) => n);
  return found.length ? found.map(([n, kind]) => severityBadge(kind, ofKind(n, kind))) : [el("span", { class: "soft" }, "none")];
}

function rowOf(each) {
  const cell = (label, ...children) => el("td", { "data-label": label }, el("div", {}, ...children));
  const reviews = each.open_reviews ? el("a", { href: `${page.base}/reviews${query({ model: each.model })}` }, `${count(each.open_reviews)} open`) : el("span", { class: "soft" }, "none");
  return el("tr", {},
    el("th", { scope: "row" }, el("a", { href: modelPage(each.model, each.version) }, typed(each.model), " ", el("span", { class: "soft inline" }, "v", typed(each.version))), each.stage ? el("small", {}, typed(each.stage)) : null),
    cell("How it is", stateBadge(each.state), el("small", {}, typed(each.sentence ?? ""))),
    cell("ECE", figure(each.ece), " ", scale(each), el("small", { class: "tight" }, range(each.ece_low, each.ece_high))),
    cell("Labelled", count(each.n_labelled), el("small", { class: "tight" }, `of ${count(each.n_predictions)}`)),
    cell("Abstained", share(each.abstain_rate)), cell("Reviews", reviews), cell("Alarms", ...alarmCell(each.alarms)), cell("Last prediction", since(each.last_prediction_at)));
}

/** The row of a model: the one there is, unless something about it has changed. */
function row(each) {
  const key = keyOf(each), content = JSON.stringify(each);
  const known = rows.get(key);
  if (known?.content === content) return known.element;
  const element = rowOf(each);
  rows.set(key, { content, element });
  return element;
}

function shown() {
  const wanted = byId("find").value.trim().toLowerCase();
  const fits = (each) => (!state || each.state === state) && (!wanted || `${each.model} ${each.version} ${each.stage ?? ""}`.toLowerCase().includes(wanted));
  return models.filter(fits).sort(ORDERS[byId("sort").value]);
}

function states() {
  const counts = Object.groupBy ? Object.groupBy(models, (each) => each.state) : models.reduce((all, each) => ({ ...all, [each.state]: [...(all[each.state] ?? []), each] }), {});
  const kinds = Object.keys(STATES).filter((each) => counts[each] || each === state);
  const chip = (value, word, n) => {
    const { sign, kind } = value ? stateOf(value) : { sign: "", kind: "plain" };
    const button = el("button", { type: "button", class: `chip ${kind}`, "aria-pressed": String(state === value), "data-state": value },
      el("strong", {}, count(n)), " ", sign ? el("span", { "aria-hidden": "true" }, `${sign} `) : null, word);
    button.addEventListener("click", () => { state = value; draw(); byId("states").querySelector(`[data-state="${value}"]`)?.focus(); });
    return button;
  };
  byId("states").replaceChildren(chip("", "all", models.length), ...kinds.map((each) => chip(each, stateOf(each).word, counts[each]?.length ?? 0)));
}

function draw() {
  const place = byId("models");
  place.setAttribute("aria-busy", "false");
  if (!place.contains(document.activeElement) && !byId("states").contains(document.activeElement)) states();
  else byId("states").querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", String(each.dataset.state === state)));
  if (!models.length) {
    place.replaceChildren(empty(el("p", {}, "No predictions yet, or none that you may see. Send the first with"), firstSteps()));
    return;
  }
  const found = shown();
  byId("found").textContent = found.length === models.length ? `${count(models.length)} versions` : `${count(found.length)} of ${count(models.length)} versions`;
  const list = place.querySelector("tbody") ?? table(place);
  const wanted = found.map(row);
  // Only what is new or has moved is touched: a reader's place and focus stay.
  if (wanted.length !== list.children.length || wanted.some((each, i) => list.children[i] !== each)) list.replaceChildren(...wanted);
}

function table(place) {
  const list = el("tbody");
  place.replaceChildren(el("table", { class: "cards models" }, el("caption", { class: "unseen" }, "Model versions"),
    el("thead", {}, el("tr", {}, ...HEADS.map((word) => el("th", { scope: "col" }, word)))), list));
  return list;
}

async function load() {
  try {
    models = (await ask("/models")).models;
    draw();
    stamp(byId("asof"));
  } catch (error) {
    if (!models.length) byId("models").replaceChildren(failure(error, load));
  }
}

const soon = seldom(load, 5000);
const happened = new Map();
listen((frame) => {
  let moved = false;
  for (const stream of frame.streams ?? []) {
    const known = models.find((each) => each.model === stream.model && String(each.version) === String(stream.version));
    if (!known) { soon(); continue; }
    if (stream.n_predictions) Object.assign(known, { last_prediction_at: frame.at, n_predictions: known.n_predictions + stream.n_predictions });
    const events = `${stream.open_alarms} ${stream.newest_alarm} ${stream.revision}`;
    if (stream.n_outcomes || happened.get(keyOf(stream)) !== events) soon();
    happened.set(keyOf(stream), events);
    known.open_reviews = stream.open_reviews;
    moved = true;
  }
  if (moved && !byId("models").contains(document.activeElement)) draw();
  stamp(byId("asof"));
}, load);

byId("filter").addEventListener("submit", (event) => event.preventDefault());
byId("find").addEventListener("input", draw);
byId("sort").addEventListener("change", draw);
load();
