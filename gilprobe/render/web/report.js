"use strict";
const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

/** A column's value for sorting: the exact number where there is one, else the text. */
const valueOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.v !== undefined ? Number(cell.dataset.v) : Number.isNaN(Number(cell.textContent)) ? cell.textContent : Number(cell.textContent);
};

for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.querySelectorAll("th").forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const falling = head.dataset.order !== "falling";
      head.dataset.order = falling ? "falling" : "rising";
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const x = valueOf(a, column), y = valueOf(b, column);
        return (x < y ? -1 : x > y ? 1 : 0) * (falling ? -1 : 1);
      });
      table.tBodies[0].append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}

const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  for (const row of document.querySelectorAll("table.filtered tbody tr"))
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
