/* A table of the rows of a CSV file. Rows are added as the reader scrolls: 1,000 rows of 500 cells at
   once would take seconds. */

const CELLS = 5000; // that are added at a time
const NEAR = 600; // pixels from the end at which more are added

/** The first row becomes the head. All cells are text. */
export function makeTable([head, ...rows]) {
  const box = document.createElement("div");
  box.className = "file-table";
  const table = document.createElement("table");
  const width = rows.reduce((most, row) => Math.max(most, row.length), head.length);
  const body = table.createTBody();
  table.createTHead().append(makeRow(head, width, "th", ""));
  let count = 0;
  const addMore = () => {
    const step = Math.max(1, Math.ceil(CELLS / Math.max(1, width)));
    const more = rows.slice(count, count + step);
    body.append(...more.map((row, index) => makeRow(row, width, "td", count + index + 1)));
    count += more.length;
  };
  box.append(table);
  box.addEventListener("scroll", () => {
    if (box.scrollHeight - box.scrollTop - box.clientHeight < NEAR) {
      addMore();
    }
  });
  addMore();
  return box;
}

function makeRow(texts, width, kind, number) {
  const row = document.createElement("tr");
  const first = document.createElement(kind);
  first.className = "row-number";
  first.textContent = String(number);
  row.append(first);
  for (let column = 0; column < width; column += 1) {
    const cell = document.createElement(kind);
    cell.textContent = texts[column] ?? "";
    row.append(cell);
  }
  return row;
}
