// A thread's waits as typed arrays, and how each pixel's time was shared out. Level of detail: bins over the whole run,
// made once, stand for the waits while more of the run is in view than pixels could tell apart.

export const KINDS = ["running", "spin", "gil", "lock", "object", "stop-the-world", "import", "native", "runnable", "idle", "sleep-io"];
const RUNNING = 0, SPIN = 1, RUNNABLE = 8, IDLE = 9, SLEEP = 10;
const LEVELS = [2048, 4096, 16384];
const BINS_A_COLUMN = 1.25;
const LEAST_WAITS = 20000;
const CELLS = 2 * KINDS.length;

export class Lane {
  /** @param {number} thread @param {number} begin ns @param {number} end ns @param {number} count of waits */
  constructor(thread, begin, end, count) {
    this.thread = thread;
    this.begin = begin;
    this.end = end;
    this.start = new Float64Array(count);
    /** The latest end so far: it never falls, so that it can be searched. */
    this.until = new Float64Array(count);
    this.length = new Float64Array(count);
    this.spin = new Float32Array(count);
    this.wake = new Float32Array(count);
    this.code = new Uint8Array(count);
    /** Index into the waits, one more where there is none. */
    this.row = new Uint32Array(count);
    this.event = new Uint32Array(count);
    /** The wait that had not ended when the recording did. @type {{begin: number, end: number, code: number}|null} */ this.open = null;
    /** One array of bins a level, the coarsest first. @type {Float32Array[]} */ this.bins = [];
  }

  /** @param {number} wall ns @param {Uint8Array} matches 1 for each row that is highlighted */
  shorten(wall, matches) {
    this.bins = this.start.length < LEAST_WAITS ? [] : LEVELS.map((bins) => this.collect(0, wall, bins, matches));
  }

  /** For each column the share of its time in each kind, twice: what is highlighted, and the rest.
   *  @param {number} from ns @param {number} to ns @param {number} columns @param {number} wall ns @param {Uint8Array} matches @param {boolean} dimmed */
  shares(from, to, columns, wall, matches, dimmed) {
    const level = this.bins.length ? LEVELS.findIndex((bins) => (to - from) / wall * bins >= columns * BINS_A_COLUMN) : -1;
    const shares = level >= 0 ? this.spread(from, to, columns, wall, level, dimmed) : this.collect(from, to, columns, matches), scale = columns / (to - from);
    const running = dimmed ? KINDS.length + RUNNING : RUNNING, alive = Math.max(0, (this.begin - from) * scale), dead = Math.min(columns, (this.end - from) * scale);
    for (let column = Math.floor(alive); column < dead; column++) {
      const first = column * CELLS, stop = first + CELLS;
      let sum = 0;
      for (let at = first; at < stop; at++) sum += shares[at];
      const lived = Math.min(dead, column + 1) - Math.max(alive, column);
      if (sum > lived && sum > 0) for (let at = first; at < stop; at++) shares[at] *= lived / sum;
      else shares[first + running] += lived - sum;
    }
    return shares;
  }

  /** From the bins. @param {number} from ns @param {number} to ns @param {number} columns @param {number} wall ns @param {number} level @param {boolean} dimmed */
  spread(from, to, columns, wall, level, dimmed) {
    const bins = this.bins[level], count = LEVELS[level], cells = dimmed ? CELLS : KINDS.length, shares = new Float32Array(columns * CELLS), width = wall / count * columns / (to - from), origin = -from * columns / (to - from);
    const first = Math.max(0, Math.floor(from / wall * count)), last = Math.min(count, Math.ceil(to / wall * count));
    for (let bin = first; bin < last; bin++) {
      const left = origin + bin * width, column = Math.floor(left), within = Math.min(1, (column + 1 - left) / width);
      for (let cell = 0; cell < cells; cell++) {
        const value = bins[bin * CELLS + cell] * width;
        if (value <= 0) continue;
        if (column >= 0 && column < columns) shares[column * CELLS + cell] += value * within;
        if (within < 1 && column + 1 < columns) shares[(column + 1) * CELLS + cell] += value * (1 - within);
      }
    }
    return shares;
  }

  /** From the waits themselves. @param {number} from ns @param {number} to ns @param {number} columns @param {Uint8Array} matches */
  collect(from, to, columns, matches) {
    const { start, length, spin, wake, code, row } = this, count = start.length, scale = columns / (to - from), shares = new Float32Array(columns * CELLS);
    /** @param {number} begin @param {number} end @param {number} cell */
    const add = (begin, end, cell) => {
      const left = Math.max(0, (begin - from) * scale), right = Math.min(columns, (end - from) * scale);
      if (right <= left) return;
      const first = Math.floor(left), last = Math.floor(right);
      if (first === last) { shares[first * CELLS + cell] += right - left; return; }
      shares[first * CELLS + cell] += first + 1 - left;
      for (let column = first + 1; column < last; column++) shares[column * CELLS + cell] += 1;
      if (last < columns) shares[last * CELLS + cell] += right - last;
    };
    for (let at = lowest(this.until, from); at < count; at++) {
      const begin = start[at];
      if (begin >= to) break;
      const end = begin + length[at], shade = matches[row[at]] ? 0 : KINDS.length;
      const parked = Math.min(end, begin + spin[at]), posted = Math.max(parked, end - wake[at]);
      if (parked > begin) add(begin, parked, shade + SPIN);
      if (posted > parked) add(parked, posted, shade + code[at]);
      if (end > posted) add(posted, end, shade + RUNNABLE);
    }
    if (this.open) add(this.open.begin, this.open.end, this.open.code);
    return shares;
  }
}

/** First index whose value is above `least` in a rising array. @param {Float64Array} values @param {number} least */
export const lowest = (values, least) => {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > least) high = middle; else low = middle + 1;
  }
  return low;
};

/** @param {import("./data.js").Recording} recording @returns {Lane[]} the busiest thread first */
export const lanesOf = (recording) => {
  const events = /** @type {import("./data.js").Events} */ (recording.events), { threads, waits } = recording;
  const codes = waits.kind.map((kind, row) => (waits.idle[row] ? IDLE : KINDS.indexOf(kind)));
  const counts = new Uint32Array(threads.length);
  for (let event = 0; event < events.start.length; event++) if (events.thread[event] >= 0) counts[events.thread[event]]++;
  const lanes = threads.map((thread, number) => new Lane(number, thread.start * 1e9, (thread.start + thread.wall) * 1e9, counts[number]));
  threads.forEach(({ open }, number) => {
    if (!open || open.ended) return;
    const code = ["join", "condition", "queue"].includes(open.kind) ? IDLE : Math.max(0, KINDS.indexOf(open.kind));
    lanes[number].open = { begin: open.since * 1e9, end: (open.since + open.waited) * 1e9, code };
  });
  counts.fill(0);
  for (let event = 0; event < events.start.length; event++) {
    const number = events.thread[event];
    if (number < 0) continue;
    const lane = lanes[number], at = counts[number]++, begin = events.start[event], end = begin + events.duration[event], row = events.wait[event];
    lane.start[at] = begin;
    lane.length[at] = events.duration[event];
    lane.until[at] = at ? Math.max(lane.until[at - 1], end) : end;
    lane.spin[at] = events.spin[event];
    lane.wake[at] = events.wake[event];
    lane.code[at] = row < 0 ? SLEEP : codes[row];
    lane.row[at] = row < 0 ? codes.length : row;
    lane.event[at] = event;
    if (begin < lane.begin) lane.begin = begin;
    if (end > lane.end) lane.end = end;
  }
  const work = (/** @type {Lane} */ lane) => threads[lane.thread].cpu + Object.values(threads[lane.thread].wait).reduce((a, b) => a + b, 0);
  return lanes.sort((a, b) => work(b) - work(a));
};

/** Writes each column's kinds above each other. @param {Uint32Array} words @param {number} columns @param {number} height
 *  @param {Float32Array} shares @param {number[]} bright @param {number[]} dim */
export const paint = (words, columns, height, shares, bright, dim) => {
  words.fill(0);
  for (let column = 0; column < columns; column++) {
    let filled = 0, y = height;
    for (let cell = 0; cell < CELLS; cell++) {
      const share = shares[column * CELLS + cell];
      if (share <= 0) continue;
      filled += share;
      const top = Math.max(0, Math.round(height * (1 - filled))), value = cell < KINDS.length ? bright[cell] : dim[cell - KINDS.length];
      while (y > top) words[--y * columns + column] = value;
    }
  }
};
