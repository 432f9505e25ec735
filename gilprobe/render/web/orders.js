// Deadlocks, stalls and lock orders, spans and CUDA: what the Profile holds of them, key by key.
import { el, percent, seconds, whole } from "./words.js";
import { Table } from "./table.js";
import { baseName } from "./data.js";

/** @param {any} value */
const isStack = (value) => Array.isArray(value) && value.length > 0 && value.every((frame) => frame && typeof frame === "object" && "function" in frame && "line" in frame);

/** @param {any} frames */
const stackOf = (frames) => el("ol", { class: "frames", tabindex: "0" }, ...frames.map((/** @type {any} */ frame) => el("li", {}, el("code", {}, frame.function), el("small", {}, `${frame.file}:${frame.line}`))));

/** Any value as a list of its keys. @param {any} value @returns {any} */
const tree = (value) => {
  if (value === null || value === undefined || value === "") return el("span", { class: "soft" }, "–");
  if (isStack(value)) return stackOf(value);
  if (Array.isArray(value)) return value.length ? el("ul", { class: "plain" }, ...value.map((item) => el("li", {}, tree(item)))) : el("span", { class: "soft" }, "none");
  if (typeof value === "object") return el("dl", {}, ...Object.entries(value).flatMap(([key, item]) => [el("dt", {}, key.replace(/_s$/, "").replaceAll("_", " ")), el("dd", {}, key.endsWith("_s") && typeof item === "number" ? seconds(item) : tree(item))]));
  return String(value);
};

/** @param {any} deadlock */
const deadlockCard = (deadlock) => el("article", { class: "card bad" }, el("h3", {}, `Deadlock${deadlock.after_s !== undefined && deadlock.after_s !== null ? ` after ${seconds(deadlock.after_s)}` : ""}`),
  ...(deadlock.threads ?? []).map((/** @type {any} */ thread) => el("div", { class: "party" }, el("h4", {}, `${thread.name ?? "a thread"} waits for ${thread.waits_for?.name ?? thread.waits_for ?? "?"}`),
    isStack(thread.stack) ? stackOf(thread.stack) : null,
    (thread.holds ?? []).length ? el("p", { class: "soft" }, "holds") : null,
    ...(thread.holds ?? []).map((/** @type {any} */ held) => el("div", {}, el("p", {}, el("code", {}, String(held.name ?? held))), isStack(held.taken) ? stackOf(held.taken) : null)))),
  deadlock.threads ? null : tree(deadlock));

/** @param {import("./data.js").Recording} recording @param {Record<string, string>} missing what was not observed, and why */
export const ordersView = (recording, missing) => {
  const part = (/** @type {string} */ title, /** @type {any[]} */ items, /** @type {string} */ key, /** @type {string} */ none, /** @type {(item: any) => Node} */ card) => [
    el("h3", {}, title), ...(items.length ? items.map(card) : [el("p", { class: "empty" }, key in missing ? `Not observed: ${missing[key]}.` : none)])];
  return el("div", {},
    ...part("Deadlocks", recording.deadlocks, "deadlocks", "None was seen.", deadlockCard),
    ...part("Stalls", recording.stalls, "stalls", "None was seen.", (stall) => el("article", { class: "card" }, tree(stall))),
    ...part("Locks taken in opposite orders", recording.lockOrder, "lock_order", "All locks were taken in one order.", (order) => el("article", { class: "card" }, tree(order))));
};

/** @param {import("./data.js").Recording} recording */
export const spansView = (recording) => {
  /** @type {Map<string, any>} */ const names = new Map();
  for (const span of recording.spans) {
    const known = names.get(span.name) ?? { name: span.name, count: 0, total: 0, max: 0, threads: new Set() };
    known.count += 1;
    known.total += span.end_s - span.start_s;
    known.max = Math.max(known.max, span.end_s - span.start_s);
    known.threads.add(span.thread);
    names.set(span.name, known);
  }
  return el("div", {}, new Table("Spans by name", [
    { label: "span", value: (span) => span.name, wide: true }, { label: "count", value: (span) => span.count, show: (span) => whole(span.count), number: true },
    { label: "total", value: (span) => span.total, show: (span) => seconds(span.total), number: true }, { label: "mean", value: (span) => span.total / span.count, show: (span) => seconds(span.total / span.count), number: true },
    { label: "longest", value: (span) => span.max, show: (span) => seconds(span.max), number: true }, { label: "threads", value: (span) => span.threads.size, number: true },
    { label: "of the run", value: (span) => span.total / Math.max(1e-9, recording.meta.wall_s), show: (span) => percent(span.total / Math.max(1e-9, recording.meta.wall_s)), number: true },
  ], [...names.values()], { sort: 2 }).root,
  new Table("Every span", [
    { label: "span", value: (span) => span.name, wide: true }, { label: "thread", value: (span) => span.thread },
    { label: "from", value: (span) => span.start_s, show: (span) => seconds(span.start_s), number: true },
    { label: "took", value: (span) => span.end_s - span.start_s, show: (span) => seconds(span.end_s - span.start_s), number: true },
  ], recording.spans, { sort: 3 }).root);
};

/** @param {import("./data.js").Recording} recording */
export const cudaView = (recording) => el("div", {}, ...Object.entries(recording.cuda).map(([key, value]) => {
  const title = el("h3", {}, key.replaceAll("_", " "));
  const flat = Array.isArray(value) && value.length > 0 && value.every((row) => row && typeof row === "object" && !Array.isArray(row));
  if (!flat) return el("div", {}, title, tree(value));
  const keys = [...new Set(value.flatMap((/** @type {any} */ row) => Object.keys(row)))];
  const text = (/** @type {any} */ item) => (item === null || item === undefined ? "" : isStack(item) ? `${baseName(item[0].file)}:${item[0].line} in ${item[0].function}` : typeof item === "object" ? JSON.stringify(item) : item);
  return el("div", {}, title, new Table(key, keys.map((name) => ({ label: name.replaceAll("_", " "), value: (/** @type {any} */ row) => text(row[name]),
    show: (/** @type {any} */ row) => (name.endsWith("_s") && typeof row[name] === "number" ? seconds(row[name]) : String(text(row[name]))), number: value.some((/** @type {any} */ row) => typeof row[name] === "number") })), value).root);
}));
