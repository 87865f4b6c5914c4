"""The files of a job on the page: their list below the head, and each file beside the log.

A job is hostile to the visitors who look at its files."""

from __future__ import annotations

import os
import re
import socket
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from conftest import wait_until
from page_site import Site, check_with_axe, log_of, state, visit, waiting
from playwright.sync_api import Error, Frame, Locator, Page, expect

from tailboard.job import Job

MIB = 1 << 20
NOT_UTF8 = b"caf\xe9.txt"
PAGE_STATE = "import(new URL('app/static/page_state.js', document.baseURI))"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


PNG = (  # 40 by 30 pixels, transparent
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 8, 6, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress((b"\0" + b"\0" * 160) * 30))
    + chunk(b"IEND", b"")
)
FILES: dict[str | bytes, str | bytes] = {
    "a <b>.txt": "<i>one</i>\n" + "x" * 200,
    "big.log": "0123456789abcde\n" * (MIB // 16 + 1000),
    "binary.txt": b"one\xff\xfe\0two",
    "broken.png": "no image",
    "data/orders.csv": 'id;name\n1;"M\u00fcller; <b>S\u00f6hne</b>"\n2;"two\nlines"\n3\n',
    "dump.bin": b"\0" * 5000,
    "empty.txt": "",
    "plot.png": PNG,
    "readme.md": "# Read me\n\n**bold** <b>raw</b>",
    "report.html": "<h1>Coverage</h1><style>h1 { color: rgb(1, 2, 3) }</style>",
    "result.json": '{"id":12345678901234567890,"pi":3.10,"list":[]}',
    "round.svg": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>',
    NOT_UTF8: "not UTF-8",
}


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


def write_files(folder: Path, files: dict[str | bytes, str | bytes]) -> None:
    for name, content in files.items():
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def job_with_files(
    site: Site, source: Path, name: str, files: dict[str | bytes, str | bytes]
) -> Job:
    """Runs a job that leaves these files, and what else is in the folder `source`."""
    write_files(source, files)
    job = site.submit(f'cp -a {source}/. "$JOB_FILES"; echo done', name)
    site.wait(job, "succeeded")
    return job


@pytest.fixture(scope="module")
def report(page_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job with all FILES, a link and a FIFO."""
    source = tmp_path_factory.mktemp("report")
    os.symlink("big.log", source / "latest.log")
    os.mkfifo(source / "pipe")
    return job_with_files(page_site, source, "report", FILES)


def address(site: Site, job: Job, file: str = "") -> str:
    return f"{site.url}/?job={job.id}" + (f"&file={file}" if file else "")


def file_list(page: Page) -> Locator:
    return page.get_by_role("region", name="Files")


def file_view(page: Page) -> Locator:
    return page.get_by_role("region", name="File", exact=True)


def files_folder(site: Site, job: Job) -> Path:
    return Path(site.storage.locate(job.id)[1]) / "files"


def frame_of(page: Page) -> Frame:
    """The frame in which a file is shown."""
    element = file_view(page).locator("iframe").element_handle()
    frame = element and element.content_frame()
    assert frame
    return frame


# --- The list -------------------------------------------------------------------------------------


def test_the_files_are_listed_below_the_head(site: Site, report: Job, page: Page) -> None:
    visit(page, address(site, report))
    opener = file_list(page).get_by_role("button", name=re.compile("^Files 15 · 1.0 MiB$"))
    opener.press("Enter")
    expect(opener).to_be_focused()
    names = file_list(page).locator(".file-name")
    expect(names).to_have_text(
        [
            *["a <b>.txt", "big.log", "binary.txt", "broken.png", "caf\ufffd.txt"],
            *["data/orders.csv", "dump.bin", "empty.txt", "latest.log", "pipe", "plot.png"],
            *["readme.md", "report.html", "result.json", "round.svg"],
        ]
    )
    kinds = file_list(page).locator("span.file .file-size")
    expect(kinds).to_have_text(["link", "fifo"])
    title = file_list(page).get_by_role("link", name="plot.png").get_attribute("title")
    assert title and re.fullmatch(r"plot\.png, \d+ bytes, today .*, .*", title)
    with page.expect_download() as download:
        file_list(page).get_by_role("link", name="dump.bin").click()
    assert download.value.path().read_bytes() == FILES["dump.bin"]
    with page.expect_download() as download:
        file_list(page).get_by_role("link", name="Download all").click()
    assert download.value.suggested_filename.endswith(".zip")
    opener.click()
    expect(names).to_have_count(0)


def test_a_job_without_files_shows_no_list(site: Site, page: Page) -> None:
    job = site.submit("echo nothing to keep", "without files")
    site.wait(job, "succeeded")
    asked = f"/jobs/{job.id}/files"
    visit(page, address(site, job, "a.txt"))
    expect(file_view(page)).to_contain_text("This job has no such file.")
    expect(file_list(page)).to_be_hidden()
    assert asked not in site.processes.text()


def test_files_appear_while_the_job_runs_and_at_its_end(
    site: Site, page: Page, tmp_path: Path, gate_file: Path
) -> None:
    more = tmp_path / "more"
    job = site.submit(
        f'echo 1 > "$JOB_FILES/early.txt"; {waiting(more)}; mkdir "$JOB_FILES/sub";'
        f'echo 2 > "$JOB_FILES/sub/late.txt"; {waiting(gate_file)}',
        "slow files",
    )
    wait_until(lambda: (files_folder(site, job) / "early.txt").exists())
    visit(page, address(site, job))
    names = file_list(page).locator(".file-name")
    expect(names).to_have_text(["early.txt"])
    more.touch()
    gate_file.touch()
    expect(state(page)).to_have_text("succeeded, exit 0")
    expect(names).to_have_text(["early.txt", "sub/late.txt"])
    expect(file_list(page)).to_contain_text("Files 2 · 4 bytes")


# --- The viewers ----------------------------------------------------------------------------------


def test_each_kind_of_file_opens_beside_the_log(site: Site, report: Job, page: Page) -> None:
    visit(page, address(site, report))
    file_list(page).get_by_role("button", name="Files").click()
    view = file_view(page)

    def open_file(name: str, said: str) -> None:
        file_list(page).get_by_role("link", name=name).click()
        expect(view.get_by_role("heading")).to_have_text(name)
        expect(view.get_by_role("heading")).to_be_focused()
        expect(view.locator(".file-said")).to_have_text(said)

    open_file("a <b>.txt", "")
    expect(view.locator("pre")).to_have_text(str(FILES["a <b>.txt"]))
    assert view.locator("i").count() == 0
    open_file("big.log", "The first 1.0 MiB of 1.0 MiB. Download it to see all of it.")
    assert view.locator("pre").evaluate("it => it.textContent.length") == MIB
    open_file("binary.txt", "")
    expect(view.locator("pre")).to_have_text("one\ufffd\ufffd\ufffdtwo")
    open_file("broken.png", "The browser cannot show this image. Download it to see it.")
    open_file("caf\ufffd.txt", "")
    expect(view.locator("pre")).to_have_text("not UTF-8")
    open_file("data/orders.csv", "")
    expect(view.locator("thead th")).to_have_text(["", "id", "name"])
    expect(view.locator("td")).to_have_text(
        ["1", "1", "M\u00fcller; <b>S\u00f6hne</b>", "2", "2", "two\nlines", "3", "3", ""]
    )
    open_file("empty.txt", "This file is empty.")
    open_file("plot.png", "40 \u00d7 30")
    size = view.locator("img").bounding_box()
    assert size and (size["width"], size["height"]) == (40, 30)
    open_file("readme.md", "")
    expect(view.frame_locator("iframe").locator("strong")).to_have_text("bold")
    open_file(
        "report.html",
        "Shown without its scripts and without other files. "
        "Download it, or all files, to see all of it.",
    )
    expect(view.frame_locator("iframe").locator("h1")).to_have_css("color", "rgb(1, 2, 3)")
    check_with_axe(page)
    open_file("result.json", "")
    expect(view.locator("pre")).to_have_text(
        '{\n  "id": 12345678901234567890,\n  "pi": 3.10,\n  "list": []\n}'
    )
    open_file("round.svg", "Shown without its scripts. Download it to see all of it.")
    expect(view.frame_locator("iframe").locator("img")).to_be_visible()
    log, shown = log_of(page).bounding_box(), view.bounding_box()
    assert log and shown and log["x"] + log["width"] <= shown["x"] and log["width"] > 300


def test_the_address_names_the_file_and_keys_go_to_others(
    site: Site, report: Job, page: Page
) -> None:
    visit(page, address(site, report, "data/orders.csv"))
    view = file_view(page)
    expect(view.get_by_role("heading")).to_have_text("data/orders.csv")
    expect(view.locator("td").first).to_have_text("1")
    view.get_by_role("button", name="Next file").click()
    expect(page).to_have_url(re.compile(r"file=empty\.txt"))
    page.keyboard.press("ArrowRight")
    expect(view.locator("img")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(r"file=empty\.txt"))
    page.keyboard.press("Escape")
    expect(view).to_be_hidden()
    assert "file=" not in page.url
    expect(log_of(page)).to_be_focused()
    page.evaluate("history.back()")
    expect(view.get_by_role("heading")).to_have_text("empty.txt")
    file_list(page).get_by_role("button", name="Files").click()
    link = file_list(page).get_by_role("link", name="caf\ufffd.txt")
    link.press("Enter")
    expect(page).to_have_url(re.compile(r"file=caf%25E9\.txt"))
    view.get_by_role("button", name="Close the file").click()
    expect(link).to_be_focused()
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("job="))


def test_an_address_without_a_file_says_so(site: Site, report: Job, page: Page) -> None:
    """Nor does the browser request another URL of the API for it."""
    visit(page, address(site, report))
    wrong = {
        "../../../me": "This job has no such file.",
        "data": "This job has no such file.",
        "pipe": "This is a fifo. Only files are shown.",
        "latest.log": "This is a link. Only files are shown.",
        "dump.bin": "This kind of file is only downloaded.",
    }
    for file, sentence in wrong.items():
        page.evaluate(f"{PAGE_STATE}.then(({{ page }}) => page.go({{ file: '{file}' }}))")
        expect(file_view(page).get_by_role("heading")).to_have_text(file)
        expect(file_view(page).locator(".file-said")).to_have_text(sentence)


def test_a_file_that_changes_after_it_was_listed_is_one_sentence(
    site: Site, page: Page, tmp_path: Path
) -> None:
    job = job_with_files(site, tmp_path / "source", "changing", {"a.txt": "1", "b.txt": "2"})
    folder = files_folder(site, job)
    visit(page, address(site, job))
    link = file_list(page).get_by_role("link", name="b.txt")
    expect(link).to_be_visible()
    (folder / "b.txt").unlink()
    link.click()
    said = file_view(page).locator(".file-said")
    expect(said).to_have_text("This file no longer exists.")
    (folder / "b.txt").write_text("once more")
    link.click()  # reads it again
    expect(file_view(page).locator("pre")).to_have_text("once more")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to("/etc/passwd")
    page.keyboard.press("ArrowLeft")
    expect(said).to_have_text("'a.txt' is a symbolic link, which is not followed.")
    expect(file_view(page)).not_to_contain_text("root:")


def test_a_ticket_that_has_expired_is_renewed(site: Site, report: Job, page: Page) -> None:
    visit(page, address(site, report))
    file_list(page).get_by_role("button", name="Files").click()
    page.evaluate(f"{PAGE_STATE}.then(({{ page }}) => {{ page.status.ticket = 'expired'; }})")
    file_list(page).get_by_role("link", name="result.json").click()
    expect(file_view(page).locator("pre")).to_contain_text("12345678901234567890")


def test_a_narrow_window_shows_the_file_over_the_log(site: Site, report: Job, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, address(site, report, "data/orders.csv"))
    view = file_view(page)
    expect(view.locator("td").first).to_be_visible()
    box = view.bounding_box()
    assert box and (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    view.get_by_role("button", name="Log").click()
    expect(view).to_be_hidden()
    expect(log_of(page)).to_be_visible()
    files = page.locator(".files")
    expect(files.get_by_role("listitem")).to_have_count(0)  # one line, however many they are
    files.get_by_role("button", name="Files").click()
    expect(files.get_by_role("link", name="data/orders.csv")).to_be_visible()


# --- Hostile files --------------------------------------------------------------------------------


class Listener:
    """Takes connections and keeps the first bytes of each."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.heard: list[bytes] = []
        self.thread = Thread(target=self.listen)
        self.thread.start()

    def listen(self) -> None:
        while b"the end" not in self.heard:
            connection, _ = self.socket.accept()
            with connection:
                connection.settimeout(1)
                try:
                    self.heard.append(connection.recv(100))
                except TimeoutError:
                    self.heard.append(b"")

    def close(self) -> Sequence[bytes]:
        """What was heard before this. Connections are accepted in their order."""
        with socket.create_connection(self.socket.getsockname()) as connection:
            connection.sendall(b"the end")
            self.thread.join()
        self.socket.close()
        return self.heard[:-1]


@contextmanager
def nothing_heard() -> Iterator[str]:
    """The URL of a server to which nothing connects."""
    listener = Listener()
    heard: Sequence[bytes] = [b"?"]
    try:
        yield listener.url
    finally:
        heard = listener.close()
    assert heard == []


SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 viewBox="0 0 9 9" onload="fetch('EVIL/onload')"><style>@import url(EVIL/css); rect { fill:
 url(EVIL/fill#a) }</style><script>fetch('EVIL/script'); parent.document.title = 'ran'</script>
 <image href="EVIL/image" width="9" height="9"/><use xlink:href="EVIL/use#a"/><rect width="9"
 height="9"/><foreignObject width="9" height="9"><div xmlns="http://www.w3.org/1999/xhtml">
 <img src="EVIL/img"/><iframe src="EVIL/frame"></iframe></div></foreignObject></svg>"""
HTML = f"""<!DOCTYPE html><html><head><title>mine</title><base href="EVIL/">
<meta name="referrer" content="unsafe-url"><meta http-equiv="refresh" content="0; url=EVIL/refresh">
<meta http-equiv="Content-Security-Policy" content="default-src *">
<link rel="preconnect" href="EVIL"><link rel="dns-prefetch" href="EVIL">
<link rel="prefetch" href="EVIL/a"><link rel="prerender" href="EVIL/b">
<link rel="preload" as="image" href="EVIL/c"><link rel="modulepreload" href="EVIL/d">
<link rel="stylesheet" href="EVIL/e"><link rel="icon" href="EVIL/f"><link rel="manifest"
 href="EVIL/g"><style>@import url("EVIL/css"); body {{ background: url(EVIL/back) }}
 @font-face {{ font-family: f; src: url(EVIL/font) }} p {{ font-family: f }}</style>
<script src="EVIL/script"></script><script>document.title = "ran"; fetch("EVIL/fetch");
 navigator.sendBeacon("EVIL/beacon"); new WebSocket("EVIL/socket".replace("http", "ws"));
 window.top.location = "EVIL/top"; parent.localStorage.x = "ran"; document.cookie = "x=1";
</script></head><body onload="document.title = 'ran'" background="EVIL/body"><p>Hello</p>
<div><template shadowrootmode="open"><link rel="preconnect" href="EVIL"><img src="EVIL/shadow">
</template></div>
<img src="EVIL/img" srcset="EVIL/set 2x" onerror="document.title = 'ran'"><video src="EVIL/video"
 poster="EVIL/poster" autoplay></video><audio src="EVIL/audio" autoplay></audio><iframe
 src="EVIL/frame"></iframe><iframe srcdoc="<img src='EVIL/inner'>"></iframe>
<object data="EVIL/object"></object><embed src="EVIL/embed">
<input type="image" src="EVIL/input">{SVG}
<form action="EVIL/form" method="post"><button id="send">Send</button></form>
<a id="out" href="EVIL/out" referrerpolicy="unsafe-url" ping="EVIL/ping">out</a>
<a id="self" target="_self" href="EVIL/self">self</a>
<a id="top" target="_top" href="EVIL/top">top</a>
<a id="script" href="javascript:document.title='ran'">script</a><a id="save" download
 href="EVIL/save">save</a><svg><a id="drawn" href="EVIL/drawn"><text y="20">drawn</text></a></svg>
<svg><a id="moved" href="#end"><set attributeName="href" to="EVIL/moved"/><text y="20">moved</text>
</a><template><p>no HTML</p></template></svg><form name="documentElement"></form>
<form><math><mtext></form><form><mglyph><style></math><iframe src="EVIL/mixed"></iframe></style>
</mglyph></form></mtext></math></form>
<a id="down" href="#end">down</a><div style="height: 3000px"></div><p id="end">The end</p>"""
MARKDOWN = """# Title

<img src="EVIL/img"><script src="EVIL/script"></script>

![image](EVIL/image) [script](javascript:alert(1)) [out](EVIL/out)
"""
CLICKED = ("out", "self", "top", "script", "save", "drawn", "send")


def test_a_hostile_document_requests_and_reads_nothing(
    site: Site, page: Page, tmp_path: Path
) -> None:
    with nothing_heard() as evil:
        texts = {"a.html": HTML, "b.svg": SVG, "c.md": MARKDOWN}
        files: dict[str | bytes, str | bytes] = {
            name: text.replace("EVIL", evil) for name, text in texts.items()
        }
        job = job_with_files(site, tmp_path / "source", "hostile", files)
        visit(page, address(site, job, "a.html"))
        frame = frame_of(page)
        expect(frame.get_by_text("Hello")).to_be_visible()
        for name in CLICKED:
            frame.locator(f"#{name}").click(no_wait_after=True)
            frame.locator(f"#{name}").click(no_wait_after=True, button="middle")
        frame.locator("#moved").click()
        frame.locator("#down").click()
        expect(frame.get_by_text("The end")).to_be_in_viewport()
        check_frame(page, frame)
        for _ in range(2):
            file_view(page).get_by_role("button", name="Next file").click()
            expect(file_view(page).locator(".file-said")).not_to_have_text("Loading…")
            frame = frame_of(page)
            expect(frame.locator("img, h1").first).to_be_visible()
            check_frame(page, frame)
        out = frame.locator("a")
        expect(out).to_have_attribute("title", f"{evil}/out")
        out.click(no_wait_after=True, button="middle")
        check_frame(page, frame)


def test_a_document_that_takes_too_long_is_not_shown(
    site: Site, page: Page, tmp_path: Path
) -> None:
    """200,000 tags that nothing closes would stop the page for minutes. Here each piece seems to
    take a second."""
    job = job_with_files(site, tmp_path / "source", "nested", {"a.html": "<b>" * 50_000})
    visit(page, address(site, job))
    page.evaluate("let time = 0; performance.now = () => (time += 1000)")
    file_list(page).get_by_role("link", name="a.html").click()
    expect(file_view(page).locator(".file-said")).to_have_text(
        "This document takes too long to show. Download it to see it."
    )
    expect(file_view(page).locator("iframe")).to_have_count(0)


def check_frame(page: Page, frame: Frame) -> None:
    """Its scripts have not run; it has no ticket, no rights, and has led nowhere."""
    assert frame.url.partition("#")[0] == "about:srcdoc"
    assert len(page.frames) == 2  # none within the frame
    assert frame.title() != "ran"
    assert "ticket" not in frame.content()
    for secret in ("document.cookie", "localStorage.length", "parent.document.title"):
        with pytest.raises(Error, match="SecurityError"):
            frame.evaluate(secret)
    assert "ticket" not in frame.evaluate("document.referrer + document.baseURI")
    assert "Tailboard" in page.title()
    assert page.evaluate("localStorage.x") is None
    assert page.context.pages[-1] == page, "a link has opened another page"
