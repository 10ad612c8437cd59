// One model: the numbers of its versions are fetched one after the other, so that the list is there at once.

import { act, byId, el, get, interval, number, page, post } from "./caliber.js";

async function fill(row) {
  const age = row.querySelector("[data-age]");
  try {
    const { evidence } = await get("measured", { name: page.name, version: row.dataset.version });
    if (evidence === null) return;
    evidence.numbers.forEach((each, i) => {
      row.querySelector(`[data-number="${i}"]`).replaceChildren(number(each.value), el("small", {}, interval(each.low, each.high)));
    });
    age.replaceChildren(evidence.age, el("small", {}, `${evidence.n.toLocaleString("en")} rows`));
  } catch (error) {
    age.replaceChildren(el("span", { class: "bad", title: error.message }, "cannot be read"));
  }
}

async function fillAll() {
  const rows = [...document.querySelectorAll("tr[data-gated]")];
  const next = async () => { while (rows.length) await fill(rows.shift()); };
  await Promise.all([next(), next()]);
  document.body.dataset.filled = "yes";
}

byId("freeze")?.addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.target.querySelector("button"), async () => {
    const until = byId("freeze-until").value;
    const body = { name: page.name, target: byId("freeze-target").value, reason: byId("freeze-reason").value };
    await post("freeze", until ? { ...body, until: new Date(until).toISOString() } : body);
    return "Promotions are frozen. Rollbacks still work.";
  });
});

for (const button of document.querySelectorAll("[data-unfreeze]")) {
  button.addEventListener("click", () => act(button, async () => {
    await post("unfreeze", { name: page.name, target: button.dataset.unfreeze });
    return "The freeze is lifted.";
  }));
}

fillAll();
