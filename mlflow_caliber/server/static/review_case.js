// One case: why it came, what is known of it, and the answers that there are.

import { modelPage, page } from "./app.js";
import { byId, el, svg, typed } from "./theme/elements.js";
import { badge, figure, many, moment, plain, range } from "./words.js";

/** The classes in the order of their keys. */
export const rightOf = (review) => review.classes ?? [];

function scale(review) {
  if (review.probability === null || review.probability === undefined) return null;
  const [low, high] = review.interval ?? [review.probability, review.probability];
  const at = (value) => `${(100 * value).toFixed(2)}%`;
  return svg("svg", { class: "probability", height: 26, role: "img", "aria-label": `Probability ${figure(review.probability)}, ${range(low, high)}` },
    svg("rect", { class: "ground", width: "100%", height: 8, y: 9, rx: 4 }),
    svg("rect", { class: "span", x: at(low), width: at(Math.max(0.002, high - low)), height: 8, y: 9, rx: 4 }),
    svg("circle", { class: "dot served", cx: at(review.probability), cy: 13, r: 6 }));
}

function why(review) {
  const rows = [
    ["Why it came", el("span", {}, typed(review.rule || review.reason || "It was withheld."))],
    ["Prediction", el("strong", {}, typed(review.prediction ?? "none"))],
    ["Confidence", review.confidence === null ? "no score: taken as least certain" : figure(review.confidence)],
    ["Next likely", review.runner_up ? el("span", {}, typed(review.runner_up.label), ` at ${figure(review.runner_up.probability)}`) : "–"],
    ["Probability", review.probability === null ? "–" : el("span", {}, figure(review.probability), review.interval ? ` (${range(...review.interval)})` : "", scale(review))],
    review.segment ? ["Segment", typed(review.segment)] : null,
    review.expected_cost === null || review.expected_cost === undefined ? null : ["Expected cost of an error", figure(review.expected_cost, 2)],
    ["Came", moment(review.created_at)],
  ];
  return el("dl", { class: "facts" }, ...rows.filter(Boolean).flatMap(([term, said]) => [el("dt", {}, term), el("dd", {}, said)]));
}

function features(review) {
  const known = Object.entries(review.features ?? {});
  if (!known.length) return el("p", { class: "soft" }, "The features of this case were not sent along.");
  const cell = (value) => el("td", {}, typed(plain(value)));
  return el("table", { class: "features" }, el("caption", { class: "unseen" }, "Features"), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Feature"), el("th", { scope: "col" }, "Value"))),
    el("tbody", {}, ...known.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, typed(name)), cell(value)))));
}

const button = (words, key, deed, kind = "") => {
  const made = el("button", { type: "button", class: kind }, ...[words].flat(), " ", key ? el("kbd", { "aria-hidden": "true" }, key) : null);
  made.addEventListener("click", deed);
  return made;
};

function answers(review, deeds) {
  const others = rightOf(review).map((label, i) => [label, i]).filter(([label]) => String(label) !== String(review.prediction));
  const classes = others.map(([label, i]) => button(["Instead: ", typed(label)], i < 9 ? String(i + 1) : "", () => deeds.correct(label)));
  return el("div", { class: "answers", role: "group", "aria-label": "Answers" },
    button(review.prediction === null ? "Confirm" : ["Right: ", typed(review.prediction)], "Enter", deeds.confirm, "main"), ...classes, review.classes ? null : freely(deeds),
    button("Can’t judge", "x", deeds.cantJudge), button("Escalate", "e", deeds.escalate));
}

/** Where a version has no fixed classes, the right label is typed. */
function freely(deeds) {
  const field = el("input", { id: "label", maxlength: 200, autocomplete: "off", "aria-label": "The right label", placeholder: "right label" });
  const form = el("form", { class: "line" }, field, el("button", {}, "Correct"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) deeds.correct(field.value.trim());
  });
  return form;
}

/** How long the case is still the holder's; called every second. */
export function leaseOf(review) {
  const place = byId("lease");
  if (!place) return;
  const left = (review.lease_expires_at ?? 0) - Date.now() / 1000;
  const mine = review.claimed_by === page.name;
  place.classList.toggle("bad", mine && left < 60);
  if (!review.claimed_by) place.textContent = "Nobody holds it.";
  else if (left <= 0) place.textContent = mine ? "Your claim has run out; c claims it again." : "The claim has run out; it is free.";
  else place.textContent = `${mine ? "You hold it" : `${review.claimed_by} holds it`} for ${Math.floor(left / 60)}:${String(Math.floor(left % 60)).padStart(2, "0")} more.`;
}

function state(review) {
  const answered = review.answers_wanted > 1 ? el("span", { class: "soft" }, `${review.n_answers} of ${many(review.answers_wanted, "answer")}`) : null;
  return el("p", { class: "links" }, review.disputed ? badge("≠", "reviewers disagree", "warn") : null, review.escalated ? badge("↑", "escalated", "note") : null,
    review.origin === "audit" ? badge("◎", "audit sample: it was answered, and is checked", "plain") : null, answered);
}

function decided(review) {
  const said = review.status === "declined" ? "Nobody could tell." : el("span", {}, "It is ", el("strong", {}, typed(review.outcome)), ".");
  return el("div", { class: "panel" }, el("p", {}, review.status === "declined" ? badge("–", "declined", "plain") : badge("✓", review.status, "good"), " ", said, " ", review.reviewer ? el("span", { class: "soft" }, "Decided by ", typed(review.reviewer), ` on ${moment(review.decided_at)}.`) : null),
    el("p", { class: "soft" }, "Another answer is kept as a correction."));
}

/** The case as elements; `deeds` are what its buttons do. */
export function caseOf(review, deeds) {
  const over = review.status === "done" || review.status === "declined";
  const lease = el("p", { id: "lease", class: "lease soft" });
  const held = review.claimed_by === page.name;
  const parts = [
    el("h2", {}, typed(review.prediction_id), " ", el("a", { class: "soft", href: modelPage(review.model, review.version) }, typed(review.model), " v", typed(review.version))),
    state(review), over ? decided(review) : null, why(review), review.note ? el("p", { class: "panel" }, "Note: ", typed(review.note)) : null, answers(review, deeds),
    el("label", { for: "note", class: "soft" }, "Note (optional, needed to escalate)"), el("textarea", { id: "note", rows: 2, maxlength: 2000 }),
    over ? null : el("div", { class: "line" }, lease, button(held ? "Hold it longer" : "Claim", "c", deeds.claim, "quiet"), held ? button("Give it back", "u", deeds.release, "quiet") : null),
    el("h3", {}, "What is known"), features(review)];
  queueMicrotask(() => leaseOf(review));
  return parts;
}

