// The review desk: the queue on the left, one case on the right, everything by keys.

import { Refused, ask, empty, failure, ofModel, page, query, redraw, say, unsay } from "./app.js";
import { listen, seldom } from "./live.js";
import { caseOf, leaseOf, rightOf } from "./review_case.js";
import { byId, el, typed } from "./theme/elements.js";
import { badge, count, figure, since } from "./words.js";

const LIMIT = 100;
const keyOf = (review) => JSON.stringify([review.model, String(review.version), review.prediction_id]);
const pathOf = (review, act = "") => ofModel(`/reviews/${encodeURIComponent(review.prediction_id)}${act}`, review.model, review.version);

let reviews = [], here = null, busy = false, turn = 0;

const current = () => reviews.find((each) => keyOf(each) === here) ?? null;

// --- the queue ---------------------------------------------------------------------------------------------------------

function item(review) {
  const mine = review.claimed_by === page.name;
  const button = el("button", { type: "button", class: "case-link", "data-key": keyOf(review), "aria-current": keyOf(review) === here ? "true" : null },
    el("span", { class: "row" }, el("strong", {}, typed(review.prediction_id))),
    el("span", { class: "row soft" }, el("span", {}, review.confidence === null ? "no score" : `confidence ${figure(review.confidence, 2)}`), since(review.created_at)),
    el("span", { class: "row soft" }, el("span", {}, typed(review.model), " v", typed(review.version))),
    el("span", { class: "row" }, review.disputed ? badge("≠", "disputed", "warn") : null, review.escalated ? badge("↑", "escalated", "note") : null,
      review.claimed_by ? badge(mine ? "▶" : "▣", mine ? "yours" : `with ${review.claimed_by}`, mine ? "good" : "plain") : null,
      review.origin === "audit" ? badge("◎", "audit sample", "plain") : null));
  button.addEventListener("click", () => { show(keyOf(review)); byId("case").focus({ preventScroll: true }); });
  return el("li", {}, button);
}

const NOTHING = { waiting: "Nothing waits. Cases come here when a prediction is withheld, or drawn for an audit.", mine: "You hold no case. Press c on a waiting one.",
  escalated: "Nothing was escalated.", done: "Nothing was decided yet." };

function drawQueue() {
  const place = byId("queue");
  place.setAttribute("aria-busy", "false");
  const focused = place.contains(document.activeElement);
  redraw(place, [reviews, here], () => (reviews.length ? el("ol", {}, ...reviews.map(item)) : empty(el("p", {}, NOTHING[byId("status").value]))));
  if (focused) place.querySelector("[aria-current]")?.focus();
}

function drawToday({ waiting, today }) {
  const left = today.capacity === null ? "" : ` of ${count(today.capacity)} for today, ${count(today.left)} left`;
  byId("today").textContent = `${count(waiting)} waiting. ${count(today.decided)} decided${left}.`;
}

// How often such a probability came true is asked for a case when it is looked at, not for the whole queue.
const spans = new Map();
const spanned = (review) => ({ ...review, interval: review.interval ?? spans.get(keyOf(review)) ?? null });

async function addSpan(review) {
  const key = keyOf(review);
  if (spans.has(key)) return;
  spans.set(key, null);
  const { interval } = await ask(pathOf(review)).catch(() => ({ interval: null }));
  spans.set(key, interval);
  reviews.forEach((each) => { if (keyOf(each) === key) each.interval = interval; });
  if (interval && here === key && !byId("note")?.value) show(key);
}

function show(key) {
  here = key;
  drawQueue();
  const review = current();
  redraw(byId("case"), review ?? null, () => (review ? caseOf(review, deeds) : empty(el("p", {}, reviews.length ? "Choose a case: j and k go through them." : "No case."))));
  byId("queue").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  if (review) addSpan(review);
}

function move(step) {
  const index = reviews.findIndex((each) => keyOf(each) === here);
  const next = reviews[Math.min(reviews.length - 1, Math.max(0, index + step))];
  if (next) show(keyOf(next));
}

/** What waits, and what the reader holds already: a case keeps its place when it is claimed. */
function together(waiting, own) {
  const held = new Set(own.map(keyOf));
  const places = new Map(reviews.map((each, i) => [keyOf(each), i]));
  const found = waiting.filter((each) => !held.has(keyOf(each)));
  own.map((each) => [places.get(keyOf(each)) ?? 0, each]).sort((a, b) => a[0] - b[0]).forEach(([i, each]) => found.splice(i, 0, each));
  return found;
}

async function load() {
  const mine = ++turn;
  const wanted = { status: byId("status").value, model: byId("model").value, order: byId("order").value, limit: LIMIT };
  const held = wanted.status === "waiting" ? { ...wanted, status: "mine" } : null;
  try {
    const [found, own] = await Promise.all([wanted, held].map((values) => values && ask(`/reviews${query(values)}`)));
    if (mine !== turn || busy) return;
    const index = reviews.findIndex((each) => keyOf(each) === here);
    reviews = together(found.reviews, own?.reviews ?? []).map(spanned);
    drawToday(found);
    const kept = current() ?? reviews[Math.max(0, Math.min(index, reviews.length - 1))];
    show(kept ? keyOf(kept) : null);
  } catch (error) {
    if (!reviews.length) byId("queue").replaceChildren(failure(error, load));
  }
}

// --- what a reviewer does ----------------------------------------------------------------------------------------------

/** One act at a time. Somebody who was faster is named, and the next case comes up. */
async function once(work) {
  const review = current();
  if (busy || !review) return;
  busy = true;
  document.body.toggleAttribute("data-busy", true);
  unsay();
  try {
    await work(review);
  } catch (error) {
    say(error.message);
    if (error instanceof Refused && error.status === 409) move(1);
  } finally {
    busy = false;
    document.body.toggleAttribute("data-busy", false);
    load();
  }
}

function replace(review) {
  reviews = reviews.map((each) => (keyOf(each) === keyOf(review) ? spanned(review) : each));
  show(here);
}

const decide = (answer, more = {}) => once(async (review) => {
  const note = byId("note")?.value.trim();
  const { effect } = await ask(pathOf(review, "/decide"), { method: "POST", body: { answer, ...(note ? { note } : {}), ...more } });
  const index = reviews.indexOf(review);
  reviews = reviews.filter((each) => each !== review);
  show(reviews.length ? keyOf(reviews[Math.min(index, reviews.length - 1)]) : null);
  tellEffect(review, effect);
});

function tellEffect(review, effect) {
  const change = (name, key) => {
    const [before, after] = [effect.metrics_before?.[key], effect.metrics_after?.[key]];
    return [before, after].some((each) => each === null || each === undefined) ? null : el("span", {}, `${name} ${figure(before, 4)} → ${figure(after, 4)}`);
  };
  const labelled = effect.recorded ? el("span", {}, `labelled ${count(effect.n_labelled_before)} → ${count(effect.n_labelled_after)}`) : null;
  const place = byId("effect");
  place.replaceChildren(el("p", {}, el("strong", {}, typed(review.prediction_id)), ": ", typed(effect.sentence)),
    el("p", { class: "links soft" }, labelled, effect.recorded ? change("ECE", "ece") : null, effect.recorded ? change("log loss", "log_loss") : null));
  place.hidden = false;
}

function correct(label) {
  const review = current();
  return review && String(label) === String(review.prediction) ? decide("confirm") : decide("correct", { label });
}

function escalate() {
  if (!current() || busy) return;
  const dialog = byId("escalate");
  byId("escalate-note").value = byId("note")?.value ?? "";
  dialog.returnValue = "no";
  dialog.showModal();
  dialog.addEventListener("close", () => {
    const note = byId("escalate-note").value.trim();
    if (dialog.returnValue !== "yes") return;
    if (note) decide("escalate", { note });
    else say("An escalation needs a note: say what the next reviewer should know.");
  }, { once: true });
}

const deeds = {
  claim: () => once(async (review) => replace(await ask(pathOf(review, "/claim"), { method: "POST" }))),
  release: () => once(async (review) => replace(await ask(pathOf(review, "/release"), { method: "POST" }))),
  confirm: () => decide("confirm"),
  cantJudge: () => decide("cant_judge"),
  correct, escalate,
};

// --- keys --------------------------------------------------------------------------------------------------------------

const KEYS = { j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1), c: deeds.claim, u: deeds.release,
  x: deeds.cantJudge, e: escalate, "?": () => byId("help").showModal() };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && !event.key.match(/^(j|k|Arrow)/)) return;
  if (document.querySelector("dialog[open]") || event.target.closest("input, textarea, select")) return;
  if (event.key === "Enter") {
    // Enter on a button or a link presses it; elsewhere it confirms.
    if (event.target.closest("a, summary, button:not(.case-link)")) return;
    event.preventDefault();
    deeds.confirm();
    return;
  }
  const review = current();
  if (/^[1-9]$/.test(event.key) && review) {
    const label = rightOf(review)[Number(event.key) - 1];
    if (label !== undefined) correct(label);
    return;
  }
  const deed = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!deed) return;
  event.preventDefault();
  deed();
}

async function models() {
  const found = await ask("/models").catch(() => ({ models: [] }));
  const wanted = new URLSearchParams(location.search).get("model") ?? "";
  const names = [...new Set([...found.models.map((each) => each.model), ...(wanted ? [wanted] : [])])].sort();
  byId("model").append(...names.map((name) => el("option", { value: name }, name)));
  byId("model").value = wanted;
}

document.addEventListener("keydown", pressed);
byId("help-button").addEventListener("click", () => byId("help").showModal());
byId("filter").addEventListener("submit", (event) => event.preventDefault());
byId("filter").addEventListener("change", () => { here = null; reviews = []; load(); });
setInterval(() => { const review = current(); if (review) leaseOf(review); }, 1000);

await models();
load();
const soon = seldom(load, 4000);
let open = "";
listen((frame) => {
  const now = (frame.streams ?? []).map((stream) => [stream.model, stream.version, stream.open_reviews]).join(";");
  if (now && now !== open) soon();
  open = now || open;
}, load);
