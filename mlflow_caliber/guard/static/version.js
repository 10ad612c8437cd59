// One version: its decision is fetched, because it is computed anew; buttons ask, and the server decides.

import { act, address, byId, el, facts, get, interval, number, page, post, status, sure, say, typed } from "./caliber.js";

const about = { name: page.name, version: page.version, target: page.target };
const FIGURES = [
  ["reliability", "Reliability diagram", "On the dotted line, what was stated is what happened. Inside the grey band a curve may be chance."],
  ["risk_coverage", "Risk and coverage", "The error rate that is left when only the most confident cases are answered."],
];

function rule(outcome) {
  const rows = outcome.rows_needed === null ? null : el("div", {}, el("dt", {}, "would decide"), el("dd", {}, `about ${outcome.rows_needed} rows`));
  const span = outcome.interval === null ? null : el("div", {}, el("dt", {}, "interval"), el("dd", {}, interval(...outcome.interval)));
  const wanted = el("div", {}, el("dt", {}, "wanted"), el("dd", {}, typed(outcome.wanted)));
  const got = el("div", {}, el("dt", {}, "got"), el("dd", {}, typed(outcome.got)));
  return el("li", {}, status(outcome.verdict), el("div", {}, el("p", {}, typed(outcome.sentence)), el("dl", {}, wanted, got, span, rows)));
}

function verdict(found) {
  const words = { pass: "Yes: every rule passes.", fail: "No: a rule fails.", inconclusive: "Not yet: the evidence does not decide it." };
  const said = found.status === "overridden" ? "Yes, by an override: the gate itself does not pass it." : words[found.verdict];
  const parts = [el("p", { class: "verdict" }, status(found.status ?? found.verdict), ` ${said}`)];
  if (found.override !== null) {
    parts.push(el("p", {}, typed(`Override by ${found.override.actor} until ${found.override.expires_at}: ${found.override.reason}`)));
  }
  parts.push(el("ul", { class: "rules" }, ...found.rules.map(rule)));
  if (found.rules.length === 0) parts.push(el("p", { class: "soft" }, "The policy has no rules for this target."));
  return parts;
}

function showApprovals(approvals) {
  const counted = new Set(approvals.counted);
  const given = approvals.given.map((each) => el("li", {}, el("strong", {}, typed(each.by)), each.at ? `, ${each.at}` : "",
    counted.has(each.by) || approvals.wanted === 0 ? "" : " (does not count: the policy says who may)",
    each.comment ? el("p", { class: "soft" }, typed(each.comment)) : ""));
  const said = approvals.wanted === 0 ? "The policy asks for none."
    : `${approvals.counted.length} of ${approvals.wanted} given, for these files, this policy and this evidence.`;
  byId("approvals").replaceChildren(el("p", {}, said), given.length ? el("ul", {}, ...given) : "",
    approvals.why_not === null || approvals.mine ? "" : el("p", { class: "soft" }, typed(approvals.why_not)));
  byId("approve").hidden = approvals.why_not !== null && !approvals.mine;
  byId("approve-button").hidden = approvals.mine || approvals.why_not !== null;
  byId("withdraw").hidden = !approvals.mine;
}

function showEvidence(evidence, found) {
  const digest = (text) => el("code", { title: text }, text);
  const data = evidence.data.name === null ? "a data set without a name" : evidence.data.name;
  facts(byId("evidence-facts"), [
    ["Evaluated", `${evidence.written}, ${evidence.age}`],
    ["On", typed(`${evidence.data.n.toLocaleString("en")} rows of ${data}`)],
    ["Run", evidence.run_url === null ? el("code", {}, evidence.run_id) : el("a", { href: evidence.run_url }, evidence.run_id)],
    ["Evidence", digest(evidence.sha256)],
    ["Data", digest(evidence.data.digest)],
    ["Model files", digest(found.model_digest)],
    ["Policy", digest(found.policy_sha256)],
  ]);
  byId("numbers").tHead.rows[0].cells[2].textContent = `${Math.round(100 * evidence.confidence)}% interval`;
  byId("numbers").tBodies[0].replaceChildren(...evidence.numbers.map((each) => el("tr", {},
    el("th", { scope: "row", title: each.about }, each.label),
    el("td", { class: "number" }, number(each.value)), el("td", { class: "number" }, interval(each.low, each.high)))));
  byId("figures").replaceChildren(...FIGURES.map(([figure, title, caption]) => el("figure", {},
    el("img", { src: address("/caliber/figure", { name: page.name, version: page.version, run: evidence.run_id, figure }), alt: `${title} of version ${page.version}; the numbers are in the table.`, width: 440, height: figure === "reliability" ? 500 : 330 }),
    el("figcaption", {}, `${title}. ${caption}`))));
  byId("evidence").hidden = false;
}

let seen = null;

async function decide() {
  const place = byId("decision");
  try {
    const found = await get("examine", about);
    place.replaceChildren(...verdict(found));
    showApprovals(found.approvals);
    showEvidence(found.evidence, found);
    seen = found.evidence.sha256;
  } catch (error) {
    place.replaceChildren(el("p", {}, typed(error.message)));
    byId("approvals").replaceChildren(el("p", { class: "soft" }, "There is nothing to approve before there is evidence that can be believed."));
  }
  place.setAttribute("aria-busy", "false");
}

byId("promote")?.addEventListener("click", async (event) => {
  const what = `Version ${page.version} of ${page.name} becomes ${page.target}, if the policy lets it: the server decides anew.`;
  if (!(await sure(`Promote to ${page.target}?`, what, "Promote"))) return;
  act(event.target, async () => (await post("promote", about)).sentence);
});

byId("rollback")?.addEventListener("click", async (event) => {
  const what = `Version ${event.target.dataset.to} of ${page.name} becomes ${page.target} again. A rollback is not gated.`;
  if (!(await sure("Roll back?", what, "Roll back"))) return;
  act(event.target, async () => (await post("rollback", { name: page.name, target: page.target })).sentence);
});

byId("approve").addEventListener("submit", (event) => {
  event.preventDefault();
  act(byId("approve-button"), async () => {
    // Of what is on this page: evidence that came meanwhile has to be looked at first.
    await post("approve", { ...about, comment: byId("comment").value, evidence_sha256: seen });
    return `You approved version ${page.version} as ${page.target}.`;
  });
});

byId("withdraw").addEventListener("click", (event) => act(event.target, async () => {
  await post("approve", { ...about, comment: byId("comment").value, withdraw: true });
  return `You withdrew your approval of version ${page.version}.`;
}));

byId("override")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const days = Number(byId("days").value);
  if (!(days > 0)) return say("The days must be a number above 0.", { wrong: true });
  const what = `You answer for version ${page.version} as ${page.target} for ${days} days, with your name in the audit log.`;
  if (!(await sure("Override the gate?", what, "Override"))) return;
  act(event.target.querySelector("button"), async () => {
    const made = await post("override", { ...about, reason: byId("reason").value, days });
    return `Overridden until ${made.expires_at}. It can be promoted now.`;
  });
});

decide();
