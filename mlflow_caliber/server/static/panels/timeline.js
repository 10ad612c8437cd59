// Calibration error and log loss over time, with the revisions and alarms that came meanwhile.

import { ask, empty, ofModel, panel, query } from "../app.js";
import { chart, legend, pieces, ticks } from "../charts.js";
import { el, svg } from "../theme/elements.js";
import { count, day, figure, moment, shortMoment } from "../words.js";

const SPANS = { "1d": ["hour", 24], "7d": ["hour", 168], "30d": ["day", 30], all: ["day", 365] };
const SERIES = { ece: ["Calibration error (ECE)", "ece_shipped"], log_loss: ["Log loss", "log_loss_shipped"] };
const STEPS = { hour: 3600, day: 86_400 };
const FEW = 20; // the error of fewer rows is mostly chance, and would be read as news
const known = (value) => value !== null && value !== undefined;

function events({ revisions, alarms }, low, high) {
  const inside = (at) => at >= low && at <= high;
  return [
    ...revisions.filter((each) => inside(each.created_at)).map((each) => ({ at: each.created_at, kind: "revision",
      text: `${moment(each.created_at)}: revision ${each.number}, learned from ${count(each.n_learned)} outcomes` })),
    ...alarms.filter((each) => inside(each.opened_at)).map((each) => ({ at: each.opened_at, kind: each.severity === "critical" ? "critical" : "alarm",
      text: `${moment(each.opened_at)}: ${each.severity} alarm. ${each.sentence}` })),
  ].sort((a, b) => a.at - b.at);
}

function eventMarks(found, x, frame) {
  // Alarms that opened together lie on one place: the worst of them is on top.
  const worstLast = [...found].sort((a, b) => (a.kind === "critical") - (b.kind === "critical"));
  return worstLast.map(({ at, kind }) => {
    const px = x(at).toFixed(1);
    return kind === "revision"
      ? svg("path", { class: "line revision", d: `M${px} ${frame.top + 12}V${frame.height - frame.bottom}` })
      : svg("path", { class: `flag ${kind}`, d: `M${px} ${frame.top + 10}l-5 -9h10z` });
  });
}

function volume(points, step, x, y, frame) {
  const most = Math.max(1, ...points.map((point) => point.n));
  const wide = Math.max(1, x(step) - x(0) - 1);
  return points.filter((point) => point.n).map((point) => {
    const tall = 0.18 * (frame.height - frame.top - frame.bottom) * (point.n / most);
    return svg("rect", { class: "count", x: x(point.at) - wide / 2, width: wide, y: frame.height - frame.bottom - tall, height: tall });
  });
}

function series(content, key, by) {
  const [title, before] = SERIES[key];
  const { points } = content;
  const values = points.flatMap((point) => [point[key], point[before]]).filter(known);
  if (!values.length) return el("p", { class: "soft" }, `${title}: not enough outcomes in any ${by} of this window.`);
  const high = Math.max(...values) * 1.15 || 1;
  const step = STEPS[by], now = Date.now() / 1000;
  const middle = (point) => point.at + Math.min(step, Math.max(0, now - point.at)) / 2; // of what has been of it
  const [low, last] = [points[0].at, points.at(-1).at + step];
  const when = by === "hour" ? shortMoment : day;
  const happened = events(content, low, last);
  const write = by === "hour" && points.length <= 48 ? shortMoment : day;
  const words = (point) => `${when(point.at)}: served ${figure(point[key])}, shipped ${figure(point[before])}; ${count(point.n)} labelled of ${count(point.n_predictions)}`;
  const latest = points.findLast((point) => known(point[key]));
  const last_seen = latest ? `Last ${figure(latest[key])}, shipped ${figure(latest[before])} (${when(latest.at)}). ` : "";
  return chart({
    title, height: 220, summary: `${last_seen}${happened.filter((each) => each.kind === "revision").length} revisions and ${happened.filter((each) => each.kind !== "revision").length} alarms in this window.`,
    x: { low, high: last, ticks: ticksOf(points).map((at) => at + step / 2), write: (at) => write(at - step / 2) }, y: { low: 0, high, ticks: ticks(0, high, 4), write: (value) => String(Number(value.toPrecision(3))) },
    marks: (x, y, frame) => [...volume(points.map((point) => ({ at: point.at + step / 2, n: point.n })), step, x, y, frame), ...eventMarks(happened, x, frame),
      ...pieces(points.map((point) => [x(middle(point)), known(point[before]) ? y(point[before]) : null]), "shipped"),
      ...pieces(points.map((point) => [x(middle(point)), known(point[key]) ? y(point[key]) : null]), "served")],
    points: [...points.filter((point) => known(point[key])).map((point) => ({ x: middle(point), y: point[key], text: words(point) })),
      ...happened.map((each) => ({ x: each.at, y: high, text: each.text }))].sort((a, b) => a.x - b.x),
    table: { head: ["When", "Served", "As shipped", "Labelled", "Predictions"],
      rows: [...points].reverse().map((point) => [when(point.at), figure(point[key]), figure(point[before]), count(point.n), count(point.n_predictions)]) },
  });
}

const ticksOf = (points) => points.filter((_, i) => i % Math.ceil(points.length / 7) === 0).map((point) => point.at);

function made(content) {
  if (!content.points.some((point) => point.n_predictions || point.n)) return empty(el("p", {}, "Nothing came in this window."));
  return [legend(["served", "served"], ["shipped", "as shipped"], ["revision", "revision"], ["flag", "alarm opened"], ["bars", "labelled rows"]), el("p", { class: "soft" }, `Where fewer than ${FEW} rows are labelled, no figure is drawn.`),
    el("div", { class: "pair" }, ...Object.keys(SERIES).map((key) => series(content, key, content.by)))];
}

/** The points of the window, with an empty one wherever nothing came: a line must not run over a gap. */
function whole(points, step, since) {
  const found = [];
  for (const point of points.filter((each) => each.at >= since)) {
    const before = found.at(-1);
    if (before && point.at - before.at > 1.5 * step) found.push({ at: before.at + step, n: 0, n_predictions: 0 });
    found.push(point.n < FEW ? { at: point.at, n: point.n, n_predictions: point.n_predictions } : point);
  }
  return found;
}

async function byDay(last) {
  const found = await ask(ofModel(`/timeline${query({ by: "day", last })}`));
  return { ...found, points: whole(found.points, STEPS.day, Date.now() / 1000 - (last + 1) * STEPS.day) };
}

export const timeline = ({ choice }) => panel("timeline", async () => {
  const [by, last] = SPANS[choice.window];
  const found = await ask(ofModel(`/timeline${query({ by, last })}`));
  const full = found.points.filter((each) => each.n >= FEW).length;
  if (by === "hour" && last > 24 && full < found.points.length / 2) return byDay(last / 24);
  return { ...found, points: whole(found.points, STEPS[by], Date.now() / 1000 - (last + 1) * STEPS[by]) };
}, made);
