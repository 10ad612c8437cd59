// The server's live frames: one a second. Where none come, the page says so, and gets them back by itself.

import { ask, banner, isOver, page, query } from "./app.js";
import { byId } from "./theme/elements.js";
import { clock } from "./words.js";

const SILENCE = 2800; // milliseconds without a frame after which the server is asked whether it is there
const PATIENCE = 1500; // and for how long: together they stay below five seconds
const LONGEST_WAIT = 5000;
const POLL = 5000;

const hearers = new Set();
const returns = new Set();
let socket = null, heard = Date.now(), tried = 0, asked = 0, lost = null, tries = 0, retry = null, polling = false;

/** `frame` is called with every frame, `back` when the server is there again after it was not. */
export function listen(frame, back) {
  hearers.add(frame);
  if (back) returns.add(back);
}

export const answers = () => lost === null;

function show(state, words) {
  const place = byId("connection");
  if (!place || place.dataset.state === state) return;
  place.dataset.state = state;
  byId("connection-text").textContent = words;
}

function connect() {
  retry = null;
  if (isOver() || document.hidden || socket !== null) return;
  const address = new URL(`${page.base}/api/v1/live${query({ model: page.model, version: page.version })}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  tried = Date.now();
  const made = new WebSocket(address);
  made.addEventListener("message", (event) => receive(JSON.parse(event.data)));
  made.addEventListener("close", () => { if (made === socket) again(); });
  socket = made;
}

function receive(message) {
  heard = Date.now();
  tries = 0;
  polling = false;
  show("live", "live");
  found();
  // A page that nobody looks at draws nothing; what it missed is fetched when it is looked at again.
  if (document.hidden) return;
  if (message.type === "frame") hearers.forEach((hear) => hear(message));
  if (message.type === "dropped") returns.forEach((back) => back());
}

function drop() {
  const old = socket;
  socket = null;
  clearTimeout(retry);
  retry = null;
  old?.close();
}

function again() {
  drop();
  if (document.hidden || isOver()) return;
  // Jitter: many pages must not come back at one moment.
  const wait = Math.min(LONGEST_WAIT, 500 * 2 ** tries++) * (0.5 + Math.random() / 2);
  retry = setTimeout(connect, wait);
  probe();
}

/** No frames: is the server gone, the session over, or is only the way for live frames barred? */
async function probe() {
  if (Date.now() - asked < (polling ? POLL : PATIENCE)) return;
  asked = Date.now();
  try {
    await ask("/me", { signal: AbortSignal.timeout(PATIENCE) });
    if (Date.now() - heard < SILENCE) return;
    polling = true;
    show("polling", "every 5 s");
    found();
  } catch (error) {
    if (error.status === 0) gone("does not answer");
    else if (error.status >= 500) gone("cannot work");
  }
}

function gone(how) {
  polling = false;
  if (lost !== null || isOver()) return;
  lost = heard / 1000;
  document.documentElement.toggleAttribute("data-gone", true);
  show("gone", "no answer");
  banner(`The server ${how} since ${clock(lost)}; figures are as of then. This page tries again by itself.`);
}

function found() {
  if (lost === null || isOver()) return;
  lost = null;
  document.documentElement.toggleAttribute("data-gone", false);
  banner();
  returns.forEach((back) => back());
}

setInterval(() => {
  const now = Date.now();
  if (document.hidden || isOver() || now - heard < SILENCE) return;
  if (socket !== null && now - tried > SILENCE) again(); // open or opening, but nothing comes through it
  probe();
}, 500);

setInterval(() => {
  if (polling && lost === null && !document.hidden) returns.forEach((back) => back());
}, POLL);

document.addEventListener("visibilitychange", () => {
  drop();
  if (document.hidden) return;
  heard = Date.now();
  tries = 0;
  connect();
  returns.forEach((back) => back());
});
addEventListener("online", () => { tries = 0; drop(); connect(); });

connect();

/** Call `work` soon, but not more often than every `pause` milliseconds. */
export function seldom(work, pause) {
  let last = 0, timer = null;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => { timer = null; last = Date.now(); work(); }, Math.max(0, last + pause - Date.now()));
  };
}
