// Small drawings: axes, lines, dots and bars; pointer and arrow keys read one point after another, a table says it all.

import { el, svg } from "./theme/elements.js";

const EDGE = { left: 46, right: 12, top: 10, bottom: 36 };

export const line = (points, kind) =>
  svg("path", { class: `line ${kind}`, d: points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("") });

/** Pieces of a line: where a value is missing the line has a gap. */
export function pieces(points, kind) {
  const found = [[]];
  for (const point of points) {
    if (point[1] === null || Number.isNaN(point[1])) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((each) => each.length).map((each) =>
    (each.length === 1 ? svg("circle", { class: `dot ${kind}`, cx: each[0][0], cy: each[0][1], r: 2.5 }) : line(each, kind)));
}

/** Round values from low to high, about `wanted` of them. */
export function ticks(low, high, wanted = 5) {
  const raw = (high - low) / wanted || 1;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = size * ([1, 2, 2.5, 5, 10].find((each) => each * size >= raw * 0.999) ?? 10);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

function axes(spec, x, y, width, height) {
  const { x: across, y: up } = spec;
  const parts = [];
  for (const value of up.ticks ?? ticks(up.low, up.high)) {
    parts.push(svg("path", { class: "grid", d: `M${EDGE.left} ${y(value).toFixed(1)}H${width - EDGE.right}` }));
    parts.push(svg("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, up.write(value)));
  }
  const most = Math.max(2, Math.floor(width / 90));
  const at = across.ticks ?? ticks(across.low, across.high, Math.min(6, most));
  const few = at.filter((_, i) => i % Math.ceil(at.length / (most + 1)) === 0);
  few.forEach((value) => parts.push(svg("text", { x: x(value), y: height - EDGE.bottom + 16, "text-anchor": "middle" }, across.write(value))));
  if (across.label) parts.push(svg("text", { class: "axis", x: (EDGE.left + width - EDGE.right) / 2, y: height - 4, "text-anchor": "middle" }, across.label));
  return parts;
}

function drawn(spec, width) {
  const height = spec.square ? Math.min(width, 400) : spec.height;
  const x = (value) => EDGE.left + ((value - spec.x.low) / (spec.x.high - spec.x.low || 1)) * (width - EDGE.left - EDGE.right);
  const y = (value) => height - EDGE.bottom - ((value - spec.y.low) / (spec.y.high - spec.y.low || 1)) * (height - EDGE.top - EDGE.bottom);
  const picture = svg("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0,
    "aria-label": `${spec.title}. ${spec.summary} Arrow keys read the points.` });
  picture.append(...axes(spec, x, y, width, height), ...spec.marks(x, y, { ...EDGE, width, height }));
  const ring = svg("circle", { class: "ring", r: 7, visibility: "hidden" });
  picture.append(ring);
  const points = spec.points.map((point) => ({ ...point, px: x(point.x), py: y(point.y) }));
  return { picture, ring, points, width };
}

/** Where the reader is: moved by pointer, focus and arrow keys, said in the tip, which is read aloud as well. */
function reading(made, tip) {
  let here = -1;
  const show = (index) => {
    here = index;
    const point = made.points[index];
    tip.hidden = point === undefined;
    made.ring.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return;
    made.ring.setAttribute("cx", point.px);
    made.ring.setAttribute("cy", point.py);
    if (tip.textContent !== point.text) tip.textContent = point.text;
    const right = point.px > made.width / 2;
    tip.style.left = right ? "auto" : `${point.px + 12}px`;
    tip.style.right = right ? `${made.width - point.px + 12}px` : "auto";
    tip.style.top = `${Math.max(0, point.py - 12)}px`;
  };
  made.picture.addEventListener("pointermove", (event) => {
    const box = made.picture.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const far = (point) => Math.abs(point.px - px) + 0.35 * Math.abs(point.py - py);
    let best = -1;
    made.points.forEach((point, i) => { if (best < 0 || far(point) < far(made.points[best])) best = i; });
    if (best !== here) show(best);
  });
  made.picture.addEventListener("pointerleave", () => { if (document.activeElement !== made.picture) show(-1); });
  made.picture.addEventListener("focus", () => { if (here < 0 && made.picture.matches(":focus-visible")) show(0); });
  made.picture.addEventListener("blur", () => show(-1));
  made.picture.addEventListener("keydown", (event) => {
    const last = made.points.length - 1;
    const step = { ArrowRight: here + 1, ArrowUp: here + 1, ArrowLeft: here - 1, ArrowDown: here - 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") show(-1);
    if (step === undefined || last < 0) return;
    event.preventDefault();
    show(Math.min(last, Math.max(0, step)));
  });
}

export const tableOf = ({ head, rows }, caption) =>
  el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", { class: "plain" }, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, ...head.map((each) => el("th", { scope: "col" }, each)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((each, i) => (i ? el("td", {}, each) : el("th", { scope: "row" }, each))))))));

export const legend = (...entries) =>
  el("ul", { class: "legend" }, ...entries.map(([kind, word]) => {
    const sample = svg("svg", { width: 30, height: 12, "aria-hidden": "true" }, svg("path", { class: `line ${kind}`, d: "M1 6H29" }));
    if (kind === "served") sample.append(svg("circle", { class: "dot served", cx: 15, cy: 6, r: 3.5 }));
    if (kind === "flag") sample.append(svg("path", { class: "flag alarm", d: "M15 11l-5 -9h10z" }));
    if (kind === "shipped") sample.append(svg("rect", { class: "dot shipped", x: 12, y: 3, width: 6, height: 6 }));
    return el("li", {}, sample, ` ${word}`);
  }));

const opened = new Set();

/**
 * One chart as an element: title, summary sentence, drawing, and a table behind a button.
 * `x` and `y` are {low, high, write, label, ticks}; `marks(x, y, frame)` gives the drawing; `points` are {x, y, text}.
 */
export function chart(spec) {
  const tip = el("div", { class: "tip", role: "status", hidden: "" });
  const stage = el("div", { class: "stage" });
  const rows = el("div", { hidden: "" });
  const toggle = el("button", { type: "button", class: "quiet", "aria-expanded": "false" }, "Show as table");
  const unfold = (open) => {
    rows.hidden = !open;
    opened[open ? "add" : "delete"](spec.title);
    if (!rows.hidden && !rows.childElementCount) rows.append(tableOf(spec.table, spec.title));
    toggle.setAttribute("aria-expanded", String(!rows.hidden));
    toggle.textContent = rows.hidden ? "Show as table" : "Hide the table";
  };
  toggle.addEventListener("click", () => unfold(rows.hidden));
  if (opened.has(spec.title)) unfold(true);
  let width = 0;
  const draw = () => {
    const now = Math.floor(stage.clientWidth);
    if (now === width || now < 40) return;
    width = now;
    const made = drawn(spec, width);
    reading(made, tip);
    tip.hidden = true;
    stage.replaceChildren(made.picture, tip);
  };
  new ResizeObserver(draw).observe(stage);
  return el("figure", { class: "chart" }, el("h3", {}, spec.title), el("p", { class: "summary" }, spec.summary),
    spec.legend ?? null, stage, el("figcaption", {}, toggle), rows);
}
