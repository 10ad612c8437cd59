// Risk against coverage, and what another threshold would have meant.

import { act, ask, empty, may, ofModel, panel } from "../app.js";
import { chart, legend, line, ticks } from "../charts.js";
import { el, svg } from "../theme/elements.js";
import { count, figure, share } from "../words.js";

/** What would have been answered by `threshold`: the point of the curve with the largest coverage that it allows. */
export function at(points, threshold) {
  const allowed = points.filter((point) => point.threshold !== null && point.threshold >= threshold);
  return allowed.reduce((best, point) => (point.coverage > best.coverage ? point : best), { coverage: 0, risk: null, threshold });
}

function picture(points, policy, chosen) {
  const high = Math.max(0.02, ...points.map((point) => point.risk ?? 0)) * 1.1;
  const words = (point) => `Answered ${share(point.coverage)}, wrong ${share(point.risk)} of these, from ${figure(point.threshold)} on`;
  const whole = points.at(-1);
  const summary = `Were all answered, ${share(whole.risk)} would be wrong; at half, ${share(points.find((point) => point.coverage >= 0.5)?.risk)}.`;
  return chart({
    title: "Risk and coverage", summary, height: 260,
    legend: legend(["served", "error rate of what is answered"], ...(policy ? [["policy", "threshold now"]] : []), ["chosen", "threshold below"]),
    x: { low: 0, high: 1, ticks: [0, 0.25, 0.5, 0.75, 1], write: (value) => `${Math.round(100 * value)} %`, label: "Share answered" },
    y: { low: 0, high, ticks: ticks(0, high, 4), write: (value) => `${Number((100 * value).toPrecision(3))} %` },
    points: points.filter((point) => point.risk !== null).map((point) => ({ x: point.coverage, y: point.risk, text: words(point) })),
    marks: (x, y, frame) => {
      const parts = [line(points.filter((point) => point.risk !== null).map((point) => [x(point.coverage), y(point.risk)]), "served")];
      const upright = (kind) => svg("path", { class: `line ${kind}`, d: `M0 ${frame.top}V${frame.height - frame.bottom}` });
      if (policy) {
        const mark = upright("policy");
        mark.setAttribute("transform", `translate(${x(policy.coverage)} 0)`);
        parts.push(mark);
        if (policy.risk !== null) parts.push(svg("circle", { class: "dot policy", cx: x(policy.coverage), cy: y(policy.risk), r: 5 }));
      }
      chosen.mark = upright("chosen");
      chosen.place = () => chosen.mark.setAttribute("transform", `translate(${x(chosen.point.coverage)} 0)`);
      chosen.place();
      return [...parts, chosen.mark];
    },
    table: { head: ["Answered", "Wrong of these", "Threshold"], rows: points.filter((_, i) => i % Math.ceil(points.length / 40) === 0).map((point) => [share(point.coverage), share(point.risk), figure(point.threshold)]) },
  });
}

function save(value, reload) {
  return async (event) => {
    const wanted = value();
    const question = wanted === null
      ? ["Withhold nothing?", "Every prediction is answered from then on, however uncertain.", "Remove the threshold"]
      : ["Change the threshold?", `Predictions that come without a decision of their own are withheld when their confidence is below ${figure(wanted)}. The change stands in the audit log with your name.`, "Change it"];
    const done = await act(event.target, async () => {
      await ask(ofModel("/settings"), { method: "PATCH", body: { abstain_threshold: wanted } });
      return wanted === null ? "There is no threshold now." : `The threshold is ${figure(wanted)} now.`;
    }, question);
    if (done) reload();
  };
}

function made({ curve, n_predictions, threshold }, reload) {
  const points = [...(curve?.points ?? [])].sort((a, b) => a.coverage - b.coverage);
  if (!points.length) return empty(el("p", {}, "There is no curve before there are outcomes."));
  const chosen = { point: at(points, threshold ?? 0), place: () => null };
  const slider = el("input", { type: "range", id: "threshold-slider", min: 0, max: 1, step: 0.005, value: threshold ?? 0, "aria-label": "Threshold" });
  const field = el("input", { type: "number", id: "threshold", min: 0, max: 1, step: 0.005, value: threshold ?? 0 });
  const said = el("p", { role: "status", class: "whatif" });
  const tell = (value) => {
    chosen.point = at(points, value);
    chosen.place();
    const { coverage, risk } = chosen.point;
    const people = count(n_predictions * (1 - coverage));
    said.textContent = `At ${figure(value)}: ${share(coverage)} answered, ${share(risk)} of these wrong; ${share(1 - coverage)} go to people, ${people} in this window.`;
  };
  slider.addEventListener("input", () => { field.value = slider.value; tell(Number(slider.value)); });
  field.addEventListener("input", () => { slider.value = field.value; tell(Math.min(1, Math.max(0, Number(field.value)))); });
  tell(threshold ?? 0);
  const change = el("button", { type: "button", class: "main", id: "threshold-save" }, "Save the threshold");
  const remove = el("button", { type: "button" }, "No threshold");
  change.addEventListener("click", save(() => Math.min(1, Math.max(0, Number(field.value))), reload));
  remove.addEventListener("click", save(() => null, reload));
  return [picture(points, curve.policy, chosen),
    el("div", { class: "line" }, el("label", { for: "threshold" }, "What if the threshold were"), field, slider), said,
    may("admin") ? el("p", { class: "actions" }, change, threshold === null ? null : remove) : null];
}

export function risk({ report, detail, everything }) {
  return panel("risk", async () => {
    const [found, seen] = await Promise.all([report(), detail()]);
    return { curve: found.risk_coverage, n_predictions: found.n_predictions, threshold: seen.abstain_threshold };
  }, (content) => made(content, everything));
}
