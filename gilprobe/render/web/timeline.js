// Every single wait, a lane a thread: what is seen, and what is done with it.
import { LABELS, colour, eachFrame, el, percent, search, seconds, whole } from "./words.js";
import { Table } from "./table.js";
import { KINDS, lanesOf, lowest, paint } from "./lanes.js";
import { GpuLane } from "./gpu.js";

const LANE_PX = 24, BAR_PX = 18, AXIS_PX = 26, MOST_PX = 600, GC_PX = 8;
const LEAST_NS = 1000;
const MOST_ROWS = 500;
const SETTLED_MS = 200;

export class Timeline {
  /** @param {import("./data.js").Recording} recording @param {(node: Node) => void} tell shows the details of an interval
   *  @param {import("./data.js").Recording["span"]} span what lies outside its windows is dimmed */
  constructor(recording, tell, span = null) {
    this.recording = recording;
    this.span = span;
    this.tell = tell;
    const events = recording.events;
    if (!events) throw new Error("no events");
    this.events = events;
    const { waits } = recording;
    this.matches = new Uint8Array(waits.kind.length + 1).fill(1);
    this.lanes = lanesOf(recording);
    this.gpu = recording.gpu.map((data) => new GpuLane(data));
    this.wall = Math.max(1, recording.meta.wall_s * 1e9, ...this.lanes.map((lane) => lane.end), ...this.gpu.map((lane) => lane.end[lane.end.length - 1] ?? 0));
    for (const lane of this.lanes) lane.shorten(this.wall, this.matches);
    this.from = 0;
    this.to = this.wall;
    this.chosen = -1;
    this.lane = 0;
    /** @type {number|null} */ this.dragged = null;
    this.mouse = 0;
    this.canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": "Timeline of every wait, a lane a thread. Arrow keys move, plus and minus zoom, zero shows all, comma and full stop go from wait to wait. The table below has the same waits." });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.tip = el("div", { class: "tip", hidden: true });
    this.spacer = el("div", { class: "spacer" }, this.canvas);
    this.spacer.style.height = `${AXIS_PX + this.rows * LANE_PX}px`;
    this.scroller = el("div", { class: "timeline" }, this.spacer);
    this.scroller.style.height = `${Math.min(MOST_PX, AXIS_PX + this.rows * LANE_PX + 4)}px`;
    this.draw = eachFrame(() => this.drawNow());
    this.told = el("span", { class: "told", "aria-live": "polite" });
    const button = (/** @type {string} */ text, /** @type {string} */ label, /** @type {() => void} */ work) => el("button", { type: "button", "aria-label": label, title: label, onclick: work }, text);
    const tools = el("div", { class: "tools" },
      button("+", "Zoom in", () => this.zoom(0.5)), button("−", "Zoom out", () => this.zoom(2)), button("All", "Show all", () => this.show(0, this.wall)),
      search("Highlight waits", "Highlight by kind or name", (text) => this.match(text)), this.told);
    const place = (/** @type {number} */ event) => this.waitPlace(event);
    this.table = new Table("Longest waits in view", [
      { label: "thread", value: (event) => this.threadName(events.thread[event]) },
      { label: "at", value: (event) => events.start[event] / 1e9, show: (event) => seconds(events.start[event] / 1e9), number: true },
      { label: "took", value: (event) => events.duration[event] / 1e9, show: (event) => seconds(events.duration[event] / 1e9) + (this.count(event) > 1 ? ` in ${whole(this.count(event))}` : ""), number: true },
      { label: "kind", value: (event) => this.kindOf(event) },
      { label: "for", value: (event) => this.waitName(event), wide: true },
      { label: "waits at", value: place, wide: true },
      { label: "ended by", value: (event) => this.threadName(events.releaser[event]) },
    ], [], { select: (event) => this.choose(event, true), sort: 2 });
    this.root = el("div", {}, tools, this.scroller, this.tip, this.table.root);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    addEventListener("paper", () => this.drawNow());
    addEventListener("afterprint", this.draw);
    this.settle();
  }

  listen() {
    const { canvas } = this;
    this.scroller.addEventListener("scroll", this.draw);
    canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => { this.dragged = event.offsetX; });
    canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      this.mouse = event.offsetX;
      this.hover(event);
      if (this.dragged !== null) this.draw();
    });
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; this.dragged = null; this.draw(); });
    canvas.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => {
      const begun = this.dragged;
      this.dragged = null;
      if (begun !== null && Math.abs(event.offsetX - begun) > 4) this.show(this.timeAt(Math.min(begun, event.offsetX)), this.timeAt(Math.max(begun, event.offsetX)));
      else {
        const lane = this.laneAt(event.offsetY);
        if (lane < 0) return;
        if (lane >= this.lanes.length) { this.chooseGpu(this.gpu[lane - this.lanes.length], event.offsetX); return; }
        this.lane = lane;
        const hit = this.hit(lane, event.offsetX), { open, thread } = this.lanes[lane];
        this.choose(hit);
        if (hit < 0 && open && this.timeAt(event.offsetX) >= open.begin) this.tell(openDetails(this.recording, this.recording.threads[thread]));
      }
    });
    canvas.addEventListener("wheel", (/** @type {WheelEvent} */ event) => {
      if (event.ctrlKey || event.metaKey) { event.preventDefault(); this.zoom(2 ** (event.deltaY / 200), this.timeAt(event.offsetX)); }
      else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) { event.preventDefault(); this.pan(event.deltaX / this.width); }
    }, { passive: false });
    canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      /** @type {Record<string, () => void>} */
      const keys = { ArrowLeft: () => this.pan(-0.2), ArrowRight: () => this.pan(0.2), "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
        0: () => this.show(0, this.wall), ",": () => this.step(-1), ".": () => this.step(1),
        ArrowUp: () => { this.lane = Math.max(0, this.lane - 1); this.step(0); }, ArrowDown: () => { this.lane = Math.min(this.lanes.length - 1, this.lane + 1); this.step(0); } };
      const work = keys[event.key];
      if (work) { event.preventDefault(); work(); }
    });
  }

  /** Lanes of threads, then of GPUs. */
  get rows() { return this.lanes.length + this.gpu.length; }
  get gutter() { return this.canvas.clientWidth < 560 ? 84 : 148; }
  get width() { return Math.max(50, this.canvas.clientWidth - this.gutter); }
  /** @param {number} x @returns {number} ns */
  timeAt(x) { return this.from + (this.to - this.from) * Math.min(1, Math.max(0, (x - this.gutter) / this.width)); }
  /** @param {number} y */
  laneAt(y) {
    const lane = Math.floor((y - AXIS_PX + this.scroller.scrollTop) / LANE_PX);
    return y > AXIS_PX && lane < this.rows ? lane : -1;
  }

  /** @param {number} from ns @param {number} to ns */
  show(from, to) {
    const length = Math.min(this.wall, Math.max(LEAST_NS, to - from));
    this.from = Math.min(Math.max(0, from), this.wall - length);
    this.to = this.from + length;
    this.draw();
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.settle(), SETTLED_MS);
  }

  /** @param {number} by @param {number} [around] ns */
  zoom(by, around = (this.from + this.to) / 2) { this.show(around - (around - this.from) * by, around + (this.to - around) * by); }
  /** @param {number} by share of what is in view */
  pan(by) {
    const length = this.to - this.from, from = Math.min(Math.max(0, this.from + by * length), this.wall - length);
    this.show(from, from + length);
  }

  /** The next wait of the lane. @param {number} by */
  step(by) {
    const lane = this.lanes[this.lane];
    if (!lane.event.length) return;
    let at = lane.event.indexOf(this.chosen);
    at = at < 0 ? lowest(lane.until, (this.from + this.to) / 2) : at + by;
    this.choose(lane.event[Math.min(lane.event.length - 1, Math.max(0, at))], true);
  }

  /** @param {string} text */
  match(text) {
    const wanted = text.toLowerCase(), { recording } = this, { waits } = recording;
    for (let row = 0; row < waits.kind.length; row++)
      this.matches[row] = !wanted || `${waits.kind[row]} ${recording.waitName(row)} ${recording.place(waits.site[row])}`.toLowerCase().includes(wanted) ? 1 : 0;
    this.matches[waits.kind.length] = !wanted || LABELS["sleep-io"].includes(wanted) ? 1 : 0;
    this.wanted = wanted;
    for (const lane of this.lanes) lane.shorten(this.wall, this.matches);
    this.draw();
    this.settle();
  }

  /** @param {number} event */
  row(event) { return this.events.wait[event]; }
  /** @param {number} event */
  count(event) { return this.events.count.length ? this.events.count[event] : 1; }
  /** @param {number} event */
  kindOf(event) { const row = this.row(event); return row < 0 ? "sleep-io" : this.recording.waits.kind[row]; }
  /** @param {number} event */
  waitName(event) { const row = this.row(event); return row < 0 ? "" : this.recording.waitName(row); }
  /** @param {number} event */
  waitPlace(event) { const row = this.row(event); return row < 0 ? "" : this.recording.place(this.recording.waits.site[row]); }
  /** @param {number} thread */
  threadName(thread) { return thread < 0 ? "" : this.recording.texts[this.recording.threads[thread].name]; }

  /** The longest wait at this pixel, -1 if there is none. @param {number} number @param {number} x */
  hit(number, x) {
    const lane = this.lanes[number], { events } = this, pixel = (this.to - this.from) / this.width;
    const begin = this.timeAt(x) - pixel, end = begin + 2 * pixel;
    let best = -1;
    for (let at = lowest(lane.until, begin); at < lane.start.length && lane.start[at] < end; at++) {
      const event = lane.event[at];
      if (lane.start[at] + events.duration[event] > begin && (best < 0 || events.duration[event] > events.duration[best])) best = event;
    }
    return best;
  }

  /** The interval at this pixel, -1 if there is none. @param {GpuLane} lane @param {number} x */
  gpuHit(lane, x) {
    const pixel = (this.to - this.from) / this.width, time = this.timeAt(x);
    return x > this.gutter ? lane.hit(time - pixel, time + pixel) : -1;
  }

  /** @param {GpuLane} lane @param {number} x */
  chooseGpu(lane, x) {
    const at = this.gpuHit(lane, x);
    this.choose(-1);
    if (at >= 0) this.tell(lane.details(at, this.recording.cuda));
  }

  /** A sample in a garbage collection within a few pixels, NaN if there is none. @param {number} thread @param {number} x */
  collecting(thread, x) {
    const pixel = (this.to - this.from) / this.width, time = this.timeAt(x);
    return this.recording.gc[thread].find((mark) => Math.abs(mark - time) < 3 * pixel) ?? NaN;
  }

  /** @param {PointerEvent} pointer */
  hover(pointer) {
    const row = this.laneAt(pointer.offsetY), lane = row < this.lanes.length ? row : -1;
    if (row > lane) { this.hoverGpu(pointer, this.gpu[row - this.lanes.length]); return; }
    const event = lane >= 0 && pointer.offsetX > this.gutter ? this.hit(lane, pointer.offsetX) : -1;
    const open = lane >= 0 ? this.lanes[lane].open : null, time = this.timeAt(pointer.offsetX), never = event < 0 && open !== null && time >= open.begin && pointer.offsetX > this.gutter;
    const mark = event < 0 && lane >= 0 && pointer.offsetX > this.gutter ? this.collecting(this.lanes[lane].thread, pointer.offsetX) : NaN, marked = !Number.isNaN(mark);
    this.tip.hidden = (event < 0 && !never && !marked) || this.dragged !== null;
    if (this.tip.hidden) return;
    if (marked) this.tip.replaceChildren(el("strong", {}, "in a garbage collection"), el("br"), `a sample of CPU time, at ${seconds(mark / 1e9)}`);
    else if (never) this.tip.replaceChildren(el("strong", {}, "still waiting at the end"), el("br"), this.recording.texts[this.recording.threads[this.lanes[lane].thread].open.name]);
    else this.tip.replaceChildren(el("strong", {}, LABELS[this.kindOf(event)] ?? this.kindOf(event)), ` ${seconds(this.events.duration[event] / 1e9)}`,
      this.count(event) > 1 ? ` in ${whole(this.count(event))} waits` : null, el("br"), this.waitName(event));
    this.moveTip(pointer);
  }

  /** @param {PointerEvent} pointer @param {GpuLane} lane */
  hoverGpu(pointer, lane) {
    const at = this.gpuHit(lane, pointer.offsetX);
    this.tip.hidden = at < 0 || this.dragged !== null;
    if (this.tip.hidden) return;
    this.tip.replaceChildren(el("strong", {}, LABELS[lane.data.what]), ` ${seconds((lane.end[at] - lane.start[at]) / 1e9)}`, el("br"), lane.title);
    this.moveTip(pointer);
  }

  /** @param {PointerEvent} pointer */
  moveTip(pointer) {
    const box = this.root.getBoundingClientRect();
    this.tip.style.left = `${Math.min(pointer.clientX - box.left + 12, box.width - 240)}px`;
    this.tip.style.top = `${pointer.clientY - box.top + 16}px`;
  }

  /** @param {number} event @param {boolean} [bring] into view */
  choose(event, bring = false) {
    this.chosen = event;
    if (event < 0) { this.draw(); return; }
    const { events } = this, begin = events.start[event], end = begin + events.duration[event];
    if (bring && (end < this.from || begin > this.to)) this.show((begin + end - (this.to - this.from)) / 2, (begin + end + this.to - this.from) / 2);
    this.lane = this.lanes.findIndex((lane) => lane.thread === events.thread[event]);
    this.draw();
    this.tell(details(this.recording, events, event, this));
  }

  settle() {
    const { events } = this;
    /** @type {number[]} */ const found = [];
    for (const lane of this.lanes)
      for (let at = lowest(lane.until, this.from); at < lane.start.length && lane.start[at] < this.to; at++)
        if (this.matched(lane.event[at]) && this.inSpan(lane.event[at])) found.push(lane.event[at]);
    // Idling is long and nobody's fault: it is listed only where it is asked for.
    const contended = this.wanted ? found : found.filter((event) => this.row(event) >= 0 && !this.recording.waits.idle[this.row(event)]);
    let longest = contended;
    if (contended.length > MOST_ROWS) {
      const least = Float64Array.from(contended, (event) => events.duration[event]).sort()[contended.length - MOST_ROWS];
      longest = contended.filter((event) => events.duration[event] >= least).slice(0, MOST_ROWS);
    }
    this.told.textContent = `${seconds((this.to - this.from) / 1e9)} in view, ${whole(found.length)} intervals` + (this.wanted ? " match" : "");
    this.table.set(longest);
  }

  /** @param {number} event */
  inSpan(event) {
    if (!this.span) return true;
    const windows = this.span.windows.get(this.events.thread[event]);
    return windows !== undefined && lowest(windows, this.events.start[event]) % 2 === 1;
  }

  /** @param {number} event */
  matched(event) { const row = this.row(event); return this.matches[row < 0 ? this.matches.length - 1 : row]; }

  drawNow() {
    const begun = performance.now(), { canvas, context, gutter, width } = this;
    if (!canvas.clientWidth) return;
    const ratio = devicePixelRatio || 1, height = this.scroller.clientHeight, scrolled = this.scroller.scrollTop;
    if (canvas.width !== Math.round(canvas.clientWidth * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(canvas.clientWidth * ratio);
      canvas.height = Math.round(height * ratio);
    }
    canvas.style.height = `${height}px`;
    const palette = KINDS.map((kind) => colour(kind)), ink = colour("ink"), soft = colour("soft"), rule = colour("rule"), accent = colour("accent");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, height);
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const columns = Math.floor(width * ratio), bar = Math.round(BAR_PX * ratio);
    const image = context.createImageData(columns, bar), words = new Uint32Array(image.data.buffer);
    const bright = palette.map((text) => word(text, 1)), dim = palette.map((text) => word(text, 0.18));
    this.ruler(gutter, width, height, soft, rule);
    const first = Math.max(0, Math.floor((scrolled - AXIS_PX) / LANE_PX)), last = Math.min(this.rows, Math.ceil((scrolled + height) / LANE_PX));
    for (let number = first; number < last; number++) {
      const lane = this.lanes[number], y = AXIS_PX + number * LANE_PX - scrolled;
      if (y < AXIS_PX - LANE_PX) continue;
      if (!lane) { this.gpuBar(this.gpu[number - this.lanes.length], gutter, y, columns, ratio, number === this.lanes.length); continue; }
      paint(words, columns, bar, lane.shares(this.from, this.to, columns, this.wall, this.matches, Boolean(this.wanted)), bright, dim);
      context.putImageData(image, Math.round(gutter * ratio), Math.round((y + 3) * ratio));
      context.fillStyle = number === this.lane ? ink : soft;
      context.fillText(fitted(context, this.threadName(lane.thread), gutter - 10), 2, y + 16);
      if (this.span) this.dimOutside(this.span.windows.get(lane.thread) ?? new Float64Array(), gutter, width, y, accent);
    }
    this.gcMarks(first, last, gutter, width, scrolled);
    context.clearRect(0, 0, canvas.clientWidth, AXIS_PX - 2);
    this.ruler(gutter, width, AXIS_PX, soft, rule);
    this.marks(gutter, width, scrolled, height, ink, accent);
    document.documentElement.dataset.frame = (performance.now() - begun).toFixed(1);
  }

  /** @param {Float64Array} windows begins and ends by turns, ns @param {number} gutter @param {number} width @param {number} y @param {string} accent */
  dimOutside(windows, gutter, width, y, accent) {
    const { context } = this, within = (/** @type {number} */ time) => Math.min(gutter + width, Math.max(gutter, this.x(time)));
    let from = gutter;
    for (let at = 0; at <= windows.length; at += 2) {
      const to = at < windows.length ? within(windows[at]) : gutter + width;
      context.globalAlpha = 0.8;
      context.fillStyle = getComputedStyle(document.body).backgroundColor;
      if (to > from) context.fillRect(from, y + 3, to - from, BAR_PX);
      context.globalAlpha = 1;
      context.fillStyle = accent;
      if (at < windows.length && windows[at + 1] >= this.from && windows[at] <= this.to) context.fillRect(to, y, Math.max(1, within(windows[at + 1]) - to), 2);
      from = Math.max(from, at < windows.length ? within(windows[at + 1]) : from);
    }
  }

  /** A mark where a sample fell in a garbage collection. @param {number} first @param {number} last lanes @param {number} gutter @param {number} width @param {number} scrolled */
  gcMarks(first, last, gutter, width, scrolled) {
    const { context } = this, ground = getComputedStyle(document.body).backgroundColor, shade = colour("gc");
    for (let number = first; number < Math.min(last, this.lanes.length); number++) {
      const y = AXIS_PX + number * LANE_PX - scrolled + 3 + BAR_PX - GC_PX;
      let drawn = -1;
      for (const mark of this.recording.gc[this.lanes[number].thread]) {
        const x = Math.round(this.x(mark));
        if (mark < this.from || mark > this.to || x === drawn) continue;
        context.fillStyle = ground;
        context.fillRect(Math.min(x, gutter + width - 2) - 1, y - 1, 4, GC_PX + 1);
        context.fillStyle = shade;
        context.fillRect(Math.min(x, gutter + width - 2), y, 2, GC_PX + 2);
        drawn = x;
      }
    }
  }

  /** @param {GpuLane} lane @param {number} gutter @param {number} y @param {number} columns @param {number} ratio @param {boolean} topmost */
  gpuBar(lane, gutter, y, columns, ratio, topmost) {
    const { context } = this, shares = lane.shares(this.from, this.to, columns);
    context.fillStyle = colour("soft");
    context.fillText(fitted(context, lane.title, gutter - 10), 2, y + 16);
    if (topmost) { context.fillStyle = colour("rule"); context.fillRect(0, y, this.canvas.clientWidth, 1); }
    context.fillStyle = colour(lane.data.what);
    for (let column = 0; column < columns;) {
      let next = column + 1;
      while (next < columns && shares[next] === shares[column]) next++;
      const high = shares[column] > 0 ? Math.max(2, BAR_PX * Math.min(1, shares[column])) : 0;
      if (high) context.fillRect(gutter + column / ratio, y + 3 + BAR_PX - high, (next - column) / ratio, high);
      column = next;
    }
  }

  /** @param {number} time ns */
  x(time) { return this.gutter + (time - this.from) / (this.to - this.from) * this.width; }

  /** @param {number} gutter @param {number} width @param {number} height @param {string} soft @param {string} rule */
  ruler(gutter, width, height, soft, rule) {
    const { context } = this, about = (this.to - this.from) / Math.max(2, width / 110), power = 10 ** Math.floor(Math.log10(about));
    const step = power * (about / power > 5 ? 10 : about / power > 2 ? 5 : about / power > 1 ? 2 : 1);
    for (let time = Math.ceil(this.from / step) * step; time <= this.to; time += step) {
      const x = Math.round(this.x(time)) + 0.5;
      context.strokeStyle = rule;
      context.beginPath();
      context.moveTo(x, 18);
      context.lineTo(x, height);
      context.stroke();
      context.fillStyle = soft;
      const text = axisText(time, step);
      context.fillText(text, Math.min(x - 2, gutter + width - context.measureText(text).width), 13);
    }
  }

  /** @param {number} gutter @param {number} width @param {number} scrolled @param {number} height @param {string} ink @param {string} accent */
  marks(gutter, width, scrolled, height, ink, accent) {
    const { context, events } = this;
    if (this.chosen >= 0 && this.lane >= 0) {
      const left = Math.max(gutter, this.x(events.start[this.chosen])), right = Math.min(gutter + width, this.x(events.start[this.chosen] + events.duration[this.chosen]));
      context.strokeStyle = ink;
      context.lineWidth = 2;
      if (right >= gutter && left <= gutter + width) context.strokeRect(left - 1, AXIS_PX + this.lane * LANE_PX - scrolled + 2, Math.max(3, right - left + 2), BAR_PX + 2);
      context.lineWidth = 1;
    }
    if (this.dragged !== null && Math.abs(this.mouse - this.dragged) > 4) {
      context.globalAlpha = 0.2;
      context.fillStyle = accent;
      context.fillRect(Math.min(this.mouse, this.dragged), AXIS_PX, Math.abs(this.mouse - this.dragged), height - AXIS_PX);
      context.globalAlpha = 1;
    }
  }
}

/** A colour as a word of ImageData (little-endian RGBA). @param {string} text #rrggbb @param {number} alpha */
const word = (text, alpha) => {
  const value = parseInt(text.slice(1), 16);
  return ((Math.round(alpha * 255) << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
};

/** @param {number} time ns @param {number} step ns */
const axisText = (time, step) => {
  const [unit, name] = step >= 1e8 ? [1e9, "s"] : step >= 1e5 ? [1e6, "ms"] : [1e3, "µs"];
  return `${Number((time / unit).toFixed(step >= 1e9 || step / unit >= 1 ? 0 : 3))} ${name}`;
};

/** @param {CanvasRenderingContext2D} context @param {string} text @param {number} width */
export const fitted = (context, text, width) => {
  if (context.measureText(text).width <= width) return text;
  let low = 0, high = Math.min(text.length, 200);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(text.slice(0, middle) + "…").width <= width) low = middle; else high = middle - 1;
  }
  return low ? `${text.slice(0, low)}…` : "";
};

/** Innermost first. @param {import("./data.js").Recording} recording @param {number} stack @param {string} title */
export const stackList = (recording, stack, title) => {
  const frames = recording.stacks[stack] ?? [];
  return el("div", { class: "stack" }, el("h4", {}, title), frames.length ? el("ol", { tabindex: "0" }, ...frames.map((frame) => {
    const [name, file, line] = recording.frames[frame];
    return el("li", {}, el("code", {}, recording.texts[name]), el("small", {}, `${recording.texts[file]}:${line}`));
  })) : el("p", { class: "soft" }, "No Python stack: native code, or an interpreter whose frames are not known."));
};

/** A wait that had not ended when the recording did. @param {import("./data.js").Recording} recording @param {import("./data.js").ThreadData} thread */
const openDetails = (recording, thread) => el("div", {}, el("h3", {}, `${recording.texts[thread.name]} still waited at the end: ${seconds(thread.open.waited)} for ${recording.texts[thread.open.name]}`),
  el("p", { class: "soft" }, `${LABELS[thread.open.kind] ?? thread.open.kind} · from ${seconds(thread.open.since)}`), stackList(recording, thread.open.stack, "It waits here"));

/** Who waited, where, who ended it. @param {import("./data.js").Recording} recording @param {import("./data.js").Events} events @param {number} event @param {Timeline} timeline */
const details = (recording, events, event, timeline) => {
  const row = events.wait[event], kind = timeline.kindOf(event), count = timeline.count(event), took = events.duration[event] / 1e9;
  const thread = timeline.threadName(events.thread[event]);
  const title = row < 0 ? `${thread} slept, or was in I/O, for ${seconds(took)}` : count > 1
    ? `${thread} waited ${whole(count)} times, ${seconds(took)} in all, for ${timeline.waitName(event)}` : `${thread} waited ${seconds(took)} for ${timeline.waitName(event)}`;
  const facts = [LABELS[kind] ?? kind, `from ${seconds(events.start[event] / 1e9)}`];
  if (events.spin[event]) facts.push(`${seconds(events.spin[event] / 1e9)} of it spinning`);
  if (events.wake[event]) facts.push(`${seconds(events.wake[event] / 1e9)} of it ready, but without a core (${percent(events.wake[event] / events.duration[event])})`);
  if (count > 1) facts.push(`waits shorter than ${seconds(recording.wholeFromNs / 1e9)} lie together where there are too many for a page`);
  const parts = [el("h3", {}, title), el("p", { class: "soft" }, facts.join(" · "))];
  if (row >= 0) {
    const release = events.release[event], releasers = recording.waits.releasers[row], ended = release >= 0 ? releasers[release] : null;
    const by = timeline.threadName(events.releaser[event]);
    parts.push(el("div", { class: "stacks" }, stackList(recording, recording.waits.stack[row], `${thread} waits here`),
      ended ? stackList(recording, ended[1], `${by || "a thread"} ended it here`) : el("div", { class: "stack" }, el("h4", {}, by ? `${by} ended it` : "Who ended it was not seen"))));
    const cure = recording.cure(kind, recording.texts[recording.waits.name[row]]);
    if (cure) parts.push(el("p", { class: "cure" }, cure));
  }
  return el("div", {}, ...parts);
};
