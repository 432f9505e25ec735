// Locks and objects: what was waited for, how long, where, and what to do.
import { LABELS, el, percent, seconds, whole } from "./words.js";
import { Table } from "./table.js";
import { stackList } from "./timeline.js";

const MOST_SITES = 12;
/** Below it there is no finding (analysis/advice.py). */
const LEAST_SHARE = 0.01;

/** @typedef {{kind: string, name: string, key: string, rows: number[], count: number, total: number, blocked: number, max: number, spin: number, wake: number, histogram: Map<number, number>}} Group */

/** @param {import("./data.js").Recording} recording @returns {Group[]} */
const groupsOf = (recording) => {
  const { waits } = recording;
  /** @type {Map<string, Group>} */ const groups = new Map();
  for (let row = 0; row < waits.kind.length; row++) {
    if (waits.idle[row] && !recording.isPermit(row)) continue;
    const key = `${waits.kind[row]} ${waits.type[row]} ${waits.name[row]}`;
    let group = groups.get(key);
    if (!group) groups.set(key, group = { kind: waits.kind[row], name: recording.waitName(row), key: recording.texts[waits.name[row]], rows: [], count: 0, total: 0, blocked: 0, max: 0, spin: 0, wake: 0, histogram: new Map() });
    group.rows.push(row);
    group.count += waits.count[row];
    group.total += waits.total[row];
    group.blocked += recording.blocked(row);
    group.spin += waits.spin[row];
    group.wake += waits.wake[row];
    group.max = Math.max(group.max, waits.max[row]);
    const [first, ...counts] = waits.histogram[row];
    counts.forEach((/** @type {number} */ count, /** @type {number} */ at) => group.histogram.set(first + at, (group.histogram.get(first + at) ?? 0) + count));
  }
  return [...groups.values()];
};

/** The ends of the scale and what lies evenly between: each column is twice as long as the one before. @param {number[]} all */
const ticks = (all) => {
  const first = all[0], length = all.length, parts = [4, 3, 2, 1].find((count) => length % count === 0) ?? 1;
  return Array.from({ length: parts + 1 }, (_, at) => first + length * at / parts);
};

/** @param {Map<number, number>} buckets bucket i holds waits of 2^i to 2^(i+1) ns */
const histogram = (buckets) => {
  const used = [...buckets.keys()].filter((at) => buckets.get(at)).sort((a, b) => a - b);
  if (!used.length) return null;
  const all = [];
  for (let at = used[0]; at <= used[used.length - 1]; at++) all.push(at);
  const most = Math.max(...all.map((at) => buckets.get(at) ?? 0));
  return el("figure", { class: "histogram" }, el("figcaption", {}, "How many waits were how long"), el("div", { class: "most" }, `${whole(most)} waits`), el("div", { class: "columns", role: "img", "aria-label": all.map((at) => `${seconds(2 ** at / 1e9)}: ${buckets.get(at) ?? 0}`).join(", ") },
    ...all.map((at) => el("div", { class: "column", title: `${seconds(2 ** at / 1e9)} to ${seconds(2 ** (at + 1) / 1e9)}: ${whole(buckets.get(at) ?? 0)}` }, el("i", { style: { height: `${(buckets.get(at) ?? 0) ? Math.max(2, 100 * (buckets.get(at) ?? 0) / most) : 0}%` } })))),
    el("div", { class: "ends" }, ...ticks(all).map((at) => el("span", {}, seconds(2 ** at / 1e9)))),
    el("details", {}, el("summary", {}, "As a table"), new Table("Waits by their length", [
      { label: "from", value: (at) => 2 ** at / 1e9, show: (at) => seconds(2 ** at / 1e9), number: true },
      { label: "to", value: (at) => 2 ** (at + 1) / 1e9, show: (at) => seconds(2 ** (at + 1) / 1e9), number: true },
      { label: "waits", value: (at) => buckets.get(at) ?? 0, show: (at) => whole(buckets.get(at) ?? 0), number: true },
    ], all).root));
};

/** @param {import("./data.js").Recording} recording @param {number[]} rows @param {"releasers"|"holders"} which */
const others = (recording, rows, which) => {
  /** @type {Map<string, {text: string, count: number, total: number, longest: number}>} */ const found = new Map();
  for (const row of rows)
    for (const [thread, , site, count, total, longest] of recording.waits[which][row]) {
      const text = `${recording.texts[thread] || "a thread"}: ${recording.place(site) || "native code"}`, known = found.get(text) ?? { text, count: 0, total: 0, longest: 0 };
      known.longest = Math.max(known.longest, longest ?? 0);
      known.count += count;
      known.total += total;
      found.set(text, known);
    }
  return [...found.values()].sort((a, b) => b.total - a.total).slice(0, MOST_SITES);
};

/** The one who held it longest while others waited, empty where that was not recorded. @param {import("./data.js").Recording} recording @param {Group} group */
const holder = (recording, group) => others(recording, group.rows, "holders")[0]?.text ?? "";

/** @param {string} title @param {{text: string, count: number, total: number, longest?: number}[]} items */
const list = (title, items) => (items.length ? el("div", { class: "stack" }, el("h4", {}, title), el("ol", { tabindex: "0" }, ...items.map((item) => el("li", {}, el("code", {}, item.text), el("small", {}, `${seconds(item.total)} in ${whole(item.count)}${item.longest ? `, longest ${seconds(item.longest)}` : ""}`))))) : null);

/** @param {import("./data.js").Recording} recording @param {Group} group */
const groupDetails = (recording, group) => {
  const { waits } = recording, rows = [...group.rows].sort((a, b) => recording.blocked(b) - recording.blocked(a));
  const sites = rows.slice(0, MOST_SITES).map((row) => ({ text: recording.place(waits.site[row]) || "native code", count: waits.count[row], total: recording.blocked(row) }));
  const cure = recording.cure(group.kind, group.key), spun = group.spin ? `${seconds(group.spin)} of it spinning` : "", woke = group.wake ? `then ${seconds(group.wake)} ready, but without a core` : "";
  return el("div", {}, el("h3", {}, group.name), el("p", { class: "soft" }, [LABELS[group.kind] ?? group.kind, `${whole(group.count)} waits`, `blocked for ${seconds(group.blocked)}`, spun, woke, `longest ${seconds(group.max)}, measured`].filter(Boolean).join(" · ")),
    cure ? el("p", { class: "cure" }, cure) : null, histogram(group.histogram),
    el("div", { class: "stacks" }, list("Waits here", sites), list("Ended by", others(recording, rows, "releasers")), list("Held meanwhile by", others(recording, rows, "holders"))),
    el("div", { class: "stacks" }, stackList(recording, waits.stack[rows[0]], "The longest-waiting stack"), waits.releasers[rows[0]][0] ? stackList(recording, waits.releasers[rows[0]][0][1], "and the one that most often ended it") : null));
};

/** @param {import("./data.js").Recording} recording @param {any} [finding] the one whose evidence is asked for */
export const objectsView = (recording, finding) => {
  const groups = groupsOf(recording), { waits } = recording, parts = [];
  const told = el("div", { class: "details", "aria-live": "polite" }, el("p", { class: "soft" }, "Click a row: how long its waits were, where, who ended them, and what to do."));
  /** Of the time threads had work, or waited for a permit where these are for one. */
  const share = (/** @type {Group} */ group) => group.blocked / Math.max(1e-12, recording.wanted + (group.kind === "condition" ? group.blocked : 0));
  const cureOf = (/** @type {Group} */ group) => recording.cure(group.kind, group.key) || (share(group) < LEAST_SHARE ? "none: too little to matter" : "");
  if (groups.length) {
    const table = new Table("Locks and objects that threads waited for", [
      { label: "kind", value: (group) => group.kind }, { label: "waited for", value: (group) => group.name, wide: true },
      { label: "waits", value: (group) => group.count, show: (group) => whole(group.count), number: true },
      { label: "blocked", value: (group) => group.blocked, show: (group) => seconds(group.blocked), number: true },
      { label: "share", value: (group) => share(group), show: (group) => percent(share(group)), number: true },
      { label: "then no core", value: (group) => group.wake, show: (group) => seconds(group.wake), number: true },
      { label: "longest", value: (group) => group.max, show: (group) => seconds(group.max), number: true },
      ...(groups.some((group) => holder(recording, group)) ? [{ label: "held most by", value: (/** @type {Group} */ group) => holder(recording, group), wide: true }] : []),
      { label: "lines", value: (group) => new Set(group.rows.map((/** @type {number} */ row) => waits.site[row])).size, number: true },
      { label: "cure", value: (group) => cureOf(group), wide: true },
    ], groups, { sort: 3, select: (group) => told.replaceChildren(groupDetails(recording, group)) });
    parts.push(table.root, told);
    const asked = finding && groups.find((group) => recording.speaksOf(finding, group.kind, group.key));
    table.choose(asked ?? [...groups].sort((a, b) => b.blocked - a.blocked)[0]);
  } else parts.push(el("p", { class: "empty" }, "No thread waited for another."));
  parts.push(el("h3", {}, "Hot objects"));
  if (recording.hot.length) {
    const hot = new Table("Objects whose cache line two or more threads fight over, by share of CPU samples", [
      { label: "type", value: (object) => recording.texts[object.type] }, { label: "reached as", value: (object) => recording.texts[object.name], wide: true },
      { label: "share", value: (object) => object.share, show: (object) => percent(object.share), number: true },
      { label: "95 % interval", value: (object) => `${percent(object.interval[0])} to ${percent(object.interval[1])}` },
      { label: "threads", value: (object) => object.threads.length, number: true },
      { label: "lines", value: (object) => object.sites.map((/** @type {number[]} */ site) => recording.place(site[0])).join(", "), wide: true },
      { label: "cure", value: (object) => recording.cure("atomic-stall", recording.texts[object.name]), wide: true },
    ], recording.hot, { sort: 2 });
    parts.push(el("p", { class: "soft" }, `On Python ${recording.meta.python}: another version may count references differently.`), hot.root);
  } else parts.push(el("p", { class: "empty" }, recording.meta.rate_hz ? "None: no cache line was fought over by two threads." : "The sampler was off."));
  const rows = Array.from(waits.kind, (_, row) => row);
  const each = el("div", { class: "details" });
  parts.push(el("h3", {}, "Waits by line"), new Table("All waits and idling, one row for each thing at one stack", [
    { label: "kind", value: (row) => waits.kind[row] + (waits.idle[row] ? " (idle)" : "") }, { label: "for", value: (row) => recording.waitName(row), wide: true },
    { label: "waits at", value: (row) => recording.place(waits.site[row]), wide: true },
    { label: "count", value: (row) => waits.count[row], show: (row) => whole(waits.count[row]), number: true },
    { label: "blocked", value: (row) => recording.blocked(row), show: (row) => seconds(recording.blocked(row)), number: true },
    { label: "longest", value: (row) => waits.max[row], show: (row) => seconds(waits.max[row]), number: true },
    { label: "ended by", value: (row) => (waits.releasers[row][0] ? `${recording.texts[waits.releasers[row][0][0]]} ${recording.place(waits.releasers[row][0][2])}` : ""), wide: true },
  ], rows, { sort: 4, select: (row) => each.replaceChildren(groupDetails(recording, one(recording, row))) }).root, each);
  return el("div", {}, ...parts);
};

/** @param {import("./data.js").Recording} recording @param {number} row @returns {Group} */
const one = (recording, row) => {
  const { waits } = recording, [first, ...counts] = waits.histogram[row];
  return { kind: waits.kind[row], name: recording.waitName(row), key: recording.texts[waits.name[row]], rows: [row], count: waits.count[row], total: waits.total[row], blocked: recording.blocked(row), max: waits.max[row], spin: waits.spin[row], wake: waits.wake[row],
    histogram: new Map(counts.map((/** @type {number} */ count, /** @type {number} */ at) => [first + at, count])) };
};
