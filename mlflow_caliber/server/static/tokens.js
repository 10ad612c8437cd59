// Tokens: make one, copy it while it is shown, revoke one.

import { act, ask, empty, failure, redraw, say, stamp } from "./app.js";
import { listen } from "./live.js";
import { byId, el, typed } from "./theme/elements.js";
import { badge, moment, since } from "./words.js";

function stateOf(token) {
  if (token.revoked_at !== null) return badge("✕", "revoked", "bad");
  if (token.expires_at !== null && token.expires_at * 1000 < Date.now()) return badge("✕", "expired", "bad");
  return badge("✓", "valid", "good");
}

function row(token) {
  const cell = (label, ...children) => el("td", { "data-label": label }, el("div", {}, ...children));
  const button = el("button", { type: "button", class: "quiet" }, "Revoke");
  button.addEventListener("click", async () => {
    const question = ["Revoke this token?", `Whoever uses ${token.name} is refused from then on, in every open session as well.`, "Revoke"];
    if (await act(button, () => ask(`/tokens/${encodeURIComponent(token.id)}`, { method: "DELETE" }).then(() => "The token is revoked."), question)) load();
  });
  return el("tr", {}, el("th", { scope: "row" }, typed(token.name), el("small", {}, el("code", {}, `cal_${token.id}_…`))),
    cell("May", typed(token.roles.join(", "))), cell("Models", token.models === null ? "all" : typed(token.models.join(", "))),
    cell("Made", since(token.created_at)), cell("Ends", token.expires_at === null ? "never" : moment(token.expires_at)), cell("State", stateOf(token)),
    cell("", token.revoked_at === null ? button : el("span", { class: "soft" }, moment(token.revoked_at))));
}

async function load() {
  const place = byId("tokens");
  try {
    const { tokens } = await ask("/tokens");
    const heads = ["Name", "May", "Models", "Made", "Ends", "State", "Act"];
    const sorted = [...tokens].sort((a, b) => (a.revoked_at !== null) - (b.revoked_at !== null) || b.created_at - a.created_at);
    redraw(place, sorted, () => (sorted.length
      ? el("table", { class: "cards" }, el("thead", {}, el("tr", {}, ...heads.map((word) => el("th", { scope: "col" }, word)))), el("tbody", {}, ...sorted.map(row)))
      : empty(el("p", {}, "There is no token yet."))));
    stamp(byId("asof"));
  } catch (error) {
    if (place.drawn === undefined) place.replaceChildren(failure(error, load));
  }
  place.setAttribute("aria-busy", "false");
}

function wanted() {
  const roles = [...byId("create").querySelectorAll('input[name="role"]:checked')].map((each) => each.value);
  const models = byId("token-models").value.split(",").map((each) => each.trim()).filter(Boolean);
  const days = byId("token-days").value;
  return { name: byId("token-name").value.trim(), roles, models: models.length ? models : null, days: days === "" ? null : Number(days) };
}

byId("create").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = wanted();
  if (!body.roles.length) return say("Tick at least one thing that the token may do.");
  const done = await act(event.target.querySelector("button"), async () => {
    const made = await ask("/tokens", { method: "POST", body });
    byId("fresh-token").value = made.token;
    byId("copied").textContent = "";
    byId("fresh").hidden = false;
    byId("fresh-token").focus();
    byId("fresh-token").select();
  });
  if (!done) return;
  event.target.reset();
  load();
});

byId("copy").addEventListener("click", async () => {
  byId("fresh-token").select();
  try {
    await navigator.clipboard.writeText(byId("fresh-token").value);
    byId("copied").textContent = "Copied.";
  } catch {
    byId("copied").textContent = "Your browser does not let this page copy: press Ctrl+C.";
  }
});

byId("done").addEventListener("click", () => {
  byId("fresh-token").value = "";
  byId("fresh").hidden = true;
});

listen(() => null, load);
load();
