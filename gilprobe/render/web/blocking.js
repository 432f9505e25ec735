// Who blocks whom: a matrix and a graph, by thread and by line.
import { choice, el, percent, seconds } from "./words.js";
import { Table } from "./table.js";

const LETTER_PX = 7;
const MOST = 12;

/** @typedef {{waiter: string, releaser: string, value: number, kinds: Set<string>}} Pair */

/** @param {import("./data.js").Recording} recording @param {string} by thread or site @returns {Pair[]} by falling seconds */
const pairsOf = (recording, by) => {
  const { waits, texts } = recording;
  /** @type {Map<string, Pair>} */ const found = new Map();
  const add = (/** @type {string} */ waiter, /** @type {string} */ releaser, /** @type {number} */ value, /** @type {string} */ kind) => {
    const key = `${waiter}\n${releaser}`;
    let pair = found.get(key);
    if (!pair) found.set(key, pair = { waiter, releaser, value: 0, kinds: new Set() });
    pair.value += value;
    pair.kinds.add(kind);
  };
  for (let row = 0; row < waits.kind.length; row++) {
    if (waits.idle[row]) continue;
    if (by === "thread") for (let at = 0; at < waits.pairs[row].length; at += 3) add(texts[waits.pairs[row][at]], texts[waits.pairs[row][at + 1]] || "not seen", waits.pairs[row][at + 2], waits.kind[row]);
    else for (const [, , site, , total] of waits.releasers[row]) add(recording.place(waits.site[row]) || "native code", recording.place(site) || "native code", total, waits.kind[row]);
  }
  return [...found.values()].sort((a, b) => b.value - a.value);
};

/** The names with most seconds. @param {Pair[]} pairs @param {"waiter"|"releaser"} side */
const busiest = (pairs, side) => {
  /** @type {Map<string, number>} */ const sums = new Map();
  for (const pair of pairs) sums.set(pair[side], (sums.get(pair[side]) ?? 0) + pair.value);
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, MOST).map(([name]) => name);
};

/** Those of the first that the second has too, in its order, then the others: one thread stands at one height on both sides.
 *  @param {string[]} names @param {string[]} order */
const alike = (names, order) => [...order.filter((name) => names.includes(name)), ...names.filter((name) => !order.includes(name))];

/** @param {Pair[]} pairs */
const matrix = (pairs) => {
  const rows = busiest(pairs, "waiter"), columns = alike(busiest(pairs, "releaser"), rows), most = Math.max(1e-12, ...pairs.slice(0, 1).map((pair) => pair.value));
  const cells = new Map(pairs.map((pair) => [`${pair.waiter}\n${pair.releaser}`, pair.value]));
  const short = (/** @type {string} */ name) => el("span", { title: name }, name.length > 28 ? `${name.slice(0, 27)}…` : name);
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Matrix" }, el("table", { class: "matrix" },
    el("caption", {}, "How long each row waited until the column ended its wait, measured"),
    el("thead", {}, el("tr", {}, el("td", {}, "waits ↓ ended by →"), ...columns.map((name) => el("th", { scope: "col" }, short(name))))),
    el("tbody", {}, ...rows.map((waiter) => el("tr", {}, el("th", { scope: "row" }, short(waiter)), ...columns.map((releaser) => {
      const value = cells.get(`${waiter}\n${releaser}`) ?? 0;
      return el("td", { class: "heat n", style: { "--heat": (value / most).toFixed(3) } }, value ? seconds(value) : "");
    }))))));
};

/** Who ends waits on the left, who waits on the right. @param {Pair[]} pairs */
const graph = (pairs) => {
  const right = busiest(pairs, "waiter"), left = alike(busiest(pairs, "releaser"), right), step = 34, height = Math.max(left.length, right.length) * step + 16;
  const shown = pairs.filter((pair) => left.includes(pair.releaser) && right.includes(pair.waiter)), most = Math.max(1e-12, ...shown.map((pair) => pair.value));
  const y = (/** @type {string[]} */ side, /** @type {string} */ name) => 8 + step / 2 + side.indexOf(name) * step + (height - 16 - side.length * step) / 2;
  const short = (/** @type {string} */ name) => (name.length > 30 ? `${name.slice(0, 29)}…` : name);
  const edges = shown.slice().reverse().map((pair) => {
    const from = y(left, pair.releaser), to = y(right, pair.waiter), width = Math.max(1, 12 * pair.value / most);
    return el("path", { class: "edge", d: `M 262 ${from} C 370 ${from} 350 ${to} 458 ${to}`, "stroke-width": width.toFixed(1) }, el("title", {}, `${pair.releaser} made ${pair.waiter} wait ${seconds(pair.value)}`));
  });
  const label = (/** @type {string} */ name, /** @type {number} */ x, /** @type {number} */ at, /** @type {string} */ anchor) => el("text", { x, y: at + 4, "text-anchor": anchor }, short(name), el("title", {}, name));
  const room = (/** @type {string[]} */ names) => 16 + LETTER_PX * Math.max(14, ...names.map((name) => short(name).length)), begin = 260 - room(left), end = 460 + room(right);
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Graph" }, el("svg", { class: "graph", preserveAspectRatio: "xMinYMin", viewBox: `${begin} 0 ${end - begin} ${height + 20}`, style: { width: `${end - begin}px` }, role: "img", "aria-label": "Who ends waits, on the left, and who waits, on the right; the table below has the same pairs" },
    el("text", { x: 250, y: 12, "text-anchor": "end", class: "soft" }, "ends the waits"), el("text", { x: 470, y: 12, class: "soft" }, "waits"),
    el("g", { transform: "translate(0 16)" }, ...edges, ...left.map((name) => label(name, 252, y(left, name), "end")), ...right.map((name) => label(name, 468, y(right, name), "start")),
      ...left.map((name) => el("circle", { cx: 260, cy: y(left, name), r: 4 })), ...right.map((name) => el("circle", { cx: 460, cy: y(right, name), r: 4 })))),
    el("p", { class: "soft" }, `The thicker, the longer: the thickest line is ${seconds(most)}.`));
};

/** @param {import("./data.js").Recording} recording */
export const blockingView = (recording) => {
  const place = el("div");
  const show = (/** @type {string} */ by) => {
    const pairs = pairsOf(recording, by), all = pairs.reduce((sum, pair) => sum + pair.value, 0);
    if (!pairs.length) { place.replaceChildren(el("p", { class: "empty" }, "No wait was seen that another thread ended.")); return; }
    const table = new Table("Pairs", [
      { label: "waits", value: (pair) => pair.waiter, wide: true },
      { label: "ended by", value: (pair) => pair.releaser, wide: true },
      { label: "seconds", value: (pair) => pair.value, show: (pair) => seconds(pair.value), number: true },
      { label: "share", value: (pair) => pair.value / all, show: (pair) => percent(pair.value / all), number: true },
      { label: "kinds", value: (pair) => [...pair.kinds].join(", ") },
    ], pairs, { sort: 2 });
    place.replaceChildren(el("div", { class: "pair" }, matrix(pairs), graph(pairs)), table.root);
  };
  show("thread");
  return el("div", {}, el("div", { class: "tools" }, choice("Group by", [["thread", "By thread"], ["site", "By line"]], "thread", show)), place);
};
