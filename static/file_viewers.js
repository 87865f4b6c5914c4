/* Draws the content of a file, by its kind (see `viewOf`). Everything that a job has written becomes
   text nodes, an image, or a frame without rights: never HTML of this page. */

import { makeFrame, makeSvgFrame } from "./file_frame.js";
import { baseName, imageType, visibleName } from "./file_names.js";
import { FileProblem, fetchBytes } from "./file_source.js";
import { makeTable } from "./file_table.js";
import {
  decodeHtml,
  decodeTable,
  decodeText,
  indentJson,
  parseTable,
  TABLE_COLUMNS,
} from "./file_text.js";
import { formatBytes, formatCount } from "./format.js";

const TEXT_BYTES = 1 << 20; // of text, tables, JSON and Markdown
const PAGE_BYTES = 8 << 20; // of HTML and SVG
const IMAGE_BYTES = 64 << 20;
const NO_SCRIPTS = "Shown without its scripts. Download it to see all of it.";
const ALONE =
  "Shown without its scripts and without other files. Download it, or all files, to see all of it.";
const VIEWERS = {
  image: drawImage,
  svg: drawSvg,
  html: drawHtml,
  markdown: drawMarkdown,
  table: drawTable,
  json: drawJson,
  text: drawText,
};

/** What is shown of a file: { node, said, close }. `said` is a sentence or ""; `close` releases what
    the node holds. FileProblem, also for an empty file; AbortError. */
export async function drawFile(kind, entry, signal) {
  const read = async (limit, parameters = {}) => {
    const part = await fetchBytes(entry.url, parameters, limit, signal);
    if (part.bytes.length === 0) {
      throw new FileProblem("This file is empty.");
    }
    return part;
  };
  return { close() {}, said: "", ...(await VIEWERS[kind](read, entry)) };
}

async function drawText(read, { size }) {
  const { bytes, isCut } = await read(TEXT_BYTES);
  return textShown(decodeText(bytes, isCut), cutText(isCut, size));
}

function textShown(text, said = "") {
  const node = document.createElement("pre");
  node.className = "file-text";
  node.textContent = text;
  return { node, said };
}

function cutText(isCut, size) {
  const whole = size ? ` of ${formatBytes(size)}` : "";
  return isCut ? `The first ${formatBytes(TEXT_BYTES)}${whole}. Download it to see all of it.` : "";
}

async function drawTable(read, { size }) {
  const { bytes, isCut } = await read(TEXT_BYTES);
  const { text, isWindows } = decodeTable(bytes, isCut);
  const { rows, hasMoreRows, hasMoreColumns } = parseTable(text, isCut);
  if (rows.length === 0) {
    return textShown(text, cutText(isCut, size)); // its first row is longer than what was read
  }
  const parts = [
    hasMoreRows ? `the first ${formatCount(rows.length)} rows` : "",
    hasMoreColumns ? `the first ${TABLE_COLUMNS} columns` : "",
  ].filter(Boolean);
  const words = parts.join(" and ");
  const cut = words && `T${words.slice(1)}. Download it to see all of it.`;
  const said = [isWindows ? "Not UTF-8, so it is read as Windows-1252." : "", cut];
  return { node: makeTable(rows), said: said.filter(Boolean).join(" ") };
}

async function drawJson(read, { size }) {
  const { bytes, isCut } = await read(TEXT_BYTES);
  const text = decodeText(bytes, isCut);
  if (isCut) {
    return textShown(text, cutText(isCut, size));
  }
  const indented = indentJson(text);
  return textShown(indented ?? text, indented === null ? "Shown as it is in the file." : "");
}

async function drawMarkdown(read, entry) {
  if (entry.size > TEXT_BYTES) {
    return drawText(read, entry); // the API renders no more than that
  }
  const { bytes } = await read(PAGE_BYTES, { render: 1 });
  const node = await makeFrame(decodeHtml(bytes), baseName(entry.path));
  node.className = "file-frame rendered";
  return { node };
}

async function drawHtml(read, entry) {
  const html = decodeHtml(await readWhole(read, PAGE_BYTES));
  const node = await makeFrame(html, baseName(entry.path));
  node.className = "file-frame";
  return { node, said: ALONE };
}

async function drawSvg(read, entry) {
  const node = await makeSvgFrame(await readWhole(read, PAGE_BYTES), baseName(entry.path));
  node.className = "file-frame chequered";
  return { node, said: NO_SCRIPTS };
}

async function readWhole(read, limit) {
  const { bytes, isCut } = await read(limit);
  if (isCut) {
    throw new FileProblem(`Larger than ${formatBytes(limit)}. Download it to see it.`);
  }
  return bytes;
}

async function drawImage(read, { path }) {
  const bytes = await readWhole(read, IMAGE_BYTES);
  const url = URL.createObjectURL(new Blob([bytes], { type: imageType(path) }));
  const node = document.createElement("img");
  node.className = "file-image chequered";
  node.alt = visibleName(baseName(path));
  node.src = url;
  try {
    await node.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new FileProblem("The browser cannot show this image. Download it to see it.");
  }
  const said = `${formatCount(node.naturalWidth)} × ${formatCount(node.naturalHeight)}`;
  return { node, said, close: () => URL.revokeObjectURL(url) };
}
