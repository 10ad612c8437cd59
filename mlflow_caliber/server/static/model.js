// One model version: its panels, what they are about, and when they are fetched again.

import { ask, modelPage, ofModel, page, query, shared, stamp } from "./app.js";
import { answers, listen, seldom } from "./live.js";
import { alarms, lineage, revisions } from "./panels/history.js";
import { head } from "./panels/head.js";
import { metrics, reliability } from "./panels/reliability.js";
import { risk } from "./panels/risk.js";
import { feed, strip } from "./panels/strip.js";
import { drift, maturity, replicas, segments } from "./panels/tables.js";
import { timeline } from "./panels/timeline.js";
import { byId, el } from "./theme/elements.js";

const WINDOWS = ["1d", "7d", "30d", "all"], LABELS = ["all", "observed", "review", "audit"];
const asked = new URLSearchParams(location.search);
const one = (name, allowed, otherwise) => (allowed.includes(asked.get(name)) ? asked.get(name) : otherwise);
const choice = { window: one("window", WINDOWS, "30d"), labels: one("labels", LABELS, "all"), detail: "quick" };

const reported = () => shared(() => ask(ofModel(`/report${query(choice)}`)));
let report = reported();
const context = {
  choice,
  detail: shared(() => ask(ofModel())),
  report: () => report(),
  everything: () => everything(),
};
const always = [head, maturity, replicas].map((make) => make(context));
const seldomNew = [drift, lineage, revisions, alarms].map((make) => make(context));
const chosen = [reliability, metrics, risk, timeline, segments].map((make) => make(context));
const live = strip(context);

function everything() {
  [...always, ...chosen, ...seldomNew].forEach((load) => load.again());
}

function refresh() {
  [...always, ...chosen, ...seldomNew].forEach((load) => load());
}

function choose() {
  const form = new FormData(byId("choices"));
  Object.assign(choice, { window: form.get("window"), labels: form.get("labels"), detail: byId("full").checked ? "full" : "quick" });
  history.replaceState(null, "", query({ window: choice.window, labels: choice.labels }));
  report = reported(); // one on its way is about what was chosen before
  chosen.forEach((load) => load());
}

async function versions() {
  const { models } = await ask("/models").catch(() => ({ models: [] }));
  const found = models.filter((each) => each.model === page.model).map((each) => String(each.version));
  if (!found.includes(page.version)) return;
  const options = found.map((version) => el("option", { value: version, selected: version === page.version ? "" : null }, version));
  byId("versions").replaceChildren(...options);
}

byId("choices").querySelector(`input[value="${choice.window}"]`).checked = true;
byId("labels").value = choice.labels;
byId("choices").addEventListener("change", choose);
byId("choices").addEventListener("submit", (event) => event.preventDefault());
byId("versions").addEventListener("change", (event) => location.assign(modelPage(page.model, event.target.value) + location.search));
byId("to-reviews").href = `${page.base}/reviews${query({ model: page.model })}`;

context.detail().catch((error) => {
  // The version was there when the page was made, and is not shown to the reader any more: its sentence is enough.
  if (error.status === 404) [byId("choices"), byId("board")].forEach((each) => { each.hidden = true; });
});
refresh();
live();
versions();

// Figures follow what comes in, but a busy stream does not make a page ask all the time.
const soon = seldom(() => [...always, ...chosen].forEach((load) => load()), 5000);
const later = seldom(() => seldomNew.forEach((load) => load()), 5000);
setInterval(() => { if (!document.hidden && answers()) later(); }, 60_000);
let happened = null;
listen((frame) => {
  const stream = feed(frame);
  stamp(byId("strip").querySelector(".asof"));
  if (!stream) return;
  soon(); // it is in a frame because something came
  const events = `${stream.open_alarms} ${stream.newest_alarm} ${stream.revision}`;
  if (happened !== events) later();
  happened = events;
}, () => { refresh(); live(); });
