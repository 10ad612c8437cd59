// The audit log: it is verified anew whenever somebody looks.

import { byId, el, get, typed } from "./caliber.js";

async function verify() {
  const place = byId("verification");
  place.setAttribute("aria-busy", "true");
  place.replaceChildren(el("p", { class: "soft" }, "Every entry is being read and its hash made again."));
  try {
    const found = await get("verify", {});
    const whole = found.problems.length === 0;
    const signatures = found.keys_given ? `${found.signed.toLocaleString("en")} of them signed and checked.` : "Signatures were not checked: the server has no keys.";
    const said = whole ? `Yes: ${found.n.toLocaleString("en")} entries in one unbroken chain. ${signatures}` : "No: the log is not what was written.";
    place.replaceChildren(el("p", { class: whole ? "good" : "bad" }, el("strong", {}, whole ? "✓ " : "✕ ", said)),
      whole ? "" : el("ul", {}, ...found.problems.map((each) => el("li", {}, typed(each)))),
      found.warnings.length ? el("ul", {}, ...found.warnings.map((each) => el("li", {}, typed(each)))) : "");
    if (whole && found.head !== null) {
      byId("anchor").value = `${found.head.seq}:${found.head.sha256}`;
      byId("anchor-line").hidden = false;
    }
  } catch (error) {
    place.replaceChildren(el("p", { class: "bad" }, typed(error.message)));
  }
  place.setAttribute("aria-busy", "false");
}

const anchor = byId("anchor");
anchor.addEventListener("focus", () => anchor.select());
byId("anchor-line").addEventListener("submit", (event) => event.preventDefault());
byId("copy").addEventListener("click", async (event) => {
  anchor.select();
  try {
    await navigator.clipboard.writeText(anchor.value);
    event.target.textContent = "Copied";
  } catch {
    event.target.textContent = "Press Ctrl+C"; // browsers keep the clipboard from pages without https
  }
});

byId("verify")?.addEventListener("click", verify);
if ("atOnce" in byId("verification").dataset) verify();
