// How a version is, in one sentence, and the figures that say so.

import { empty, firstSteps, page, panel } from "../app.js";
import { el, typed } from "../theme/elements.js";
import { badge, count, figure, many, metricName, ofKind, plain, range, share, since, stateBadge } from "../words.js";

const tick = (term, value, ...more) => el("div", {}, el("dt", {}, term), el("dd", {}, value), ...more.map((each) => el("dd", { class: "more" }, each)));

function alarmWords({ critical = 0, warning = 0, info = 0 }) {
  const kinds = [[critical, "critical"], [warning, "warning"], [info, "info"]].filter(([n]) => n);
  return kinds.length ? kinds.map(([n, word]) => ofKind(n, word)).join(", ") : "none open";
}

function figures(seen) {
  const shipped = seen.log_loss_shipped === null ? "" : `shipped ${figure(seen.log_loss_shipped)}`;
  const served = seen.served ?? {};
  const by = served.number ? `${count(served.n_learned)} outcomes learned` : "as the model was shipped";
  return el("dl", { class: "ticks" },
    tick("ECE", figure(seen.ece), range(seen.ece_low, seen.ece_high)),
    tick("Log loss", figure(seen.log_loss), shipped),
    tick("Labelled", count(seen.n_labelled), `of ${count(seen.n_predictions)}`),
    tick("Abstained", share(seen.abstain_rate), seen.abstain_threshold === null ? "no threshold" : `below ${figure(seen.abstain_threshold)}`),
    tick("Reviews", count(seen.open_reviews), "open"),
    tick("Calibration", served.number ? `revision ${served.number}` : "shipped", served.pinned ? `${by}, pinned` : served.number ? `published, ${by}` : by),
    tick("Last prediction", since(seen.last_prediction_at)),
    tick("Last outcome", since(seen.last_outcome_at)));
}

// What was found, and not what to do: that is said once, by the state.
const FOUND = {
  none: "the probabilities fit, and rank as promised", recalibrate: "the probabilities are off, the ranking is not",
  recalibrate_and_retrain: "the probabilities and the ranking are off", investigate: "the ranking is off, the probabilities are not",
};
const because = (sentence) => sentence.replace(/^[^:(]+: (.)/, (_, first) => first.toUpperCase());

function diagnosis(found) {
  if (!found?.verdict) return null;
  const rows = Object.entries(found.evidence ?? {});
  const list = el("dl", { class: "facts" }, ...rows.flatMap(([key, value]) => [el("dt", {}, metricName(key)), el("dd", {}, typed(plain(value)))]));
  return el("details", {}, el("summary", {}, "Diagnosis: ", typed(FOUND[found.verdict] ?? found.verdict)), el("p", {}, typed(because(found.sentence))),
    found.note ? el("p", { class: "soft" }, typed(found.note)) : null, rows.length ? list : null);
}

// Nobody counts further.
const MANY_UNREAD = 2001;

const waiting = (unread) => (unread < MANY_UNREAD ? many(unread, "entry", "entries") : `more than ${count(MANY_UNREAD - 1)} entries`);

function learning(seen) {
  if (!seen.learning) return null;
  const { unread, lag_seconds: lag, trouble, holder } = seen.learning;
  if (trouble) return el("p", {}, badge("!", "learner", "warn"), " ", typed(trouble));
  if (unread && !holder) return el("p", {}, badge("!", "learner", "warn"), ` Nobody learns: ${waiting(unread)} wait.`);
  return lag > 60 ? el("p", { class: "soft" }, `The learner is ${waiting(unread)} behind.`) : null;
}

function made(seen) {
  const parts = [el("p", { class: "verdict" }, stateBadge(seen.state), " ", typed(seen.sentence))];
  if (seen.advice) parts.push(el("p", {}, typed(seen.advice)));
  if (!seen.n_predictions) parts.push(empty(el("p", {}, "No predictions yet. Send the first with"), firstSteps(page.model, page.version)));
  const about = [seen.stage ? ["Stage: ", typed(seen.stage)] : null, [`Alarms: ${alarmWords(seen.alarms ?? {})}`]].filter(Boolean);
  return [...parts, figures(seen), learning(seen), diagnosis(seen.diagnosis),
    el("p", { class: "links soft" }, ...about.map((said) => el("span", {}, ...said)))];
}

export const head = ({ detail }) => panel("head", detail, made);
