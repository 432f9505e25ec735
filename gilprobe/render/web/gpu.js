// What each CUDA context had of its GPU, as lanes below the threads' on the timeline.
import { LABELS, el, percent, seconds, whole } from "./words.js";
import { Table } from "./table.js";
import { lowest } from "./lanes.js";

/** @param {any} cuda @param {import("./data.js").GpuData} lane */
const howGot = (cuda, lane) => cuda.figures?.[lane.what === "resident" ? "resident_s" : "contexts_busy_s"] ?? "unavailable";

/** @param {import("./data.js").GpuData} lane */
export const gpuTitle = (lane) => `GPU ${lane.device} · ${lane.pid}/${lane.context} ${lane.what}`;

export class GpuLane {
  /** @param {import("./data.js").GpuData} data */
  constructor(data) {
    this.data = data;
    this.title = gpuTitle(data);
    this.start = data.times.filter((_, at) => at % 2 === 0);
    this.end = data.times.filter((_, at) => at % 2 === 1);
  }

  /** The share of each column's time that it is busy. @param {number} from ns @param {number} to ns @param {number} columns */
  shares(from, to, columns) {
    const shares = new Float32Array(columns), scale = columns / (to - from);
    for (let at = lowest(this.end, from); at < this.start.length && this.start[at] < to; at++) {
      const left = Math.max(0, (this.start[at] - from) * scale), right = Math.min(columns, (this.end[at] - from) * scale);
      const first = Math.floor(left), last = Math.min(columns - 1, Math.floor(right));
      if (first >= columns) break;
      if (first === last) { shares[first] += right - left; continue; }
      shares[first] += first + 1 - left;
      shares.fill(1, first + 1, last);
      shares[last] += right - last;
    }
    return shares;
  }

  /** The interval at a time, -1 if there is none. @param {number} begin ns @param {number} end ns */
  hit(begin, end) {
    const at = lowest(this.end, begin);
    return at < this.start.length && this.start[at] <= end ? at : -1;
  }

  /** @param {number} at @param {any} cuda */
  details(at, cuda) {
    const { data } = this, replay = Boolean(cuda.replay), took = (this.end[at] - this.start[at]) / 1e9;
    const facts = [`from ${seconds(this.start[at] / 1e9)}`, `all in all ${whole(data.count)}, ${seconds(data.busy)} [${howGot(cuda, data)}]`];
    if (data.closed) facts.push(`gaps shorter than ${seconds(data.closed / 1e9)} are not shown`);
    return el("div", {}, el("h3", {}, `GPU ${data.device}, context ${data.context} of process ${data.pid}: ${LABELS[data.what]} for ${seconds(took)}`), el("p", { class: "soft" }, facts.join(" · ")), replay ? replayNote() : null);
  }
}

export const replayNote = () => el("p", { class: "alert" }, "Replay: these records were handed back by a stand-in for libcupti. Nothing here was measured on a GPU.");

/** @param {import("./data.js").Recording} recording */
export const gpuTable = (recording) => new Table("What each context had of its GPU", [
  { label: "GPU", value: (lane) => lane.device, number: true }, { label: "process", value: (lane) => lane.pid, number: true }, { label: "context", value: (lane) => lane.context, number: true },
  { label: "what", value: (lane) => LABELS[lane.what] ?? lane.what, wide: true },
  { label: "how many", value: (lane) => lane.count, show: (lane) => whole(lane.count), number: true },
  { label: "time", value: (lane) => lane.busy, show: (lane) => seconds(lane.busy), number: true },
  { label: "of the run", value: (lane) => lane.busy / Math.max(1e-9, recording.meta.wall_s), show: (lane) => percent(lane.busy / Math.max(1e-9, recording.meta.wall_s)), number: true },
  { label: "how it was got", value: (lane) => howGot(recording.cuda, lane) },
  { label: "first", value: (lane) => lane.times[0] / 1e9, show: (lane) => seconds(lane.times[0] / 1e9), number: true },
  { label: "last", value: (lane) => lane.times[lane.times.length - 1] / 1e9, show: (lane) => seconds(lane.times[lane.times.length - 1] / 1e9), number: true },
], recording.gpu, { sort: 5 }).root;
