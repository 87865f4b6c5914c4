/* The content of text files: bytes as text, CSV as rows, JSON with indents. Pure. */

export const TABLE_ROWS = 1000;
export const TABLE_COLUMNS = 500;
const DELIMITERS = ["\t", ";", ",", "|"]; // of two that fit, the first is meant more often
const SAMPLE = 10; // rows in which the delimiters are counted
const DEEPEST = 40; // levels of JSON that are indented further than the one above
const LONGEST = 1 << 23; // characters of indented JSON
const JSON_TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[[{]\s*[\]}]|[[\]{},:]|[^\s[\]{},:"]+/g;

/** The text in these bytes; U+FFFD for what is not text. If `isCut`, more bytes follow in the file,
    and half a character at the end is left out. */
export function decodeText(bytes, isCut) {
  const text = new TextDecoder(unicodeName(bytes)).decode(bytes, { stream: isCut });
  return text.replaceAll("\0", "\ufffd");
}

/** The same for a table, { text, isWindows }. Excel writes CSV in the encoding of Windows. */
export function decodeTable(bytes, isCut) {
  try {
    new TextDecoder(unicodeName(bytes), { fatal: true }).decode(bytes, { stream: isCut });
    return { text: decodeText(bytes, isCut), isWindows: false };
  } catch {
    return { text: new TextDecoder("windows-1252").decode(bytes), isWindows: true };
  }
}

/** The encoding that a byte order mark declares; UTF-8 without one. */
function unicodeName(bytes) {
  return { "255,254": "utf-16le", "254,255": "utf-16be" }[String(bytes.slice(0, 2))] ?? "utf-8";
}

/** The text of an HTML file, whose encoding it may declare itself. */
export function decodeHtml(bytes) {
  const start = new TextDecoder("latin1").decode(bytes.slice(0, 1024));
  const [, name] = /<meta[^>]*?charset\s*=\s*["']?\s*([\w-]+)/i.exec(start) ?? [];
  try {
    return new TextDecoder(name ?? unicodeName(bytes)).decode(bytes);
  } catch {
    return new TextDecoder().decode(bytes); // there is no encoding with this name
  }
}

/** { rows, hasMoreRows, hasMoreColumns } of a CSV file, see TABLE_ROWS and TABLE_COLUMNS. A row is
    an array of texts, perhaps shorter than others. If `isCut`, the text lacks the file's end, and
    its last row is left out. */
export function parseTable(text, isCut) {
  const delimiter = findDelimiter(text);
  const rows = [];
  let hasMoreColumns = false;
  for (const { cells, isLast } of iterRows(text, delimiter)) {
    if (rows.length === TABLE_ROWS) {
      return { rows, hasMoreRows: true, hasMoreColumns };
    }
    if (!(isLast && isCut)) {
      hasMoreColumns ||= cells.length > TABLE_COLUMNS;
      rows.push(cells.slice(0, TABLE_COLUMNS));
    }
  }
  return { rows, hasMoreRows: isCut, hasMoreColumns };
}

/** The delimiter that splits most of the first rows into the same number of cells. */
function findDelimiter(text) {
  const scores = DELIMITERS.map((delimiter) => {
    const counts = [];
    for (const { cells } of iterRows(text, delimiter)) {
      counts.push(cells.length);
      if (counts.length === SAMPLE) {
        break;
      }
    }
    const [first = 1] = counts;
    return first > 1 ? counts.filter((count) => count === first).length : 0;
  });
  const best = Math.max(...scores);
  return best === 0 ? "," : DELIMITERS[scores.indexOf(best)];
}

/** Each row, { cells, isLast }; isLast if the text ends within it or without a line break. */
function* iterRows(text, delimiter) {
  let place = 0;
  let cells = [];
  while (place < text.length) {
    const cell = text[place] === '"' ? quotedCell(text, place) : { value: "", next: place };
    const end = endOfCell(text, cell.next, delimiter);
    cells.push(cell.value + text.slice(cell.next, end));
    place = end + 1;
    if (text[end] === delimiter) {
      if (place === text.length) {
        cells.push("");
      }
      continue;
    }
    if (text[end] === "\r" && text[place] === "\n") {
      place += 1;
    }
    yield { cells, isLast: end >= text.length };
    cells = [];
  }
  if (cells.length > 0) {
    yield { cells, isLast: true };
  }
}

/** The text in quotes that begins at `place`, and where the text after it begins. */
function quotedCell(text, place) {
  const parts = [];
  let from = place + 1;
  for (;;) {
    const end = text.indexOf('"', from);
    if (end === -1) {
      parts.push(text.slice(from));
      return { value: parts.join(""), next: text.length };
    }
    parts.push(text.slice(from, end));
    if (text[end + 1] !== '"') {
      return { value: parts.join(""), next: end + 1 };
    }
    parts.push('"');
    from = end + 2;
  }
}

function endOfCell(text, from, delimiter) {
  let end = from;
  while (end < text.length && text[end] !== delimiter && text[end] !== "\n" && text[end] !== "\r") {
    end += 1;
  }
  return end;
}

/** JSON with line breaks and indents; null if it is not JSON, or would be too long. Numbers and
    texts stay as they are in the file: a double would change large numbers. */
export function indentJson(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const parts = [];
  let depth = 0;
  let length = 0;
  const breakLine = () => `\n${"  ".repeat(Math.min(depth, DEEPEST))}`;
  for (const [token] of text.matchAll(JSON_TOKEN)) {
    const part = indentToken(token, breakLine, (by) => {
      depth += by;
    });
    length += part.length;
    if (length > LONGEST) {
      return null;
    }
    parts.push(part);
  }
  return parts.join("");
}

function indentToken(token, breakLine, deepen) {
  if (token === "{" || token === "[") {
    deepen(1);
    return token + breakLine();
  }
  if (token === "}" || token === "]") {
    deepen(-1);
    return breakLine() + token;
  }
  if (token === ",") {
    return token + breakLine();
  }
  if (token === ":") {
    return ": ";
  }
  return /^[[{]\s/.test(token) ? token[0] + token.at(-1) : token;
}
