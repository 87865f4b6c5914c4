/* Highlights the matches of a query in the lines that are drawn. A text is searched at once; a
   regular expression in a worker, which is ended if it takes too long. */

import { makePattern, matchSpans } from "./find_text.js";
import { describeLine } from "./log_line.js";

const PATIENCE = 2000; // milliseconds for one batch of lines
const BATCH = 200; // lines

export class LogHighlights {
  /** `changed()` is called when the worker has found matches. */
  constructor(changed) {
    this.changed = changed;
    this.element = null; // contains the lines
    this.setQuery({ text: "", matchCase: false, isRegex: false });
  }

  setQuery(query) {
    this.query = query;
    this.spans = new WeakMap(); // line -> { text, spans } of this query
    this.isTooSlow = false;
    this.endWorker();
  }

  endWorker() {
    clearTimeout(this.timer);
    this.worker?.terminate();
    this.worker = null;
    this.pending = null; // the lines that the worker is searching
  }

  /** Highlights all matches in the lines of an element, those of one line in another colour. */
  draw(element, currentLine) {
    this.element = element;
    const all = [];
    const now = [];
    for (const [line, ranges] of this.findRanges(element)) {
      (line === currentLine ? now : all).push(...ranges);
    }
    CSS.highlights?.set("found", new Highlight(...all));
    CSS.highlights?.set("found-now", new Highlight(...now));
  }

  /** The lines that match, each with its ranges, in order. */
  findRanges(element) {
    const lines = this.query.text === "" ? [] : [...element.querySelectorAll(".line")];
    if (this.query.isRegex) {
      this.searchInWorker(lines);
    } else {
      this.searchNow(lines);
    }
    const found = lines.map((line) => [line, this.rangesOf(line)]);
    return found.filter(([, ranges]) => ranges.length > 0);
  }

  searchNow(lines) {
    const pattern = makePattern(this.query);
    for (const line of lines.filter((each) => !this.isKnown(each))) {
      const text = textOf(line);
      this.spans.set(line, { text, spans: matchSpans(text, pattern) });
    }
  }

  isKnown(line) {
    return this.spans.get(line)?.text === textOf(line);
  }

  searchInWorker(lines) {
    if (this.pending || this.isTooSlow) {
      return;
    }
    const unknown = lines.filter((line) => !this.isKnown(line)).slice(-BATCH);
    if (unknown.length === 0) {
      return;
    }
    const texts = unknown.map(textOf);
    this.pending = { lines: unknown, texts };
    this.worker ??= this.startWorker();
    this.worker.postMessage({ query: this.query, texts });
    this.timer = setTimeout(() => this.giveUp(), PATIENCE);
  }

  startWorker() {
    const worker = new Worker(new URL("log_match_worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }) => {
      if (worker === this.worker) {
        this.onSpans(data);
      }
    });
    return worker;
  }

  giveUp() {
    this.isTooSlow = true; // the matching lines are still known, from the API
    this.endWorker();
  }

  onSpans(spans) {
    clearTimeout(this.timer);
    const { lines, texts } = this.pending;
    lines.forEach((line, index) => {
      this.spans.set(line, { text: texts[index], spans: spans[index] });
    });
    this.pending = null;
    this.changed();
  }

  rangesOf(line) {
    const spans = this.spans.get(line)?.spans ?? [];
    return spans.length > 0 ? makeRanges(line.querySelector("span"), spans) : [];
  }

  /** Scrolls sideways, to the first match of a line that is not wrapped. */
  scrollAcross(element, line) {
    const place = this.rangesOf(line)[0]?.getBoundingClientRect();
    const frame = element.getBoundingClientRect();
    if (place && (place.right > frame.right || place.left < frame.left)) {
      element.scrollLeft += place.left - frame.left - frame.width / 2;
    }
  }
}

/** The text of a line, without its time and its buttons. */
function textOf(line) {
  return line.querySelector("span").textContent;
}

/** A line as the API describes a match. */
export function rowOf(line) {
  const { offset, number } = describeLine(line);
  return { offset, line: number, text: textOf(line) };
}

/** The ranges of some spans of a node's text. Colours divide the text into several nodes. */
function makeRanges(node, spans) {
  const walk = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  const texts = [];
  let length = 0;
  while (walk.nextNode()) {
    texts.push({ node: walk.currentNode, begin: length });
    length += walk.currentNode.length;
  }
  const place = (offset, isEnd) =>
    texts.findLast(({ begin }) => (isEnd ? begin < offset : begin <= offset));
  return spans.map(([begin, end]) => {
    const first = place(begin, false);
    const last = place(end, true);
    const range = new Range();
    range.setStart(first.node, begin - first.begin);
    range.setEnd(last.node, end - last.begin);
    return range;
  });
}
