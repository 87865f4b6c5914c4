/* Where the reader of a log is: whether the view follows the end, which lines are visible, and how
   to get to a line. log_view.js extends it with the lines. */

const NEAR = 600; // pixels from either end at which more lines are fetched

export class LogScroll {
  /** `handlers`: nearStart(), nearEnd(), scrolled(), and unfold(node) before a hidden line is
      shown. */
  constructor(element, handlers) {
    this.element = element;
    this.handlers = handlers;
    this.resetScroll();
    element.addEventListener("scroll", () => this.onScroll());
    new ResizeObserver(() => this.keepEnd()).observe(element);
  }

  resetScroll() {
    this.following = true;
    this.previousEnd = 0; // scroll position when the end was last visible
  }

  get lines() {
    return this.element.children;
  }

  onScroll() {
    this.updateFollowing();
    this.checkEnds();
    this.handlers.scrolled();
  }

  /** Asks for more lines if the reader is near those that are loaded first or last. */
  checkEnds() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    if (scrollTop < NEAR && this.hasAllAbove) {
      this.handlers.nearStart();
    }
    if (scrollHeight - scrollTop - clientHeight < NEAR) {
      this.handlers.nearEnd();
    }
  }

  /** Updates `following`: the view follows the end until the reader scrolls up, and again from the
      end. */
  updateFollowing() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const atEnd = scrollHeight - scrollTop - clientHeight < 3;
    this.following =
      this.canFollow && (atEnd || (this.following && scrollTop > this.previousEnd - 3));
    if (atEnd) {
      this.previousEnd = scrollTop;
    }
  }

  /** Keeps the end visible when the height of the view changes. */
  keepEnd() {
    if (this.following) {
      this.element.scrollTop = this.element.scrollHeight;
      this.previousEnd = this.element.scrollTop;
    }
  }

  followEnd() {
    this.following = true;
    this.scrollToEnd();
  }

  scrollToEnd() {
    if (this.following) {
      this.element.scrollTop = this.element.scrollHeight;
    }
    this.updateFollowing();
  }

  /** Scrolls a line into the middle. */
  scrollToLine(node) {
    if (node.classList.contains("folded")) {
      this.handlers.unfold(node);
    }
    this.leaveEnd();
    const { clientHeight } = this.element;
    this.element.scrollTop = node.offsetTop - clientHeight / 2 + node.offsetHeight / 2;
    this.updateFollowing();
  }

  /** Is any part of a line visible? False for null. */
  isVisible(node) {
    const top = this.element.scrollTop;
    const bottom = top + this.element.clientHeight;
    return node !== null && node.offsetTop + node.offsetHeight > top && node.offsetTop < bottom;
  }

  /** Moves a class to one line; null removes it from all lines. */
  moveMark(name, line) {
    for (const other of this.element.querySelectorAll(`.${name}`)) {
      other.classList.remove(name);
    }
    line?.classList.add(name);
  }

  /** Stops following, as if the reader had scrolled up. */
  leaveEnd() {
    this.following = false;
    this.previousEnd = Infinity;
  }

  /** The line with the byte at an offset; undefined if all lines in the view begin after it. */
  lineAt(offset) {
    const known = [...this.lines].filter((node) => node.dataset.offset !== undefined);
    return known.filter((node) => Number(node.dataset.offset) <= offset).at(-1);
  }

  /** The line that begins at an offset; null if it is not in the view. */
  nodeAt(offset) {
    return this.element.querySelector(`[data-offset="${Number(offset)}"]`);
  }

  hasOffset(offset) {
    return this.nodeAt(offset) !== null;
  }

  /** The offset of the line in the visible middle; 0 if it is not known. */
  get middleOffset() {
    const { scrollTop, clientHeight } = this.element;
    const line = lineAtHeight(this.lines, scrollTop + clientHeight / 2);
    return Number(line?.dataset.offset ?? 0);
  }

  /** Changes the layout of the lines and keeps the scroll position at the line on top. */
  keepPlace(change) {
    const top = this.element.scrollTop;
    const isOnTop = (node) => node.offsetTop + node.offsetHeight > top;
    const line = this.following ? undefined : [...this.lines].find(isOnTop);
    const above = line ? line.offsetTop - top : 0;
    change();
    if (line && !this.following) {
      this.element.scrollTop = line.offsetTop - above;
    }
    this.scrollToEnd();
  }

  /** Changes the layout of the lines and keeps one of them at the same height in the view. */
  keepLine(node, change) {
    const above = node.offsetTop - this.element.scrollTop;
    change();
    this.scrollLineTo(node, above);
  }

  /** Scrolls a line to a height in the view, in pixels. */
  scrollLineTo(node, height) {
    this.leaveEnd();
    this.element.scrollTop = node.offsetTop - height;
    this.updateFollowing();
  }

  /** The first and the last visible line. */
  get visible() {
    const top = this.element.scrollTop;
    const bottom = top + this.element.clientHeight;
    return [lineAtHeight(this.lines, top), lineAtHeight(this.lines, bottom)];
  }
}

/** The line at a height, by binary search, since there can be thousands of lines. */
function lineAtHeight(lines, height) {
  let low = 0;
  let high = lines.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (lines[middle].offsetTop <= height) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return lines[low];
}
