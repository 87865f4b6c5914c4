"""The page's pure JavaScript, which needs no document, run in Chromium."""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browser import launch
from conftest import ROOT
from playwright.sync_api import Page, Playwright

from tailboard.error_lines import is_error
from tailboard.page import rows
from tailboard.page.components import component_script, next_revision
from tailboard.visible_text import visible_text

STATIC = ROOT / "static"
PURE = [
    "address",
    "bulk_words",
    "compare_words",
    "file_names",
    "file_text",
    "file_words",
    "find_text",
    "format",
    "fuzzy",
    "home_attention",
    "home_names",
    "home_next",
    "home_running",
    "home_welcome",
    "insight_words",
    "job_details",
    "job_links",
    "job_order",
    "job_progress",
    "job_reason",
    "job_rows",
    "job_signs",
    "listed_jobs",
    "log_ansi",
    "log_hits",
    "log_lines",
    "log_links",
    "log_marker_line",
    "log_markers",
    "log_range",
    "log_sections",
    "log_times",
    "log_text",
    "notice_words",
    "palette_rank",
    "palette_search",
    "press",
    "queue_words",
    "rule_rows",
    "saved_form_text",
    "saved_text",
    "shell_variables",
    "usage_shape",
    "usage_words",
]
STATUSES = {
    "succeeded": {"icon": "✓", "colour": "green"},
    "running": {"icon": "▶", "colour": "blue"},
    "failed": {"icon": "✕", "colour": "red"},
    "lost": {"icon": "?", "colour": "violet"},
}
NOW = 1_764_000_000_000  # milliseconds


RUN = """async ({ url, modules, given, expression }) => {
    const files = modules.map((name) => `${url}/${name}.js`);
    const exported = await Promise.all(files.map((file) => import(file)));
    const names = Object.assign({}, ...exported, given);
    return new Function(...Object.keys(names), `return (${expression})`)(...Object.values(names));
}"""


class Server(SimpleHTTPRequestHandler):
    """Serves files without logging, also below the path at which Streamlit serves them."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace("/app/static/", "/"))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Script:
    """Runs JavaScript with everything that the pure files export."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def __call__(self, expression: str, **given: Any) -> Any:
        """The value of an expression, in which the given names are defined."""
        return self.page.evaluate(
            RUN, {"url": self.url, "modules": PURE, "given": given, "expression": expression}
        )


@pytest.fixture(scope="module")
def script(playwright: Playwright) -> Iterator[Script]:
    handler = functools.partial(Server, directory=str(STATIC))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    browser = launch(playwright)
    page = browser.new_page()
    page.goto(f"{url}/error_patterns.json")
    yield Script(page, url)
    browser.close()
    server.shutdown()
    server.server_close()


def job(**fields: Any) -> dict[str, Any]:
    least = {"id": "1", "title": "a job", "status": "succeeded", "queue": "default"}
    times = {"submitted_at": at(0), "started_at": at(0), "finished_at": at(10)}
    return least | times | {"exit_code": 0, "reason": None} | fields


def at(seconds: float) -> str:
    """The time this many seconds after an hour before NOW, as the API writes it."""
    then = datetime.fromtimestamp(NOW / 1000 - 3600 + seconds, UTC)
    return then.isoformat().replace("+00:00", "Z")


# --- The loader -----------------------------------------------------------------------------------

MOUNT_OLD_AFTER_NEW = """async (script) => {
    const blob = new Blob([script], { type: "text/javascript" });
    const { default: mount } = await import(URL.createObjectURL(blob));
    const host = document.body.appendChild(document.createElement("div"));
    const parentElement = host.attachShadow({ mode: "open" });
    for (const [revision, asks] of [[2, true], [1, false]]) {
        const texts = { message: "", wrong: "", rejected: "", keep: null };
        const data = { revision, number: revision, asks, can_sign_in: true, ...texts };
        mount({ parentElement, data: [data], setTriggerValue() {} });
    }
    return parentElement.querySelector(".sign-in").hidden;
}"""


def test_an_update_that_arrives_after_a_newer_one_is_ignored(script: Script) -> None:
    """Otherwise the page would wait for ever: the newer update has asked for the token."""
    text = component_script("sign_in", [], "a version")
    assert script.page.evaluate(MOUNT_OLD_AFTER_NEW, text) is False


def test_data_has_a_new_revision_if_it_has_changed() -> None:
    name = "a component of this test"
    first, same, other, back = [next_revision(name, {"n": n}) for n in (1, 1, 2, 1)]
    assert first == same < other < back


# --- The text of a log ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("10%\r50%\r100%", "100%"),
        ("100%\r\r", "100%"),
        ("\x1b]0;title\x07\x1b[2Kclean\x1b[?25h", "clean"),
        ("half \x1b[3", "half "),
        ("\x1b[31mred\x1b[m", "\x1b[31mred\x1b[m"),
        ("a\x00b\x08c\td", "abc\td"),
    ],
)
def test_a_line_is_shown_as_in_a_terminal(script: Script, raw: str, clean: str) -> None:
    assert script("cleanLine(raw)", raw=raw) == clean


ERRORS = [
    "Traceback (most recent call last):",
    "E       AssertionError: 12 == 12.5",
    "ValueError: bad",
    "FAILED tests/test_sum.py::test_sum",
    "fatal: not a git repository",
    "main.c:3:1: error: expected ';'",
    "sh: 1: pytst: not found",
    "\x1b[1;31mbroken\x1b[m",
    "\x1b[91mbroken\x1b[m",
    "\x1b[38;5;200;31mbroken\x1b[m",
    "test_sum.py::test_sum \x1b[31mBROKEN\x1b[0m\x1b[31m          [  5%]\x1b[0m",
    "\x1b[31m[ 5%] of the rows are broken\x1b[m",
    "::error file=app.py,line=3::bad",
    "##[error]Process completed with exit code 1.",
    "npm ERR! code ELIFECYCLE",
    "curl: (7) Failed to connect: Connection refused",
    "npm error code ERESOLVE",
    "curl: (28) Operation timed out after 3001 milliseconds",
    'rsync: write failed on "/backup/a": No space left on device (28)',
    "/srv/stats.c:14: undefined reference to `sqrt'",
    "queue: ring.c:10: ring_push: Assertion `head < size' failed.",
    "resize.sh: line 3: 16724 Killed                  python resize.py",
    "requests.exceptions.ReadTimeout: read timed out",
    "psycopg.errors.DeadlockDetected: deadlock detected",
]
NO_ERRORS = [
    "0 errors",
    "no errors found",
    "errorless",
    "12 passed, 0 failed",
    "npm errors are explained below",
    "assertions: 12, failed: 0",
    "see requests.exceptions.",
    "shop.errors.Handler registered",
    "\x1b[32mred\x1b[m",
    "\x1b[38;5;31mblue of the palette\x1b[m",
    "\x1b[1;48;2;31;91;7mgreen by its parts\x1b[m",
    "test_sum.py::test_sum \x1b[32mPASSED\x1b[0m\x1b[31m          [  5%]\x1b[0m",
    "test_sum.py::test_sum \x1b[32mPASSED\x1b[0m\x1b[31m [100%]",
]


@pytest.mark.parametrize("line", [*ERRORS, *NO_ERRORS])
def test_error_lines_match_a_pattern_or_are_red(script: Script, line: str) -> None:
    patterns = json.loads((STATIC / "error_patterns.json").read_text())
    expression = "isErrorLine(line, patterns.map((each) => new RegExp(each)))"
    assert script(expression, line=line, patterns=patterns) == (line in ERRORS)


def test_a_link_names_one_line_or_several_by_their_offsets(script: Script) -> None:
    texts = ["120", "120-240", "240-120", "", "x", "-1", "1-2-3", "1e3", "9" * 16]
    ranges = script("texts.map(parseRange)", texts=texts)
    several = {"from": 120, "to": 240}
    assert ranges == [{"from": 120, "to": 120}, several, several, *[None] * 6]
    kept = script("['120', '240-120', ''].map((text) => formatRange(parseRange(text)))")
    assert kept == ["120", "120-240", ""]
    assert script("describeLines(7, 7)") == "Line 7"
    assert script("describeLines(7, NaN)") == "Selected lines"


def test_the_time_of_a_line_can_be_since_the_start(script: Script) -> None:
    def since(seconds: float) -> str:
        times = {"how": "since", "startedAt": NOW - 3_600_000}
        return script("formatLineTime(stamp, times)", stamp=at(seconds), times=times)

    assert [since(-0.4), since(5.9), since(754), since(3723)] == [
        "0:00",
        "0:05",
        "12:34",
        "1:02:03",
    ]
    clock = "formatLineTime(stamp, { how: 'since', startedAt: NaN })"  # it has not started
    assert re.fullmatch(r"\d\d:\d\d:\d\d", script(clock, stamp=at(1)))
    assert script("timeHtml('', { how: 'clock' })") == ""
    title = script("describeLineTime(stamp, start)", stamp=at(5.25), start=NOW - 3_600_000)
    assert re.search(r"\d\d:\d\d\.250, 5\.3 s after the start$", title)
    assert script("[true, false, 'since', 'x'].map(readTimes)") == ["clock", "off", "since", "off"]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("see https://a.test/x?y=1&z=2, then", ["https://a.test/x?y=1&z=2"]),
        (
            "(https://a.test/c_(d)) [http://b.test:80].",
            ["https://a.test/c_(d)", "http://b.test:80"],
        ),
        ('{"url": "https://a.test/b"}', ["https://a.test/b"]),
        ("'https://a.test/b', <https://c.test/>!", ["https://a.test/b", "https://c.test/"]),
        ("http://[::1]:8080/x...", ["http://[::1]:8080/x"]),
        ("javascript:alert(1) ftp://a.test https:// xhttps://a.test http://", []),
        (
            "\x1b]8;id=1;https://a.test/1\x1b\\the \x1b[1mresult\x1b[m\x1b]8;;\x07",
            ["https://a.test/1"],
        ),
        ("\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07", []),
        ('\x1b]8;;https://a.test/"onclick="x\x07https://b.test\x1b]8;;\x07', None),
    ],
)
def test_urls_in_a_line_are_links(script: Script, text: str, links: list[str] | None) -> None:
    html = script("new LogAnsi().lineHtml(text)", text=text)
    found = re.findall('<a href="([^"]*)" target="_blank" rel="noopener noreferrer">', html)
    if links is None:
        assert found == ["https://a.test/&#34;onclick=&#34;x"]  # as text of the link's attribute
    else:
        assert found == [link.replace("&", "&#38;") for link in links]
    assert html.count("<a ") == len(found)


@pytest.mark.parametrize(
    ("line", "spans"),
    [
        ("\x1b[7mon\x1b[27moff", '<span class="ansi-inverse">on</span>off'),
        ("\x1b[9;31mgone\x1b[0m", '<span class="ansi-strike ansi-red-fg">gone</span>'),
        ("\x1b[1;7;42mall\x1b[m", '<span class="ansi-bold ansi-inverse ansi-green-bg">all</span>'),
        ("\x1b[38;5;9mpalette", '<span class="ansi-bright-red-fg">palette</span>'),
        ("\x1b[48;2;1;7;9mback", '<span class="ansi-true-bg" style="--hue:rgb(1,7,9)">back</span>'),
    ],
)
def test_styles_become_classes(script: Script, line: str, spans: str) -> None:
    assert script("new LogAnsi().lineHtml(line)", line=line) == spans


def test_a_colour_of_the_palette_is_readable_in_both_themes(script: Script) -> None:
    """WCAG wants a contrast of 4.5 with the view's backgrounds, #f5f7fa and #192029."""

    def luminance(rgb: list[int]) -> float:
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    light, dark = luminance([0xF5, 0xF7, 0xFA]), luminance([0x19, 0x20, 0x29])
    lines = [f"\x1b[38;5;{number}mx" for number in range(16, 256)]
    for html in script("lines.map((line) => new LogAnsi().lineHtml(line))", lines=lines):
        on = re.findall(r"--on-(\w+):rgb\((\d+),(\d+),(\d+)\)", html)
        colours = {theme: luminance([int(value) for value in rgb]) for theme, *rgb in on}
        assert (light + 0.05) / (colours["light"] + 0.05) >= 4.5
        assert (colours["dark"] + 0.05) / (dark + 0.05) >= 4.5


def test_a_hostile_line_of_links_is_read_in_linear_time(script: Script) -> None:
    for line in ("https://a" + ")" * 200_000, "\x1b]8;" * 50_000, "http://" * 50_000):
        html = script("new LogAnsi().lineHtml(line).length", line=line)
        assert html < 2_000_000


def test_a_hostile_line_is_checked_in_linear_time(script: Script) -> None:
    line = "\x1b[" + "31;" * 200_000 + "x"  # quadratic time would be minutes
    assert not script("isErrorLine(line, [])", line=line)


@pytest.mark.parametrize("line", ERRORS + NO_ERRORS)
def test_the_worker_finds_the_same_error_lines(line: str) -> None:
    assert is_error(line, visible_text(line)) == (line in ERRORS)


@pytest.mark.parametrize(
    "raw", ["1%\r2%\r3%\r", "a\x1b[2Kb\x1b]0;t\x07c", "\x1b[1;31mred\x1b[m\x07", "a\tb\x7f", "\x1b"]
)
def test_the_worker_reads_a_line_as_the_page_does(script: Script, raw: str) -> None:
    assert script("plainLine(raw)", raw=raw) == visible_text(raw)


def test_the_page_recognises_the_same_markers(script: Script) -> None:
    cases = json.loads((ROOT / "tests" / "marker_cases.json").read_text())
    found = script("lines.map(parseMarker)", lines=[case["line"] for case in cases])
    shown = [marker and {name: marker.get(name) for name in MARKER_FIELDS} for marker in found]
    assert shown == [case["marker"] and page_marker(case["marker"]) for case in cases]


def test_only_the_signs_of_a_header_are_hidden(script: Script) -> None:
    lines = ["--- attempt 2 ---", "12:34:56 ::group::Install", "+++ Test -- all"]
    html = "lines.map((line) => markedTextHtml(line, parseMarker(line), escapeHtml))"
    assert [
        line.replace('<i class="sign">', "<").replace("</i>", ">")
        for line in script(html, lines=lines)
    ] == [
        "<--- >attempt 2< --->",
        "12:34:56 <::group::>Install",
        "<+++ >Test -- all",
    ]


MARKER_FIELDS = [
    *("kind", "name", "isOpen", "percent", "key", "value", "text", "file", "fileLine"),
]
KINDS = {"open_section": "open", "group_end": "endgroup"}


def page_marker(marker: dict[str, Any]) -> dict[str, Any]:
    """A marker of marker_cases.json as the page describes it."""
    given = {name: marker.get(name) for name in MARKER_FIELDS}
    if marker["type"] in KINDS:
        return given | {"kind": KINDS[marker["type"]]}
    kind = marker.get("level") or marker.get("kind") or marker["type"]
    more = {"isOpen": marker.get("is_open"), "fileLine": marker.get("file_line")}
    return given | more | {"kind": kind}


PARSING_TIME = """(() => {
  const time = (text) => {
    const begin = performance.now();
    parseMarker(text);
    return performance.now() - begin;
  };
  return Math.min(time(line), time(line), time(line));
})()"""


@pytest.mark.parametrize(("begin", "part"), [("::error ", "a:"), ("--- ", "- "), ("", "\x1b[1m")])
def test_a_hostile_line_is_parsed_in_linear_time(script: Script, begin: str, part: str) -> None:
    short, long = (script(PARSING_TIME, line=begin + part * n) for n in (5_000, 40_000))
    assert long < 8 * 4 * short + 1, "milliseconds; quadratic time would be 64 times as long"


def test_bytes_are_split_into_lines_with_their_offsets(script: Script) -> None:
    lines = script(
        "splitBytes(new TextEncoder().encode(text), 100, 7)", text="one\n日本\n\nthe rest"
    )
    places = [(line["text"], line["offset"], line["end"], line["number"]) for line in lines]
    assert places == [
        ("one", 100, 104, 7),
        ("日本", 104, 111, 8),
        ("", 111, 112, 9),
        ("the rest", 112, 120, 10),
    ]
    assert [line["ended"] for line in lines] == [True, True, True, False]


def test_times_before_lines_do_not_count_as_bytes(script: Script) -> None:
    stamp = "2026-11-23T18:00:00.000Z"
    text = f"{stamp} one\n{stamp} two\n"
    lines = script("splitStamped(new TextEncoder().encode(text), 10, null)", text=text)
    assert [(line["stamp"], line["text"]) for line in lines] == [(stamp, "one"), (stamp, "two")]
    assert [(line["offset"], line["end"]) for line in lines] == [(10, 14), (14, 18)]


def test_pieces_join_into_the_same_lines_however_they_are_split(script: Script) -> None:
    text = "one\n日本語 🎉\n\nprogress\r50%\rdone\nlast\n"
    code = """(() => {
        const whole = splitBytes(new TextEncoder().encode(text), 5, 1);
        const characters = [...text];
        const results = [];
        for (let size = 1; size < characters.length; size += 1) {
            const joiner = new LineJoiner(5, 1);
            const lines = [];
            let end = 5;
            for (let at = 0; at < characters.length; at += size) {
                const piece = characters.slice(at, at + size).join("");
                end += byteLength(piece);
                lines.push(...joiner.add(piece, end));
            }
            results.push(lines.map(({ text, offset, end, number }) => [text, offset, end, number]));
        }
        const expected = whole.map(({ text, offset, end, number }) => [text, offset, end, number]);
        return { results, expected };
    })()"""
    found = script(code, text=text)
    assert len(found["results"]) > 20
    for lines in found["results"]:
        assert lines == found["expected"]


def test_the_lines_of_a_growing_log_are_counted_once(script: Script) -> None:
    counts = """(() => {
        const counter = new LineCounter();
        const count = (text, end) => { counter.add(text, end); return counter.lines; };
        counter.set(2, 8, true); // "one\\nhalf"
        const joined = [count(" more\\n", 14), count("three", 19), count("\\n", 20)];
        counter.setBlindly(3, 20); // the last byte is sent again
        const ended = [counter.next, count("\\nfour", 24)];
        counter.setBlindly(4, 24);
        const half = [counter.next, count("r\\n", 25)];
        counter.set(null, 25, false);
        const kept = counter.lines;
        counter.set(null, 90, false);
        return [joined, ended, half, kept, counter.lines];
    })()"""
    assert script(counts) == [[2, 3, 3], [19, 4], [23, 4], 4, None]


SECTIONS = """(() => {
    const sections = new LogSections();
    sections.setJob("1");
    const list = (errors, last) => [[0, 10, errors], [10, 20, 0], [20, last, 0]].map(
        ([offset, end, errors]) => ({ offset, end, errors, kind: "section", is_open: false }));
    const shown = () => sections.all.map((section) => sections.isFolded(section));
    const found = [];
    sections.learn({ sections: list(0, null), count: 3, partial: true });
    found.push(shown());
    sections.learn({ sections: list(0, null), count: 3, partial: false });
    found.push(shown());
    sections.learn({ sections: list(1, null), count: 3, partial: false });
    found.push(shown());
    sections.unfoldAt(15);
    found.push(shown());
    sections.fold(10, true);
    sections.fold(0, true);
    found.push(shown());
    sections.isLive = true;
    sections.see(30, "section"); // the errors of the one before are not known
    found.push(shown());
    sections.seeErrors(40, 0, true);
    sections.see(40, "section");
    found.push(shown());
    found.push([sections.isHidden(5), sections.isHidden(10), sections.isHidden(35)]);
    return found;
})()"""


def test_which_sections_are_folded(script: Script) -> None:
    partial, complete, failed, gone_to, chosen, live, seen, hidden = script(SECTIONS)
    assert partial == [False, False, False]
    assert complete == [True, True, False]
    assert failed == [False, True, False]
    assert gone_to == [False, False, False]
    assert chosen == [True, True, False]
    assert live == [True, True, False, False]
    assert seen == [True, True, False, True, False]
    assert hidden == [True, False, True]


def test_after_invalid_bytes_only_the_end_offset_is_certain(script: Script) -> None:
    code = """(() => {
        const joiner = new LineJoiner(0, 1);
        const lines = joiner.add("\\ufffd\\nmore\\n", 7);
        return { lines, next: joiner.add("sure\\n", 12) };
    })()"""
    found = script(code)
    assert [(line["offset"], line["end"]) for line in found["lines"]] == [(None, None), (None, 7)]
    assert [(line["offset"], line["end"]) for line in found["next"]] == [(7, 12)]


def test_an_endless_progress_bar_needs_little_memory(script: Script) -> None:
    code = """(() => {
        const joiner = new LineJoiner(0, 1);
        let end = 0;
        for (let step = 0; step < 20000; step += 1) {
            const piece = `\\r${String(step).padStart(60, "#")}`;
            end += piece.length;
            joiner.add(piece, end);
        }
        const kept = joiner.rest.length;
        return { kept, shown: lastOverwrite(joiner.unfinished().text), offset: joiner.offset };
    })()"""
    found = script(code)
    assert found["kept"] < 200_000
    assert found["shown"].endswith("#19999")
    assert found["offset"] == 0


def test_only_the_new_part_of_a_tail_is_used(script: Script) -> None:
    expression = "tailBehind(tail, offset, next, shown)"
    given = {"tail": "日本\nnew", "offset": 10, "next": 20}
    assert script(expression, shown=17, **given) == "new"
    assert script(expression, shown=20, **given) == ""
    assert script(expression, shown=9, **given) is None  # a part between them is missing
    assert script(expression, shown=12, **(given | {"next": 19})) is None  # invalid bytes


def test_matches_are_literal_and_ignore_case(script: Script) -> None:
    assert script("findMatches('a.b A.B axb', 'a.b')") == [[0, 3], [4, 7]]
    assert script("findMatches('text', '')") == []


def query(text: str, match_case: bool = False, is_regex: bool = False) -> dict[str, object]:
    return {"text": text, "matchCase": match_case, "isRegex": is_regex}


def test_a_query_finds_a_text_or_a_regular_expression(script: Script) -> None:
    def spans(text: str, **given: object) -> object:
        return script("matchSpans(text, makePattern(wanted))", text=text, **given)

    assert spans("a.b A.B axb", wanted=query("a.b")) == [[0, 3], [4, 7]]
    assert spans("a.b A.B axb", wanted=query("a.b", True)) == [[0, 3]]
    assert spans("a.b A.B axb", wanted=query("a.b", True, True)) == [[0, 3], [8, 11]]
    assert spans("(x) [/]", wanted=query("[/]")) == [[4, 7]]
    assert spans("aab", wanted=query("a*", False, True)) == [[0, 2]]
    assert spans("é-", wanted=query(r"(?P<name>\p{L})-", False, True)) == [[0, 2]]
    assert spans("a-b", wanted=query(r"a\-b", False, True)) == [[0, 3]]
    assert script("makePattern(wanted)", wanted=query("(", False, True)) is None
    assert script("makePattern(wanted)", wanted=query("")) is None


@pytest.mark.parametrize(
    ("total", "index", "words"),
    [
        (None, None, ""),
        ({"lines": 0, "complete": True}, None, "No matches"),
        ({"lines": 31, "complete": True}, 16, "17 of 31"),
        ({"lines": 31, "complete": True}, None, "31 matches"),
        ({"lines": 1, "complete": True}, None, "1 match"),
        ({"lines": 12_345, "complete": False}, 1_233, "1,234 of at least 12,345"),
        ({"lines": 0, "complete": False}, 0, "1 of at least 1"),
        ({"lines": 7, "complete": False}, None, "at least 7 matches"),
    ],
)
def test_the_counter_covers_the_whole_log(
    script: Script, total: object, index: int | None, words: str
) -> None:
    assert script("describePosition(total, index)", total=total, index=index) == words


def test_a_gap_names_its_lines(script: Script) -> None:
    assert script("describeGap(linesBetween(7, 100))") == "⋯ 92 lines"
    assert script("describeGap(linesBetween(7, 9))") == "⋯ 1 line"
    assert script("describeGap(linesBetween(null, 9))") == "⋯"


def test_a_wrong_pattern_is_named_in_a_few_words(script: Script) -> None:
    sentence = "q must be a regular expression (RE2 syntax): missing ): a: ("
    assert script("describeMistake(sentence)", sentence=sentence) == "Invalid pattern: missing )"


# --- Words and numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "< 0.1 s"),
        (50, "0.1 s"),
        (9_940, "9.9 s"),
        (59_999, "59 s"),
        (61_000, "1 min 1 s"),
        (7_260_000, "2 h 1 min"),
    ],
)
def test_durations_are_formatted_for_people(script: Script, milliseconds: int, text: str) -> None:
    assert script("formatDuration(milliseconds)", milliseconds=milliseconds) == text


def test_past_times_say_the_day_and_how_long_ago_they_were(script: Script) -> None:
    day = 24 * 3600
    given = {"now": NOW, "back": [30, 3_700, day, 400 * day]}
    texts = script("back.map((seconds) => formatMoment(now - 1000 * seconds, now))", **given)
    assert [text.split(", ")[-1] for text in texts] == [
        "just now",
        "1 h ago",
        "1 d ago",
        "400 d ago",
    ]
    assert texts[0].startswith("today ") and texts[2].startswith("yesterday ")
    assert "20" in texts[3].split(" ")[2]  # the year


# --- Why a job ended ------------------------------------------------------------------------------


def test_the_reason_comes_before_a_line_of_the_log(script: Script) -> None:
    ends = [
        job(status="failed", exit_code=3, hint="row 10"),
        job(status="failed", exit_code=1, hint="ValueError: bad"),
        job(status="failed", exit_code=1, hint="==== Error: 2 failed in 1 s ===="),
        job(status="timed_out", exit_code=143, reason="ran longer than its time limit of 4 s"),
        job(status="lost", exit_code=None, reason="its process disappeared", hint="row 9"),
        job(status="succeeded", exit_code=0),
    ]
    ends[3]["hint"] = "tick 8"
    expression = """(setErrorPatterns([/Error: /]), ends.map((job) => [
        endReason(job), endLine(job)?.label ?? null, shortReason(job)]))"""
    assert script(expression, ends=ends) == [
        ["Failed: exit 3", "Last line:", "Last line: row 10"],
        ["Failed: exit 1", "Why it failed:", "ValueError: bad"],
        ["Failed: exit 1", "Why it failed:", "Error: 2 failed in 1 s ===="],
        [
            "Timed out: ran longer than its time limit of 4 s",
            None,
            "ran longer than its time limit of 4 s",
        ],
        ["Lost: its process disappeared", "Last line:", "its process disappeared"],
        ["", None, ""],
    ]
    started = job(status="failed", exit_code=2, reason=f"after {TRAIN} succeeded", hint="row 11")
    assert script(expression, ends=[started, started | {"reason": started["reason"] + "; x"}]) == [
        ["Failed: exit 2", "Last line:", "Last line: row 11"],
        ["Failed: exit 2, x", "Last line:", "x"],
    ]


def test_a_job_between_two_attempts_says_how_the_last_one_ended(script: Script) -> None:
    waiting = job(status="queued", attempt=2, retries=2, exit_code=None, not_before=at(3628))
    waiting["attempts"] = [{"number": 1, "status": "failed", "exit_code": 7}]
    given = {"waiting": waiting, "now": NOW}
    words = "attempt 1 failed (exit 7), again in 29 s"
    assert script("describeRetry(waiting, now)", **given) == words
    assert script("describeRetry({ ...waiting, attempts: [] }, now)", **given) == ""
    order = "['queued', 'running'].map((status) => progressOf({ ...waiting, status }))"
    assert script(order, **given) == [4, 5]


# --- What a job waits for, and what follows it ----------------------------------------------------

TRAIN, TEST = "20251124-160000-aaaaaaaa", "20251124-160001-bbbbbbbb"
KNOWN = "new Map(jobs.map((job) => [job.id, job]))"


def test_ids_in_a_reason_are_links_or_titles(script: Script) -> None:
    given = {
        "reason": f"waits for {TRAIN} & {TEST}",
        "titles": {TRAIN: "<b>train</b>" + "n" * 100},
    }
    html = script("linkIds(reason, (id) => titles[id])", **given)
    assert html.startswith(f'waits for <a class="job-link" href="?job={TRAIN}" data-job="{TRAIN}"')
    assert "&#60;b&#62;train" in html and "&#38; <a" in html and "…</a>" in html
    assert html.endswith(f">{TEST}</a>")
    text = script("nameIds(reason, (id) => titles[id])", **given)
    assert text.startswith("waits for “<b>train</b>nnn") and text.endswith(f"…” & {TEST}")
    waiting = job(status="queued", reason=given["reason"], submitted_at=at(0), urgent=True)
    context = {"statuses": STATUSES, "now": NOW}
    row = script(
        "jobRowHtml(job, { ...context, titleOf: () => 'x' })", job=waiting, context=context
    )
    assert "waits for “x” &#38; “x”" in row and "urgent 1 h" in row
    ended = [job(status="cancelled", reason=why) for why in (f"{TRAIN} failed", "not needed")]
    assert script("jobs.map(shortReason)", jobs=ended) == [f"{TRAIN} failed", ""]


def test_the_details_link_what_a_job_waits_for_and_what_follows_it(script: Script) -> None:
    first = job(id=TRAIN, title="train", then="report", key="k", if_busy="replace", retries=0)
    first["env_names"] = []
    waits = job(id=TEST, title="test", status="queued", after=[TRAIN], after_status="ended")
    started = job(id="20251124-160002-cccccccc", title="report", after=[TRAIN])
    started |= {"after_status": "ended", "reason": f"after {TRAIN} succeeded"}
    given = {"jobs": [first, waits, started], "now": NOW}
    rows = """jobs.map((job) => orderRows(
        job, relatedJobs(job, jobs), (id) => jobs.find((other) => other.id === id)?.title
    ).filter(([, html]) => html).map(([name, html]) => [name, html.replace(/<[^>]*>/g, "")]))"""
    assert script(rows, **given) == [
        [
            ["Key", "k, replaces waiting and running jobs"],
            ["Followed by", "test"],
            ["Then", "report: report"],
        ],
        [["After", "train, however it ends"]],
        [["After", "train"]],
    ]
    running = script(
        "orderRows({ ...jobs[0], status: 'running' }, { following: ['1'], started: [] }, () => '')",
        **given,
    )
    assert "Waiting for this" in [name for name, _ in running]
    html = script(f"detailsHtml(jobs[0], {{}}, now, {KNOWN})", **given)
    assert 'data-saved="report"' in html and f'data-job="{TEST}"' in html
    head = script("jobs.map((job) => orderHtml(job, () => 'train').join(' '))", **given)
    assert [re.sub("<[^>]*>", "", html).strip() for html in head] == [
        *("then report", "", "after train"),
    ]
    many = script("orderHtml({ after: [...'12345'], status: 'lost' }, (id) => id)[0]")
    assert re.sub("<[^>]*>", "", many) == "after 1, 2, 3 and 2 more"


def test_the_details_show_when_a_job_is_deleted(script: Script) -> None:
    kinds = [
        ("2026-12-05T12:30:00.000Z", "deleted in 12 days: 30 days after its end"),
        ("2026-11-24T13:00:00.000Z", "deleted in 1 day: 30 days after its end"),
        ("2026-11-23T17:00:00.000Z", "deleted in 5 h: 30 days after its end"),
        ("2026-11-20T12:00:00.000Z", "deleted soon: 30 days after its end"),
        (None, "30 days after its end"),
    ]
    now = "Date.parse('2026-11-23T12:00:00Z')"
    for delete_at, shown in kinds:
        kept = {"delete_at": delete_at, "reason": "30 days after its end"}
        given = [job(retention=kept) | {"env_names": []}]
        html = script(f"detailsHtml(jobs[0], {{}}, {now})", jobs=given)
        row = re.search("Retention</th><td>(.*?)</td>", html)
        assert row and re.sub("<[^>]*>", "", row[1]) == shown
    given = [job(retention=None) | {"env_names": []}]
    assert "Retention" not in script(f"detailsHtml(jobs[0], {{}}, {now})", jobs=given)


def test_a_saved_command_links_those_before_and_after_it(script: Script) -> None:
    commands = [
        {"saved": "build", "then": "deploy"},
        {"saved": "check", "then": "deploy"},
        {"saved": "deploy", "then": "watch"},
        {"saved": "watch", "then": None},
    ]
    html = script("commands.map((each) => commandOrderHtml(each, commands))", commands=commands)
    assert [re.sub("<[^>]*>", "", each) for each in html] == [
        *("then deploy", "then deploy", "after build · after check · then watch", "after deploy"),
    ]
    assert script("commandNamesHtml(commands, 'build')", commands=commands[:2]) == (
        '<option value="check">'
    )


def test_queues_are_described_with_their_limits_and_by_the_workers_that_serve_them(
    script: Script,
) -> None:
    served = [[], ["a", "b"], ["!a", "!b"]]
    assert script("served.map(servedText)", served=served) == ["", "a, b", "all but a, b"]
    serves = "served.map((names) => [servesQueue(names, 'a'), servesQueue(names, 'c')])"
    assert script(serves, served=served) == [[True, True], [True, False], [False, True]]
    queues = [
        {"queued": 0, "running": 0, "limit": None},
        {"queued": 1200, "running": 2, "limit": None},
        {"queued": 1, "running": 0, "limit": 3},
        {},
    ]
    assert script("queues.map(queueCounts)", queues=queues) == [
        *("", "2 running, 1,200 waiting", "0 of 3 running, 1 waiting", ""),
    ]


def test_ordinals_are_english(script: Script) -> None:
    numbers = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111]
    words = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]
    assert script("numbers.map(formatOrdinal)", numbers=numbers) == words


# --- Rows -----------------------------------------------------------------------------------------

HOSTILE = '"><img src=x onerror="alert(1)">&amp;\'`</b>'


def test_hostile_names_reasons_and_values_are_escaped(script: Script) -> None:
    fields = ("title", "status", "queue", "reason", "id", "cwd", "worker", "exit_code")
    hostile = job(**dict.fromkeys(fields, HOSTILE), retries=0, env_names=[HOSTILE], attempts=[])
    context = {"statuses": STATUSES, "now": NOW}
    pieces = script(
        """[
            jobRowHtml(hostile, context),
            foldRowHtml({ jobs: [hostile, hostile], open: false }, context),
            detailsHtml(hostile, {}, now),
            detailsHtml(hostile, { [hostile.title]: hostile.title }, now),
        ].map((html) => {
            const page = new DOMParser().parseFromString(html, "text/html");
            return { images: page.images.length, text: page.body.textContent + html };
        })""",
        hostile=hostile,
        context=context,
        now=NOW,
    )
    assert [piece["images"] for piece in pieces] == [0] * 4
    assert all("<img" not in piece["text"].replace(HOSTILE, "") for piece in pieces)


USUAL = {"seconds": 36, "late_after": 96, "longest_pause": 40, "silent_after": 120}


def running(time: float, silent: float = 0, **usual: object) -> dict[str, object]:
    """A job that has run for this time and written nothing for the last seconds of it."""
    found = {**USUAL, "silent_since": at(3_600 - silent), **usual}
    times = {"started_at": at(3_600 - time), "finished_at": None}
    return job(status="running", exit_code=None, usual=found, **times)


def test_a_running_job_shows_its_progress_by_its_usual_duration(script: Script) -> None:
    draw = "jobRowHtml(job, { statuses, now })"
    half = script(draw, job=running(18), statuses=STATUSES, now=NOW)
    assert 'class="progress"' in half and "width:50%" in half and "18 s" in half
    assert "progress" not in script(draw, job=running(5, seconds=None), statuses=STATUSES, now=NOW)


def progress(percent: float, text: str | None = None, **more: object) -> dict[str, object]:
    return {"percent": percent, "text": text, "source": "marker", "seconds_left": None} | more


@pytest.mark.parametrize(
    ("shown", "short", "words"),
    [
        (progress(44.96, "copying orders"), "44 %", "44 % · copying orders"),
        (progress(99.9), "99 %", "99 %"),  # not everything is done
        (progress(12, "12%|## |", source="bar"), "12 %", "12 %"),
        (
            progress(62, source="earlier_runs", seconds_left=240),
            "≈ 62 %",
            "about 62 %, about 4 min left",
        ),
        (progress(62, source="earlier_runs"), "≈ 62 %", "about 62 %"),
        (progress(99, source="earlier_runs", seconds_left=0), "≈ 99 %", "about 99 %"),
    ],
)
def test_progress_in_words(
    script: Script, shown: dict[str, object], short: str, words: str
) -> None:
    assert script("[shortProgress(p), progressText(p)]", p=shown) == [short, words]


def test_the_bar_of_a_job_with_progress_replaces_that_of_its_usual_duration(
    script: Script,
) -> None:
    draw = "jobRowHtml(job, { statuses, now })"
    marked = progress(44.96, "<b>orders")
    row = script(draw, job=running(18) | {"progress": marked}, statuses=STATUSES, now=NOW)
    assert row.count('class="progress"') == 1 and "width:44%" in row
    assert 'role="progressbar"' in row and 'aria-valuenow="44"' in row and "<b>orders" not in row
    late = running(120) | {"progress": progress(80, source="bar")}
    row = script(draw, job=late, statuses=STATUSES, now=NOW)
    assert 'class="progress bar"' in row and "read from the log" in row and "now 2 min" in row
    assert script("jobTooltip(job, now)", job=late, now=NOW).count("80 %") == 1
    ended = job(progress=marked)
    assert "progress" not in script(draw, job=ended, statuses=STATUSES, now=NOW)


@pytest.mark.parametrize(
    ("lines", "percent", "text"),
    [
        ("::progress 40\n", 40, None),
        ("a\n::progress 40\n::progress 18 of 90 copying\nb\n", 20, "copying"),
        ("2026-11-29T03:00:00.000Z ::progress 40 x\n", 40, "x"),
        ("2026-11-29T03:00:00.000Z [03:00:00] \x1b[32m::progress 40 x\x1b[0m\n", 40, "x"),
        ("::progress 40\n::progress 50 of 0\nsee ::progress 60\n", 40, None),
        ("no ::progress 40\n::progressive 4\n::progress\n", None, None),
        ("", None, None),
    ],
)
def test_the_newest_progress_of_some_lines(
    script: Script, lines: str, percent: float | None, text: str | None
) -> None:
    found = script("newestProgress(lines)", lines=lines)
    expected = None if percent is None else progress(percent, text)
    assert found == expected


def test_the_newest_progress_is_found_in_time_that_grows_with_the_text(script: Script) -> None:
    """Not with its square: each of these lines is looked at."""
    assert script("newestProgress('no ::progress x\\n'.repeat(50_000))") is None


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (running(95, 95), ""),
        (running(120), "usually 36 s, now 2 min"),
        (running(5, seconds=0.5, late_after=2), "usually 0.5 s, now 5.0 s"),
        (running(120, seconds=None), "running for 2 min, expected at most 1 min"),
        (running(0, 840), "silent for 14 min, never longer than 40 s before"),
        (running(0, 840, silent_after=None), ""),
        (running(0, 840, silent_since=None), ""),
        (
            running(7_200, 840),
            "usually 36 s, now 2 h; silent for 14 min, never longer than 40 s before",
        ),
        (job(status="running", usual=None), ""),
        (job(status="succeeded", usual=USUAL), ""),
    ],
)
def test_a_late_or_silent_job_says_so_in_words(
    script: Script, late: dict[str, object], words: str
) -> None:
    assert script("signText(job, now)", job=late, now=NOW) == words
    for code in ("jobRowHtml(job, { statuses, now })", "jobTooltip(job, now)"):
        shown = script(code, job=late, statuses=STATUSES, now=NOW)
        assert words in shown and ("never longer" in shown) == ("never longer" in words)


def test_neighbours_fold_unless_they_run_or_were_unfolded(script: Script) -> None:
    names = ["b", "a", "a", "a", "b", "b"]
    jobs = [job(id=str(9 - n), title=name) for n, name in enumerate(names)]
    jobs.insert(1, job(id="run", title="a", status="running", finished_at=None))
    shape = "foldRows(jobs, new Set(open)).map((row) => row.jobs?.length ?? row.job.id)"
    assert script(shape, jobs=jobs, open=[]) == ["9", "run", 3, "5", "4"]
    opened = script(shape, jobs=jobs, open=["fold 6"])
    assert opened == ["9", "run", 3, "8", "7", "6", "5", "4"]


def test_changes_turn_the_old_list_into_the_new_one(script: Script) -> None:
    jobs = [job(id=str(n)) for n in range(9, 0, -1)]
    other = [job(id="9", status="failed"), *jobs[1:]]
    lists = [jobs, other, jobs[:3], jobs[6:], [*jobs[:2], *jobs[4:]], []]
    for old in lists:
        for new in lists:
            changes = rows.row_changes(new, old)
            assert script("applyChanges(old, changes)", old=old, changes=changes) == new


LISTED = """(() => {
    const all = { status: "", queue: "", by: "", q: "", before: "" };
    const jobs = (...ids) => ids.map((id) => ({ id, title: `job ${id}`, status: "succeeded" }));
    const page = (next, more = {}) => (
        { next, searched: 3, skipped: 0, counts: {}, more: false, ...more }
    );
    const ids = (shown) => shown.jobs.map((job) => job.id).join("");
    const list = new ListedJobs();
    list.receive(jobs("9", "8", "7"), page("7"), all);
    %s
})()"""


def test_older_jobs_stay_without_a_gap_when_new_ones_arrive(script: Script) -> None:
    code = """
    list.addOlder({ rows: jobs("6", "5"), next: "5", searched: 5 });
    list.receive(jobs("b", "a", "9"), page("9"), all);
    const pushed = ids(list.shown());
    list.receive(jobs("z", "y", "x"), page("x"), all);
    return [pushed, ids(list.shown()), list.shown().next]"""
    assert script(LISTED % code) == ["ba98765", "zyx", "x"]


def test_other_filters_are_guessed_and_earlier_ones_remembered(script: Script) -> None:
    code = """
    list.addOlder({ rows: jobs("6", "5"), next: "5", searched: 5 });
    const wanted = { ...all, q: "JOB 7" };
    const guess = list.guess(wanted, {});
    list.receive(jobs("7", "1"), page(null, { more: true, counts: { lost: 9 } }), wanted);
    return [ids(guess), guess.counted, ids(list.guess(all, {})), list.shown().counts]"""
    assert script(LISTED % code) == ["7", "", "98765", {"lost": 9, "succeeded": 2}]


# --- The page's address ---------------------------------------------------------------------------


def test_an_address_survives_its_link(script: Script) -> None:
    address = {
        "status": "failed",
        "queue": "a b",
        "by": "ann+b",
        "q": "x&y=1",
        "job": "20261128-1",
        "at": "0",
    }
    assert script("readAddress(addressLink(address))", address=address) == address
    assert script("addressLink({ at: '5', job: '1', q: '', other: '2' })") == "?job=1&at=5"
    assert script("readAddress('?q=&saved=a&job=1')") == {"job": "1"}


def test_an_address_always_has_all_filters(script: Script) -> None:
    filters = {"status": "", "queue": "", "by": "", "q": "x", "before": ""}
    assert script("filtersOf({ q: 'x', job: '1' })") == filters
    assert script("NO_FILTERS") == filters | {"q": ""}
    everything = {*filters, "list", "logs", "job", "at", "compare", "file"}
    assert script("EMPTY_ADDRESS") == dict.fromkeys(everything, "")


# --- Saved commands -------------------------------------------------------------------------------

COMMAND = {
    "saved": "deploy",
    "params": [
        {"name": "VERSION", "label": None, "default": None, "choices": None},
        {"name": "HOST", "label": None, "default": "web-1", "choices": ["web-1", "web-2"]},
    ],
}


def test_a_link_to_a_saved_command_is_read_as_it_was_written(script: Script) -> None:
    values = {"VERSION": "1.2 & 日", "HOST": "web-1"}
    link = script("savedLink('deploy', values)", values=values)
    assert script("readSavedLink(link)", link=link) == {"name": "deploy", "values": values}
    assert script("readSavedLink('?job=1&q=x')") is None
    assert script("readSavedLink('?saved=a&job=1&logs=x&A=2').values") == {"A": "2"}


def test_a_link_with_invalid_values_is_reported(script: Script) -> None:
    problem = "linkProblem(command, values)"
    assert script(problem, command=COMMAND, values={"VERSION": "1"}) == ""
    takes = script(problem, command=COMMAND, values={"NOPE": "1"})
    assert takes == "This link sets NOPE, but deploy takes only VERSION, HOST."
    plain = COMMAND | {"params": []}
    takes = script(problem, command=plain, values={"NOPE": "1"})
    assert takes == "This link sets NOPE, but deploy takes no parameters."
    assert "“web-3”" in script(problem, command=COMMAND, values={"HOST": "web-3"})


@pytest.mark.parametrize(
    ("title", "name"),
    [("Back up /home!", "back-up-home"), ('./deploy.sh "$V" ${W:-x}', "deploy.sh"), ("日報", "")],
)
def test_a_title_suggests_a_name_that_can_be_saved(script: Script, title: str, name: str) -> None:
    assert script("suggestName(title)", title=title) == name


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("cp $FROM ${TO} $lower $1 $?", "FROM TO lower"),
        ("echo '$NO' \\$NO \"\\$NO\" \"$YES 'and $THIS'\"", "YES THIS"),
        ("# $NO\necho a#$YES $$NO", "YES"),
        ("echo ${#LENGTH} $(echo $INNER) `$OLD`", "LENGTH INNER OLD"),
        ("cat <<'END'\n$NO\nEND\ncat <<END >$OUT\nit's $BODY\nEND\necho $AFTER", "OUT BODY AFTER"),
        ("echo $'it\\'s $NO' $A $A", "A"),
    ],
)
def test_the_variables_of_a_command_are_found_as_the_shell_reads_it(
    script: Script, command: str, names: str
) -> None:
    assert script("findVariables(text).map((each) => each.name)", text=command) == names.split()


def test_a_variable_has_its_fallback_and_whether_the_command_sets_it(script: Script) -> None:
    text = "N=1; for F in a; do read -r L; done; echo $N $F $L; M=${M:-full} ${P:-$Q}"
    found = {each["name"]: each for each in script("findVariables(text)", text=text)}
    assert {name for name, each in found.items() if each["assigned"]} == {"N", "F", "L"}
    assert (found["M"]["fallback"], found["P"]["fallback"]) == ("full", None)


def test_variables_that_nothing_defines_are_ticked(script: Script) -> None:
    rows = script(
        "suggestParams([], text, readEnvironment('FROM=•••\\nno=1\\nTAILBOARD_X=1'))",
        text='cp $HOME/x $FROM "$TO" $lower $JOB_ID ${MODE:-full}',
    )
    shown = {each["name"]: (each["ticked"], each["required"], each["default"]) for each in rows}
    defined, free = (False, False, "•••"), (True, True, "")
    assert shown == {"FROM": defined, "TO": free, "MODE": (True, False, "full")}


def test_suggested_params_follow_the_command_while_it_is_typed(script: Script) -> None:
    typed = "suggestParams(rows, text, new Map(), { except: unfinishedName(text) })"
    rows = script(typed, rows=[], text="a $VERS")
    assert rows == []
    rows = script(typed, rows=rows, text="a $VERSION $B")
    assert [row["name"] for row in rows] == ["VERSION"]
    assert [row["name"] for row in script(typed, rows=rows, text="a $B ")] == ["B"]
    rows[0]["kept"] = True  # the visitor has changed it
    rows = script(typed, rows=rows, text="a $B ")
    assert [row["name"] for row in rows] == ["VERSION", "B"]


def test_a_schedule_needs_a_default_of_each_param(script: Script) -> None:
    rows = [{"name": "VERSION", "ticked": True, "required": True}]
    rows += [{"name": "B", "ticked": True, "required": False}]
    wrong = script("unscheduledParams(rows)", rows=rows)
    expected = "VERSION needs a default before this can run on a schedule."
    assert wrong == {"param VERSION": expected}


def test_hidden_values_are_shown_where_they_were_not_changed(script: Script) -> None:
    text = script("revealEnvironment('A=•••\\nB=mine\\n•••', { A: 'x=y', B: 'old' })")
    assert text == "A=x=y\nB=mine\n•••"


def test_the_next_times_of_a_schedule_are_shown_in_both_zones(script: Script) -> None:
    shown = "previewHtml(['2026-11-29T18:00:00Z'], zone, 'UTC')"
    assert "Next time<" in script(shown, zone="UTC")
    both = script(shown, zone="Asia/Tokyo")
    assert "here and in Asia/Tokyo" in both and "Mon" in both
    assert script(shown, zone="No/Such").count("Nov") == 1


def test_an_empty_field_is_a_value_only_if_there_is_a_default(script: Script) -> None:
    given = "givenValues(params, typed)"
    typed = {"VERSION": "", "HOST": ""}
    assert script(given, params=COMMAND["params"], typed=typed) == {"HOST": ""}


SECRET = {"name": "PASSWORD", "label": None, "default": None, "choices": None, "secret": True}


def test_the_field_of_a_secret_param_is_never_filled_in(script: Script) -> None:
    html = script("fieldsHtml(params, {PASSWORD: 'hunter2'})", params=[SECRET])
    assert 'type="password"' in html and "value=" not in html and "hunter2" not in html


def test_a_link_contains_no_secret_value(script: Script) -> None:
    params = [SECRET, *COMMAND["params"]]
    values = {"PASSWORD": "hunter2", "VERSION": "1"}
    assert script("publicValues(params, values)", params=params, values=values) == {"VERSION": "1"}
    command = COMMAND | {"params": params}
    problem = script("linkProblem(command, values)", command=command, values=values)
    assert problem == (
        "This link sets PASSWORD, which is secret. A link must not contain it: type it here."
    )


def test_a_command_with_a_secret_param_has_no_schedule(script: Script) -> None:
    wrong = script("unscheduledParams(givenParams(params))", params=[SECRET])
    sentence = "PASSWORD is secret, so this cannot run on a schedule."
    assert wrong == {"param PASSWORD": sentence}


def test_text_of_saved_commands_is_escaped(script: Script) -> None:
    evil = "<img onerror=x>'\""
    param = {"name": "A", "label": evil, "default": evil, "choices": None}
    chosen = param | {"choices": [evil]}
    html = script("fieldsHtml(params, {A: evil})", params=[param, chosen], evil=evil)
    row = COMMAND | {"command_text": evil, "runs": [], "cron": evil, "zone": evil, "paused": False}
    html += script("savedRowHtml(row, {statuses, now: 0})", row=row, statuses=STATUSES)
    html += script("timesHtml(row, 0)", row=row)
    html += script("paramRowsHtml(givenParams(params), new Set(['A']), '')", params=[param, chosen])
    html += script("previewHtml(['2026-11-29T18:00:00Z'], evil, 'UTC')", evil=evil)
    assert "<img" not in html


# --- The home -------------------------------------------------------------------------------------

HOUR = 3600


def failure(name: str, count: int, at_second: float, **more: Any) -> dict[str, Any]:
    newest = job(
        title=name, finished_at=at(at_second), **{"status": "failed", "reason": None, **more}
    )
    return {"name": name, "count": count, "newest": newest}


def items_of(script: Script, seen: dict[str, Any] | None = None, **more: Any) -> list[Any]:
    """What needs attention."""
    status = {"workers": [{"queues": []}], "counts": {"queued": 1}}
    given = {"status": status, "queues": [], "failures": [], "schedules": [], **more}
    seen = {"since": at(0), "dismissed": {}, **(seen or {})}
    return script("attentionItems(given, seen)", given=given, seen=seen)


def test_a_dismissed_failure_returns_when_the_name_fails_again(script: Script) -> None:
    dismissed = {"failure backup": {"at": at(10), "count": 40}}
    old = [failure("backup", 40, 10), failure("train", 2, -5)]
    assert items_of(script, {"dismissed": dismissed}, failures=old) == []
    (item,) = items_of(script, {"dismissed": dismissed}, failures=[failure("backup", 42, 20)])
    assert (item["name"], item["more"]) == ("backup", 2)
    (item,) = items_of(script, failures=[failure("backup", 40, 10)])
    assert item["more"] == 40


def test_jobs_that_cannot_start_and_stopped_schedules_need_attention(script: Script) -> None:
    pause = {"by": "anna", "why": "repair"}
    queues = [
        {"queue": "gpu", "queued": 2, "paused": pause},
        {"queue": "idle", "queued": 0, "paused": pause},
        {"queue": "old", "queued": 1, "paused": None},
    ]
    only = {"workers": [{"queues": ["default"]}], "counts": {"queued": 3}}
    kinds = [(each["kind"], each["queue"]) for each in items_of(script, queues=queues, status=only)]
    assert kinds == [("unserved", "old"), ("paused", "gpu")]
    assert [each["kind"] for each in items_of(script, queues=queues)] == ["paused"]
    nobody = {"workers": [], "counts": {"queued": 3}}
    kinds = [each["kind"] for each in items_of(script, queues=queues, status=nobody)]
    assert kinds == ["worker", "paused"]
    skipped = {"count": 3, "last_at": at(5), "for_job": "1"}
    schedules = [
        {"saved": "a", "paused": True, "skipped": skipped},
        {"saved": "b", "paused": False, "skipped": skipped},
        {"saved": "c", "paused": False, "skipped": {"count": 0}},
    ]
    kinds = [(each["kind"], each["name"]) for each in items_of(script, schedules=schedules)]
    assert kinds == [("stopped", "a"), ("skipped", "b")]
    dismissed = {"stopped a": {"at": ""}, "skipped b": {"at": at(5)}}
    assert items_of(script, {"dismissed": dismissed}, schedules=schedules) == []


def test_a_failure_in_the_home_is_explained_by_its_reason_first(script: Script) -> None:
    explain = "explain({status, reason, hint, exit_code: 3})"
    assert script(explain, status="failed", reason="killed", hint="x") == "killed"
    assert script(explain, status="failed", reason=None, hint="no space left") == (
        "Last line: no space left"
    )
    assert script(explain, status="failed", reason=None, hint=None) == "exit 3"
    assert "tick" not in script(explain, status="timed_out", reason=None, hint="tick 8")


def test_the_next_runs_are_those_of_a_day_and_then_the_paused_ones(script: Script) -> None:
    def schedule(name: str, hours: float | None, paused: bool = False) -> dict[str, Any]:
        next_run = at(hours * HOUR) if hours else None
        more = {"cron": "@daily", "zone": "UTC", "runs": []}
        return {"saved": name, "next_run": next_run, "paused": paused, **more}

    given = [schedule("p", None, True), schedule("c", 30), schedule("b", 20), schedule("a", 1)]
    found = script("nextSchedules(given, now)", given=given, now=NOW)
    assert [each["saved"] for each in found["rows"]] == ["a", "b", "p"]
    assert found["later"]["saved"] == "c"


def test_changed_names_are_put_in_the_order_of_their_newest_runs(script: Script) -> None:
    def entry(name: str, newest: str) -> dict[str, Any]:
        return {"name": name, "runs": [["20260101", "failed", 1], [newest, "succeeded", 1]]}

    known = {"names": [entry("b", "20260105"), entry("a", "20260104"), entry("c", "20260103")]}
    sent = {"changed": [entry("c", "20260106"), entry("d", "20260102")], "gone": ["a"], "more": 1}
    found = script("applyNames(known, sent)", known=known, sent=sent)
    assert [each["name"] for each in found["names"]] == ["c", "b", "d"]
    assert found["more"] == 1
    assert script("applyNames(undefined, known)", known=known) == known


def test_a_success_rate_is_100_percent_only_if_all_succeeded(script: Script) -> None:
    assert script("rateText(999, 1000)") == "99 %"
    assert [script("rateText(n, 4)", n=n) for n in (0, 3, 4)] == ["0 %", "75 %", "100 %"]


def test_the_home_first_shows_few_of_many_failures(script: Script) -> None:
    failures = [failure(f"job {number}", 1, 10) for number in range(30)]
    html = """attentionHtml(items, { statuses, now, showsAll, link: () => "?" })"""
    for shows_all, shown in ((False, 8), (True, 30)):
        found = script(
            html,
            items=items_of(script, failures=failures),
            statuses=STATUSES,
            now=NOW,
            showsAll=shows_all,
        )
        assert found.count("<li ") == shown
        assert ("Show 22 more failures" in found) is not shows_all


def test_text_of_jobs_is_escaped_in_the_home(script: Script) -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    hostile = job(title=evil, id=evil, submitted_by=evil, status="running")
    entry = {"name": evil, "title": evil, "saved": True, "succeeded": 1, "ended": 1, "median": 1}
    entry["runs"] = [[evil, evil, 1], [evil, "failed", None]]
    next_run = {"saved": evil, "cron": evil, "zone": evil, "next_run": at(60), "paused": False}
    skipped = {"count": 2, "last_at": at(5), "for_job": evil}
    items = items_of(
        script,
        failures=[failure(evil, 3, 10, id=evil, hint=evil)],
        queues=[{"queue": evil, "queued": 2, "paused": {"by": evil, "why": evil}}],
        schedules=[next_run | {"skipped": skipped}, next_run | {"paused": True}],
    )
    html = script(
        """(() => {
            const link = (change) => `?${new URLSearchParams(change)}`;
            const context = { statuses, now, link, zone: "UTC", asking: "", cancelled: new Set() };
            return [
                attentionHtml(items, context),
                runningHtml({ jobs: [hostile], more: false }, context),
                nextHtml(schedules, context),
                namesHtml({ names: [entry], more: 1, complete: false }, context),
                welcomeHtml({ workers: [], slots: { all: 0 }, problem: evil, canSubmit: true }),
            ].join("");
        })()""",
        statuses=STATUSES,
        now=NOW,
        items=items,
        hostile=hostile,
        schedules=[next_run | {"runs": [hostile]}],
        entry=entry,
        evil=evil,
    )
    assert len(items) == 4
    assert "<img" not in html
    images = "new DOMParser().parseFromString(html, 'text/html').images.length"
    assert script(images, html=html) == 0


# --- After a failure ------------------------------------------------------------------------------


def test_a_match_is_marked_and_visible_and_html_is_escaped(script: Script) -> None:
    assert (
        script("markedHtml('\\x1b[31mFatal\\x1b[m: <b>', 'fatal')")
        == "<mark>Fatal</mark>: &#60;b&#62;"
    )
    far = script("markedHtml(text, 'needle')", text=f"{'x' * 900} needle {'y' * 900}")
    assert re.fullmatch(r"…x{23} <mark>needle</mark> y{269}…", far)
    assert "<img" not in script("markedHtml(text, text)", text=HOSTILE)


def test_matching_lines_are_grouped_by_job(script: Script) -> None:
    first = {"hits": [hit("b", 90), hit("b", 10)], "more_in": []}
    second = {"hits": [hit("b", 5), hit("a", 7)], "more_in": ["a"]}
    groups = script("addHits(addHits([], first), second)", first=first, second=second)
    assert [group["job"]["id"] for group in groups] == ["b", "a"]
    assert [[line["offset"] for line in group["lines"]] for group in groups] == [[90, 10, 5], [7]]
    assert [group["more"] for group in groups] == [False, True]


def test_the_same_lines_of_jobs_with_the_same_name_are_folded(script: Script) -> None:
    def group(job_id: str, title: str, *texts: str) -> dict[str, Any]:
        lines = [{"offset": 0, "line": 1, "text": text} for text in texts]
        return {"job": job(id=job_id, title=title), "lines": lines, "more": False}

    groups = [
        group("4", "backup", "\x1b[31mdisk full\x1b[0m"),
        group("3", "deploy", "disk full"),
        group("2", "backup", "disk full"),
        group("1", "backup", "disk full", "again"),
    ]
    folded = script("foldGroups(groups)", groups=groups)
    assert [each["job"]["id"] for each in folded] == ["4", "3", "1"]
    assert [len(each["others"]) for each in folded] == [1, 0, 0]
    code = "groupHtml(group, { statuses, now, wanted: 'disk', link: () => '?', at: '', unfolded })"
    given = {"group": folded[0], "statuses": STATUSES, "now": NOW}
    assert "\u00d72" in script(
        f"(() => {{ const unfolded = new Set(); return {code} }})()", **given
    )
    assert script("describeFound(groups, false)", groups=groups) == "5+ lines in 4 jobs"
    assert script("describeFound(groups, true)", groups=groups[:1]) == "1 line in 1 job"


def hit(job_id: str, offset: int) -> dict[str, Any]:
    return {"job": {"id": job_id}, "offset": offset, "line": None, "text": "found"}


def test_the_question_about_many_jobs_has_their_number(script: Script) -> None:
    code = "bulkQuestion(action, filters, { ids, left_out: left, complete })"
    filters = {"status": "timed_out", "queue": "", "q": "web"}
    given = {"filters": filters, "ids": ["1"], "left": 0, "complete": True}
    assert script(code, action="rerun", **given) == "Run 1 timed out job matching “web” again?"
    given |= {"filters": {"status": "", "queue": "gpu", "q": ""}, "ids": ["1"] * 2000}
    assert script(code, action="cancel", **given | {"complete": False}) == (
        "Cancel the newest 2,000 queued or running jobs in queue gpu? More jobs match."
    )


def test_declined_changes_are_counted_by_reason(script: Script) -> None:
    done = {"count": 9, "tried": 6, "isStopped": True, "declined": ["gone", "it runs", "it runs"]}
    reported = script("bulkResult('delete', done)", done=done)
    assert reported == "Stopped. Deleted 3 of 9 jobs. Not done: 2 \u00d7 it runs; 1 \u00d7 gone."
    done = {"count": 278, "tried": 278, "declined": []}
    assert script("bulkResult('rerun', done)", done=done) == "Started 278 jobs."
    assert script("actionButton('rerun', 278)") == "Run 278 jobs"
    assert script("bulkNothing('rerun', 3)") == "Nothing to run again: 3 were already run again."
    progress = script("bulkProgress('rerun', { tried: 0, count: 278 })")
    assert progress == "Running 0 of 278 again\u2026"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"not_before": at(3600 + 239)}, "starts in 4 min"),
        ({"not_before": at(3600 + 40), "attempt": 2}, "again in 41 s"),
        ({"not_before": at(3599)}, ""),
        ({"not_before": None}, ""),
        ({"not_before": at(3700), "status": "cancelled"}, ""),
    ],
)
def test_a_delayed_job_shows_when_it_starts(
    script: Script, fields: dict[str, Any], text: str
) -> None:
    waiting = job(**({"status": "queued", "attempt": 1} | fields))
    assert script("formatStart(job, now)", job=waiting, now=NOW) == text


def test_a_row_shows_why_its_job_failed(script: Script) -> None:
    failed = job(status="failed", hint=HOSTILE)
    code = "jobRowHtml(job, { statuses, now, watched: false })"
    row = script(code, job=failed, statuses=STATUSES, now=NOW)
    assert 'class="hint"' in row and "<img" not in row
    assert 'class="hint"' not in script(code, job=job(), statuses=STATUSES, now=NOW)


# --- The files ------------------------------------------------------------------------------------


def test_pure_files_do_not_use_the_document() -> None:
    for name in PURE:
        text = (STATIC / f"{name}.js").read_text()
        assert not re.search(r"\b(document|window|fetch|localStorage|Date\.now)\b\s*[.(]", text), (
            name
        )


def test_everything_in_static_may_be_public() -> None:
    """It is served without the token, so it must contain only code of the page."""
    kinds = {path.suffix for path in STATIC.rglob("*") if path.is_file()}
    assert kinds <= {".js", ".css", ".html", ".json"}
    assert not list(Path(STATIC).rglob("*.py"))


# --- Files of jobs --------------------------------------------------------------------------------


def test_the_ending_of_a_name_says_how_a_file_is_shown(script: Script) -> None:
    kinds = {
        **{"a.PNG": "image", "x/y.tar.svg": "svg", "a.HTM": "html", "a.md": "markdown"},
        **{"a.csv": "table", "a.json": "json", "Makefile": "text", "a b.log": "text"},
        **{"a.exe": "", "png": "", ".png": "", "a.": "", "x.txt/": "", "a.constructor": ""},
        **{"a.pdf": "", "a.xhtml": "", "a.svgz": "", "a.js": "text", "a.png ": ""},
    }
    assert script("names.map(viewOf)", names=list(kinds)) == list(kinds.values())
    assert script("[imageType('A.JPG'), imageType('a.html'), imageType('a.svg')]") == [
        *["image/jpeg", None, None]
    ]


def test_no_name_poses_as_another(script: Script) -> None:
    assert (
        script("visibleName(name)", name="a\u202efdp.exe\n\x00é") == "a\ufffdfdp.exe\ufffd\ufffdé"
    )


def entry(path: str, url: str | None = None, **fields: Any) -> dict[str, Any]:
    url = url or f"/jobs/1/files/{quote(path)}"
    return {"path": path, "url": url, "kind": "file", "size": 10, "modified": at(0)} | fields


def test_the_address_names_each_file_of_a_job(script: Script) -> None:
    odd = entry("caf\ufffd", "/jobs/1/files/caf%E9")
    entries = [entry("a b/c?.txt"), odd, entry("x", kind="link"), entry("100%.txt")]
    for each, name in zip(entries, ("a b/c?.txt", "caf%E9", "x", "100%.txt"), strict=True):
        assert script("addressOfFile(entry, '1')", entry=each) == name
        found = script("findEntry(entries, name, '1')", entries=entries, name=name)
        assert found == (each if each["kind"] == "file" else None)
    assert script("unlistedEntry('a b/ü%.txt', '1').url") == "/jobs/1/files/a%20b/%C3%BC%25.txt"
    for wrong in ("..", "a/../../me", "/etc/passwd", "a//b", ".", "", "a/"):
        assert script("unlistedEntry(wrong, '1')", wrong=wrong) is None
    assert script("unlistedEntry('\\ud800', '1')") is None


def test_the_list_of_files_shows_what_can_be_opened(script: Script) -> None:
    context = (
        "{ jobId: '1', problem, now: NOW, opened: 'a.txt', link: ({ path }) => `?file=${path}`,"
        " fileUrl: (path, given = {}) => `api${path}?${new URLSearchParams(given)}` }"
    )
    expression = f"filesHtml({{ entries, isComplete, line: 6, isOpen, most: 2 }}, {context})"
    few = [entry("a.txt"), entry("<b>", size=2048), entry("c", kind="link", size=None)]

    def shown(entries: list[Any], whole: bool = True, is_open: bool = False, why: str = "") -> str:
        given = {"entries": entries, "isComplete": whole, "isOpen": is_open, "problem": why}
        return str(script(expression, NOW=NOW, **given))

    html = shown(few)
    assert words(html).startswith("Files 3 · 2.0 KiBa.txt 10 bytes")
    assert html.count("<a ") == 3 and html.count('aria-current="true"') == 1
    assert 'href="api/jobs/1/files/%3Cb%3E?download=1"' in html and "<b>" not in html
    many = [entry(f"{n}.txt") for n in range(7)]
    assert "<li>" not in shown(many)
    assert "Show more of 5 further files" in shown(many, is_open=True)
    assert words(shown(few, whole=False)).startswith("The first 3 files · 2.0 KiB")
    elsewhere = shown(few, why="They are on another machine.")
    assert "They are on another machine." in elsewhere and "<a " not in elsewhere
    assert shown([], why="<i>") == '<p class="files-problem">&#60;i&#62;</p>'


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,2\n", [["a", "b"], ["1", "2"]]),
        ("a;b\r\n1,5;2", [["a", "b"], ["1,5", "2"]]),
        ("a\tb, c\n1\t2, 3\n", [["a", "b, c"], ["1", "2, 3"]]),
        ("1,5;2,5\n3,5;4,5", [["1,5", "2,5"], ["3,5", "4,5"]]),
        ('"x ""y""";"1;2"\n"two\r\nlines";', [['x "y"', "1;2"], ["two\r\nlines", ""]]),
        ('a,"open\nto the end', [["a", "open\nto the end"]]),
        ('a,"b"c,\n\n1', [["a", "bc", ""], [""], ["1"]]),
        ("one column\nonly\n", [["one column"], ["only"]]),
        ("", []),
        (",", [["", ""]]),
    ],
)
def test_csv_becomes_rows(script: Script, text: str, rows: list[list[str]]) -> None:
    wanted = {"rows": rows, "hasMoreRows": False, "hasMoreColumns": False}
    assert script("parseTable(text, false)", text=text) == wanted


def test_a_large_table_is_cut(script: Script) -> None:
    large = script("parseTable('1,2\\n'.repeat(1001), false)")
    assert (len(large["rows"]), large["hasMoreRows"]) == (1000, True)
    wide = script("parseTable('1,'.repeat(501), false)")
    assert (len(wide["rows"][0]), wide["hasMoreColumns"]) == (500, True)
    assert script("parseTable('a,b\\n1,2\\n3', true)") == {
        **{"rows": [["a", "b"], ["1", "2"]], "hasMoreRows": True, "hasMoreColumns": False}
    }


def test_json_is_indented_and_not_changed(script: Script) -> None:
    text = '{"n":[1e400,-0.10,12345678901234567890],"t":"a \\"{,}\\" \\u00e9","e":[ ],"o":{}}'
    indented = script("indentJson(text)", text=text)
    assert indented == (
        '{\n  "n": [\n    1e400,\n    -0.10,\n    12345678901234567890\n  ],\n'
        '  "t": "a \\"{,}\\" \\u00e9",\n  "e": [],\n  "o": {}\n}'
    )
    assert script("indentJson(text)", text="{'no': json}") is None
    assert script("indentJson('['.repeat(5e5) + ']'.repeat(5e5))") is None  # would be too long
    long = script("indentJson(JSON.stringify('\\n'.repeat(5e5))).length")
    assert long == 1_000_002


def test_bytes_that_are_not_text_are_replaced(script: Script) -> None:
    decode = "decodeText(new Uint8Array(bytes), isCut)"
    assert script(decode, bytes=[97, 255, 0, 98], isCut=False) == "a\ufffd\ufffdb"
    assert script(decode, bytes=[97, 0xC3], isCut=True) == "a"
    assert script(decode, bytes=[255, 254, 97, 0], isCut=False) == "a"  # UTF-16
    html = "decodeHtml(new Uint8Array(bytes))"
    assert script(html, bytes=[255, 254, 97, 0]) == "a"
    latin = list(b'<meta charset="iso-8859-1">\xe9')
    assert script(html, bytes=latin) == '<meta charset="iso-8859-1">é'
    assert script(html, bytes=list(b"<meta charset=nonsense>\xe9")).endswith("\ufffd")


def test_a_table_is_unicode_or_in_the_encoding_of_windows(script: Script) -> None:
    decode = "decodeTable(new Uint8Array(bytes), isCut)"
    windows = {"text": "Müller; 3 €", "isWindows": True}
    assert script(decode, bytes=list("Müller; 3 €".encode("cp1252")), isCut=False) == windows
    cut = list("Mü".encode()[:-1])
    assert script(decode, bytes=cut, isCut=True) == {"text": "M", "isWindows": False}
    utf16 = [255, 254, *"ü".encode("utf-16le")]
    assert script(decode, bytes=utf16, isCut=False) == {"text": "ü", "isWindows": False}


# --- Notifications --------------------------------------------------------------------------------


def delivery(**fields: Any) -> dict[str, Any]:
    return {"to": "ops", "tries": 1, "sent_at": None, "error": None, "pending": False} | fields


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sent_at": at(0)}, "sent to ops"),
        ({"tries": 0, "pending": True}, "not yet sent to ops"),
        ({"error": "HTTP 500", "pending": True}, "not sent to ops: HTTP 500, trying again"),
        ({"error": "HTTP 500"}, "not sent to ops: HTTP 500"),
    ],
)
def test_a_message_shows_what_became_of_it(
    script: Script, fields: dict[str, Any], text: str
) -> None:
    assert script("deliveryText(one)", one=delivery(**fields)) == text


@pytest.mark.parametrize(
    ("event", "text", "shown"),
    [
        ("timed_out", "", "timed out"),
        ("late", "usually 36 s, now 2 min", "late · usually 36 s, now 2 min"),
        ("silent", "silent for 14 min", "silent for 14 min"),
    ],
)
def test_an_event_is_named_once(script: Script, event: str, text: str, shown: str) -> None:
    assert script("noticeText(notice)", notice={"event": event, "text": text}) == shown


def test_a_notification_is_shown_without_html_of_others(script: Script) -> None:
    made = [delivery(to=HOSTILE, error=HOSTILE)]
    notice = {"job": "1", "title": HOSTILE, "event": "failed", "text": HOSTILE, "at": at(0)}
    context = "{ statuses, now, seen: 0, link: ({ at }) => `?at=${at}` }"
    given = {"all": [notice | {"deliveries": made}], "statuses": STATUSES, "now": NOW}
    html = script(f"noticesHtml(all, {context}) + noticesTable(all, now)", **given)
    assert "<img" not in html and "?at=hint" in html and 'class="undelivered"' in html


@pytest.mark.parametrize(
    ("rules", "summary", "wrong"),
    [
        (None, "as TAILBOARD_NOTIFY says", None),
        ([], "nobody", ["notify"]),
        ([{"on": ["failed", "timed_out"], "to": "ops"}], "failed, timed out → ops", []),
        ([{"on": ["late"], "to": "ops"}, {"on": [], "to": "a"}], "late → ops;  → a", ["rule 1"]),
        ([{"on": ["late"], "to": "ntfy //x"}], "late → ntfy //x", ["rule 0"]),
        ([{"on": ["late"], "to": "json://x/\u2026"}], "late → json://x/…", []),
    ],
)
def test_rules_are_summarised_and_checked(
    script: Script, rules: Any, summary: str, wrong: list[str] | None
) -> None:
    assert script("rulesSummary(rules)", rules=rules) == summary
    if wrong is not None:
        found = script("Object.keys(wrongRules(rules.map(newRule)))", rules=rules)
        assert found == wrong


# --- The palette ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted", "shown"),
    [
        ("Run deploy", "dep", "Run <mark>dep</mark>loy"),
        ("Run deploy", "deploy run", "<mark>Run</mark> <mark>deploy</mark>"),
        ("nightly import", "nim", "<mark>ni</mark>ghtly i<mark>m</mark>port"),
        ("deploy prod", "dpl", "<mark>d</mark>e<mark>pl</mark>oy prod"),
        ("a<b> & c", "b>", "a&#60;<mark>b&#62;</mark> &#38; c"),
        ("İstanbul", "bul", "İstan<mark>bul</mark>"),
        ("train model", "mt", None),
        ("backup", "bzz", None),
        ("open the last failure", "eaf", None),  # letters in the middle of words
    ],
)
def test_the_palette_matches_fuzzily(
    script: Script, text: str, wanted: str, shown: str | None
) -> None:
    match = "fuzzyMatch(text, wanted)"
    expression = f"((match) => match && highlightHtml(text, match.places))({match})"
    assert script(expression, text=text, wanted=wanted) == shown


def test_the_palette_shows_the_best_group_first(script: Script) -> None:
    items = [
        {"key": "1", "group": "Jobs", "text": "redeploy all", "also": "20261129-1"},
        {"key": "2", "group": "Jobs", "text": "deploy web"},
        {"key": "3", "group": "Jobs", "text": "sleep 5", "isFound": True},
        {"key": "4", "group": "Actions", "text": "Show deployed"},
        {"key": "5", "group": "Saved commands", "text": "deploy"},
    ]
    keys = "([name, found]) => [name, found.map((item) => item.key)]"
    ranked = f"rankItems(items, wanted).map({keys})"
    assert script(ranked, items=items, wanted="deploy") == [
        ["Saved commands", ["5"]],
        ["Jobs", ["2", "1", "3"]],
        ["Actions", ["4"]],
    ]
    assert script(ranked, items=items[:2], wanted="1129-1") == [["Jobs", ["1"]]]


def test_the_palette_ignores_answers_to_earlier_texts(script: Script) -> None:
    expression = """(async () => {
        const waiting = [];
        const request = (_, { q }) => new Promise((resolve) => waiting.push({ q, resolve }));
        const arrived = async (count) => {
            while (waiting.length < count) await new Promise((done) => setTimeout(done, 5));
        };
        const search = new PaletteSearch(() => {}, request);
        search.start("old");
        await arrived(1);
        search.start("new");
        await arrived(2);
        waiting[1].resolve({ jobs: [{ id: "new" }], next: "more" });
        await arrived(3);
        waiting[0].resolve({ jobs: [{ id: "old" }], next: null });
        waiting[2].resolve({ jobs: [{ id: "newer" }], next: null });
        while (search.say) await new Promise((done) => setTimeout(done, 5));
        return search.jobs.map((job) => job.id);
    })()"""
    assert script(expression) == ["new", "newer"]


def test_what_was_not_drawn_during_a_press_is_drawn_after_its_click(script: Script) -> None:
    expression = """(async () => {
        const reported = [];
        const node = new EventTarget();
        const press = new Press(node, () => reported.push(`ended, held: ${press.isHeld}`));
        const release = () => {
            dispatchEvent(new Event("pointerup"));
            return new Promise((done) => setTimeout(done, 5));
        };
        await release();  // of a press elsewhere
        node.dispatchEvent(new Event("pointerdown"));
        reported.push(`pressed, held: ${press.isHeld}`);
        press.isHeld = false;  // as a handler of the click does
        await release();
        press.close();
        node.dispatchEvent(new Event("pointerdown"));
        await release();
        return reported;
    })()"""
    assert script(expression) == ["pressed, held: true", "ended, held: false"]


# --- What an explanation says ---------------------------------------------------------------------

LINK = "(change) => `?job=${change.job ?? ''}&at=${change.at ?? ''}`"


def words(html: str) -> str:
    return re.sub("<[^>]*>", "", html)


def test_a_pause_is_emphasised_if_it_is_much_longer_than_usual(script: Script) -> None:
    before = {"offset": 90, "line": 9, "text": "copying <b>"}
    pause = {"seconds": 130, "usually": 12, "began_at": at(0), "before": before, "after": None}
    html = script("pauseHtml(pause, 3, NOW)", pause=pause, NOW=NOW)
    assert words(html) == "2 min 10 susually 12 scopying &#60;b&#62;(the end of the log)"
    assert 'data-pause="3"' in html and "much-longer" in html
    usual = [(130, 100), (130, None), (4, 1), (12, 6.5)]
    assert script(
        "usual.map(([seconds, usually]) => isMuchLonger({ seconds, usually }))", usual=usual
    ) == [False, False, False, False]
    assert script("linesOfPause(pause)", pause=pause) == {"first": 90, "last": 90}


def test_the_time_of_a_section_is_as_good_as_the_times_of_the_log(script: Script) -> None:
    times = script("times.map(formatSectionTime)", times=[0, 400, 800, 1_200, 125_000, 7_260_000])
    assert times == ["", "", "1 s", "1 s", "2 min 5 s", "2 h 1 min"]


def test_silence_and_the_forecast_link_to_the_line_that_explains_them(script: Script) -> None:
    place = {"offset": 40, "line": 5, "text": "  migrating <orders>"}
    silence = {"seconds": 830, "longest_pause": 40, "run": "7", "after": place}
    html = script(f"silenceHtml(silence, 10, {LINK})", silence=silence)
    assert words(html) == "nothing for 14 min; the longest pause before was 40 s, after this line"
    assert 'href="?job=7&#38;at=40" data-job="7" data-at="40"' in html
    forecast = {"percent": 62.9, "seconds_left": 240, "seconds_behind": 90, "since": place}
    html = script(f"forecastHtml(forecast, '8', {LINK})", forecast=forecast)
    assert words(html) == ("62 %, about 4 min left, 90 s behind since “migrating &#60;orders&#62;”")
    assert 'data-job="8" data-at="40"' in html
    changes = [(-30, None), (2, None), (75, None)]
    texts = script(
        f"changes.map(([behind, since]) => forecastHtml({{ percent: 5, seconds_left: 0.2, "
        f"seconds_behind: behind, since }}, '8', {LINK}))",
        changes=changes,
    )
    assert texts == ["5 %, 30 s ahead", "5 %", "5 %, 75 s behind"]


def same_end(day: str, rerun: str | None = None, title: str = "backup") -> dict[str, Any]:
    ended = {"id": day, "status": rerun} if rerun else None
    return {"id": day, "title": title, "finished_at": f"{day}T12:00:00Z", "rerun": ended}


@pytest.mark.parametrize(
    ("here", "elsewhere", "sentence"),
    [
        (
            [same_end("2025-11-19", "succeeded"), same_end("2025-11-12", "succeeded")],
            [],
            "Also on Nov 12 and 19 in this command, never elsewhere; both passed when run again",
        ),
        (
            [same_end("2025-11-24"), same_end("2025-10-30", "failed"), same_end("2024-10-30")],
            [same_end("2025-11-01", None, "<deploy>"), same_end("2025-11-02", None, "<deploy>")],
            "Also on Oct 30, 2024 and Oct 30 and today at TIME in this command; "
            "one was run again and failed; elsewhere: 2 times in &#60;deploy&#62;",
        ),
        (
            [],
            [same_end("2025-11-01", "failed", "deploy")],
            "Never before in this command; elsewhere: once in deploy; it failed again",
        ),
        ([], [], "Never seen before"),
    ],
)
def test_jobs_with_the_same_end_are_named_by_their_days(
    script: Script, here: list[Any], elsewhere: list[Any], sentence: str
) -> None:
    seen = {"partial": False, "here_count": len(here), "here": here}
    seen |= {"elsewhere_count": len(elsewhere), "elsewhere": elsewhere}
    expression = f"seenHtml(seen, {{ link: {LINK}, now: NOW, hasEarlier: true }})"
    html = script(expression, seen=seen, NOW=NOW)
    assert re.sub(r"\d\d:00\s[AP]M", "TIME", words(html)) == sentence
    assert html.count("data-job=") == len({job["title"] for job in elsewhere}) + len(here)


def test_nothing_is_called_new_before_all_jobs_were_searched(script: Script) -> None:
    none = {"here_count": 0, "here": [], "elsewhere_count": 0, "elsewhere": []}
    expression = f"seenHtml(seen, {{ link: {LINK}, now: NOW, hasEarlier }})"
    assert script(expression, seen={**none, "partial": True}, NOW=NOW, hasEarlier=True) == ""
    assert script(expression, seen={**none, "partial": False}, NOW=NOW, hasEarlier=False) == ""
    days = [same_end(f"2025-11-{day}") for day in range(21, 11, -1)]
    some = {**none, "here_count": 12, "here": days, "partial": True}
    html = script(expression, seen=some, NOW=NOW, hasEarlier=True)
    assert words(html) == (
        "Also on Nov 17, 18, 19, 20 and 21, and 7 more, in this command; searching older jobs…"
    )


def test_lines_of_two_logs_are_side_by_side(script: Script) -> None:

    def shown(kind: str, folded: int, left: list[str], right: list[str], more: int = 0) -> str:
        hunk: dict[str, Any] = {"kind": kind, "folded": folded}
        for side, first, lines in (("left", 1, left), ("right", 5, right)):
            hunk[side] = {"line": first, "offset": 9 * first, "count": len(lines) + more}
            hunk[f"{side}_lines"] = lines
            hunk[f"{side}_offsets"] = [9 * n for n in range(first, first + len(lines))]
            more = more if kind == "equal" else 0
        return str(script(f"hunkHtml(hunk, {{ left: '1', right: '2' }}, {LINK})", hunk=hunk))

    html = shown("equal", 2, ["a 1", "b"], ["a 2", "b"], more=2)
    assert words(html) == "1a 15a 2… 2 equal lines4b8b"
    assert 'href="?job=1&#38;at=9" data-job="1" data-at="9"' in html
    html = shown("changed", 500, ["<i>"], ["x", "y"], more=500)
    assert words(html) == "1&#60;i&#62;… 500 more lines5x6y"
    side = {"id": "1", "title": "t", "status": "failed", "finished_at": None, "lines": 50_000}
    context = f"{{ link: {LINK}, statuses }}"
    head = f"sideHtml(side, '+', {context})"
    assert "the first 50,000 lines" in script(head, side=side | {"cut": True}, statuses=STATUSES)


# --- Processor time and memory --------------------------------------------------------------------

SAMPLE_TIMES = (0, 5, 10, 20)  # seconds


def samples(*values: tuple[float | None, float]) -> list[dict[str, Any]]:
    """Samples of so many cores and so much memory."""
    pairs = zip(SAMPLE_TIMES, values, strict=True)
    return [{"at": 1000 * at, "cpu": cpu, "memory": memory} for at, (cpu, memory) in pairs]


def test_busy_cores_have_two_digits(script: Script) -> None:
    given = [0, 0.004, 0.05, 0.974, 0.996, 1.0, 1.94, 9.96, 12.4]
    expected = ["0", "0", "0.05", "0.97", "1.0", "1.0", "1.9", "10", "12"]
    assert script("given.map(formatCores)", given=given) == expected
    usage = [{"cpu": 0.97, "memory": 1.2 * 2**30}, {"cpu": 1, "memory": 0}]
    shown = script("usage.map(usageText)", usage=[*usage, {"cpu": None, "memory": 5}])
    assert shown == ["CPU 0.97 cores · 1.2 GiB", "CPU 1 core · 0 bytes", "5 bytes"]


def test_the_usage_of_a_job_is_summed_up_in_words(script: Script) -> None:
    facts = script("summarize(given)", given=samples((None, 0), (1, 40), (0, 90), (2, 60)))
    assert facts == {"cpu": 2, "memory": 60, "mostCpu": 2, "mostMemory": 90, "meanCpu": 1.25}
    both = "[cpuWords(facts, state), memoryWords(facts, state)].map((each) => lineLabel('', each))"
    running = {"isRunning": True, "limit": None}
    assert script(both, facts=facts, state=running) == [
        ": 2.0 cores, peak 2.0",
        ": 60 bytes, peak 90 bytes",
    ]
    ended = {"isRunning": False, "limit": 2 << 30}
    assert script(both, facts=facts, state=ended) == [
        *(": 1.3 cores, average, peak 2.0", ": 90 bytes, peak, limit 2.0 GiB"),
    ]


def test_a_job_is_idle_or_busy_by_its_last_minute(script: Script) -> None:
    given = [{"at": 5_000 * n, "cpu": 1 if n < 10 else 0.01, "memory": 0} for n in range(1, 30)]
    assert script("quietText(240000, recentCores(given, 150000))", given=given) == (
        "no output for 4 min, idle"
    )
    given = [{**each, "cpu": 0.97} for each in given]
    assert script("quietText(240000, recentCores(given, 150000))", given=given) == (
        "no output for 4 min, busy: 0.97 cores"
    )
    unknown = script("[recentCores(given, 999999), recentCores([], 0)]", given=given)
    assert unknown == [None, None]
    assert script("quietText(240000, null)") == "no output for 4 min"


def test_each_attempt_has_a_line_of_its_own(script: Script) -> None:
    given = samples((None, 50), (1, 50), (None, 0), (2, 100))
    times = {"from": 0, "to": 20_000}
    path = "linePath(given, (each) => each[of], times, top)"
    tops = {"cpu": 2, "memory": 100}
    assert [script(path, given=given, times=times, of=of, top=tops[of]) for of in tops] == [
        "M0.0 50.0L250.0 50.0M500.0 0.0L1000.0 0.0",
        "M0.0 50.0L250.0 50.0M500.0 100.0L1000.0 0.0",
    ]


def test_the_lines_share_the_times_of_the_job_and_of_its_pauses(script: Script) -> None:
    given = samples((None, 50), (1, 50), (1, 0), (2, 100))
    known = [{"startedAt": -2_000, "endedAt": 23_000}, {"startedAt": None, "endedAt": None}]
    times = script("known.map((each) => timesOf(given, each))", given=given, known=known)
    assert times == [{"from": -2000, "to": 23_000}, {"from": 0, "to": 20_000}]
    pauses = [{"from": 5_000, "to": 10_000}, {"from": 12_000, "to": 12_050}]
    assert script("pausesSvg(pauses, times)", pauses=pauses, times=times[1]) == (
        '<rect x="250.0" y="0" width="250.0" height="100"/>'
    )
    listed = [{"began_at": at(0), "seconds": seconds} for seconds in (90, 8, 7, 4)]
    shaded = "worthShading(listed).map(({ from, to }) => (to - from) / 1000)"
    assert script(shaded, listed=listed) == [90, 8, 7]
    assert script(shaded, listed=[*listed[:3], *listed[1:3] * 4]) == [90]
    nearest = "[-9, 2000, 3000, 14000, 16000, 99000].map((time) => nearestIndex(given, time))"
    assert script(nearest, given=given) == [0, 0, 1, 2, 3, 3]
    tops = "[topOfMemory(100, null), topOfMemory(100, 300), topOfMemory(100, 500)]"
    assert script(tops) == [100, 300, 100]


def test_newer_samples_are_joined_unless_some_are_missing(script: Script) -> None:
    known = [{"at": at} for at in (1, 2, 3)]
    joined = "joinSamples(known, at.map((each) => ({ at: each })), 2)?.map(({ at }) => at) ?? null"
    for newest, expected in (([3, 4], [1, 2, 3, 4]), ([5, 6], None), ([9], [9])):
        assert script(joined, known=known, at=newest) == expected


def test_the_details_of_a_job_have_its_limits_and_its_files(script: Script) -> None:
    limits = {"max_memory": 2 << 30, "nice": 0, "log_max_bytes": 1 << 20}
    kept = {"keep_runs": 10, "keep_days": 1, "keep_files": True}
    full = job(env_names=[], files_count=3, files_bytes=12 << 10, **limits, **kept)
    least = job(env_names=[], files_count=0, files_bytes=0)
    shown = script(
        "[full, least].map((each) => detailsHtml(each, {}, now))", full=full, least=least, now=NOW
    )
    found = [re.findall("<th[^>]*>([^<]*)</th><td>([^<]*)</td>", html) for html in shown]
    assert dict(found[0]).items() >= {
        ("Memory limit", "2.0 GiB"),
        ("Priority", "0"),
        ("Log limit", "1.0 MiB"),
        ("Kept", "the newest 10 runs, for a day"),
        ("Files", "3, 12.0 KiB, kept of each attempt"),
    }
    assert not dict(found[1]).keys() & {"Memory limit", "Priority", "Log limit", "Kept", "Files"}
