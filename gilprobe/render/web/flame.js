// Flame graphs: CPU, and time off CPU, root above; with a second recording, what changed.
import { LABELS, choice, colour, eachFrame, el, percent, search, seconds, select, whole } from "./words.js";
import { Table } from "./table.js";
import { baseName } from "./data.js";
import { fitted } from "./timeline.js";

const ROW_PX = 20;
const LEAST_PX = 3;  // narrower ones come with a zoom; as deep needles they would only push the table down
const TEXT_PX = 28;
const LIBRARY = /\/lib\/python\d|\/site-packages\/|^<frozen|^<string>/;

/** @typedef {{frame: number, kind: string, value: number, before: number, self: number, children: Map<any, FlameNode>, parent: FlameNode|null, depth: number, x: number}} FlameNode
 *  frame: -1 for the root and for what was waited for, which is `kind`; x: where it begins, in units of value. */

export class Flame {
  /** @param {import("./data.js").Recording} recording */
  constructor(recording) {
    this.recording = recording;
    this.what = recording.cpu.stack.length ? "cpu" : "wait";
    this.thread = -1;
    this.wanted = "";
    this.compared = false;
    this.canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": "Flame graph. Arrow keys move, Enter zooms, Escape shows all. The table below has the same functions." });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.scroller = el("div", { class: "flame" }, this.canvas);
    this.how = el("p", { class: "soft" });
    this.tip = el("p", { class: "flametip", "aria-live": "polite" });
    this.draw = eachFrame(() => this.drawNow());
    const kinds = [...new Set(recording.waits.kind)].filter((kind) => !["join", "condition", "queue"].includes(kind));
    /** @type {[string, string][]} */ const what = [["cpu", "CPU"], ["wait", "Waits, all"]];
    if (kinds.length > 1) for (const kind of kinds) what.push([kind, kind === "gil" ? "GIL" : kind[0].toUpperCase() + kind.slice(1)]);
    if (recording.waits.idle.some(Boolean)) what.push(["idle", "Idle"]);
    if (recording.spied.stack.length) what.push(["spied", "All, by py-spy"]);
    const names = [...new Set(recording.threads.map((thread) => thread.name))];
    this.table = new Table("Functions", [
      { label: "function", value: (row) => row.name, wide: true },
      { label: "file", value: (row) => row.file },
      { label: "self", value: (row) => row.self, show: (row) => seconds(row.self), number: true },
      { label: "total", value: (row) => row.total, show: (row) => seconds(row.total), number: true },
      { label: "share", value: (row) => row.total / Math.max(1e-12, this.root.value), show: (row) => percent(row.total / Math.max(1e-12, this.root.value)), number: true },
    ], [], { sort: 2, select: (row) => { this.box.value = row.name; this.look(row.name); } });
    this.box = search("Search functions", "Search functions", (text) => this.look(text));
    this.found = el("span", { class: "told", "aria-live": "polite" });
    const compare = recording.before && choice("Colour", [["plain", "This recording"], ["compared", `Against ${recording.before.name || "the other"}`]], "plain", (value) => { this.compared = value === "compared"; this.draw(); });
    this.element = el("div", {},
      el("div", { class: "tools" }, choice("Time", what, this.what, (value) => { this.what = value; this.build(); }), compare || null),
      el("div", { class: "tools" }, select("Thread", [["-1", "all threads"], .../** @type {[string, string][]} */ (names.map((name) => [String(name), recording.texts[name].slice(0, 60)]))], (value) => { this.thread = Number(value); this.build(); }),
        this.box, el("button", { type: "button", onclick: () => this.zoom(this.root) }, "All"), this.found),
      recording.before?.differs.length ? el("p", { class: "hint" }, `The other recording was made differently: ${recording.before.differs.join("; ")}.`) : null,
      el("p", { class: "legend" }, ...["your code", "libraries and Python's own", "what was waited for"].map((text, at) => el("span", { class: "chip" }, el("i", { class: ["k-own-1", "k-library-2", "k-waiting"][at] }), text))),
      this.how, this.tip, this.scroller, this.table.root);
    /** @type {FlameNode} */ this.root = node(-1, "all", null);
    /** @type {FlameNode} */ this.focus = this.root;
    /** @type {FlameNode} */ this.cursor = this.root;
    // Two recordings may be of two versions: lines move, and so do folders.
    this.keyOf = (/** @type {number} */ frame) => (recording.before ? `${recording.frames[frame][0]} ${baseName(recording.texts[recording.frames[frame][1]])}` : frame);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    addEventListener("paper", () => this.drawNow());
    addEventListener("afterprint", this.draw);
    this.build();
  }

  listen() {
    this.canvas.addEventListener("click", (/** @type {MouseEvent} */ event) => { const found = this.at(event); if (found) this.zoom(found); });
    this.canvas.addEventListener("mousemove", (/** @type {MouseEvent} */ event) => { const found = this.at(event); if (found) { this.cursor = found; this.say(); this.draw(); } });
    this.canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const siblings = () => [...(this.cursor.parent?.children.values() ?? [this.cursor])].sort((a, b) => a.x - b.x);
      const beside = (/** @type {number} */ by) => { const all = siblings(); return all[Math.min(all.length - 1, Math.max(0, all.indexOf(this.cursor) + by))]; };
      /** @type {Record<string, () => FlameNode|null>} */
      const keys = { ArrowUp: () => this.cursor.parent, ArrowDown: () => [...this.cursor.children.values()].sort((a, b) => b.value - a.value)[0],
        ArrowLeft: () => beside(-1), ArrowRight: () => beside(1), Enter: () => { this.zoom(this.cursor); return this.cursor; }, Escape: () => { this.zoom(this.root); return this.root; } };
      const move = keys[event.key];
      if (!move) return;
      event.preventDefault();
      this.cursor = move() ?? this.cursor;
      this.say();
      this.draw();
    });
  }

  /** Sets the thread and kind from the data. */
  build() {
    const { recording } = this;
    this.root = node(-1, "all", null);
    this.fill(recording.waits, recording.cpu, "value");
    if (recording.before) this.fill(recording.before.waits, recording.before.cpu, "before");
    layOut(this.root);
    this.focus = this.cursor = this.root;
    this.table.set(functionsOf(recording, this.root));
    const { meta } = recording;
    this.how.textContent = "Callers above, what they call below; the width is time. " + (this.what === "cpu" ? `CPU time of each thread, shared out by ${whole(meta.samples ?? 0)} samples at ${meta.rate_hz ?? 0} Hz: estimated.`
      : this.what === "spied" ? "Wall time by py-spy's samples: estimated." : "Every wait was timed: measured.");
    this.say();
    this.look(this.wanted);
  }

  /** @param {any} waits @param {any} cpu @param {"value"|"before"} to */
  fill(waits, cpu, to) {
    const { stacks } = this.recording, keyOf = this.keyOf;
    if (this.what === "cpu") {
      for (let at = 0; at < cpu.stack.length; at++)
        if (this.thread < 0 || cpu.thread[at] === this.thread) add(this.root, stacks[cpu.stack[at]], "", cpu.seconds[at], to, keyOf);
      return;
    }
    if (this.what === "spied") {
      const { spied } = this.recording;
      for (let at = 0; to === "value" && at < spied.stack.length; at++)
        if (this.thread < 0 || spied.thread[at] === this.thread) add(this.root, stacks[spied.stack[at]], spied.state[at], spied.seconds[at], to, keyOf);
      return;
    }
    for (let row = 0; row < waits.kind.length; row++) {
      const wanted = this.what === "idle" ? waits.idle[row] : !waits.idle[row] && (this.what === "wait" || waits.kind[row] === this.what);
      if (!wanted) continue;
      let value = waits.total[row];
      if (this.thread >= 0) {
        const at = waits.threads[row].findIndex((/** @type {number} */ part, /** @type {number} */ index) => index % 2 === 0 && part === this.thread);
        value = at < 0 ? 0 : waits.threads[row][at + 1];
      }
      if (value > 0) add(this.root, stacks[waits.stack[row]], waits.kind[row], value, to, keyOf);
    }
  }

  /** @param {FlameNode} to */
  zoom(to) {
    this.focus = to;
    this.cursor = to;
    this.say();
    this.draw();
  }

  /** @param {string} text */
  look(text) {
    this.wanted = text.toLowerCase();
    let sum = 0;
    const walk = (/** @type {FlameNode} */ one) => {
      if (this.wanted && this.matches(one)) { sum += one.value; return; }
      for (const child of one.children.values()) walk(child);
    };
    walk(this.root);
    this.found.textContent = this.wanted ? `${seconds(sum)}, ${percent(sum / Math.max(1e-12, this.root.value))} matches` : "";
    this.draw();
  }

  /** @param {FlameNode} one */
  matches(one) { return one !== this.root && this.label(one).toLowerCase().includes(this.wanted); }

  /** @param {FlameNode} one */
  label(one) {
    if (one.frame < 0) return one === this.root ? "all" : LABELS[one.kind] ?? one.kind;
    const [name, file, line] = this.recording.frames[one.frame];
    return `${this.recording.texts[name]}  ${baseName(this.recording.texts[file])}${this.recording.before ? "" : `:${line}`}`;
  }

  say() {
    const one = this.cursor;
    const compared = this.recording.before ? `, ${percent(one.before / Math.max(1e-12, this.root.before))} of the other` : "";
    this.tip.textContent = this.root.value > 0 ? `${this.label(one)}: ${seconds(one.value)}, ${percent(one.value / this.root.value)} of all${compared}` : "No time of this kind was recorded.";
  }

  /** @param {MouseEvent} event */
  at(event) {
    return this.boxes?.find(({ left, width, top }) => event.offsetX >= left && event.offsetX < left + Math.max(1, width) && event.offsetY >= top && event.offsetY < top + ROW_PX)?.node;
  }

  drawNow() {
    const width = this.scroller.clientWidth;
    if (!width) return;
    /** @type {{node: FlameNode, left: number, width: number, top: number}[]} */ const boxes = [];
    const { focus } = this, scale = width / Math.max(1e-12, focus.value), lineage = new Set();
    for (let one = focus.parent; one; one = one.parent) lineage.add(one);
    let deepest = 0;
    const place = (/** @type {FlameNode} */ one) => {
      const above = lineage.has(one), left = above ? 0 : (one.x - focus.x) * scale, size = above ? width : one.value * scale;
      if (size < LEAST_PX || left >= width || left + size <= 0) return;
      boxes.push({ node: one, left: Math.max(0, left), width: Math.min(width, left + size) - Math.max(0, left), top: one.depth * ROW_PX });
      deepest = Math.max(deepest, one.depth);
      for (const child of one.children.values()) if (!above || child === focus || lineage.has(child)) place(child);
    };
    if (this.root.value > 0) place(this.root);
    this.boxes = boxes;
    this.paint(boxes, width, (deepest + 1) * ROW_PX);
  }

  /** @param {{node: FlameNode, left: number, width: number, top: number}[]} boxes @param {number} width @param {number} height */
  paint(boxes, width, height) {
    const { canvas, context } = this, ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    const own = [colour("own-1"), colour("own-2"), colour("own-3")], library = [colour("library-1"), colour("library-2")];
    const ink = colour("ink"), more = colour("more"), less = colour("less"), neutral = colour("library-1");
    for (const { node: one, left, width: size, top } of boxes) {
      let fill = neutral, dark = ink;
      if (one.frame >= 0) {
        const [name, file] = this.recording.frames[one.frame];
        fill = LIBRARY.test(this.recording.texts[file]) ? library[name % 2] : own[name % 3];
      } else if (one !== this.root) { fill = colour(one.kind in LABELS ? one.kind : "idle"); dark = colour("on-kind"); }
      context.globalAlpha = this.wanted && !this.matches(one) ? 0.25 : 1;
      context.fillStyle = fill;
      if (this.compared) {
        const change = one.value / Math.max(1e-12, this.root.value) - one.before / Math.max(1e-12, this.root.before);
        context.fillStyle = neutral;
        context.fillRect(left, top, Math.max(0.5, size - 1), ROW_PX - 1);
        context.globalAlpha = Math.min(0.85, Math.abs(change) * 6);
        context.fillStyle = change > 0 ? more : less;
        dark = ink;
      }
      context.fillRect(left, top, Math.max(0.5, size - 1), ROW_PX - 1);
      context.globalAlpha = this.wanted && !this.matches(one) ? 0.5 : 1;
      if (one === this.cursor && one !== this.root) { context.strokeStyle = ink; context.strokeRect(left + 0.5, top + 0.5, Math.max(1, size - 2), ROW_PX - 2); }
      if (size > TEXT_PX) { context.fillStyle = dark; context.fillText(fitted(context, this.label(one), size - 10), left + 5, top + ROW_PX / 2); }
    }
    context.globalAlpha = 1;
  }
}

/** @param {number} frame @param {string} kind @param {FlameNode|null} parent @returns {FlameNode} */
const node = (frame, kind, parent) => ({ frame, kind, value: 0, before: 0, self: 0, children: new Map(), parent, depth: parent ? parent.depth + 1 : 0, x: 0 });

/** @param {FlameNode} root @param {number[]} stack innermost first @param {string} leaf what was waited for @param {number} value @param {"value"|"before"} to
 *  @param {(frame: number) => number|string} keyOf frames of one key are one node */
const add = (root, stack, leaf, value, to, keyOf) => {
  let at = root;
  at[to] += value;
  const step = (/** @type {number|string} */ key, /** @type {number} */ frame, /** @type {string} */ kind) => {
    let child = at.children.get(key);
    if (!child) at.children.set(key, child = node(frame, kind, at));
    child[to] += value;
    at = child;
  };
  for (let depth = stack.length - 1; depth >= 0; depth--) step(keyOf(stack[depth]), stack[depth], "");
  if (leaf) step(leaf, -1, leaf);
  if (to === "value") at.self += value;
};

/** @param {FlameNode} root */
const layOut = (root) => {
  let x = root.x;
  for (const child of [...root.children.values()].sort((a, b) => b.value - a.value)) {
    child.x = x;
    x += child.value;
    layOut(child);
  }
};

/** Each function once; its total counts a recursion once. @param {import("./data.js").Recording} recording @param {FlameNode} root */
const functionsOf = (recording, root) => {
  /** @type {Map<string, {name: string, file: string, self: number, total: number}>} */ const rows = new Map();
  const walk = (/** @type {FlameNode} */ one, /** @type {Set<string>} */ above) => {
    let within = above;
    if (one.frame >= 0) {
      const [name, file] = recording.frames[one.frame], key = `${name} ${file}`;
      let row = rows.get(key);
      if (!row) rows.set(key, row = { name: recording.texts[name], file: baseName(recording.texts[file]), self: 0, total: 0 });
      row.self += one.self;
      for (const child of one.children.values()) if (child.frame < 0) row.self += child.value;
      if (!above.has(key)) { row.total += one.value; within = new Set(above).add(key); }
    }
    for (const child of one.children.values()) walk(child, within);
  };
  walk(root, new Set());
  return [...rows.values()].filter((row) => row.total > 0);
};
