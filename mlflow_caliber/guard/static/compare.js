// Two versions: beside each other, over one another, and in pairs where both were evaluated on the same data.

import { address, byId, el, get, interval, number, page, signed, typed } from "./caliber.js";
import { svg } from "./elements.js";

const SIDE = 320, EDGE = 40;

const x = (share) => EDGE + share * SIDE;
const y = (share) => 10 + (1 - share) * SIDE;
const path = (points) => points.map(([stated, seen], i) => `${i ? "L" : "M"}${x(stated).toFixed(1)} ${y(seen).toFixed(1)}`).join("");

function overlay(a, b) {
  const drawn = svg("svg", { class: "overlay", viewBox: `0 0 ${SIDE + EDGE + 15} ${SIDE + EDGE + 15}`, role: "img",
    "aria-label": `Reliability of version ${a.version} (solid) and version ${b.version} (dashed) over one another` });
  drawn.append(svg("rect", { class: "frame", x: x(0), y: y(1), width: SIDE, height: SIDE }),
    svg("path", { class: "diagonal", d: path([[0, 0], [1, 1]]) }),
    svg("path", { class: "a", d: path(a.curve) }), svg("path", { class: "b", d: path(b.curve) }));
  for (const share of [0, 0.5, 1]) {
    drawn.append(svg("text", { x: x(share), y: y(0) + 16, "text-anchor": "middle" }, share),
      svg("text", { x: EDGE - 6, y: y(share) + 4, "text-anchor": "end" }, share));
  }
  drawn.append(svg("text", { x: x(0.5), y: y(0) + 34, "text-anchor": "middle" }, "Predicted probability"),
    svg("path", { class: "a", d: `M${x(0.04)} ${y(0.95)}h28` }), svg("text", { x: x(0.04) + 34, y: y(0.95) + 4 }, `version ${a.version}`),
    svg("path", { class: "b", d: `M${x(0.04)} ${y(0.89)}h28` }), svg("text", { x: x(0.04) + 34, y: y(0.89) + 4 }, `version ${b.version}`));
  return el("figure", {}, drawn, el("figcaption", {}, `Over one another: version ${a.version} solid, version ${b.version} dashed.`));
}

const figure = (side) => el("figure", {},
  el("img", { src: address("/caliber/figure", { name: page.name, version: side.version, run: side.run_id, figure: "reliability" }),
    alt: `Reliability diagram of version ${side.version}; the numbers are in the table.`, width: 440, height: 500 }),
  el("figcaption", {}, `Version ${side.version}, on ${side.data.n.toLocaleString("en")} rows`));

const head = (...names) => el("thead", {}, el("tr", {}, ...names.map((name, i) =>
  el("th", { scope: "col", class: i > 0 && name !== "So" ? "number" : null }, name))));

function metrics(a, b) {
  const others = new Map(b.numbers.map((each) => [each.label, each]));
  const cell = (each, version) => el("td", { class: "number", "data-label": `Version ${version}` }, each ? number(each.value) : "–", el("small", {}, each ? interval(each.low, each.high) : ""));
  const rows = a.numbers.map((each) => el("tr", {}, el("th", { scope: "row", title: each.about }, each.label),
    cell(each, a.version), cell(others.get(each.label), b.version)));
  return el("table", { class: "cards" }, head("Metric", `Version ${a.version}`, `Version ${b.version}`), el("tbody", {}, ...rows));
}

function paired(found) {
  const tone = { better: "good", worse: "bad" };
  const rows = found.paired.map((each) => el("tr", {}, el("th", { scope: "row" }, each.label),
    el("td", { class: "number", "data-label": "Difference" }, signed(each.difference)),
    el("td", { class: "number", "data-label": "Interval" }, interval(each.low, each.high, signed)),
    el("td", { "data-label": "So" }, el("span", { class: tone[each.verdict] ?? "soft" }, `version ${found.b.version}: ${each.verdict}`))));
  return el("table", { class: "cards" }, head("Metric", `${found.b.version} less ${found.a.version}`, "Interval", "So"), el("tbody", {}, ...rows));
}

function source(side) {
  const data = side.data.name ?? "a data set without a name";
  const run = side.run_url === null ? side.run_id : el("a", { href: side.run_url }, "run");
  return el("li", {}, `Version ${side.version}: evaluated ${side.age} on ${side.data.n.toLocaleString("en")} rows of `, typed(data), " (", run, ")");
}

async function show() {
  const place = byId("comparison");
  if (place === null) return;
  try {
    const found = await get("comparison", { name: page.name, a: page.a, b: page.b });
    const pairs = found.paired.length ? paired(found) : el("p", { class: "panel" }, typed(found.not_paired));
    place.replaceChildren(el("ul", {}, source(found.a), source(found.b)),
      el("h2", {}, "In pairs, on the same rows"), pairs,
      el("h2", {}, "Each by itself"), metrics(found.a, found.b),
      el("h2", {}, "Reliability"), el("div", { class: "figures" }, figure(found.a), figure(found.b), overlay(found.a, found.b)));
  } catch (error) {
    place.replaceChildren(el("p", {}, typed(error.message)));
  }
  place.setAttribute("aria-busy", "false");
}

show();
