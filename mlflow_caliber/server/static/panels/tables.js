// Maturity, drift, segments and replicas: what is read row by row.

import { ask, empty, ofModel, panel, query } from "../app.js";
import { el, svg, typed } from "../theme/elements.js";
import { badge, count, figure, lasting, many, moment, range, share, since } from "../words.js";

const th = (word, kind) => el("th", { scope: "col", class: kind }, word);
const row = (...cells) => el("tr", {}, ...cells);
const td = (label, ...children) => el("td", { "data-label": label }, el("div", {}, ...children));

/** A bar of a share between 0 and 1, with a mark where a limit is. */
function bar(value, { limit = null, kind = "served" } = {}) {
  const wide = `${(100 * Math.min(1, Math.max(0, value))).toFixed(1)}%`;
  const parts = [svg("rect", { class: "ground", width: "100%", height: 10, rx: 2 }), svg("rect", { class: `fill ${kind}`, width: wide, height: 10, rx: 2 })];
  if (limit !== null) parts.push(svg("rect", { class: "limit", x: `${100 * limit}%`, width: 2, height: 10 }));
  return svg("svg", { class: "bar", height: 10, "aria-hidden": "true" }, ...parts);
}

function maturityOf(seen) {
  if (!seen) return empty(el("p", {}, "How far outcomes have come in is known once the monitor has looked."));
  const said = [`${count(seen.labelled)} of ${many(seen.predictions, "prediction")} of the window have an outcome; ${count(seen.waiting)} wait.`];
  if (seen.median_delay !== null) said.push(`Half of the outcomes came within ${lasting(seen.median_delay)}.`);
  if (seen.settled_before !== null) said.push(`Judged is what was recorded before ${moment(seen.settled_before)}: younger rows with outcomes are no fair sample.`);
  const rows = (seen.ages ?? []).map((age, i) => {
    const next = seen.ages[i + 1];
    const from = age.days ? lasting(86_400 * age.days) : "0";
    const word = next ? `${from} to ${lasting(86_400 * next.days)}` : `${from} or more`;
    const part = age.n ? age.labelled / age.n : 0;
    return row(el("th", { scope: "row" }, word), el("td", { class: "barred" }, bar(part)), el("td", { class: "number" }, age.n ? share(part, 0) : "–"), el("td", { class: "number" }, count(age.n)));
  });
  return [el("p", { class: "summary" }, said.join(" ")),
    el("table", {}, el("thead", {}, row(th("Age"), th("Labelled"), th("Share", "number"), th("Predictions", "number"))), el("tbody", {}, ...rows))];
}

function driftOf(found) {
  if (!found.columns?.length) return empty(el("p", {}, badge("?", "not measured", "plain"), " ", found.note ? typed(found.note) : "Drift is known once the monitor has looked, and there is a reference."));
  const drifted = found.columns.filter((column) => column.drifted);
  const rows = [...found.columns].sort((a, b) => ratio(b) - ratio(a)).map((column) => row(
    el("th", { scope: "row" }, typed(column.column)),
    td("Judged", column.drifted ? badge("↗", "drifted", "warn") : badge("✓", "steady", "good")),
    td("Against its limit", bar(ratio(column) / 2, { limit: 0.5, kind: column.drifted ? "shipped" : "served" }),
      el("small", {}, `${figure(column.statistic)} of ${figure(column.threshold)} (`, typed(String(column.method ?? "").replaceAll("_", " ")), ")"),
      column.note ? el("small", {}, typed(column.note)) : "")));
  return [el("p", { class: "summary" }, `${drifted.length} of ${many(found.columns.length, "column")} drifted${found.share === null || found.share === undefined ? "" : ` (${share(found.share, 0)})`}. The mark is the limit. `, found.at ? "Looked " : "", found.at ? since(found.at) : "", found.at ? "." : ""),
    el("table", { class: "cards" }, el("thead", {}, row(th("Column"), th("Judged"), th("Against its limit"))), el("tbody", {}, ...rows)),
    found.note ? el("p", { class: "soft" }, typed(found.note)) : null];
}

const ratio = (column) => (column.threshold ? (column.statistic ?? 0) / column.threshold : 0);

function segmentsOf({ segments, note }) {
  if (!segments?.length) return empty(el("p", {}, note ? typed(note) : "No prediction named a segment. Send one with each: {\"segment\": \"north\"}."));
  const rows = segments.map((each) => {
    const gap = each.predicted === null || each.observed === null ? null : each.observed - each.predicted;
    const word = gap === null ? "–" : `${gap >= 0 ? "+" : "−"}${share(Math.abs(gap))}`;
    return row(el("th", { scope: "row" }, typed(each.segment)), td("Labelled", count(each.n), el("small", {}, `of ${count(each.n_predictions)}`)),
      td("Stated", share(each.predicted)), td("Happened", share(each.observed), el("small", {}, word)),
      td("ECE", figure(each.ece), el("small", { class: "tight" }, range(each.ece_low, each.ece_high))), td("Abstained", share(each.abstain_rate)));
  });
  return [el("table", { class: "cards" }, el("thead", {}, row(th("Segment"), th("Labelled"), th("Stated"), th("Happened"), th("ECE"), th("Abstained"))), el("tbody", {}, ...rows)),
    note ? el("p", { class: "soft" }, typed(note)) : null];
}

function replicasOf(replicas) {
  if (!replicas?.length) return empty(el("p", {}, "No serving process has said that it serves this version."));
  const rows = replicas.map((each) => row(el("th", { scope: "row" }, typed(each.name)), td("Answers with", typed(each.revision || "as shipped")),
    td("Dropped", count(each.dropped)), td("Seen", since(each.seen_at)), td("Trouble", each.trouble ? typed(each.trouble) : el("span", { class: "soft" }, "none"))));
  return el("table", { class: "cards" }, el("thead", {}, row(th("Process"), th("Answers with"), th("Dropped"), th("Seen"), th("Trouble"))), el("tbody", {}, ...rows));
}

export const maturity = ({ detail }) => panel("maturity", async () => (await detail()).maturity, maturityOf);
export const drift = () => panel("drift", () => ask(ofModel("/drift")), driftOf);
export const segments = ({ choice }) => panel("segments", () => ask(ofModel(`/segments${query({ window: choice.window })}`)), segmentsOf);
export const replicas = ({ detail }) => panel("replicas", async () => (await detail()).replicas, replicasOf);
