// The packed recording: see page_data.py for its layout.
import { LABELS } from "./words.js";

/**
 * @typedef {{name: number, tid: number, pid: number, start: number, wall: number, cpu: number, spin: number, stall: number,
 *   runnable: number, stolen: number, wait: Record<string, number>, idle: Record<string, number>, sleep: number, gil: number,
 *   gc: number, gcSamples: number, unaccounted: number, faults: number, switches: number, open: any}} ThreadData
 * @typedef {Record<string, any[]>} Columns
 * @typedef {{start: Float64Array, duration: Float64Array, wake: Float64Array, spin: Float64Array, thread: Float64Array,
 *   wait: Float64Array, releaser: Float64Array, release: Float64Array, count: Float64Array}} Events
 * @typedef {{thread: number, pid: number, start: number, held: number, waiters: number, stack: number, site: number,
 *   native: [number, number, number][], samples: number, blocked: number, open: boolean}} Hold
 * @typedef {{device: number, pid: number, context: number, what: string, count: number, busy: number, closed: number, times: Float64Array}} GpuData
 */

/** @returns {Promise<Uint8Array>} */
const inflated = async () => {
  const text = /** @type {HTMLElement} */ (document.getElementById("data")).textContent ?? "";
  /** @type {any} */ const modern = Uint8Array;
  const packed = modern.fromBase64 ? modern.fromBase64(text) : Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

/** Everything the views draw from; times in seconds but the events', which are ns. */
export class Recording {
  /** @param {any} document @param {Uint8Array} bytes @param {number} at where the planes begin */
  constructor(document, bytes, at) {
    this.meta = document.meta;
    /** @type {ThreadData[]} */ this.threads = document.threads;
    /** @type {Columns} */ this.waits = document.waits;
    this.hot = document.hot;
    /** @type {Columns} */ this.cpu = document.cpu;
    this.losses = document.losses;
    /** @type {Columns} */ this.spied = document.spied;
    this.findings = document.findings;
    this.wanted = document.wanted;
    this.before = document.before;
    this.deadlocks = document.deadlocks;
    this.stalls = document.stalls;
    this.lockOrder = document.lockOrder;
    this.spans = document.spans;
    this.cuda = document.cuda;
    this.cudaLines = document.cuda_lines;
    this.loader = document.loader;
    /** @type {string[]} */ this.texts = document.texts;
    /** @type {number[][]} */ this.frames = document.frames;
    /** @type {number[][]} */ this.stacks = document.stacks;
    /** @type {Hold[]} */ this.holds = document.holds;
    /** Of each thread, the times (ns) of its samples in a collection. @type {number[][]} */ this.gc = document.gc.map(summed);
    /** @type {GpuData[]} */ this.gpu = document.gpu.map((/** @type {any} */ lane) => ({ ...lane, times: Float64Array.from(summed(lane.times)) }));
    /** What lay inside the spans of each name. @type {{name: string, threads: ThreadData[], waits: Columns, cpu: Columns, windows: Map<number, Float64Array>}[]} */
    this.bySpan = document.bySpan.map((/** @type {any} */ part) => ({ ...part, windows: new Map(part.windows.map((/** @type {number[]} */ [thread, ...steps]) => [thread, Float64Array.from(summed(steps))])) }));
    /** @type {Recording} the whole run, where this is a part of it */ this.whole = this;
    /** @type {{name: string, windows: Map<number, Float64Array>}|null} */ this.span = null;
    this.eventCount = document.events;
    this.wholeFromNs = document.wholeFromNs;
    this.events = columnsOf(document.columns, bytes, at);
  }

  /** What lay inside one span. @param {number} at into bySpan, -1 for the whole run @returns {Recording} */
  inside(at) {
    if (at < 0) return this.whole;
    const { name, threads, waits, cpu, windows } = this.bySpan[at], part = Object.create(this.whole);
    const wanted = threads.reduce((sum, thread) => sum + thread.wall - thread.sleep - Object.values(thread.idle).reduce((a, b) => a + b, 0), 0);
    return Object.assign(part, { threads, waits, cpu, wanted, span: { name, windows }, before: null, spied: { thread: [], stack: [], seconds: [], state: [] } });
  }

  /** loader.py:88 in Loader.run @param {number} frame */
  place(frame) {
    if (frame < 0) return "";
    const [name, file, line] = this.frames[frame];
    return `${baseName(this.texts[file])}:${line} in ${this.texts[name]}`;
  }

  /** @param {number} row of the waits */
  waitName(row) {
    const type = this.texts[this.waits.type[row]], name = this.texts[this.waits.name[row]];
    return type && !name.startsWith(type) ? `${type} ${name}` : name;
  }

  /** Seconds without those in which it was ready but had no core. @param {number} row of the waits */
  blocked(row) { return Math.max(0, this.waits.total[row] - this.waits.wake[row]); }

  /** Idling that a finding calls a wait for another thread's permit. @param {number} row of the waits */
  isPermit(row) { return this.waits.kind[row] === "condition" && this.findings.some((/** @type {any} */ finding) => finding.kind === "permit" && this.speaksOf(finding, "condition", this.texts[this.waits.name[row]])); }

  /** @param {any} finding @param {string} kind @param {string} name @returns {boolean} */
  speaksOf(finding, kind, name) { return (finding.kind === "permit" ? "condition" : finding.kind) === kind && (kind === "gil" || kind === "stop-the-world" || (name !== "" && finding.title.includes(name))); }

  /** The cure of the finding that speaks of this. @param {string} kind @param {string} name */
  cure(kind, name) { return this.findings.find((/** @type {any} */ finding) => this.speaksOf(finding, kind, name))?.cure ?? ""; }
}

/** @param {number[]} steps */
const summed = (steps) => { let sum = 0; return steps.map((step) => (sum += step)); };

/** @param {string} file */
export const baseName = (file) => file.slice(file.lastIndexOf("/") + 1) || file;

/** @param {any[]} described @param {Uint8Array} bytes @param {number} at @returns {Events|null} */
const columnsOf = (described, bytes, at) => {
  if (!described.length) return null;
  /** @type {any} */ const events = {};
  for (const { name, rows, planes } of described) {
    const values = new Float64Array(rows);
    for (const byte of planes) {
      const scale = 256 ** byte;
      for (let row = 0; row < rows; row++) values[row] += bytes[at + row] * scale;
      at += rows;
    }
    if (name === "start") for (let row = 1; row < rows; row++) values[row] += values[row - 1];
    if (["thread", "wait", "releaser", "release"].includes(name)) for (let row = 0; row < rows; row++) values[row] -= 1;
    events[name] = values;
  }
  return events;
};

/** @returns {Promise<Recording>} */
export const load = async () => {
  const bytes = await inflated();
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const document = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  return new Recording(document, bytes, 4 + length);
};

/** The parts of a thread's life, in the order they are shown. @param {ThreadData} thread @returns {[string, number][]} */
export const partsOf = (thread) => {
  const sum = (/** @type {Record<string, number>} */ values) => Object.values(values).reduce((a, b) => a + b, 0);
  /** @type {[string, number][]} */
  const parts = [["cpu", Math.max(0, thread.cpu - thread.gc - thread.spin - thread.stall)], ["gc", thread.gc], ["stall", thread.stall], ["spin", thread.spin]];
  for (const kind of ["gil", "lock", "object", "stop-the-world", "import", "native"]) parts.push([kind, thread.wait[kind] ?? 0]);
  parts.push(["runnable", thread.runnable], ["stolen", thread.stolen], ["idle", sum(thread.idle)], ["sleep-io", thread.sleep]);
  return parts.filter(([kind, value]) => value > 0 && kind in LABELS);
};
