// The reliability diagram, before and after, and the figures that go with it.

import { el, svg, typed } from "../theme/elements.js";
import { empty, panel } from "../app.js";
import { chart, legend, line } from "../charts.js";
import { count, figure, metricName, range, share } from "../words.js";

const CELLS = 20, TALL = 0.16; // bars of the histogram, and how high the highest is
const filled = (bins) => (bins ?? []).filter((bin) => bin.n > 0 && bin.predicted !== null && bin.observed !== null);
const spanOf = (bin) => (bin.observed_low === null || bin.observed_low === undefined ? "" : ` (${range(bin.observed_low, bin.observed_high)})`);

function dots(bins, kind, x, y) {
  return bins.flatMap((bin) => {
    const [px, py] = [x(bin.predicted), y(bin.observed)];
    const mark = kind === "served"
      ? svg("circle", { class: "dot served", cx: px, cy: py, r: 4.5 })
      : svg("rect", { class: "dot shipped", x: px - 4, y: py - 4, width: 8, height: 8 });
    const bar = spanOf(bin) && svg("path", { class: `error ${kind}`, d: `M${px} ${y(bin.observed_low)}V${y(bin.observed_high)}` });
    return [bar, mark].filter(Boolean);
  });
}

/** Where the rows are. Bins may be of equal mass, so their rows are spread over cells of equal width first. */
function histogram(bins, x, y) {
  const cells = Array(CELLS).fill(0);
  for (const bin of bins) {
    const first = Math.min(CELLS - 1, Math.floor(bin.low * CELLS)), last = Math.min(CELLS - 1, Math.max(first, Math.ceil(bin.high * CELLS) - 1));
    const shares = cells.slice(first, last + 1).map((_, i) => Math.max(1e-9, Math.min(bin.high, (first + i + 1) / CELLS) - Math.max(bin.low, (first + i) / CELLS)));
    const whole = shares.reduce((sum, each) => sum + each, 0);
    shares.forEach((each, i) => { cells[first + i] += bin.n * (each / whole); });
  }
  const most = Math.max(1, ...cells);
  return cells.map((n, i) => svg("rect", { class: "count", x: x(i / CELLS) + 1, width: Math.max(1, x(1 / CELLS) - x(0) - 2),
    y: y(TALL * (n / most)), height: y(0) - y(TALL * (n / most)) }));
}

/** The CORP curve as [stated, seen], whatever pairs of names it comes with. */
function curve(corp) {
  return (corp ?? []).map((each) => (Array.isArray(each) ? each : [each.predicted ?? each.score ?? each.x, each.observed ?? each.calibrated ?? each.y]))
    .filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b));
}

function summaryOf(report) {
  const { served, shipped } = report.metrics;
  const span = report.intervals?.served?.ece;
  const before = shipped?.ece === undefined || shipped?.ece === null ? "" : `, before ${figure(shipped.ece)}`;
  const same = before && JSON.stringify(report.reliability.served) === JSON.stringify(report.reliability.shipped);
  const after = same ? ". Answers were served as the model was shipped, so both lines are one" : before;
  return `Over ${count(report.n)} labelled rows the calibration error is ${figure(served.ece)}${span ? ` (${range(...span)})` : ""}${after}.`;
}

function reliabilityOf(report) {
  const served = filled(report.reliability?.served), shipped = filled(report.reliability?.shipped);
  const exact = curve(report.corp?.served);
  if (!served.length) return empty(el("p", {}, noLabels(report)));
  const top = report.kind === "top_label";
  const words = (bin, who) => `${who}: stated ${figure(bin.predicted)}, happened ${figure(bin.observed)}${spanOf(bin)}, n ${count(bin.n)}`;
  const points = [...shipped.map((bin) => ({ bin, who: "shipped" })), ...served.map((bin) => ({ bin, who: "served" }))]
    .map(({ bin, who }) => ({ x: bin.predicted, y: bin.observed, text: words(bin, who) })).sort((a, b) => a.x - b.x);
  const path = (bins, x, y) => bins.map((bin) => [x(bin.predicted), y(bin.observed)]);
  const row = (who) => (bin) => [`${figure(bin.low, 2)} to ${figure(bin.high, 2)}`, who, count(bin.n), figure(bin.predicted), figure(bin.observed), range(bin.observed_low, bin.observed_high)];
  const scale = { low: 0, high: 1, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], write: (value) => value.toFixed(1) };
  return chart({
    title: "Reliability before and after", summary: summaryOf(report), square: true,
    legend: legend(["served", "served"], ...(shipped.length ? [["shipped", "as shipped"]] : []), ["diagonal", "perfect"], ["bars", "rows"], ...(exact.length ? [["exact", "exact curve"]] : [])),
    x: { ...scale, label: top ? "Confidence stated" : "Probability stated" }, y: scale, points,
    marks: (x, y) => [...histogram(served, x, y), svg("path", { class: "line diagonal", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }),
      line(path(shipped, x, y), "shipped"), ...dots(shipped, "shipped", x, y), ...(exact.length ? [line(exact.map(([a, b]) => [x(a), y(b)]), "exact")] : []),
      line(path(served, x, y), "served"), ...dots(served, "served", x, y)],
    table: { head: ["Bin", "Which", "n", "Stated", "Happened", "Interval"], rows: [...served.map(row("served")), ...shipped.map(row("shipped"))] },
  });
}

const noLabels = (report) => (report.n_predictions
  ? `${count(report.n_predictions)} predictions in this window, none with an outcome of this kind yet.` : "No predictions in this window.");

// A probability that is rounded to nothing would read as impossible.
const written = (key, value) => (key === "calibration_p" && value < 0.0001 && value !== null ? "below 0.0001" : figure(value, 4));

function metricRows(report) {
  const keys = [...new Set([...Object.keys(report.metrics.served ?? {}), ...Object.keys(report.metrics.shipped ?? {})])];
  const spans = (who, key) => { const span = report.intervals?.[who]?.[key]; return span ? el("small", {}, range(...span)) : null; };
  return keys.map((key) => el("tr", {}, el("th", { scope: "row" }, typed(metricName(key))),
    ...["served", "shipped"].map((who) => el("td", { class: "number" }, written(key, report.metrics[who]?.[key]), spans(who, key)))));
}

function metricsOf(report) {
  const why = Object.entries(report.not_computed ?? {});
  const behind = report.as_of?.behind ? ` ${count(report.as_of.behind)} entries are not yet counted.` : "";
  const answered = report.n_predictions ? 1 - report.n_abstained / report.n_predictions : null;
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Metric"), el("th", { scope: "col", class: "number" }, "Served"),
    el("th", { scope: "col", class: "number" }, "As shipped"))), el("tbody", {}, ...metricRows(report)));
  return [el("p", { class: "summary" }, `${count(report.n)} labelled of ${count(report.n_predictions)} predictions; ${share(answered)} were answered.${behind}`),
    table, report.note ? el("p", { class: "soft" }, typed(report.note)) : null,
    why.length ? el("details", {}, el("summary", {}, `Not computed: ${why.length}`), el("ul", {}, ...why.map(([key, reason]) => el("li", {}, typed(metricName(key)), ": ", typed(reason))))) : null];
}

export const reliability = ({ report }) => panel("reliability", async () => {
  const { n, n_predictions, kind, metrics, intervals, reliability: bins, corp } = await report();
  return { n, n_predictions, kind, metrics, intervals, reliability: bins, corp };
}, reliabilityOf);

export const metrics = ({ report }) => panel("metrics", async () => {
  const { n, n_predictions, n_abstained, metrics: values, intervals, not_computed, note, as_of } = await report();
  return { n, n_predictions, n_abstained, metrics: values, intervals, not_computed, note, as_of: { behind: as_of?.behind } };
}, metricsOf);
