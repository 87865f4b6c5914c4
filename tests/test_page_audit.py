"""The page and the audit log: an action on all matching jobs has one line."""

from __future__ import annotations

from page_site import Site, visit
from playwright.sync_api import Page, expect

from tailboard.audit import AuditFilter


def test_an_action_on_all_matching_jobs_has_one_line(page_site: Site, page: Page) -> None:
    jobs = [page_site.submit("true", f"bilge {number}", queue="bilge") for number in range(3)]
    for job in jobs:
        page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?queue=bilge")
    page.get_by_role("button", name="All matching jobs").click()
    page.get_by_role("button", name="Delete all…").click()
    page.get_by_role("button", name="Delete 3 jobs").click()
    expect(page.get_by_text("Deleted 3 jobs.")).to_be_visible()
    wanted = AuditFilter(job=jobs[1].id)
    [entry] = page_site.storage.audit.read(wanted, 10).entries
    shown = {name: entry[name] for name in ("action", "count", "filter", "agent")}
    assert shown == {"action": "delete", "count": 3, "filter": {"queue": "bilge"}, "agent": "page"}
