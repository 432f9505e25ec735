// Opens the recording and shows one view at a time; each is made when it is first seen.
import { load } from "./data.js";
import { blockingView } from "./blocking.js";
import { Flame } from "./flame.js";
import { EXPLAINED, LABELS, el, select } from "./words.js";
import { cudaView, ordersView } from "./orders.js";
import { loaderView } from "./loader.js";
import { spansView } from "./spans.js";
import { gilView, lossesTable, threadsView } from "./threads.js";
import { objectsView } from "./objects.js";

const root = document.documentElement;
const views = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("main > section")]);
const links = /** @type {HTMLAnchorElement[]} */ ([...document.querySelectorAll("nav a")]);

/** @param {import("./data.js").Recording} recording @param {any} [finding] the one whose evidence is asked for @returns {Record<string, () => Node>} */
const makers = (recording, finding) => ({
  answer: () => lossesTable(recording),
  threads: () => threadsView(recording),
  blocking: () => blockingView(recording),
  objects: () => objectsView(recording, finding),
  flame: () => new Flame(recording).element,
  gil: () => gilView(recording),
  orders: () => ordersView(recording, JSON.parse(/** @type {HTMLElement} */ (document.getElementById("missing")).dataset.missing ?? "{}")),
  spans: () => spansView(recording),
  loader: () => loaderView(recording),
  cuda: () => cudaView(recording),
  unseen: () => el("div", {}, el("h2", {}, "What the words mean"), el("dl", { class: "unseen" }, ...Object.entries(EXPLAINED).flatMap(([kind, text]) => [el("dt", {}, LABELS[kind]), el("dd", {}, text)]))),
});

const start = async () => {
  const recording = await load();
  let part = recording, make = makers(part);
  let hash = location.hash;
  const fill = (/** @type {string} */ name) => {
    const place = document.querySelector(`#${name} > .drawn`);
    if (!place || place.hasChildNodes() || !make[name]) return;
    place.append(make[name]());
  };
  const show = () => {
    // #objects=2: the view with the evidence of the third finding.
    const [asked, number] = hash.slice(1).split("="), name = views.some((view) => view.id === asked) ? asked : "answer";
    if (number !== undefined && recording.findings[Number(number)]) {
      document.querySelector(`#${name} > .drawn`)?.replaceChildren();
      make = makers(part, recording.findings[Number(number)]);
    }
    for (const view of views) view.hidden = view.id !== name;
    for (const link of links) {
      if (link.hash === `#${name}`) { link.setAttribute("aria-current", "page"); link.scrollIntoView({ block: "nearest", inline: "nearest" }); }
      else link.removeAttribute("aria-current");
    }
    fill(name);
    scrollTo(0, 0);
  };
  addEventListener("hashchange", () => { hash = location.hash; show(); });
  // In a notebook the page is a frame without an address of its own: its links would lead to the notebook's.
  addEventListener("click", (event) => {
    const link = /** @type {HTMLElement} */ (event.target).closest?.("a[href^='#']"), to = link?.getAttribute("href") ?? "";
    if (!link || location.protocol !== "about:") return;
    event.preventDefault();
    if (to !== "#main") { hash = to; show(); } else document.getElementById("main")?.scrollIntoView();
  });
  /** @type {string|undefined} */ let chosen;
  addEventListener("beforeprint", () => {
    chosen = root.dataset.theme;
    root.dataset.theme = "light";
    for (const view of views) { fill(view.id); view.hidden = false; }
    // No frame comes before the paper: what was just made draws at once.
    dispatchEvent(new Event("paper"));
  });
  addEventListener("afterprint", () => {
    if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
    show();
  });
  const again = () => { for (const view of views) view.querySelectorAll(":scope > .drawn").forEach((place) => place.replaceChildren()); };
  if (recording.bySpan.length) {
    const note = el("p", { class: "hint", hidden: true });
    document.querySelector("main")?.prepend(note);
    const box = select("Span", [["-1", "the whole run"], .../** @type {[string, string][]} */ (recording.bySpan.map(({ name }, at) => [String(at), name.slice(0, 60)]))], (value) => {
      part = recording.inside(Number(value));
      note.hidden = !part.span;
      note.textContent = part.span ? `Only what lay inside the span ${part.span.name}. The answer, hot objects, holds of the GIL, deadlocks, the loader and CUDA are those of the whole run.` : "";
      make = makers(part);
      again();
      show();
    });
    box.classList.add("spanbox");
    document.getElementById("theme")?.before(box);
  }
  const theme = /** @type {HTMLElement} */ (document.getElementById("theme"));
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    dispatchEvent(new Event("resize"));
    for (const view of views) if (view.id === "threads" || view.id === "flame") view.querySelectorAll(":scope > .drawn").forEach((place) => place.replaceChildren());
    show();
  });
  show();
  root.dataset.ready = performance.now().toFixed(0);
};

start().catch((error) => {
  const said = document.createElement("p");
  said.className = "empty";
  said.textContent = `The views could not be drawn: ${error}`;
  document.querySelector("main")?.prepend(said);
  throw error;
});
