// The latest predictions as they come: a dot each, at its confidence.

import { ask, empty, ofModel, panel, page } from "../app.js";
import { byId, el, svg } from "../theme/elements.js";
import { count, figure, moment, share } from "../words.js";

const MOST = 150, HEIGHT = 150, STEP = 8, EDGE = 34;
const FRAMES = 60;

let recent = [], counts = [], paused = false, threshold = null, missed = 0, rate = null;

let low = 0;
const up = (confidence) => 10 + ((1 - confidence) / (1 - low)) * (HEIGHT - 20);

function dot(each, x) {
  const words = `${moment(each.predicted_at)}: ${each.abstained ? "abstained" : "answered"}, confidence ${figure(each.confidence)}`;
  const y = up(Math.min(1, Math.max(0, each.confidence)));
  const title = svg("title", {}, words);
  return each.abstained ? svg("path", { class: "dot abstained", d: `M${x} ${y - 4.5}l4.5 8h-9z` }, title) : svg("circle", { class: "dot answered", cx: x, cy: y, r: 3.5 }, title);
}

function draw(stage) {
  const width = Math.floor(stage.clientWidth);
  if (width < 40) return;
  const fit = Math.min(MOST, Math.floor((width - EDGE - 16) / STEP));
  const shown = recent.slice(-fit);
  const abstained = shown.filter((each) => each.abstained).length;
  // With two classes no confidence is below one half, and the lower half would stay empty.
  low = threshold < 0.5 && threshold !== null || shown.some((each) => each.confidence < 0.5) ? 0 : 0.5;
  const words = `Confidence of the latest ${shown.length} predictions; ${abstained} abstained.`;
  const picture = svg("svg", { class: "chart", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": words },
    ...[low, (1 + low) / 2, 1].flatMap((value) => [svg("path", { class: "grid", d: `M${EDGE} ${up(value)}H${width}` }), svg("text", { x: EDGE - 6, y: up(value) + 4, "text-anchor": "end" }, String(value))]));
  if (threshold !== null) picture.append(svg("path", { class: "line policy", d: `M${EDGE} ${up(threshold)}H${width}` }));
  picture.append(...shown.map((each, i) => dot(each, width - 8 - (shown.length - 1 - i) * STEP)));
  stage.replaceChildren(picture);
}

function tell() {
  const total = counts.reduce((sum, each) => sum + each[0], 0), kept = counts.reduce((sum, each) => sum + each[1], 0);
  const pairs = [["Predictions and outcomes", rate === null ? "–" : `${rate >= 10 ? count(rate) : figure(rate, 1)} a second`],
    ["Abstained in the last minute", total ? share(kept / total) : "–"], ...(paused ? [["Missed while paused", count(missed)]] : [])];
  byId("rates").replaceChildren(...pairs.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

const mine = (stream) => stream.model === page.model && String(stream.version) === page.version;

/** Take a frame in; false when it has nothing about this version. */
export function feed(frame) {
  const stream = (frame.streams ?? []).find(mine);
  counts = [...counts, [stream?.n_predictions ?? 0, stream?.n_abstained ?? 0]].slice(-FRAMES);
  rate = stream?.rate ?? 0;
  if (paused) missed += stream?.n_predictions ?? 0;
  else if (stream?.sample?.length) take(stream.sample.filter((each) => Number.isFinite(each.confidence)));
  tell();
  return stream;
}

function take(more) {
  const had = recent.length;
  recent = [...recent, ...more].slice(-MOST);
  const body = byId("strip").querySelector(".body");
  const stage = body.querySelector(".stage");
  if (stage) draw(stage);
  else if (had === 0) body.replaceChildren(...frameOf());
}

function frameOf() {
  const stage = el("div", { class: "stage" });
  new ResizeObserver(() => draw(stage)).observe(stage);
  return [stage, el("p", { class: "soft" }, "A dot is an answer, a triangle is one that was withheld; the newest is on the right, the dashed line is the threshold.")];
}

function seeded({ predictions }) {
  recent = [...predictions].reverse().filter((each) => Number.isFinite(each.confidence)).slice(-MOST);
  return recent.length ? frameOf() : empty(el("p", {}, "Nothing has come yet; the next prediction shows here by itself."));
}

export function strip({ detail }) {
  byId("pause").addEventListener("click", (event) => {
    paused = !paused;
    missed = 0;
    event.target.setAttribute("aria-pressed", String(paused));
    event.target.textContent = paused ? "Go on" : "Pause";
    tell();
  });
  tell();
  return panel("strip", async () => {
    const [found, seen] = await Promise.all([ask(ofModel(`/predictions?limit=${MOST}`)), detail()]);
    threshold = seen.abstain_threshold;
    return found;
  }, seeded);
}
