// Alarms, revisions and lineage: what happened to a version, and what an administrator may do about it.

import { act, ask, empty, may, modelPage, ofModel, page, panel, query } from "../app.js";
import { byId, el, typed } from "../theme/elements.js";
import { badge, count, moment, severityBadge, since } from "../words.js";

const VERDICTS = { pass: ["✓", "good"], passed: ["✓", "good"], overridden: ["!", "warn"], fail: ["✕", "bad"], failed: ["✕", "bad"], inconclusive: ["?", "note"], expired: ["✕", "bad"] };

// --- alarms ------------------------------------------------------------------------------------------------------------

function alarmItem(alarm, reload) {
  const button = el("button", { type: "button", class: "quiet" }, "Resolve");
  button.addEventListener("click", async () => {
    const question = ["Resolve this alarm?", `${alarm.sentence} If the cause is still there, it opens again.`, "Resolve"];
    if (await act(button, () => ask(ofModel(`/alarms/${encodeURIComponent(alarm.id)}/resolve`), { method: "POST" }).then(() => "The alarm is resolved."), question)) reload();
  });
  const times = alarm.resolved_at === null ? ["opened ", since(alarm.opened_at), ", seen ", since(alarm.last_seen_at)] : [`${moment(alarm.opened_at)} to ${moment(alarm.resolved_at)}`];
  return el("li", {}, severityBadge(alarm.severity), " ", el("strong", {}, typed(`${alarm.kind} `)), typed(alarm.sentence), el("small", {}, ...times),
    alarm.resolved_at === null && may("admin") ? button : alarm.resolved_at === null ? null : badge("✓", "resolved", "good"));
}

export function alarms({ everything }) {
  const all = byId("alarms-all");
  const load = panel("alarms", () => ask(ofModel(`/alarms${query({ state: all.checked ? "all" : "open" })}`)), ({ alarms: found }) =>
    (found.length ? el("ul", { class: "plainly" }, ...found.map((alarm) => alarmItem(alarm, everything))) : empty(el("p", {}, badge("✓", "quiet", "good"), all.checked ? " There never was an alarm." : " No alarm is open."))));
  all.addEventListener("change", load.again);
  return load;
}

// --- revisions ---------------------------------------------------------------------------------------------------------

function pinButton(number, pinned, reload) {
  const button = el("button", { type: "button", class: "quiet" }, pinned ? "Unpin" : "Pin");
  const question = pinned
    ? ["Unpin?", "The newest revision is published from then on, and those that are learned after it.", "Unpin"]
    : ["Pin this revision?", `${number === 0 ? "The shipped calibration" : `Revision ${number}`} is to be served until somebody unpins it, whatever is learned meanwhile.`, "Pin"];
  button.addEventListener("click", async () => {
    const path = pinned ? "/revisions/unpin" : `/revisions/${number}/pin`;
    if (await act(button, () => ask(ofModel(path), { method: "POST" }).then(() => (pinned ? "Nothing is pinned now." : "It is pinned.")), question)) reload();
  });
  return button;
}

function revisionsOf({ current, pinned, revisions }, reload) {
  if (!revisions.length) return empty(el("p", {}, "Nothing was learned yet: the calibration is the one that the model was shipped with."));
  const items = [...revisions].sort((a, b) => b.number - a.number).map((each) => el("tr", {},
    el("th", { scope: "row" }, each.number === 0 ? "shipped" : `${each.number} `, each.number === current ? badge(pinned ? "▣" : "▶", pinned ? "pinned" : "published", "note") : null),
    el("td", { "data-label": "Published" }, since(each.created_at)), el("td", { "data-label": "Learned from" }, el("span", {}, count(each.n_learned))),
    el("td", { "data-label": "Note" }, each.note ? typed(each.note) : el("span", { class: "soft" }, "–")),
    may("admin") ? el("td", { "data-label": "" }, pinButton(each.number, pinned && each.number === current, reload)) : null));
  const words = ["Revision", "Published", "Learned from", "Note", ...(may("admin") ? ["Act"] : [])];
  return el("div", { class: "tall" }, el("table", { class: "cards" }, el("thead", {}, el("tr", {}, ...words.map((word) => el("th", { scope: "col" }, word)))), el("tbody", {}, ...items)));
}

export const revisions = ({ everything }) => panel("revisions", () => ask(ofModel("/revisions")), (content) => revisionsOf(content, everything));

// --- lineage -----------------------------------------------------------------------------------------------------------

function verdict(status) {
  if (!status) return badge("·", "not gated", "plain");
  const [sign, kind] = VERDICTS[status] ?? ["·", "plain"];
  return badge(sign, `gate: ${status}`, kind);
}

function node(each, children) {
  const name = each.here ? el("strong", {}, `version `, typed(each.version)) : el("a", { href: modelPage(page.model, each.version) }, "version ", typed(each.version));
  const facts = [each.stage, ...(each.aliases ?? []).map((alias) => `@${alias}`)].filter(Boolean).map((word) => el("span", { class: "pill" }, typed(word)));
  const made = each.created_at === null || each.created_at === undefined ? null : el("small", {}, `made ${moment(each.created_at)}`);
  const revision = each.calibrator_revision ? el("small", {}, "calibration ", typed(each.calibrator_revision)) : null;
  return el("li", { class: each.here ? "here" : null }, name, " ", verdict(each.gate_status), " ", ...facts, each.here ? el("span", { class: "soft" }, " this one") : null, made, revision,
    children.length ? el("ul", {}, ...children) : null);
}

function lineageOf({ nodes, note }) {
  const known = new Set(nodes.map((each) => each.version));
  const drawn = new Set();
  const grow = (each) => {
    drawn.add(each.version);
    return node(each, nodes.filter((child) => child.parent_version === each.version && !drawn.has(child.version)).map(grow));
  };
  const roots = nodes.filter((each) => !known.has(each.parent_version)).map(grow);
  const rest = nodes.filter((each) => !drawn.has(each.version)).map((each) => (drawn.has(each.version) ? null : grow(each)));
  if (!nodes.length) return empty(el("p", {}, note ? typed(note) : "No other version is known."));
  return [el("ul", { class: "lineage" }, ...roots, ...rest.filter(Boolean)), note ? el("p", { class: "soft" }, typed(note)) : null];
}

export const lineage = () => panel("lineage", () => ask(ofModel("/lineage")), lineageOf);
