"""What the visitor sees before the page has loaded: a frame in the document itself."""

from __future__ import annotations

import requests
from page_site import Site
from playwright.sync_api import Page, Route, expect

from tailboard.page.cold_frame import insert_frame

HTML = {"Accept": "text/html,*/*;q=0.8"}


def test_the_document_shows_a_frame_until_the_page_is_drawn(page_site: Site, page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(f"{page_site.url}/_stcore/health")
    page.evaluate("localStorage.setItem('tailboard.theme', '\"dark\"')")
    held: list[Route] = []
    page.route("**/job_list.html*", lambda route: held.append(route))
    page.goto(page_site.url, wait_until="commit")
    frame = page.locator("#cold-frame")
    expect(frame).to_be_visible()
    expect(frame).to_contain_text("Tailboard")
    dark = "rgb(16, 21, 29)"
    expect(frame).to_have_css("background-color", dark)  # and not the system's light
    expect(page.locator(".page-header:not([inert])")).to_be_attached()
    expect(frame).to_be_visible()  # it stays until the list is drawn, too
    page.unroute("**/job_list.html*")
    expect(page.locator(".job-list:not([inert])")).to_be_attached()
    expect(frame).to_be_hidden()


def test_the_framed_document_is_cached_by_its_own_etag(page_site: Site) -> None:
    document = requests.get(page_site.url, headers=HTML)
    assert b'id="cold-frame"' in document.content
    assert int(document.headers["Content-Length"]) == len(document.content)
    assert document.headers["Vary"] == "Accept"
    assert "Last-Modified" not in document.headers
    etag = document.headers["ETag"]
    again = requests.get(page_site.url, headers={**HTML, "If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    head = requests.head(page_site.url, headers=HTML)
    assert head.headers["Content-Length"] == document.headers["Content-Length"]
    # A browser may have Streamlit's own document from before an upgrade of Tailboard.
    plain = requests.get(page_site.url)
    assert b"cold-frame" not in plain.content
    old = {**HTML, "If-None-Match": plain.headers["ETag"]}
    assert requests.get(page_site.url, headers=old).content == document.content


def test_other_responses_pass_unchanged(page_site: Site) -> None:
    for path in ("app/static/theme.css", "_stcore/health", "favicon.png"):
        url = f"{page_site.url}/{path}"
        assert requests.get(url, headers=HTML).content == requests.get(url).content
    unknown = b"<!DOCTYPE html><p>a Streamlit whose document has no body element</p>"
    assert insert_frame(unknown) == unknown
    assert insert_frame(b'<BODY class="x"><p>').startswith(b'<BODY class="x"><style>')
