// Numbers, times and states in words that a risk officer reads.

import { el, typed } from "./theme/elements.js";

const NONE = "–";
const gone = (value) => value === null || value === undefined || Number.isNaN(value);

/** What each state is called, its sign, and how bad it is: 0 is worst. */
export const STATES = {
  needs_retraining: { word: "needs retraining", sign: "✕", kind: "bad", rank: 0 },
  investigate: { word: "investigate", sign: "!", kind: "bad", rank: 1 },
  silent: { word: "silent", sign: "∅", kind: "bad", rank: 2 },
  drifting: { word: "drifting", sign: "↗", kind: "warn", rank: 3 },
  recalibrating: { word: "recalibrating", sign: "↻", kind: "note", rank: 4 },
  waiting: { word: "waiting for data", sign: "…", kind: "plain", rank: 5 },
  calibrated: { word: "calibrated", sign: "✓", kind: "good", rank: 6 },
};
const UNKNOWN = { word: "unknown", sign: "?", kind: "plain", rank: 5 };
const SEVERITIES = { critical: ["✕", "bad"], warning: ["!", "warn"], info: ["i", "note"] };

export const stateOf = (name) => (Object.hasOwn(STATES, name) ? STATES[name] : { ...UNKNOWN, word: String(name ?? "unknown") });

/** A word with a sign and a colour; never a colour alone. */
export const badge = (sign, word, kind) =>
  el("span", { class: `badge ${kind}` }, el("span", { "aria-hidden": "true" }, sign), " ", typed(word));

export function stateBadge(name) {
  const { sign, word, kind } = stateOf(name);
  return badge(sign, word, kind);
}

export function severityBadge(severity, word = severity) {
  const [sign, kind] = SEVERITIES[severity] ?? ["·", "plain"];
  return badge(sign, word, kind);
}

/** So many alarms of a severity, in words. */
export const ofKind = (n, severity) => (severity === "warning" && n !== 1 ? `${n} warnings` : `${n} ${severity}`);

export const count = (value) => (gone(value) ? NONE : Number(value).toLocaleString("en", { maximumFractionDigits: 0 }));

export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export const share = (value, digits = 1) => (gone(value) ? NONE : `${(100 * value).toFixed(digits)} %`);

/** A number as precisely as it is worth reading. */
export function figure(value, digits = 3) {
  if (gone(value)) return NONE;
  const size = Math.abs(value);
  return size !== 0 && (size < 0.5 * 10 ** -digits || size >= 1e6) ? Number(value).toExponential(1) : Number(value).toFixed(digits);
}

export const range = (low, high, write = figure) => (gone(low) || gone(high) ? NONE : `${write(low)} to ${write(high)}`);

const STEPS = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];

/** Seconds as the largest unit that fits. */
export function lasting(seconds) {
  if (gone(seconds)) return NONE;
  const [size, unit] = STEPS.find(([each]) => seconds >= each) ?? STEPS.at(-1);
  const value = seconds / size;
  const said = value < 10 && size > 1 && value % 1 >= 0.05 ? value.toFixed(1) : String(Math.round(value));
  return `${said} ${unit}${said === "1" ? "" : "s"}`;
}

export function ago(at, now = Date.now() / 1000) {
  if (gone(at)) return "never";
  return now - at < 2 ? "just now" : `${lasting(now - at)} ago`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { month: "short", day: "numeric" });
const SHORT = new Intl.DateTimeFormat("en-GB", { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

export const clock = (at) => (gone(at) ? NONE : CLOCK.format(new Date(at * 1000)));
export const moment = (at) => (gone(at) ? NONE : MOMENT.format(new Date(at * 1000)));
export const day = (at) => (gone(at) ? NONE : DAY.format(new Date(at * 1000)));
export const shortMoment = (at) => (gone(at) ? NONE : SHORT.format(new Date(at * 1000)));

/** A time that says how long ago it was, and goes on saying it. */
export function since(at) {
  if (gone(at)) return el("span", { class: "soft" }, "never");
  return el("time", { datetime: new Date(at * 1000).toISOString(), title: moment(at), "data-since": at }, ago(at));
}

setInterval(() => {
  for (const each of document.querySelectorAll("time[data-since]")) {
    const said = ago(Number(each.dataset.since));
    if (each.textContent !== said) each.textContent = said;
  }
}, 5000);

const NAMES = {
  ece: "ECE", ece_upper: "ECE, at most", log_loss: "Log loss", brier: "Brier score", mcb: "Miscalibration", dsc: "Discrimination",
  unc: "Uncertainty", roc_auc: "ROC AUC", aurc: "AURC", e_aurc: "Excess AURC", augrc: "AUGRC", coverage: "Coverage",
  selective_risk: "Error rate of the answered", abstain_rate: "Abstained", accuracy: "Accuracy", error_rate: "Error rate",
  smooth_ece: "Smooth ECE", mce: "Largest gap", ece_l2_debiased: "ECE (L2, debiased)", calibration_p: "p of the calibration test",
};

/** The name of a metric; one that is not known keeps its own. */
export const metricName = (key) => (Object.hasOwn(NAMES, key) ? NAMES[key] : capital(String(key).replaceAll("_", " ")));
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Any JSON value as one line. */
export function plain(value) {
  if (value === null || value === undefined || value === "") return NONE;
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([key, each]) => `${key}: ${plain(each)}`).join("; ");
  return String(value);
}
