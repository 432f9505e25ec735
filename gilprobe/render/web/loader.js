// gilprobe.loader's workers and their consumer: where the seconds of each part went, and what was lost to what.
import { chip, el, percent, seconds, whole } from "./words.js";
import { Table } from "./table.js";
import { bar } from "./threads.js";
import { baseName } from "./data.js";

/** The recording's names of classes to those of the other views. @type {Record<string, string>} */
const CLASSES = { "atomic stall": "stall", ready: "runnable", "page faults": "faults" };
const IDLE_CLASSES = ["queue", "condition", "join"];

/** @param {Record<string, number>} split @returns {[string, number][]} kind and seconds, idling as one */
const kindsOf = (split) => {
  /** @type {Map<string, number>} */ const sums = new Map();
  for (const [name, value] of Object.entries(split)) {
    const kind = IDLE_CLASSES.includes(name) ? "idle" : CLASSES[name] ?? name;
    if (name !== "wall" && value > 0) sums.set(kind, (sums.get(kind) ?? 0) + value);
  }
  return [...sums].sort((a, b) => b[1] - a[1]);
};

/** @param {{function: string, file: string, line: number}} frame */
const placeOf = (frame) => `${baseName(frame.file)}:${frame.line} in ${frame.function}`;

/** @param {any[]} rows each with `split`, by class @param {import("./table.js").Column[]} first @param {string} caption */
const splitTable = (caption, first, rows) => {
  const kinds = [...new Set(rows.flatMap((row) => kindsOf(row.split).map(([kind]) => kind)))];
  const value = (/** @type {any} */ row, /** @type {string} */ kind) => kindsOf(row.split).find(([name]) => name === kind)?.[1] ?? 0;
  return new Table(caption, [...first,
    { label: "wall", value: (row) => row.split.wall ?? 0, show: (row) => seconds(row.split.wall ?? 0), number: true },
    ...kinds.map((kind) => ({ label: LOADER_LABELS[kind] ?? kind, value: (/** @type {any} */ row) => value(row, kind), show: (/** @type {any} */ row) => (value(row, kind) ? seconds(value(row, kind)) : "–"), number: true })),
  ], rows, { sort: first.length }).root;
};

/** @type {Record<string, string>} */
const LOADER_LABELS = { cpu: "CPU", runnable: "ready", "sleep-io": "sleep, I/O", faults: "page faults" };

/** @param {import("./data.js").Recording} recording */
export const loaderView = (recording) => {
  const loader = recording.loader, starved = loader.starved ?? {};
  const parts = Object.entries(loader.parts).map(([name, split]) => ({ name, split }));
  if (starved.wall) parts.push({ name: "consumer starved", split: starved });
  const longest = Math.max(1e-12, ...parts.map((part) => part.split.wall ?? 0));
  const kinds = [...new Set(parts.flatMap((part) => kindsOf(part.split).map(([kind]) => kind)))];
  const byWorker = loader.workers.flatMap((/** @type {any} */ worker) => Object.entries(worker.parts).map(([part, split]) => ({ ...worker, part, split })));
  return el("div", {},
    el("p", {}, `${loader.workers.length} workers made ${whole(loader.batches)} batches; their consumer starved for ${seconds(starved.wall ?? 0)}. Waiting for an index is waiting for the consumer, and no loss.`),
    el("h3", {}, "What the workers lost"),
    loader.causes.length ? new Table("Shares of the seconds in which workers had work: dataset, collate, output wait", [
      { label: "lost to", value: (cause) => cause.kind }, { label: "in the", value: (cause) => cause.part },
      { label: "share of the work", value: (cause) => cause.share, show: (cause) => percent(cause.share), number: true },
      { label: "seconds", value: (cause) => cause.seconds, show: (cause) => seconds(cause.seconds), number: true },
      { label: "for", value: (cause) => cause.name, wide: true },
      { label: "where", value: (cause) => cause.sites.map(placeOf).join(", "), wide: true },
      { label: "evidence", value: (cause) => cause.evidence },
    ], loader.causes, { sort: 2 }).root : el("p", { class: "empty" }, "Nothing that takes 1% of their work."),
    el("h3", {}, "Where the seconds of each part went"),
    el("p", { class: "legend" }, ...kinds.map(chip)),
    el("div", { class: "bars" }, ...parts.map((part) => {
      const drawn = bar(kindsOf(part.split), Math.max(1e-12, part.split.wall ?? 0));
      drawn.style.width = `${Math.max(1, 100 * (part.split.wall ?? 0) / longest).toFixed(2)}%`;
      return el("div", { class: "thread" }, el("span", { class: "name", title: part.name }, part.name), el("span", { class: "n soft" }, seconds(part.split.wall ?? 0)), el("div", { class: "track" }, drawn));
    })),
    splitTable("All workers together, and the consumer", [{ label: "part", value: (row) => row.name }], parts),
    splitTable("Each worker", [{ label: "worker", value: (row) => row.name }, { label: "batches", value: (row) => row.batches, show: (row) => whole(row.batches), number: true }, { label: "part", value: (row) => row.part }], byWorker),
    loader.fault_cost_us ? el("p", { class: "soft" }, `Page faults: their number times ${loader.fault_cost_us.toFixed(2)} µs, what one cost when the loader measured it at its start: an estimate.`) : null);
};
