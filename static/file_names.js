/* What the names of a job's files mean: how each file is shown, and how the page's address names it.
   Pure. */

import { formatBytes, formatCount, formatMoment } from "./format.js";

const IMAGES = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  avif: "image/avif",
  bmp: "image/bmp",
  ico: "image/x-icon",
};
const VIEWS = {
  svg: "svg",
  html: "html",
  htm: "html",
  md: "markdown",
  markdown: "markdown",
  csv: "table",
  tsv: "table",
  json: "json",
  geojson: "json",
};
const TEXT = new Set(
  (
    "txt text log out err diff patch xml yaml yml toml ini cfg conf env properties jsonl ndjson rst " +
    "adoc tex sql py pyi js mjs cjs ts tsx jsx css scss sh bash zsh fish ps1 bat rb php pl lua r jl " +
    "java kt scala groovy gradle go rs c h cc cpp hpp cs swift m dart ex exs erl hs clj tf hcl proto " +
    "graphql lock srt vtt ics vcf tap lcov info"
  ).split(" "),
);
const TEXT_NAMES = new Set(
  "makefile dockerfile jenkinsfile procfile license readme changelog authors version".split(" "),
);
// Control characters, and those that change the direction of the text after them: a name could pose
// as another.
const INVISIBLE = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** The name after the last folder of a path. */
export function baseName(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

function extension(path) {
  const [, found = ""] = /.\.([^.]+)$/.exec(baseName(path)) ?? [];
  return found.toLowerCase();
}

/** How a file is shown: "image", "svg", "html", "markdown", "table", "json" or "text"; "" if it is
    only downloaded. */
export function viewOf(path) {
  const ending = extension(path);
  if (Object.hasOwn(IMAGES, ending)) {
    return "image";
  }
  if (Object.hasOwn(VIEWS, ending)) {
    return VIEWS[ending];
  }
  return TEXT.has(ending) || TEXT_NAMES.has(baseName(path).toLowerCase()) ? "text" : "";
}

/** The media type of an image; never one that a browser shows as a page. */
export function imageType(path) {
  return IMAGES[extension(path)];
}

/** A name without characters that are invisible or change the direction of the text. */
export function visibleName(name) {
  return name.replace(INVISIBLE, "\ufffd");
}

/** How the page's address names a file: its path, or the encoded one if the path is not text. */
export function addressOfFile(entry, jobId) {
  return entry.path.includes("\ufffd") ? entry.url.slice(filesUrl(jobId).length) : entry.path;
}

/** The entry that the address names; undefined if the list has no such file. */
export function findEntry(entries, file, jobId) {
  const url = filesUrl(jobId) + file;
  const found = entries.find(({ path }) => path === file) ?? entries.find((it) => it.url === url);
  return found?.kind === "file" ? found : undefined;
}

/** An entry for a path that the list is too short for; undefined if it is not a path of a file. */
export function unlistedEntry(file, jobId) {
  const names = file.split("/");
  if (names.some((name) => ["", ".", ".."].includes(name))) {
    return undefined; // the browser would request another URL
  }
  try {
    const url = filesUrl(jobId) + names.map(encodeURIComponent).join("/");
    return { path: file, url, kind: "file", size: null, modified: null };
  } catch {
    return undefined; // half of a surrogate pair
  }
}

function filesUrl(jobId) {
  return `/jobs/${encodeURIComponent(jobId)}/files/`;
}

/** "Files 3 · 12 KiB". Folders are not counted: their files have them in their paths. */
export function countText(entries, isComplete) {
  const bytes = entries.reduce((sum, { size }) => sum + (size ?? 0), 0);
  const count = formatCount(entries.length);
  return isComplete
    ? `Files ${count} · ${formatBytes(bytes)}`
    : `The first ${count} files · ${formatBytes(bytes)}`;
}

/** The tooltip of a file: "report.html, 12.0 KiB, today 08:50:15, 2 min ago". */
export function describeEntry(entry, now) {
  const parts = [visibleName(entry.path), entry.kind === "file" ? "" : entry.kind];
  if (entry.size !== null) {
    parts.push(formatBytes(entry.size));
  }
  if (entry.modified) {
    parts.push(formatMoment(Date.parse(entry.modified), now));
  }
  return parts.filter(Boolean).join(", ");
}
