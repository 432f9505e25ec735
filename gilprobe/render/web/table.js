// A table that sorts, filters and copies; only the rows in sight are in the document.
import { copy, eachFrame, el, search } from "./words.js";

/**
 * @typedef {{label: string, value: (row: any) => number|string, show?: (row: any) => Node|string, number?: boolean, wide?: boolean}} Column
 * value sorts, filters and is copied; show is what is seen, where that differs.
 */
const LINE_PX = 32;
const SIGHT_PX = 480;
const SPARE_ROWS = 8;
const PRINTED_ROWS = 40;

export class Table {
  /** @param {string} caption @param {Column[]} columns @param {any[]} rows
   *  @param {{select?: (row: any) => void, sort?: number, rising?: boolean}} [options] */
  constructor(caption, columns, rows, options = {}) {
    this.columns = columns;
    this.rows = rows;
    this.shown = rows;
    this.select = options.select;
    this.sorted = options.sort ?? -1;
    this.falling = !options.rising;
    this.wanted = "";
    /** @type {any} */ this.chosen = null;
    /** The row that Tab reaches. */ this.at = 0;
    this.draw = eachFrame(() => this.drawNow());
    this.filter = search(`Filter: ${caption}`, "Filter", (text) => { this.wanted = text.toLowerCase(); this.update(); });
    this.told = el("span", { class: "told", "aria-live": "polite" });
    const copier = el("button", { type: "button", onclick: () => copy(this.text(), copier) }, "Copy");
    this.heads = columns.map((column, at) => el("th", { scope: "col", class: column.number ? "n" : null },
      el("button", { type: "button", onclick: () => this.sort(at) }, column.label)));
    this.body = el("tbody");
    const table = el("table", { class: "data" }, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...this.heads)), this.body);
    this.scroller = el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption, onscroll: this.draw }, table);
    this.root = el("div", { class: "tablebox" }, el("div", { class: "tools" }, this.filter, copier, this.told), this.scroller);
    this.body.addEventListener("click", (/** @type {any} */ event) => this.picked(event.target));
    this.body.addEventListener("keydown", (/** @type {any} */ event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.picked(event.target); } else this.moved(event); });
    addEventListener("paper", () => this.drawNow(PRINTED_ROWS));
    addEventListener("afterprint", () => this.drawNow());
    this.update();
  }

  /** @param {any[]} rows */
  set(rows) {
    this.rows = rows;
    this.update();
  }

  /** As if it had been clicked. @param {any} row */
  choose(row) {
    this.chosen = row;
    this.select?.(row);
    const at = this.shown.indexOf(row);
    if (at * LINE_PX > SIGHT_PX - 3 * LINE_PX) this.scroller.scrollTop = at * LINE_PX;
    this.drawNow();
  }

  /** The arrow keys go from row to row: Tab stops once at the table. @param {KeyboardEvent} event */
  moved(event) {
    const steps = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity });
    const line = /** @type {HTMLElement} */ (event.target).closest("tr"), by = steps[event.key];
    if (!this.select || !line || line.dataset.at === undefined || by === undefined) return;
    event.preventDefault();
    const at = Math.min(this.shown.length - 1, Math.max(0, Number(line.dataset.at) + by)), head = this.heads[0].offsetHeight;
    const top = at * LINE_PX, { scroller } = this;
    this.at = at;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + 3 * LINE_PX + head > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + 3 * LINE_PX + head - scroller.clientHeight;
    this.drawNow();
    /** @type {HTMLElement|null} */ (this.body.querySelector(`tr[data-at="${at}"]`))?.focus({ preventScroll: true });
  }

  /** @param {HTMLElement} target */
  picked(target) {
    const line = target.closest("tr");
    if (!this.select || !line || line.dataset.at === undefined) return;
    this.at = Number(line.dataset.at);
    this.chosen = this.shown[this.at];
    this.select(this.chosen);
    this.drawNow();
    /** @type {HTMLElement|null} */ (this.body.querySelector("tr[aria-selected=true]"))?.focus({ preventScroll: true });
  }

  /** @param {number} at */
  sort(at) {
    this.falling = this.sorted === at ? !this.falling : this.columns[at].number === true;
    this.sorted = at;
    this.update();
  }

  update() {
    const { columns, wanted } = this;
    let rows = this.rows;
    if (wanted) rows = rows.filter((row) => columns.some((column) => String(column.value(row)).toLowerCase().includes(wanted)));
    if (this.sorted >= 0) {
      const { value } = columns[this.sorted], sign = this.falling ? -1 : 1;
      const keyed = rows.map((row) => ({ row, key: value(row) }));
      keyed.sort((a, b) => sign * (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
      rows = keyed.map(({ row }) => row);
    }
    this.shown = rows;
    this.told.textContent = rows.length === this.rows.length ? `${rows.length.toLocaleString("en")} row${rows.length === 1 ? "" : "s"}` : `${rows.length.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} rows`;
    this.heads.forEach((head, at) => {
      if (at === this.sorted) head.setAttribute("aria-sort", this.falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.scroller.scrollTop = 0;
    this.at = 0;
    this.drawNow();
  }

  /** @param {number} [most] rows, for print; else what is in sight */
  drawNow(most) {
    const count = this.shown.length;
    const first = most ? 0 : Math.max(0, Math.floor(this.scroller.scrollTop / LINE_PX) - SPARE_ROWS);
    const last = Math.min(count, most ?? first + Math.ceil(SIGHT_PX / LINE_PX) + 2 * SPARE_ROWS);
    const lines = [], tabbed = this.at >= first && this.at < last ? this.at : first;
    if (first) lines.push(this.gap(first));
    for (let at = first; at < last; at++) lines.push(this.line(at, tabbed));
    if (last < count) lines.push(most ? el("tr", {}, el("td", { colspan: this.columns.length, class: "none" }, `and ${(count - last).toLocaleString("en")} more rows`)) : this.gap(count - last));
    if (!count) lines.push(el("tr", {}, el("td", { colspan: this.columns.length, class: "none" }, this.rows.length ? "No row matches." : "Nothing.")));
    const focused = /** @type {HTMLElement|null} */ (this.body.contains(document.activeElement) ? document.activeElement : null)?.dataset.at;
    this.body.replaceChildren(...lines);
    if (focused !== undefined) /** @type {HTMLElement|null} */ (this.body.querySelector(`tr[data-at="${focused}"]`) ?? this.body.querySelector("tr[tabindex='0']"))?.focus({ preventScroll: true });
  }

  /** @param {number} rows */
  gap(rows) {
    return el("tr", { "aria-hidden": "true", class: "gap" }, el("td", { colspan: this.columns.length, style: { height: `${rows * LINE_PX}px` } }));
  }

  /** @param {number} at @param {number} tabbed */
  line(at, tabbed) {
    const row = this.shown[at];
    const line = el("tr", this.select ? { "data-at": at, tabindex: at === tabbed ? "0" : "-1", "aria-selected": row === this.chosen ? "true" : "false" } : {});
    for (const column of this.columns) {
      const shown = column.show ? column.show(row) : String(column.value(row));
      line.append(el("td", { class: column.number ? "n" : column.wide ? "wide" : null, title: typeof shown === "string" && shown.length > 30 ? shown : null }, shown));
    }
    return line;
  }

  /** Tab-separated, all rows that pass the filter. */
  text() {
    const clean = (/** @type {any} */ value) => String(value).replace(/[\t\n\r]/g, " ");
    const lines = [this.columns.map((column) => column.label), ...this.shown.map((row) => this.columns.map((column) => column.value(row)))];
    return lines.map((cells) => cells.map(clean).join("\t")).join("\n");
  }
}
