// Spans: the parts of the program that it marked itself.
import { el, percent, seconds, whole } from "./words.js";
import { Table } from "./table.js";

/** @typedef {{name: string, count: number, total: number, max: number, cpu: number, threads: number}} SpanSum */

/** @param {import("./data.js").Recording} recording */
export const spansView = (recording) => {
  /** @type {Map<string, SpanSum>} */ const names = new Map();
  for (const span of recording.spans) {
    const known = names.get(span.name) ?? { name: span.name, count: 0, total: 0, max: 0, cpu: 0, threads: 0 };
    known.count += span.count;
    known.total += span.wall_s;
    known.max = Math.max(known.max, span.max_s);
    known.cpu += span.cpu_s;
    known.threads += 1;
    names.set(span.name, known);
  }
  const time = (/** @type {string} */ label, /** @type {(row: any) => number} */ value) => ({ label, value, show: (/** @type {any} */ row) => seconds(value(row)), number: true });
  const sum = (/** @type {Record<string, number>} */ parts) => Object.values(parts).reduce((a, b) => a + b, 0);
  const count = { label: "count", value: (/** @type {any} */ row) => row.count, show: (/** @type {any} */ row) => whole(row.count), number: true };
  return el("div", {}, new Table("Spans by name, all threads together", [
    { label: "span", value: (row) => row.name, wide: true }, count, time("total", (row) => row.total),
    time("mean", (row) => row.total / Math.max(1, row.count)), time("longest", (row) => row.max), time("CPU", (row) => row.cpu),
    { label: "threads", value: (row) => row.threads, number: true },
  ], [...names.values()], { sort: 2 }).root,
  new Table("Spans of each thread: where their time went", [
    { label: "span", value: (row) => row.name, wide: true }, { label: "in", value: (row) => row.inside.join(" > ") }, { label: "thread", value: (row) => row.thread }, count,
    time("wall", (row) => row.wall_s), time("longest", (row) => row.max_s), time("CPU", (row) => row.cpu_s), time("stall", (row) => row.atomic_stall_s), time("ready", (row) => row.runnable_s),
    time("waits", (row) => sum(row.wait_s)), time("idle", (row) => sum(row.idle_s)), time("sleep, I/O", (row) => row.sleep_io_s),
    { label: "waits, of wall", value: (row) => sum(row.wait_s) / Math.max(1e-12, row.wall_s), show: (row) => percent(sum(row.wait_s) / Math.max(1e-12, row.wall_s)), number: true },
  ], recording.spans, { sort: 4 }).root);
};
