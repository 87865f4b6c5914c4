/* Colours and styles of a log's text as HTML: ansi_up, which reads the escape sequences, with what it
   lacks: inverse, strike, links, and colours that are readable in either theme. Pure. */

import { escapeHtml } from "./format.js";
import { linkedHtml, linkHtml, splitLinks } from "./log_links.js";
import { cleanLine } from "./log_text.js";
import { AnsiUp } from "./vendor/ansi_up.js";

const STYLES = ["bold", "faint", "italic", "underline", "strike", "inverse"];
// Relative luminance (WCAG) with which a colour has a contrast of 4.5 to the view's background.
const MOST_ON_LIGHT = 0.15;
const LEAST_ON_DARK = 0.3;

/** Remembers the colours from one line to the next, like a terminal. */
export class LogAnsi extends AnsiUp {
  constructor() {
    super();
    this.inverse = false;
    this.strike = false;
    this.isInLink = false;
  }

  /** A line, with its escape sequences, as HTML. Its text is escaped. */
  lineHtml(line) {
    let html = "";
    for (const [url, text] of splitLinks(line)) {
      this.isInLink = url !== "";
      const part = this.ansi_to_html(cleanLine(text));
      html += url ? linkHtml(url, part) : part;
    }
    return html;
  }

  process_ansi(packet) {
    super.process_ansi(packet);
    for (const code of styleCodes(packet.text)) {
      if (code === 0) {
        this.inverse = false;
        this.strike = false;
      } else if (code === 7 || code === 27) {
        this.inverse = code === 7;
      } else if (code === 9 || code === 29) {
        this.strike = code === 9;
      }
    }
  }

  with_state(packet) {
    const { inverse, strike } = this;
    return { ...super.with_state(packet), inverse, strike };
  }

  transform_to_html(fragment) {
    const html = this.isInLink ? escapeHtml(fragment.text) : linkedHtml(fragment.text);
    const { fg, bg } = fragment;
    const classes = STYLES.filter((style) => fragment[style]).map((style) => `ansi-${style}`);
    const styles = [];
    if (fg) {
      classes.push(`${colourName(fg)}-fg`);
      styles.push(...(isNamed(fg) ? [] : readableColours(fg.rgb)));
    }
    if (bg) {
      classes.push(`${colourName(bg)}-bg`);
      styles.push(...(isNamed(bg) ? [] : [`--hue:rgb(${bg.rgb.join()})`]));
    }
    if (classes.length === 0 || html === "") {
      return html;
    }
    const style = styles.length > 0 ? ` style="${styles.join(";")}"` : "";
    return `<span class="${classes.join(" ")}"${style}>${html}</span>`;
  }
}

/** The codes of an SGR sequence, without those that are part of a colour: 38;5;7 is not inverse. */
function styleCodes(text) {
  const codes = text.split(";").map((code) => Number.parseInt(code, 10) || 0);
  const found = [];
  for (let index = 0; index < codes.length; index += 1) {
    if (codes[index] === 38 || codes[index] === 48) {
      index += { 5: 2, 2: 4 }[codes[index + 1]] ?? 0;
    } else {
      found.push(codes[index]);
    }
  }
  return found;
}

function isNamed(colour) {
  return colour.class_name !== "truecolor";
}

function colourName(colour) {
  return isNamed(colour) ? colour.class_name : "ansi-true";
}

/** The colour for each theme, darker or lighter if it is needed to read it. */
function readableColours(rgb) {
  const linear = rgb.map((value) => linearOf(value / 255));
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  const darker = Math.min(1, MOST_ON_LIGHT / luminance);
  const lighter = Math.max(0, (LEAST_ON_DARK - luminance) / (1 - luminance));
  return [
    `--on-light:${rgbOf(linear.map((value) => value * darker))}`,
    `--on-dark:${rgbOf(linear.map((value) => value + (1 - value) * lighter))}`,
  ];
}

function linearOf(value) {
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
}

function rgbOf(linear) {
  const values = linear.map((value) =>
    value <= 0.0031308 ? value * 12.92 : 1.055 * value ** (1 / 2.4) - 0.055,
  );
  return `rgb(${values.map((value) => Math.round(value * 255)).join()})`;
}
