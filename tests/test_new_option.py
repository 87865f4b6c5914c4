"""A new option of jobs, added to a copy of the code as .github/CONTRIBUTING.md says.

All tests share the copy and its API, so each finds its own jobs by their name or ID."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from conftest import ROOT, Processes, clean_environment, end_jobs, free_port, wait_until
from page_site import second_page
from playwright.sync_api import Page, expect

from tailboard.folder.folder_store import FolderStore
from tailboard.page.forms import FORM_FIELDS

GUIDE = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
NEXT_LINES = {  # for each file that the guide adds lines to: the text before which they belong
    "tailboard/job.py": "\n\n@dataclass(slots=True, kw_only=True)\nclass Job(JobOptions):",
    "tailboard/run/shim.py": "    with claim.open_log_for_append() as out:\n",
    "static/page_header.html": '      <label for="not_before">',
    "static/job_details.js": '    ["Worker",',
}
READ_FORM = """
import json, sys
from tailboard.page.forms import form_values, parse_form
job = json.load(sys.stdin)
values = form_values(job)
print(json.dumps({"values": values, "body": parse_form(values)[0]}))
"""


def lines_of_guide(path: str) -> str:
    """The lines that the guide adds to this file."""
    step = rf"^[0-9]\. `{re.escape(path)}`.*?^   ```\w+\n(.*?)^   ```$"
    found = re.search(step, GUIDE, re.MULTILINE | re.DOTALL)
    assert found, path
    return re.sub("^   ", "", found[1], flags=re.MULTILINE)


def copy_code(home: Path) -> Path:
    """A copy of the programs, the package and the files of the page."""
    home.mkdir()
    for name in ("api.py", "storage.py", "worker.py", "dashboard.py"):
        shutil.copy(ROOT / name, home)
    unfinished = shutil.ignore_patterns("*.pyc.*")  # other processes may be compiling
    shutil.copytree(ROOT / "tailboard", home / "tailboard", ignore=unfinished)
    shutil.copytree(ROOT / "static", home / "static")
    shutil.copytree(ROOT / ".streamlit", home / ".streamlit")
    return home


def insert(home: Path, name: str, lines: str) -> None:
    """Add lines to a file of a copy."""
    path, following = home / name, NEXT_LINES[name]
    before = path.read_text()
    assert before.count(following) == 1, f"{name} has changed"
    path.write_text(before.replace(following, lines + following))


class Copy(NamedTuple):
    """The copy of the code, and the address and the jobs folder of its API."""

    home: Path
    url: str
    folder: Path
    processes: Processes

    def ask(self, method: str, path: str, expect: int, body: Any = None) -> Any:
        answer = requests.request(method, self.url + path, json=body, timeout=30)
        assert answer.status_code == expect, answer.text
        return answer.json()

    def log_to_end(self, job_id: str) -> str:
        """The log of a job that succeeds, once it has ended."""
        wait_until(lambda: self.ask("GET", f"/jobs/{job_id}", 200)["status"] == "succeeded")
        return requests.get(f"{self.url}/jobs/{job_id}/logs", timeout=30).text

    @contextmanager
    def serve_page(self) -> Iterator[str]:
        """Serves the page at the address that other tests use after each other; yields its URL."""
        url = second_page()
        port = f"--server.port={url.rpartition(':')[2]}"
        served = self.processes.serve(
            f"{url}/_stcore/health",
            *(sys.executable, "-m", "streamlit", "run", "dashboard.py", port),
            home=self.home,
            TAILBOARD_API=self.url,
        )
        try:
            yield url
        finally:
            served.kill()
            served.wait()

    def run(self, *command: str, text: str = "") -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.home,
            env=self.processes.env,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    base = tmp_path_factory.mktemp("new_option")
    home, folder = copy_code(base / "copy"), base / "jobs"
    for name in NEXT_LINES:
        insert(home, name, lines_of_guide(name))
    processes = Processes(base / "output.txt", clean_environment(folder))
    url = f"http://127.0.0.1:{free_port()}"
    bind = url.removeprefix("http://")
    try:
        processes.serve(f"{url}/healthz", sys.executable, "api.py", home=home, TAILBOARD_BIND=bind)
        yield Copy(home, url, folder, processes)
    finally:
        processes.end()
        end_jobs(FolderStore(folder))


def record_of(copy: Copy, job_id: str) -> dict[str, Any]:
    (path,) = copy.folder.glob(f"queued/*/{job_id}/job.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def test_a_new_option_is_accepted_stored_and_shown(copy: Copy) -> None:
    job = copy.ask("POST", "/jobs", 201, {"command": "true", "umask": "027", "name": "listed"})
    assert record_of(copy, job["id"])["umask"] == "027"
    assert copy.ask("GET", f"/jobs/{job['id']}", 200)["umask"] == "027"
    listed = copy.ask("GET", "/jobs?q=listed", 200)["jobs"]
    assert [each["umask"] for each in listed] == ["027"]
    again = copy.ask("POST", f"/jobs/{job['id']}/rerun", 201)
    assert record_of(copy, again["id"])["umask"] == "027"
    other = copy.ask("POST", "/jobs", 201, {"command": "true"})
    assert copy.ask("GET", f"/jobs/{other['id']}", 200)["umask"] is None


def test_a_new_option_can_be_saved(copy: Copy) -> None:
    copy.ask("PUT", "/saved/quiet", 201, {"command": "true", "umask": "077"})
    assert copy.ask("GET", "/saved/quiet", 200)["umask"] == "077"
    job = copy.ask("POST", "/saved/quiet/run", 201, {})
    assert record_of(copy, job["id"])["umask"] == "077"


def test_an_invalid_value_of_a_new_option_is_refused(copy: Copy) -> None:
    for value in ("27", "0027", "028", "", 27):
        for method, path in (("POST", "/jobs"), ("PUT", "/saved/quiet")):
            problem = copy.ask(method, path, 400, {"command": "true", "umask": value})
            assert problem["detail"] == "umask must be three octal digits such as 027"


def test_a_new_option_is_documented(copy: Copy) -> None:
    schemas = copy.ask("GET", "/openapi.json", 200)["components"]["schemas"]
    described = schemas["Job"]["properties"]["umask"]["description"]
    assert described == "Its umask; null: the worker's."
    assert "^[0-7]{3}$" in json.dumps(schemas["Submission"]["properties"]["umask"])


def test_the_commands_and_the_run_form_have_a_new_option(copy: Copy) -> None:
    job_id = copy.run("-m", "flask", "submit", "--umask", "037", "true").strip()
    assert record_of(copy, job_id)["umask"] == "037"
    job = copy.ask("GET", f"/jobs/{job_id}", 200)
    form = json.loads(copy.run("-c", READ_FORM, text=json.dumps(job)))
    assert form["values"]["umask"] == "037"
    assert form["body"]["umask"] == "037"


def test_a_new_option_takes_effect(copy: Copy) -> None:
    served = ("--slots=2", "--queues=served")  # and not the jobs of other tests
    copy.processes.start(sys.executable, "worker.py", *served, home=copy.home)
    own = os.umask(0)
    os.umask(own)
    for umask, effective in ((None, own), ("037", 0o37)):
        wanted = {"command": "umask", "umask": umask, "queue": "served"}
        job = copy.ask("POST", "/jobs", 201, wanted)
        assert int(copy.log_to_end(job["id"]), 8) == effective


def test_the_page_has_a_new_option_in_its_form_and_in_the_details(copy: Copy, page: Page) -> None:
    with copy.serve_page() as url:
        page.goto(url)
        page.get_by_role("button", name="+ Run").click()
        page.get_by_label("Command", exact=True).fill("true")
        page.get_by_role("textbox", name="Name", exact=True).fill("from the form")
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Umask", exact=True).fill("077")
        page.get_by_role("button", name="Run job").click()
        page.get_by_role("button", name="Details").click()
        expect(page.get_by_role("row", name="Umask")).to_have_text("Umask077")
        found = copy.ask("GET", "/jobs?q=from+the+form", 200)["jobs"]
        assert [job["umask"] for job in found] == ["077"]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("    level: int = 0", "Job.*level must be declared by option, recorded or unrecorded"),
        ('    level: int = option(0, kind="count", allowed="any")', "check"),
        (
            '    level: int = option(0, kind="level", check=is_count, allowed="any")',
            "no kind of option is called 'level'",
        ),
    ],
)
def test_an_incomplete_declaration_prevents_the_start(
    tmp_path: Path, processes: Processes, lines: str, error: str
) -> None:
    home = copy_code(tmp_path / "copy")
    insert(home, "tailboard/job.py", f"{lines}\n")
    started = subprocess.run(
        [sys.executable, "api.py"],
        cwd=home,
        env=processes.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert started.returncode != 0
    assert re.search(error, started.stderr)


def test_the_html_of_the_run_form_has_a_field_for_each_option() -> None:
    html = (ROOT / "static" / "page_header.html").read_text()
    (form,) = re.findall(r'<form class="new-job".*?</form>', html, re.DOTALL)
    assert set(re.findall(r'(?<= name=")\w+', form)) == set(FORM_FIELDS)
    new = lines_of_guide("static/page_header.html")
    assert set(re.findall(r'(?<= name=")\w+', new)) == {"umask"}
