// Deadlocks, stalls and lock orders, and CUDA: what the Profile holds of them, key by key.
import { el, seconds } from "./words.js";
import { Table } from "./table.js";
import { baseName } from "./data.js";
import { gpuTable, replayNote } from "./gpu.js";

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

/** A thread that waits, what it holds, and where. @param {any} thread */
const party = (thread) => {
  const wanted = thread.waits_for ?? {}, by = wanted.held_by ? `, which ${wanted.held_by} has` : "";
  return el("div", { class: "party" }, el("h4", {}, wanted.kind === "nothing" ? `${thread.name} runs` : `${thread.name ?? "a thread"} waits for ${wanted.name ?? "?"}${by}`),
    isStack(thread.stack) ? stackOf(thread.stack) : el("p", { class: "soft" }, "native code"),
    ...(thread.holds ?? []).map((/** @type {any} */ held) => el("div", { class: "held" }, el("h4", {}, `and holds ${held.name ?? "?"}${isStack(held.taken) ? ", taken here" : ""}`), isStack(held.taken) ? stackOf(held.taken) : null)));
};

/** @param {any} deadlock */
const deadlockCard = (deadlock) => el("article", { class: "card bad" }, el("h3", {}, `Deadlock after ${seconds(deadlock.after_s ?? 0)} `, el("small", {}, deadlock.evidence ?? "")),
  deadlock.threads ? el("div", { class: "stacks" }, ...deadlock.threads.map(party)) : tree(deadlock));

/** @param {any} stall */
const stallCard = (stall) => el("article", { class: "card" }, el("h3", {}, `At ${seconds(stall.after_s ?? 0)} nothing moved for ${seconds(stall.waited_s ?? 0)}`),
  stall.gil ? el("p", {}, `${stall.gil.holder} has had the GIL for ${seconds(stall.gil.held_s ?? 0)}${stall.gil.native_function ? `, in ${stall.gil.native_function}` : ""}.`) : null,
  stall.threads ? el("div", { class: "stacks" }, ...stall.threads.map(party)) : tree(stall));

/** @param {any} order */
const orderCard = (order) => (Array.isArray(order.ways) ? el("article", { class: "card" }, el("h3", {}, `${order.ways.length} threads that meet here would deadlock`),
  el("div", { class: "stacks" }, ...order.ways.map((/** @type {any} */ way) => el("div", { class: "party" }, el("h4", {}, `${way.thread} takes ${way.takes?.name ?? "?"} here`), isStack(way.takes?.taken) ? stackOf(way.takes.taken) : null,
    el("div", { class: "held" }, el("h4", {}, `while it holds ${way.holds?.name ?? "?"}, taken here`), isStack(way.holds?.taken) ? stackOf(way.holds.taken) : null))))) : el("article", { class: "card" }, tree(order)));

/** @param {import("./data.js").Recording} recording @param {Record<string, string>} missing what was not observed, and why */
export const ordersView = (recording, missing) => {
  const part = (/** @type {string} */ title, /** @type {any[]} */ items, /** @type {string} */ key, /** @type {string} */ none, /** @type {(item: any) => Node} */ card) => [
    el("h3", {}, title), ...(items.length ? items.map(card) : [el("p", { class: "empty" }, key in missing ? `Not observed: ${missing[key]}.` : none)])];
  return el("div", {},
    ...part("Deadlocks", recording.deadlocks, "deadlocks", "None was seen.", deadlockCard),
    ...part("Stalls", recording.stalls, "stalls", "None was seen.", stallCard),
    ...part("Locks taken in orders that contradict each other", recording.lockOrder, "lock_order", recording.deadlocks.length ? "None was seen beside the deadlock above." : "None was seen.", orderCard));
};

/** @param {import("./data.js").Recording} recording */
export const cudaView = (recording) => el("div", {}, recording.cuda.replay === true ? replayNote() : null, ...recording.cudaLines.map((/** @type {string} */ line) => el("p", {}, line)), recording.gpu.length ? gpuTable(recording) : null, ...Object.entries(recording.cuda).map(([key, value]) => {
  const got = recording.cuda.figures ?? {}, label = (/** @type {string} */ name, how = got[name]) => name.replaceAll("_", " ") + (how ? ` [${how}]` : "");
  const title = el("h3", {}, label(key));
  const flat = Array.isArray(value) && value.length > 0 && value.every((row) => row && typeof row === "object" && !Array.isArray(row));
  if (!flat) return el("div", {}, title, tree(value));
  const keys = [...new Set(value.flatMap((/** @type {any} */ row) => Object.keys(row)))];
  const text = (/** @type {any} */ item) => (item === null || item === undefined ? "" : isStack(item) ? `${baseName(item[0].file)}:${item[0].line} in ${item[0].function}` : typeof item === "object" ? JSON.stringify(item) : item);
  return el("div", {}, title, new Table(key, keys.map((name) => ({ label: label(name, got[name === "busy_s" ? "contexts_busy_s" : name]), value: (/** @type {any} */ row) => text(row[name]),
    show: (/** @type {any} */ row) => (name.endsWith("_s") && typeof row[name] === "number" ? seconds(row[name]) : String(text(row[name]))), number: value.some((/** @type {any} */ row) => typeof row[name] === "number") })), value).root);
}));
