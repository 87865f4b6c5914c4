"""The page: run a job, watch its log, see what ran when. `streamlit run dashboard.py`

It knows the API's address and nothing else of ours. List and log are one fragment that a timer in
the browser reruns; the log pane also follows the API's event stream, where the browser reaches it.
In this file: asking the API, what decides (no Streamlit there), what runs in the browser, the page.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import requests
import streamlit as st

API = os.environ.get("TAILBOARD_API", "http://127.0.0.1:5000").rstrip("/")
PUBLIC_API = os.environ.get("TAILBOARD_PUBLIC_API", API).rstrip("/")  # as the browser reaches it
TIMEOUT = (2, 5)  # seconds to connect, to answer
PANE_BYTES = 256 << 10  # of a log, to every viewer at every refresh
INTERVALS = {"off": None, "1 s": 1, "5 s": 5, "10 s": 10}  # seconds
STATUS = {  # icon, colour
    "queued": ("◌", "#7d808a"), "running": ("▶", "#2f7de1"), "succeeded": ("✓", "#1f9254"),
    "failed": ("✕", "#d93843"), "cancelled": ("⊘", "#a8700f"), "timed_out": ("!", "#d9540b"),
    "lost": ("?", "#8250df"),
}  # fmt: skip
Job = dict[str, Any]  # as the API sends it
FORM: Job = {"command": "", "name": "", "cwd": "", "timeout": None}  # with nothing filled in
FORM |= {"env": {}, "retries": 0, "queue": "default"}
LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)  # a Host


class ApiError(Exception):
    """What went wrong, as a sentence for the visitor."""


@dataclass
class View:
    """What a visitor looks at, in one tab of a browser, and how it is asked for."""

    token: str = ""
    foreign: bool = False  # opened from another machine, or through a proxy
    refused: int = 0  # the API's 401 if it wants a token and this is not it, 403 if it has none
    listing: dict[str, Any] = field(default_factory=lambda: {"jobs": [], "counts": {}, "next": ""})
    job: Job | None = None  # the chosen one
    log: dict[str, Any] = field(default_factory=dict)
    problem: str = ""  # with the last refresh, which then shows what was there before
    watched: set[str] = field(default_factory=set)  # jobs whose end is worth a toast
    kept: dict[str, requests.Response] = field(default_factory=dict)  # for ETag and 304
    again: Job = field(default_factory=dict)  # the job that the form was filled from
    wrong: dict[str, str] = field(default_factory=dict)  # field of the form -> sentence

    def ask(self, method: str, path: str, keep: str = "", json: Any = None) -> requests.Response:
        """The API's answer, or ApiError. One kept under a name is sent only if it has changed."""
        kept, headers = self.kept.get(keep), {"Authorization": f"Bearer {self.token}".encode()}
        if kept is not None and kept.url == API + path:
            headers["If-None-Match"] = kept.headers.get("ETag", "").encode()
        if self.foreign:  # whom the API refuses if it has no token: it would run their commands
            headers["Forwarded"] = b"for=unknown"
        try:
            url = API + path
            answer = requests.request(method, url, json=json, headers=headers, timeout=TIMEOUT)
        except (requests.RequestException, ValueError):
            raise ApiError(f"The API at {API} does not answer. Trying again by itself.") from None
        if answer.status_code == 304 and kept is not None:
            return kept
        if answer.status_code in (401, 403):
            self.refused = answer.status_code
        if not answer.ok:
            raise ApiError(body(answer, "detail")["detail"])
        if keep:
            self.kept[keep] = answer
        return answer

    def refresh(self, address: Mapping[str, str], search: str, times: bool) -> None:
        """Get what is shown anew: one request for the list and one for the log."""
        self.problem, choice = "", address.get("job")
        if self.job and self.job["id"] != choice:
            self.job, self.log = None, {}
        filters = {"status": address.get("status"), "before": address.get("before"), "q": search}
        asked = urlencode({"limit": 200} | {name: text for name, text in filters.items() if text})
        try:
            self.listing = body(self.ask("GET", f"/jobs?{asked}", "list"), "jobs", "counts", "next")
            if choice:
                path = f"/jobs/{quote(choice, '')}"
                answer = self.ask("GET", f"{path}/logs?tail=1000&timestamps={times:d}", "log")
                text, about = answer.content[-PANE_BYTES:], answer.headers
                self.log = {"text": text.decode(errors="replace"), "times": times}
                self.log |= {"next": about.get("X-Log-Next"), "lines": about.get("X-Log-Lines")}
                self.job = next((j for j in self.listing["jobs"] if j["id"] == choice), self.job)
                if self.job is None or self.job["status"] != about.get("X-Job-Status"):
                    self.job = body(self.ask("GET", path), "id", "status")
        except ApiError as error:
            self.problem = str(error)


@st.cache_data(ttl=600, max_entries=1000, show_spinner=False)
def seldom(_view: View, token: str, path: str, method: str = "GET", period: Any = 0) -> Job:
    """An answer that all with this token share, for ten minutes or until `period` is another."""
    return body(_view.ask(method, path, json={} if method == "POST" else None))


def body(answer: requests.Response, *names: str) -> dict[str, Any]:
    """An answer's JSON object, which has these names; what is in `jobs` are jobs."""
    try:
        found: dict[str, Any] = answer.json()
        if not all(job["id"] and job["status"] for job in found.get("jobs", ())):
            raise ValueError
        return {name: found[name] for name in names} | found
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ApiError(f"What answers at {API} is not Tailboard's API.") from None


def ended(job: Job | None) -> bool:
    return job is not None and job["status"] not in ("queued", "running")


def interval(chosen: str, view: View) -> float | None:
    """Seconds between refreshes; None once the job shown has ended, unless something is wrong."""
    return None if ended(view.job) and not view.problem else INTERVALS[chosen]


def title(job: Job) -> str:
    """What a job is called: its name, else the first line of its command."""
    command = job.get("command") or ""
    line = command if isinstance(command, str) else shlex.join(map(str, command))
    return str(job.get("name") or line.strip().partition("\n")[0][:200] or job["id"])


def brief(job: Job) -> Job:
    """What the components show of a job: little, because every viewer gets it each time."""
    shown = "id status queue submitted_at started_at finished_at exit_code reason"
    return {name: job.get(name) for name in shown.split()} | {"title": title(job)}


def form_values(job: Job) -> dict[str, Any]:
    """The form filled from a job; {} gives an empty one."""
    values = FORM | {name: job[name] for name in FORM if job.get(name) is not None}
    if isinstance(values["command"], list):
        values["command"] = shlex.join(values["command"])
    return values | {"env": "\n".join(f"{name}={text}" for name, text in values["env"].items())}


def submission(values: Mapping[str, Any]) -> tuple[Job, dict[str, str]]:
    """The form's values as the body of POST /jobs, and what is wrong: field -> sentence."""
    asked = {name: value for name, value in values.items() if value not in (None, "")}
    wrong = {} if values["command"].strip() else {"command": "There is no command yet."}
    lines = [line.partition("=") for line in values["env"].splitlines() if line.strip()]
    if not all(name and equals for name, equals, _ in lines):
        wrong["env"] = "Each line must be NAME=value."
    return asked | {"env": {name: text for name, _, text in lines}}, wrong


def past(view: View, job: Job) -> list[Job]:
    """Earlier jobs of the same name that succeeded, oldest first."""
    query = f"/jobs?status=succeeded&limit=100&before={job['id']}&q={quote(title(job)[:200], '')}"
    found = map(brief, seldom(view, view.token, query)["jobs"])
    return [other for other in found if other["title"] == title(job)][19::-1]


def plain(text: str) -> str:
    """Text that Markdown leaves as it is: names of jobs come from anywhere."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


# What runs in the browser. Whatever comes from a job is escaped before anything else.

HELPERS = r"""const STATUS = $STATUS;
const esc = (text) => String(text ?? "").replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const put = (node, html) => { if (node.html !== html) node.innerHTML = node.html = html; };
const begun = (job) => Date.parse(job.started_at);
const until = (job) => Date.parse(job.finished_at) || Date.now();
const span = (ms, s = Math.max(0, ms / 1000), m = s / 60 | 0) => s < 10 ? s.toFixed(1) + " s" :
  m < 1 ? `${s | 0} s` : m < 60 ? `${m} min ${s % 60 | 0} s` : `${m / 60 | 0} h ${m % 60} min`;
const took = (job) => (job.started_at ? span(until(job) - begun(job)) : "");
const exit = (job) => (job.exit_code === null ? "" : `exit ${esc(job.exit_code)}`);
const badge = (status, [icon, colour] = STATUS[status] ?? STATUS.lost) =>
  `<span><i aria-hidden="true" style="background:${colour}">${icon}</i>` +
  `${esc(status.replace("_", " "))}</span>`;
""".replace("$STATUS", json.dumps(STATUS))
LIST_JS = r"""
const HOURS = 12, COLUMNS = 400;  // of the timeline
const TIME = { hour: "2-digit", minute: "2-digit" }, DAY = { day: "numeric", month: "short" };
const clock = (time) =>
  new Date(time).toLocaleString([], Date.now() - time < 72e6 ? TIME : { ...DAY, ...TIME });
const ago = (time) => span(Date.now() - time).replace(/\.\d|(?<=min|h) .*/, "") + " ago";
export default function ({ data, parentElement: root, setTriggerValue }) {
  const { jobs, counts, address, next } = data, $ = (name) => root.querySelector("." + name);
  const to = (change) => "?" + new URLSearchParams(  // the address of this view with a change
    Object.entries({ ...address, ...change }).filter((pair) => pair[1]));
  const link = (change, inner, more = "") => `<a href="${esc(to(change))}" ${more}>${inner}</a>`;
  $("list").onclick = (event) => {
    const a = event.target.closest("a");
    if (!a || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    setTriggerValue("go", a.search.slice(1));
  };
  counts[""] = Object.values(counts).reduce((sum, count) => sum + count, 0);
  put($("filters"), ["", ...Object.keys(STATUS)].map((status) => link({ status, before: "" },
    `${status ? badge(status) : "all"} <b>${esc(counts[status] ?? 0)}</b>`,
    `aria-current="${status === (address.status ?? "")}"`)).join(""));
  put($("pages"), (address.before ? link({ before: "" }, "Newest jobs") : "") +
    (next ? link({ before: next }, "Older jobs") : ""));
  const rows = $("rows"), draw = () => jobs.forEach((job, n) => {
    const time = Date.parse(job.started_at ?? job.submitted_at);
    const a = rows.querySelector(`[id="${CSS.escape(job.id)}"]`) ??  // which may have the focus
      rows.appendChild(document.createElement("li")).appendChild(document.createElement("a"));
    if (rows.children[n] !== a.parentNode) rows.insertBefore(a.parentNode, rows.children[n]);
    a.ariaCurrent = job.id === address.job;
    Object.assign(a, { id: job.id, href: to({ job: job.id }) });
    put(a, `${badge(job.status)}<b>${esc(job.title)}</b><span class="faint">${clock(time)},
      ${ago(time)}</span><span>${took(job)}</span><span>${exit(job)}</span>
      <span class="faint">${esc(job.queue)}</span>`);
  });
  for (draw(); rows.children.length > jobs.length; ) rows.lastChild.remove();
  $("empty").hidden = jobs.length;
  put($("timeline"), jobs.some((job) => job.started_at) ? timeline(jobs, link) : "");
  const lanes = getComputedStyle($("timeline")).gridTemplateRows.split(" ").length - 1;
  $("timeline").style.gridAutoRows = Math.max(4, Math.min(13, 120 / lanes)) + "px";
  clearInterval(root.timer);
  root.timer = setInterval(draw, 1000);
  return () => clearInterval(root.timer);
}
function timeline(jobs, link) {  // a grid, in which CSS gives each bar the first lane that is free
  const now = Date.now(), earliest = now - HOURS * 36e5;
  const ran = jobs.filter((job) => until(job) > earliest && job.started_at).reverse();
  const from = Math.max(earliest, Math.min(now - 6e4, ...ran.map(begun))), wide = now - from;
  const at = (time, last = COLUMNS) =>
    1 + Math.max(0, Math.min(last, Math.round((COLUMNS * (time - from)) / wide)));
  const bars = ran.map((job) => {
    const left = at(begun(job), COLUMNS - 1), right = Math.max(at(until(job)), left + 1);
    return link({ job: job.id }, "", `tabindex="-1" title="${esc(job.title)}, ${took(job)}"
      style="grid-column:${left}/${right};background:${(STATUS[job.status] ?? STATUS.lost)[1]}"`);
  });
  const step = 6e4 * ([1, 5, 15, 30, 60].find((minutes) => wide / minutes < 6 * 6e4) ?? 120);
  for (let time = Math.ceil(from / step) * step; time < now - wide / 12; time += step)
    bars.push(`<small style="grid-column:${at(time)}">${clock(time)}</small>`);
  return bars.join("");
}
"""
LIST_HTML = """<div class="list"><nav class="filters" aria-label="Status"></nav>
<div class="timeline" aria-hidden="true"></div><p class="empty faint">No jobs here yet: run one.</p>
<ul class="rows" aria-label="Jobs"></ul><nav class="pages" aria-label="Pages"></nav></div>"""
LOG_JS = r"""
const WINDOW = 2000, READING = 10000;  // lines kept; while somebody reads further up
const LINE = 20000, BACKLOG = 1e6;  // characters of a line; of what waits to be drawn
const STAMP = /^(\d{4}-\d\d-\d\dT[\d:.]+Z) /, CONTROL = /[\0-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;
const ESCAPE =  // any sequence but those for colours, which ansi_up would show in part
  /\x1b(?!\[[\d;]*m)(\[[0-?]*[ -/]*([@-~]|$)|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-Z\\^-~])?/g;
class Pane {
  constructor(root) {
    this.$ = (name) => root.querySelector("." + name);
    const on = (name, event, act) => this.$(name).addEventListener(event, act);
    this.view = this.$("view");
    on("view", "scroll", () => this.look());
    on("jump", "click", () => this.stick((this.follow = true)));
    on("wrap", "change", () => this.stick(this.view.classList.toggle("wrapped")));
    on("times", "change", (e) => this.component.setStateValue("times", e.target.checked));
    on("search", "input", () => this.find(0));
    on("search", "keydown", (e) => e.key === "Enter" && this.find(e.shiftKey ? -1 : 1));
    on("previous", "click", () => this.find(-1));
    on("following", "click", () => this.find(1));
  }
  close() { this.timer = clearInterval(this.timer); this.source?.close(); }
  clear(key) {
    this.source?.close();
    this.view.replaceChildren();
    Object.assign(this, { key, source: null, next: 0, count: 0, raw: "", pending: "",
      rest: null, follow: true, end: 0, match: 0 });
    this.ansi = Object.assign(new AnsiUp(), { use_classes: true });
  }
  update(component) {
    const { data } = (this.component = component), key = `${data.job.id} ${data.times}`;
    if (key !== this.key) this.clear(key);
    this.data = data;
    this.$("download").href = data.url + "&download=1";
    const behind = data.next > this.next, stands = this.stood === this.next;
    if (!this.live() || (behind && stands)) {
      this.source?.close();
      if (behind) this.merge(data);
      this.source = data.over ? null : this.stream(data);
    }
    this.stood = this.next;
    this.timer ??= setInterval(() => this.tell(), 1000);
    this.tell();
  }
  live() { return this.source?.readyState === EventSource.OPEN; }
  merge({ text, next }) {  // of the tail only what is new: a selection survives
    let at = 0, start = text.slice(0, 200);
    while (at >= 0 && !text.startsWith(this.raw.slice(at))) at = this.raw.indexOf(start, at + 1);
    if (at < 0) this.clear(this.key);
    this.append(text.slice(this.raw.length - Math.max(0, at)), next);
  }
  stream({ url, times }) {
    const source = new EventSource(`${url}&follow=1&timestamps=${+times}&offset=${this.next}`);
    source.onopen = source.onerror = () => this.tell();
    source.onmessage = ({ data, lastEventId }) => this.append(JSON.parse(data), lastEventId);
    source.addEventListener("end", () => {
      source.close();
      this.component.setTriggerValue("ended", true);
    });
    return source;
  }
  append(text, next) {
    this.next = Number(next);  // where it ends in the log, in bytes
    this.raw = (this.raw + text).slice(-BACKLOG);
    this.pending = (this.pending + text).slice(-BACKLOG);
    this.count += text.split("\n").length - 1;
    this.drawing ??= setTimeout(() => this.draw(), 16);
  }
  draw() {
    this.look();  // somebody may have scrolled up, and the event is still to come
    this.rest?.remove();
    const keep = this.follow ? WINDOW : READING, lines = this.pending.split("\n");
    Object.assign(this, { pending: lines.pop(), drawing: null });
    const html = lines.slice(-keep).map((line) => this.line(line)), style = { ...this.ansi };
    if (this.pending) html.push(this.line(this.pending));
    Object.assign(this.ansi, style);  // because a line that is not over will be drawn again
    this.view.insertAdjacentHTML("beforeend", html.join(""));
    this.rest = this.pending ? this.view.lastChild : null;
    while (this.view.childElementCount > keep) this.view.firstChild.remove();
    this.stick();
    this.tell();
    if (this.$("search").value) this.find(0);
  }
  line(raw) {
    const stamp = (this.data.times && raw.match(STAMP)?.[0]) || "", text = raw.slice(stamp.length);
    const last = text.replace(/\r+$/, "").replace(/^[^]*\r/, "");  // of a progress bar
    const kept = last.slice(0, LINE).replace(ESCAPE, "").replace(CONTROL, "");
    const more = last.length > LINE ? ` <u>… ${last.length - LINE} more characters</u>` : "";
    const time = stamp && `<time>${new Date(stamp.trim()).toTimeString().slice(0, 8)}</time>`;
    return `<div>${time}<span>${this.ansi.ansi_to_html(kept)}${more}</span></div>`;
  }
  look() {  // does the pane follow? Until somebody scrolls up, and from the end on again
    const { scrollTop, scrollHeight, clientHeight } = this.view;
    const ended = scrollHeight - scrollTop - clientHeight < 3;
    this.follow = ended || (this.follow && scrollTop > this.end - 3);
    if (ended) this.end = scrollTop;
    this.$("jump").hidden = this.follow;
  }
  stick() {
    if (this.follow) this.view.scrollTop = this.view.scrollHeight;
    this.look();
  }
  tell() {
    const { data, count } = this, { job } = data;
    const past = data.past.map((other) => until(other) - begun(other)), most = Math.max(...past);
    const bars = past.map((ms) => `<u style="height:${(100 * ms) / most}%"></u>`).join("");
    const usual = span(past.toSorted((a, b) => a - b)[past.length >> 1]);
    put(this.$("head"), `${badge(job.status)}<b>${esc(job.title)}</b><span>${took(job)}</span>` +
      (bars && `<span class="faint">usually takes ${usual}</span><s>${bars}</s>`) +
      `<span>${exit(job)}</span><span class="faint">${esc(job.reason)}</span>`);
    put(this.$("mark"), data.over ? "complete" : this.live() ? "live" :
      data.every ? `every ${data.every} s` : "paused");
    const shown = this.view.childElementCount, all = Math.max(count, data.lines);
    const [some, every] = [shown, all].map((number) => number.toLocaleString());
    put(this.$("size"), all > shown ? `last ${some} of ${every} lines` :
      shown ? `${some} lines` : "nothing written yet");
  }
  find(step) {
    const wanted = this.$("search").value.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"), found = [];
    const walk = document.createTreeWalker(this.view, NodeFilter.SHOW_TEXT);
    while (wanted && walk.nextNode())
      for (const { index, 0: hit } of walk.currentNode.data.matchAll(new RegExp(wanted, "gi"))) {
        const range = found[found.push(new Range()) - 1];
        range.setStart(walk.currentNode, index);
        range.setEnd(walk.currentNode, index + hit.length);
      }
    const match = (this.match = found.length && (this.match + step + found.length) % found.length);
    const now = found.slice(match, match + 1), top = (it) => it.getBoundingClientRect().top;
    CSS.highlights?.set("found", new Highlight(...found)).set("found-now", new Highlight(...now));
    put(this.$("found"), wanted && `${now.length && match + 1} of ${found.length}`);
    if (step && now.length)
      this.view.scrollTop += top(now[0]) - top(this.view) - this.view.clientHeight / 2;
  }
}
export default function (component) {
  const root = component.parentElement, pane = (root.pane ??= new Pane(root));
  pane.update(component);
  return () => pane.close();
}
"""
LOG_HTML = """<div class="bar head"></div><div class="bar"><span class="mark" role="status"></span>
<input class="search" type="search" placeholder="Find in log" aria-label="Find in log">
<button class="previous" aria-label="Previous match">↑</button>
<button class="following" aria-label="Next match">↓</button><span class="found" role="status">
</span><label><input class="wrap" type="checkbox" checked>Wrap</label>
<label><input class="times" type="checkbox">Times</label></div>
<div class="view wrapped" role="log" aria-label="Log" tabindex="0"></div>
<div class="bar"><span class="size faint"></span><a class="download" download>Download the whole</a>
<button class="jump" hidden>Jump to latest</button></div>"""
CSS = """* { box-sizing: border-box; font-family: inherit; } a { color: inherit; }
:host { container-type: inline-size; display: block; font-size: 14px; }
:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
i { display: inline-block; width: 18px; border-radius: 9px; color: white; text-align: center;
  font: bold 11px/18px sans-serif; margin-right: 6px; }
.faint { opacity: 0.7; } [hidden] { display: none !important; }
nav { display: flex; flex-wrap: wrap; gap: 2px; margin: 0 0 10px; }
.list a { text-decoration: none; } nav a { padding: 3px 8px; border-radius: 14px; }
.list :is(a:hover, [aria-current="true"]) { background: var(--st-secondary-background-color); }
.timeline { display: grid; grid: 20px / repeat(400, minmax(0, 1fr)); grid-auto-flow: dense;
  row-gap: 1px; overflow: hidden; margin-bottom: 8px; }
.timeline::before { content: ""; grid-area: 1 / 1 / 2 / -1; }  /* no bar where the times are */
.timeline a { min-width: 3px; border-right: 1px solid var(--st-background-color); }
.timeline small { grid-row: 1; border-left: 1px solid; padding-left: 3px; white-space: nowrap; }
.rows { list-style: none; margin: 0; padding: 0; max-height: 64vh; overflow: auto; }
.rows a { display: grid; grid-template-columns: 7em 1fr 12em 7em 4.5em 6em; gap: 2px 10px;
  padding: 6px 8px; border-bottom: 1px solid var(--st-border-color); }
.rows [aria-current="true"] { box-shadow: inset 3px 0 var(--st-primary-color); }
.rows a > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
@container (max-width: 640px) { .rows a { grid-template-columns: 7em auto auto auto 1fr; }
  .rows b { grid-column: 2 / 6; } .rows :nth-child(3) { grid-column: 1 / 3; } }
.bar { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; margin: 6px 0; }
.bar b { font-size: 17px; overflow-wrap: anywhere; }
s { display: flex; align-items: end; gap: 1px; height: 18px; }
s u { width: 4px; min-height: 1px; background: currentColor; opacity: 0.5; }
button, .search { font-size: inherit; color: inherit; background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: 6px; padding: 3px 9px; }
.search { flex: 1; min-width: 6em; max-width: 14em; }
.mark { font-weight: 600; padding: 1px 9px; border: 1px solid; border-radius: 10px; }
.view { height: 58vh; overflow: auto; padding: 8px 10px; border-radius: 8px; white-space: pre;
  background: var(--st-secondary-background-color); font: 13px/1.5 var(--st-code-font); }
.view div { display: flex; min-height: 1.5em; }
.wrapped { white-space: pre-wrap; overflow-wrap: anywhere; }
time { flex: none; margin-right: 12px; opacity: 0.6; user-select: none; }
::highlight(found) { background: #fbd03a; color: black; }
::highlight(found-now) { background: #ff8c1a; color: black; }
"""
CYAN = "color-mix(in srgb, var(--st-blue-text-color), var(--st-green-text-color))"
HUES = {"bright-black": "gray-text", "magenta": "violet-text", "white": "text"}  # Streamlit's word
for name in "bright-black red green yellow blue magenta cyan white".split():  # ansi_up's
    hue = f"var(--st-{HUES.get(name, name + '-text')}-color, {CYAN})"
    CSS += f"[class*={name}-fg] {{ color: {hue}; }}\n"
    CSS += f"[class*={name}-bg] {{ background: color-mix(in srgb, {hue} 25%, transparent); }}\n"
PAGE_CSS = """<style>.stMainBlockContainer { padding: 4.25rem 2rem 1rem; }
@media (max-width: 640px) {
  .st-key-panes .stHorizontalBlock:has(> .stColumn) { flex-direction: column-reverse; } }
</style>"""
ANSI_UP = Path(__file__).with_name(".streamlit") / "ansi_up.js"
ANSI_JS = ANSI_UP.read_text().replace("export ", "")  # a module that is part of another
component = st.components.v2.component
job_list = component("jobs", html=LIST_HTML, css=CSS, js=HELPERS + LIST_JS)
log_pane = component("log", html=LOG_HTML, css=CSS, js=ANSI_JS + HELPERS + LOG_JS)


def run_form(view: View) -> None:
    """The form; what is wrong is said at the field."""

    def entry(name: str, widget: Callable[..., Any], label: str, **options: Any) -> None:
        widget(label, key=name, **options)
        if name in view.wrong:
            st.error(plain(view.wrong[name]))

    for name, value in form_values({}).items():
        st.session_state.setdefault(name, value)
    with st.form("run", border=False):
        entry("command", st.text_area, "Command", placeholder="python train.py")
        entry("name", st.text_input, "Name")
        entry("cwd", st.text_input, "Working folder", placeholder="/absolute/path")
        entry("timeout", st.number_input, "Timeout (s)", min_value=0.0, step=1.0, format="%g")
        with st.expander("More", expanded=not view.wrong.keys().isdisjoint([*FORM][4:])):
            entry("env", st.text_area, "Environment", placeholder="NAME=value")
            entry("retries", st.number_input, "Retries", min_value=0, step=1)
            entry("queue", st.text_input, "Queue")
        st.form_submit_button("Run job", type="primary", on_click=submit, args=(view,))
        if "" in view.wrong:
            st.error(plain(view.wrong[""]))


def submit(view: View) -> None:
    """Submit what the form holds and show that job; else keep it and say what is wrong."""
    asked, view.wrong = submission({name: st.session_state[name] for name in FORM})
    if view.wrong:
        return
    path = "/jobs"
    if view.again and submission(form_values(view.again))[0] == asked:  # known as its rerun
        path, asked = f"/jobs/{view.again['id']}/rerun", {}
    try:
        st.query_params["job"] = body(view.ask("POST", path, json=asked), "id")["id"]
        fill(view, {})
    except ApiError as error:
        name = str(error).partition(" ")[0]
        view.wrong = {name if name in FORM else "": str(error)}


def fill(view: View, job: Job) -> None:
    view.again, view.wrong = job, {}
    st.session_state.update(form_values(job))


def act(view: View, method: str, path: str) -> None:
    try:
        view.ask(method, path, json={})
        if method == "DELETE":
            del st.query_params["job"]
    except ApiError as error:
        st.toast(plain(str(error)))


def show_workers(view: View) -> None:
    """Who works; a warning if nobody does although jobs wait."""
    counts = view.listing["counts"]
    period = time.time() // 10, counts.get("running")  # at once when they are more or less busy
    answer = seldom(view, view.token, "/workers", period=period)
    found = answer["workers"]
    if not found and (waiting := counts.get("queued")):
        st.warning(f"Waiting jobs: {waiting}. No worker is running: start one, `python worker.py`.")
    each = (f"{w['name']} {w['running']} of {w['slots']} slots busy" for w in found)
    st.caption(f"Workers: {plain(', '.join(each)) or 'none'}")
    if machines := answer.get("machines"):
        st.caption(plain(machines_summary(machines, answer["storage"])))


def machines_summary(machines: list[Job], storage: Job) -> str:
    """All machines in a line, with when a silent one was heard of last, and Redis' memory."""
    parts = []
    for machine in machines:
        text = f"{machine['spool']} {machine['running']} of {machine['slots']} slots busy"
        if machine["state"] == "unreachable":
            text += f" (unreachable, last heard of at {machine['heard_at']})"
        parts.append(text)
    limit = f" of {storage['max_bytes'] >> 20} MiB" if storage["max_bytes"] else ""
    return f"Machines: {', '.join(parts)}. Redis uses {storage['used_bytes'] >> 20} MiB{limit}"


def show_job(view: View, job: Job, every: float | None) -> None:
    """The chosen job: its log, and what can be done with it."""
    path = f"/jobs/{job['id']}"
    verb, sure, call = ("Cancel", "Yes, stop it", ("POST", path + "/cancel"))
    if ended(job):
        verb, sure, call = ("Delete", "Yes, delete it", ("DELETE", path))
    with st.container(horizontal=True):
        with st.popover(verb, key=verb):
            st.button(sure, type="primary", on_click=act, args=(view, *call))
        again = st.button("Run again", on_click=fill, args=(view, job))
        if close := st.button("Close"):
            del st.query_params["job"]
    if again or close:
        st.rerun()  # the form, too
    data = view.log | {"job": brief(job), "every": every, "over": ended(job), "past": []}
    data["url"] = f"{PUBLIC_API}{path}/logs?"
    with suppress(ApiError):
        data["past"] = past(view, job)
        if view.token:  # which the browser cannot send with a stream or a link
            made = seldom(view, view.token, f"{path}/ticket", "POST", time.time() // 60)
            data["url"] += "ticket=" + quote(made["ticket"], "")
    log_pane(key="log", data=data, on_times_change=lambda: None, on_ended_change=lambda: None)
    with st.expander("Details"):
        if len(job.get("attempts", ())) > 1:
            show_attempts(job["attempts"])
        st.json(job)


def show_attempts(attempts: list[Job]) -> None:
    """How each attempt of a job went, oldest first; times as in the visitor's own zone."""
    rows = [
        {
            "attempt": attempt["number"],
            "status": attempt["status"],
            "exit code": attempt["exit_code"],
            "started": parse_time(attempt["started_at"]),
            "finished": parse_time(attempt["finished_at"]),
        }
        for attempt in attempts
    ]
    zone = st.context.timezone
    column = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone=zone)
    st.dataframe(rows, hide_index=True, column_config={"started": column, "finished": column})


def parse_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def live(view: View, every: float | None) -> None:
    """List and log, which a timer draws again and again."""
    state, address = st.session_state, st.query_params
    view.refresh(address, state.get("search", ""), bool(state.get("log", {}).get("times")))
    if view.refused or interval(state.get("every", "5 s"), view) != every:
        st.rerun()
    for job in filter(ended, [*view.listing["jobs"], view.job]):
        if job["id"] in view.watched:
            view.watched.discard(job["id"])
            st.toast(f"{plain(title(job))}: **{job['status'].replace('_', ' ')}**")
    if view.job and not ended(view.job):
        view.watched.add(view.job["id"])
    notice = st.container()  # always there, so that what follows keeps its place
    if view.problem:
        notice.warning(plain(view.problem))
    panes = st.container(key="panes")  # on a phone the log comes first
    left, right = panes.columns([2, 3], gap="medium") if view.job else (panes, None)
    with left.container(horizontal=True):
        st.text_input(
            "Search", key="search", type="search", live=True, label_visibility="collapsed"
        )
        st.button("Refresh now")
    with left:
        data = view.listing | {"jobs": [*map(brief, view.listing["jobs"])]}
        if not view.problem:
            with suppress(ApiError):
                show_workers(view)
        job_list(
            key="jobs",
            data=data | {"address": address.to_dict()},
            on_go_change=lambda: address.from_dict(dict(parse_qsl(state["jobs"]["go"]))),
        )
    if right and view.job:
        with right:
            show_job(view, view.job, every)


def door(view: View) -> None:
    """Ask for the token, and show nothing else."""
    if view.refused == 403:
        st.error("This page is open to other machines only with a token: set TAILBOARD_TOKEN.")
    elif view.token:
        st.error("That is not the token.")
    with st.form("door"):
        token = st.text_input("Token", type="password")
        if st.form_submit_button("Open"):
            view.token, view.refused = token, 0
            st.rerun()


def main() -> None:
    st.set_page_config("Tailboard", "📋", layout="wide")
    view = View()  # Streamlit runs this file anew each time: only data lives on, no object of ours
    view.__dict__ = st.session_state.setdefault("view", view.__dict__)
    headers = st.context.headers
    forwarded = "Forwarded" in headers or "X-Forwarded-For" in headers
    view.foreign = forwarded or not LOCAL.fullmatch(headers.get("Host", ""))
    if view.refused:
        return door(view)
    every = interval(st.session_state.get("every", "5 s"), view)
    st.fragment(live, run_every=every)(view, every)
    with st.sidebar:
        st.html(PAGE_CSS)
        st.header("Tailboard")
        run_form(view)
        st.segmented_control(
            "Refresh every", [*INTERVALS], default="5 s", key="every", required=True
        )


if __name__ == "__main__":
    main()
