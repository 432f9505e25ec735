// Threads: the timeline where single waits were kept, a stacked bar a thread from the sums, and the GIL.
import { LABELS, chip, el, percent, seconds, whole } from "./words.js";
import { Table } from "./table.js";
import { Timeline, stackList } from "./timeline.js";
import { gpuTable, replayNote } from "./gpu.js";
import { partsOf } from "./data.js";

const MOST_BARS = 200;
const LEAST_OPEN_S = 0.05;
const LEAST_READY = 0.1;

/** @param {import("./data.js").ThreadData} thread */
const waited = (thread) => Object.values(thread.wait).reduce((a, b) => a + b, 0);

/** @param {[string, number][]} parts kind and seconds @param {number} all */
export const bar = (parts, all) => el("div", { class: "bar", role: "img", "aria-label": parts.map(([kind, value]) => `${LABELS[kind] ?? kind} ${seconds(value)}`).join(", ") },
  ...parts.map(([kind, value]) => el("span", { class: `k-${kind}`, style: { width: `${(100 * value / all).toFixed(3)}%` }, title: `${LABELS[kind] ?? kind}: ${seconds(value)} (${percent(value / all)})` })));

/** @param {import("./data.js").Recording} recording */
export const threadsView = (recording) => {
  if (!recording.threads.length) return el("p", { class: "empty" }, "The recording has no threads.");
  const threads = [...recording.threads].sort((a, b) => b.cpu + waited(b) - a.cpu - waited(a)), name = (/** @type {any} */ thread) => recording.texts[thread.name];
  const kinds = new Set(threads.flatMap((thread) => partsOf(thread).map(([kind]) => kind)));
  const longest = Math.max(1e-9, ...threads.map((thread) => thread.wall));
  const parts = [];
  if (recording.span && !recording.span.windows.size) parts.push(el("p", { class: "hint" }, "Record with ", el("code", {}, "--events"), " to see where each span lies on the timeline."));
  else if (recording.events && recording.events.start.length) {
    const told = el("div", { class: "details", "aria-live": "polite" }, el("p", { class: "soft" }, "Click an interval: who waited, where, and who ended it. Drag, or Ctrl and the wheel, zooms. Keys: arrows move, + and - zoom, 0 shows all, . and , go from wait to wait."));
    const timeline = new Timeline(recording.whole, (node) => told.replaceChildren(node), recording.span);
    const shownKinds = ["running", "spin", ...new Set(recording.whole.waits.kind.map((kind, row) => (recording.whole.waits.idle[row] ? "idle" : kind))), ...recording.whole.threads.flatMap(({ open }) => (open && !open.ended && open.kind in LABELS ? [["join", "condition", "queue"].includes(open.kind) ? "idle" : open.kind] : [])), "runnable", "sleep-io", ...(recording.gc.some((marks) => marks.length) ? ["gc"] : []), ...recording.gpu.map((lane) => lane.what)];
    timeline.scroller.after(told);
    parts.push(el("h3", {}, "Timeline"), el("p", { class: "legend" }, ...[...new Set(shownKinds)].map(chip)));
    const ready = recording.whole.threads.reduce((sum, thread) => sum + thread.runnable, 0), woken = recording.whole.waits.wake.reduce((sum, value) => sum + value, 0);
    const between = Math.max(0, ready - woken), ran = recording.whole.threads.reduce((sum, thread) => sum + thread.cpu - thread.spin, 0);
    if (between > LEAST_READY * (between + ran)) parts.push(el("p", { class: "hint keep" }, `Green is not all running: between two waits a thread runs or waits for a free core, and the kernel gives only the sum of each. In this run ${percent(between / (between + ran))} of the green was waiting for a core (measured).`));
    if (recording.wholeFromNs) parts.push(el("p", { class: "soft" }, `${whole(recording.eventCount)} waits: those shorter than ${seconds(recording.wholeFromNs / 1e9)} are drawn together where they lie close.`));
    if (recording.gpu.length && recording.cuda.replay) parts.push(replayNote());
    parts.push(timeline.root);
    if (recording.gpu.length) parts.push(gpuTable(recording));
  } else parts.push(el("p", { class: "hint" }, "Record with ", el("code", {}, "--events"), " to see every single wait on a timeline here."));
  parts.push(el("h3", {}, "Where each thread's time went"), el("p", { class: "legend" }, ...[...kinds].map(chip)));
  parts.push(el("div", { class: "bars" }, ...threads.slice(0, MOST_BARS).map((thread) => {
    const sums = partsOf(thread), sum = Math.max(1e-12, sums.reduce((all, [, value]) => all + value, 0)), drawn = bar(sums, sum);
    drawn.style.width = `${Math.max(1, 100 * thread.wall / longest).toFixed(2)}%`;
    const open = thread.open;
    return el("div", { class: "thread" }, el("span", { class: "name", title: name(thread) }, name(thread)), el("span", { class: "n soft" }, seconds(thread.wall)), el("div", { class: "track" }, drawn),
      open && open.waited > LEAST_OPEN_S && !open.ended ? el("p", { class: "open" }, `still waiting at the end: ${seconds(open.waited)} for ${recording.texts[open.name]} (${open.kind})`) : null);
  })));
  if (threads.length > MOST_BARS) parts.push(el("p", { class: "soft" }, `The ${MOST_BARS} busiest of ${threads.length}; the table has all.`));
  const time = (/** @type {string} */ label, /** @type {(thread: any) => number} */ value) => ({ label, value, show: (/** @type {any} */ thread) => (value(thread) ? seconds(value(thread)) : "–"), number: true });
  parts.push(new Table("Threads: every second in one class; unaccounted is where the kernel's and the hooks' sums differ", [
    { label: "thread", value: name }, { label: "process", value: (thread) => thread.pid, number: true },
    time("wall", (thread) => thread.wall), time("CPU", (thread) => thread.cpu), ...(kinds.has("gc") ? [time("GC", (thread) => thread.gc)] : []), time("spin", (thread) => thread.spin), time("stall", (thread) => thread.stall),
    time("ready", (thread) => thread.runnable), ...(kinds.has("stolen") ? [time("stolen", (thread) => thread.stolen)] : []), ...["gil", "lock", "object", "stop-the-world", "import", "native"].filter((kind) => kinds.has(kind)).map((kind) => time(kind, (thread) => thread.wait[kind] ?? 0)),
    time("idle", (thread) => Object.values(thread.idle).reduce((/** @type {any} */ a, /** @type {any} */ b) => a + b, 0)), time("sleep, I/O", (thread) => thread.sleep), time("unaccounted", (thread) => thread.unaccounted),
    { label: "faults", value: (thread) => thread.faults, number: true }, { label: "switches", value: (thread) => thread.switches, number: true },
  ], threads).root);
  const gc = threads.filter((thread) => thread.gcSamples);
  if (gc.length) parts.push(el("p", { class: "soft" }, `Garbage collection is seen by the sampler: at ${recording.meta.rate_hz} Hz of CPU time, each mark on the timeline is a sample that fell in a collection of its own thread.`), new Table("Garbage collection", [
    { label: "thread", value: name }, { label: "samples in a collection", value: (thread) => thread.gcSamples, number: true },
    time("CPU in it, estimated", (thread) => thread.gc), { label: "of its CPU", value: (thread) => thread.gc / Math.max(1e-12, thread.cpu), show: (thread) => percent(thread.gc / Math.max(1e-12, thread.cpu)), number: true },
  ], gc, { sort: 2 }).root);
  return el("div", {}, ...parts);
};

/** What is known of who had it. @param {import("./data.js").Recording} recording @param {import("./data.js").Hold} hold */
const nativeText = (recording, hold) => hold.native.map(([name, library, share]) => `${recording.texts[name]}${recording.texts[library] ? ` in ${recording.texts[library]}` : ""}${hold.native.length > 1 ? ` ${percent(share)}` : ""}`).join(", ") || "no sample fell in it";

/** @param {import("./data.js").Recording} recording @param {import("./data.js").Hold} hold */
const holdDetails = (recording, hold) => {
  const where = hold.blocked > hold.held / 2 ? "It slept or waited here, with the GIL" : hold.samples ? "Where most of its samples fell" : "Where it gave the GIL up";
  const facts = [`from ${seconds(hold.start)}`, hold.open ? "it went on when the recording ended" : `${hold.waiters} thread${hold.waiters === 1 ? "" : "s"} waited for it at its end`, `${hold.samples} samples`];
  if (hold.blocked) facts.push(`${seconds(hold.blocked)} of it asleep or waiting`);
  return el("div", {}, el("h3", {}, `${recording.texts[hold.thread]} held the GIL for ${seconds(hold.held)}`), el("p", { class: "soft" }, facts.join(" · ")),
    el("p", {}, "Native function: ", el("code", {}, nativeText(recording, hold))), el("div", { class: "stacks" }, stackList(recording, hold.stack, where)));
};

/** @param {import("./data.js").Recording} recording @returns {Node[]} */
const holdsPart = (recording) => {
  if (!recording.holds.length) return [];
  const told = el("div", { class: "details", "aria-live": "polite" }, holdDetails(recording, recording.holds[0]));
  return [el("h3", {}, "Longest holds"), new Table("The five longest of each thread; those that kept others waiting first", [
    { label: "thread", value: (hold) => recording.texts[hold.thread] },
    { label: "held", value: (hold) => hold.held, show: (hold) => seconds(hold.held), number: true },
    { label: "waiting at its end", value: (hold) => (hold.open ? "not ended" : hold.waiters), number: true },
    { label: "native function", value: (hold) => nativeText(recording, hold), wide: true },
    { label: "Python", value: (hold) => recording.place(hold.site), wide: true },
    { label: "at", value: (hold) => hold.start, show: (hold) => seconds(hold.start), number: true },
    { label: "samples", value: (hold) => hold.samples, number: true },
  ], recording.holds, { select: (hold) => told.replaceChildren(holdDetails(recording, hold)) }).root, told];
};

/** The waterfall's numbers. @param {import("./data.js").Recording} recording */
export const lossesTable = (recording) => (recording.losses.length ? new Table("What the threads had work for and lost", [
  { label: "loss", value: (loss) => loss.label, wide: true },
  { label: "thread-seconds", value: (loss) => loss.seconds, show: (loss) => seconds(loss.seconds), number: true },
  { label: "share of the time they had work", value: (loss) => loss.share, show: (loss) => percent(loss.share), number: true },
  { label: "evidence", value: (loss) => loss.evidence },
], recording.losses, { sort: 1 }).root : el("span"));

/** @param {import("./data.js").Recording} recording */
export const gilView = (recording) => {
  const threads = recording.threads.filter((thread) => thread.gil > 0 || thread.wait.gil > 0).sort((a, b) => b.gil - a.gil);
  if (!threads.length) return el("p", { class: "empty" }, recording.span ? "No thread waited for the GIL inside this span." : "No thread held the GIL: this build has none, or it was off.");
  const wall = Math.max(1e-9, recording.meta.wall_s), held = threads.reduce((sum, thread) => sum + thread.gil, 0), { waits } = recording;
  /** @type {Map<string, {place: string, thread: string, count: number, total: number}>} */ const sites = new Map();
  for (let row = 0; row < waits.kind.length; row++) {
    if (waits.kind[row] !== "gil") continue;
    for (const [thread, , site, count, total] of waits.releasers[row]) {
      const place = recording.place(site) || "native code", by = recording.texts[thread], key = `${place}\n${by}`;
      const known = sites.get(key) ?? { place, thread: by, count: 0, total: 0 };
      known.count += count;
      known.total += total;
      sites.set(key, known);
    }
  }
  const rest = (/** @type {any} */ thread) => Math.max(0, thread.wall - thread.gil - (thread.wait.gil ?? 0));
  const holding = recording.span ? [] : [
    { label: "held", value: (/** @type {any} */ thread) => thread.gil, show: (/** @type {any} */ thread) => seconds(thread.gil), number: true },
    { label: "without it", value: rest, show: (/** @type {any} */ thread) => seconds(rest(thread)), number: true },
    { label: "held of its life", value: (/** @type {any} */ thread) => thread.gil / Math.max(1e-12, thread.wall), show: (/** @type {any} */ thread) => percent(thread.gil / Math.max(1e-12, thread.wall)), number: true },
  ];
  return el("div", {},
    el("p", {}, recording.span ? "Who waited for the GIL inside the span. How long it was held there is not told apart from the rest." : `The GIL was held for ${seconds(held)}, ${percent(Math.min(1, held / wall))} of the run: exact, from every take and release.`),
    recording.span ? null : el("p", { class: "legend" }, ...["held", "gil", "released"].map((kind) => el("span", { class: "chip" }, el("i", { class: `k-${kind}` }), kind === "gil" ? "waiting for it" : kind === "released" ? "without it" : "held (the share beside the name)"))),
    recording.span ? null : el("div", { class: "bars" }, ...threads.slice(0, MOST_BARS).map((thread) => {
      const all = Math.max(1e-12, thread.gil + (thread.wait.gil ?? 0) + rest(thread));
      return el("div", { class: "thread" }, el("span", { class: "name" }, recording.texts[thread.name]), el("span", { class: "n soft" }, percent(thread.gil / all)),
        el("div", { class: "track" }, bar(/** @type {[string, number][]} */ ([["held", thread.gil], ["gil", thread.wait.gil ?? 0], ["released", rest(thread)]]).filter(([, value]) => value > 0), all)));
    })),
    new Table("Held and waited for", [
      { label: "thread", value: (thread) => recording.texts[thread.name] },
      ...holding,
      { label: "waited", value: (thread) => thread.wait.gil ?? 0, show: (thread) => seconds(thread.wait.gil ?? 0), number: true },
    ], threads, { sort: 1 }).root,
    ...(recording.span ? [] : holdsPart(recording)),
    new Table("Who gave it up to a thread that waited, and where", [
      { label: "line", value: (site) => site.place, wide: true }, { label: "thread", value: (site) => site.thread },
      { label: "waits ended", value: (site) => site.count, show: (site) => whole(site.count), number: true },
      { label: "others waited", value: (site) => site.total, show: (site) => seconds(site.total), number: true },
    ], [...sites.values()], { sort: 3 }).root);
};
