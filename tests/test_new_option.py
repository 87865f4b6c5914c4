"""A new option of jobs, added to a copy of the code as .github/CONTRIBUTING.md says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from tailboard.page.forms import FORM_FIELDS
from tests.conftest import ROOT, Processes, free_port

GUIDE = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
END_OF_OPTIONS = "\n\n\n@dataclass(slots=True, kw_only=True)\nclass Job(JobOptions):"
READ_FORM = """
import json, sys
from tailboard.page.forms import form_values, parse_form
job = json.load(sys.stdin)
values = form_values(job)
wrong = parse_form(values | {"nice": "very"})[1]
print(json.dumps({"values": values, "body": parse_form(values)[0], "wrong": wrong}))
"""


def lines_of_guide(language: str) -> str:
    """The lines that the guide adds in this language, as they are in the file."""
    found = re.search(rf"^   ```{language}\n(.*?)^   ```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert found
    return re.sub("^   ", "", found[1], flags=re.MULTILINE)


def copy_code(home: Path) -> Path:
    """A copy of the programs and of the package."""
    home.mkdir()
    for name in ("api.py", "storage.py", "worker.py"):
        shutil.copy(ROOT / name, home)
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tailboard", home / "tailboard", ignore=skipped)
    shutil.copytree(ROOT / "static", home / "static")
    return home


def declare(home: Path, lines: str) -> None:
    """Add a field at the end of JobOptions in a copy."""
    path = home / "tailboard" / "job.py"
    before = path.read_text()
    assert before.count(END_OF_OPTIONS) == 1
    path.write_text(before.replace(END_OF_OPTIONS, f"\n{lines.rstrip()}{END_OF_OPTIONS}"))


class Copy(NamedTuple):
    """The copy of the code, and the address of its API."""

    home: Path
    url: str
    processes: Processes

    def ask(self, method: str, path: str, expect: int, body: Any = None) -> Any:
        answer = requests.request(method, self.url + path, json=body, timeout=30)
        assert answer.status_code == expect, answer.text
        return answer.json()

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


@pytest.fixture
def copy(tmp_path: Path, processes: Processes) -> Copy:
    home = copy_code(tmp_path / "copy")
    declare(home, lines_of_guide("python"))
    url = f"http://127.0.0.1:{free_port()}"
    bind = url.removeprefix("http://")
    processes.serve(f"{url}/healthz", sys.executable, "api.py", home=home, TAILBOARD_BIND=bind)
    return Copy(home, url, processes)


def record_of(folder: Path, job_id: str) -> dict[str, Any]:
    (path,) = folder.glob(f"queued/*/{job_id}/job.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def test_a_new_option_is_accepted_stored_and_shown(copy: Copy, folder: Path) -> None:
    job = copy.ask("POST", "/jobs", 201, {"command": "true", "nice": 7})
    assert record_of(folder, job["id"])["nice"] == 7
    assert copy.ask("GET", f"/jobs/{job['id']}", 200)["nice"] == 7
    assert [each["nice"] for each in copy.ask("GET", "/jobs", 200)["jobs"]] == [7]
    again = copy.ask("POST", f"/jobs/{job['id']}/rerun", 201)
    assert record_of(folder, again["id"])["nice"] == 7
    other = copy.ask("POST", "/jobs", 201, {"command": "true"})
    assert copy.ask("GET", f"/jobs/{other['id']}", 200)["nice"] == 0


def test_a_new_option_can_be_saved(copy: Copy, folder: Path) -> None:
    copy.ask("PUT", "/saved/quiet", 201, {"command": "true", "nice": 9})
    assert copy.ask("GET", "/saved/quiet", 200)["nice"] == 9
    job = copy.ask("POST", "/saved/quiet/run", 201, {})
    assert record_of(folder, job["id"])["nice"] == 9


@pytest.mark.parametrize("value", [20, -1, "7", 1.5])
def test_a_wrong_value_of_a_new_option_is_refused(copy: Copy, value: object) -> None:
    for method, path in (("POST", "/jobs"), ("PUT", "/saved/quiet")):
        problem = copy.ask(method, path, 400, {"command": "true", "nice": value})
        assert problem["detail"] == "nice must be a whole number from 0 to 19"


def test_a_new_option_is_documented(copy: Copy) -> None:
    schemas = copy.ask("GET", "/openapi.json", 200)["components"]["schemas"]
    assert schemas["Job"]["properties"]["nice"]["description"] == "How far its priority is lowered."
    asked = schemas["Submission"]["properties"]["nice"]
    assert (asked["minimum"], asked["maximum"]) == (0, 19)


def test_the_commands_and_the_run_form_have_a_new_option(copy: Copy, folder: Path) -> None:
    job_id = copy.run("-m", "flask", "submit", "true", "--nice", "3").strip()
    assert record_of(folder, job_id)["nice"] == 3
    job = copy.ask("GET", f"/jobs/{job_id}", 200)
    form = json.loads(copy.run("-c", READ_FORM, text=json.dumps(job)))
    assert form["values"]["nice"] == "3"
    assert form["body"]["nice"] == 3
    assert form["wrong"] == {"nice": "Nice must be a whole number."}


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("    nice: int = 0", "Job.*nice must be declared by option, recorded or unrecorded"),
        ('    nice: int = option(0, kind="count", allowed="any")', "check"),
        (
            '    nice: int = option(0, kind="level", check=is_count, allowed="any")',
            "no kind of option is called 'level'",
        ),
    ],
)
def test_an_incomplete_declaration_prevents_the_start(
    tmp_path: Path, processes: Processes, lines: str, error: str
) -> None:
    home = copy_code(tmp_path / "copy")
    declare(home, lines)
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
    new = lines_of_guide("html")
    assert set(re.findall(r'(?<= name=")\w+', new)) == {"nice"}
