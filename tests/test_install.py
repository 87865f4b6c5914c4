"""The package: what its wheel contains, that it works in an environment of its own and an empty
folder, and that the two lists of requirements agree."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import requests
from browser import launch
from conftest import (
    BROWSERS,
    ROOT,
    Gate,
    Processes,
    clean_environment,
    free_port,
    is_alive,
    wait_until,
)
from packaging.requirements import Requirement
from playwright.sync_api import Playwright, expect

from tailboard import __version__
from tailboard.cli.role_processes import StopRequest
from tailboard.cli.start import read_addresses

PROGRAMS = {"api.py", "dashboard.py", "storage.py", "worker.py"}
# Modules that a user can have in the folder in which Tailboard starts. None may replace ours.
TRAPS = ("api", "flask", "logging", "random", "requests", "storage", "streamlit", "tailboard")


def run(*command: str | Path, cwd: Path | str = ROOT, **env: str) -> str:
    """The output of a command that succeeds."""
    ran = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


# --- The wheel ------------------------------------------------------------------------------------


def build(hook: str, folder: Path, source: Path = ROOT) -> Path:
    """The file that hatchling builds from the source, as pip asks it to."""
    code = f"import sys, hatchling.build; print(hatchling.build.{hook}(sys.argv[1]))"
    return folder / run(sys.executable, "-c", code, folder, cwd=source).strip()


def files_in(wheel: Path) -> set[str]:
    """The paths in a wheel, without those of its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def tracked(folder: str) -> set[str]:
    """The files below a folder of the checkout, without those that Python makes."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_all_files_in_one_package(wheel: Path) -> None:
    roles = PROGRAMS | tracked("static") | {".streamlit/config.toml"}
    assert files_in(wheel) == tracked("tailboard") | {f"tailboard/roles/{name}" for name in roles}
    assert wheel.name == f"tailboard-{__version__}-py3-none-any.whl"


def test_the_source_archive_is_enough_to_build_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build("build_sdist", tmp_path)
    with tarfile.open(archive) as source:
        source.extractall(tmp_path, filter="data")
    (tmp_path / "wheel").mkdir()
    source_folder = tmp_path / archive.name.removesuffix(".tar.gz")
    rebuilt = build("build_wheel", tmp_path / "wheel", source_folder)
    assert files_in(rebuilt) == files_in(wheel)


def test_an_editable_installation_has_no_copy_of_the_code(tmp_path: Path) -> None:
    wheel = build("build_editable", tmp_path)
    assert files_in(wheel) == {"_tailboard.pth"}
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("_tailboard.pth").decode() == str(ROOT)


# --- The installed package ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh virtual environment with the wheel. The packages that it needs come
    from the environment of the tests."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", f"--python={python}", "--disable-pip-version-check"]
    run(*pip, "install", "--no-deps", wheel, PIP_ROOT_USER_ACTION="ignore")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", code).strip())
    installed = {path.name for path in packages.iterdir()}
    assert installed == {"tailboard", f"tailboard-{__version__}.dist-info"}
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "of_the_tests.pth").write_text("\n".join(folders))
    return venv / "bin"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The current folder of a user who has modules in it."""
    home = tmp_path / "home"
    home.mkdir()
    for name in TRAPS:
        (home / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the user is imported')")
    return home


@pytest.fixture
def programs(tmp_path: Path, home: Path) -> Iterator[Processes]:
    """Starts programs without settings, as a user would in a new terminal."""
    env = clean_environment("")
    del env["TAILBOARD_STORAGE"]
    programs = Processes(tmp_path / "output.txt", env)
    yield programs
    programs.end()


def test_up_serves_an_empty_folder_until_ctrl_c_and_jobs_continue(
    bin_folder: Path,
    home: Path,
    programs: Processes,
    gate: Gate,
    tmp_path: Path,
    playwright: Playwright,
) -> None:
    api, page = free_port(), free_port()
    (home / ".env").write_text("TAILBOARD_KEEP_DAYS=7\n")
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 >{tmp_path}/opened\n")
    browser.chmod(0o755)
    options = ("--slots=1", f"--port={api}", f"--page-port={page}", "--open")
    up = programs.start(
        *(str(bin_folder / "tailboard"), "up", *options),
        home=home,
        FLASK_SKIP_DOTENV="",
        BROWSER=str(browser),
    )
    announcement = f"The page: http://127.0.0.1:{page} "
    wait_until(lambda: announcement in programs.text() or up.poll(), describe=programs.text)
    assert programs.text().count(f"ettings from {home}/.env") == 3
    wait_until((tmp_path / "opened").exists)
    assert (tmp_path / "opened").read_text() == f"http://127.0.0.1:{page}\n"

    command = f"echo started; {gate.wait}; env"
    url = f"http://127.0.0.1:{api}/jobs"
    job = requests.post(url, json={"command": command}, timeout=60).json()
    running = home / "jobs" / "running" / job["id"] / "output.log"
    wait_until(lambda: running.exists() and running.read_text() == "started\n")
    pid = requests.get(f"{url}/{job['id']}", timeout=60).json()["pid"]
    check_page(f"http://127.0.0.1:{page}", job["id"], playwright)

    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 130
    assert "Traceback" not in programs.text()
    assert is_alive(pid)
    gate.open()
    wait_until(lambda: not is_alive(pid))
    job_environment = dict(line.partition("=")[::2] for line in running.read_text().splitlines())
    assert job_environment["JOB_ID"] == job["id"]
    assert not [name for name in job_environment if name.startswith("TAILBOARD_")]


def check_page(url: str, job_id: str, playwright: Playwright) -> None:
    """The page and its files come from the package, and a browser shows the job."""
    script = requests.get(f"{url}/app/static/loader.js", timeout=60)
    assert script.text == (ROOT / "static" / "loader.js").read_text()
    if os.environ.get("CI") != "true" and not any(map(shutil.which, BROWSERS)):
        return
    browser = launch(playwright)
    page = browser.new_page()
    page.goto(f"{url}/?job={job_id}")
    expect(page.get_by_text("started", exact=True)).to_be_visible()
    browser.close()


def test_a_role_that_ends_ends_the_others(
    bin_folder: Path, home: Path, programs: Processes
) -> None:
    """The API and the worker cannot use this storage, so one of them ends first."""
    ports = (f"--port={free_port()}", f"--page-port={free_port()}")
    command = (str(bin_folder / "tailboard"), "up", *ports)
    (home / "file").touch()
    up = programs.start(*command, home=home, TAILBOARD_STORAGE=str(home / "file"))
    assert up.wait(60) == 1
    last = programs.text().splitlines()[-1]
    reason = f"TAILBOARD_STORAGE: {home}/file is not a folder"
    assert re.fullmatch(f"Error: the (api|worker) ended with exit code 1: {reason}", last)


@pytest.mark.parametrize("option", ["--port", "--page-port"])
def test_a_port_in_use_is_reported_before_anything_starts(
    programs: Processes, home: Path, option: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        used = other.getsockname()[1]
        ports = {"--port": free_port(), "--page-port": free_port()} | {option: used}
        words = [f"{name}={port}" for name, port in ports.items()]
        command = (sys.executable, "-P", "-m", "tailboard", "up", *words)
        up = programs.start(*command, home=home, PYTHONPATH=str(ROOT))
        assert up.wait(60) == 1
    assert programs.text() == (
        f"Error: another program uses port {used}: choose another port with {option}\n"
    )
    assert not (home / "jobs").exists()


@pytest.mark.parametrize(
    "env, options, expected",
    [
        ({}, (None, None), ("http://127.0.0.1:5000", "http://127.0.0.1:8501")),
        ({}, (5001, 8502), ("http://127.0.0.1:5001", "http://127.0.0.1:8502")),
        (
            {"TAILBOARD_BIND": ":5001", "STREAMLIT_SERVER_PORT": "8502"},
            (None, None),
            ("http://127.0.0.1:5001", "http://127.0.0.1:8502"),
        ),
        (
            {"TAILBOARD_BIND": "[::]:5001", "STREAMLIT_SERVER_ADDRESS": "localhost"},
            (5003, None),
            ("http://[::1]:5003", "http://localhost:8501"),
        ),
    ],
)
def test_options_and_settings_determine_the_addresses(
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    options: tuple[int | None, int | None],
    expected: tuple[str, str],
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    addresses = read_addresses(*options)
    assert (addresses.api_url(), addresses.page_url()) == expected


# --- Starting and ending the roles ----------------------------------------------------------------

RUN_ROLES = """
import json, os, sys
from tailboard.cli import role_processes

role_processes.STOP_TIME = float(sys.argv[1])
commands = json.loads(sys.argv[2])
roles = role_processes.RoleProcesses(list(commands))
roles.run(commands, os.environ)
failure = roles.describe_failure() if roles.failed else None
print(roles.stop_request, failure, file=sys.stderr)
"""
IGNORES_TERM = "trap 'echo stopping' TERM; echo ready; while true; do sleep 0.1; done"


def start_roles(programs: Processes, *lines: str, stop_time: float = 60) -> subprocess.Popen[bytes]:
    """Runs lines of shell as the roles of `up`, named 0, 1 …"""
    commands = {str(number): ["sh", "-c", line] for number, line in enumerate(lines)}
    return programs.start(sys.executable, "-c", RUN_ROLES, str(stop_time), json.dumps(commands))


def test_roles_that_ignore_the_first_signal_are_killed(programs: Processes) -> None:
    roles = start_roles(programs, IGNORES_TERM, "exec sleep 600", stop_time=0.2)
    wait_until(lambda: "ready" in programs.text())
    roles.send_signal(signal.SIGTERM)
    assert roles.wait(60) == 0
    assert programs.text().splitlines()[-1] == f"{StopRequest(15)} None"


def test_a_second_signal_kills_the_roles_at_once(programs: Processes) -> None:
    roles = start_roles(programs, IGNORES_TERM, stop_time=600)
    for text in ("ready", "stopping"):
        wait_until(lambda text=text: text in programs.text())
        roles.send_signal(signal.SIGINT)
    assert roles.wait(60) == 0


def test_the_roles_end_if_the_reader_of_their_output_ends(programs: Processes) -> None:
    commands = {"0": ["sh", "-c", "while echo line; do sleep 0.1; done"], "1": ["sleep", "600"]}
    command = [sys.executable, "-c", RUN_ROLES, "60", json.dumps(commands)]
    with open(programs.output, "ab") as errors:
        roles = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
    programs.started.append(roles)
    assert roles.stdout
    roles.stdout.readline()
    roles.stdout.close()
    assert (roles.wait(60), programs.text()) == (0, "None None\n")


@pytest.mark.parametrize(
    "line, said",
    [
        ("echo 0: cannot start; exit 3", "the 0 ended with exit code 3: cannot start"),
        ("kill -9 $$", "the 0 was killed by SIGKILL"),
        ("exit 0", "the 0 ended with exit code 0"),
    ],
)
def test_the_end_of_a_role_is_explained(programs: Processes, line: str, said: str) -> None:
    assert start_roles(programs, line, "exec sleep 600").wait(60) == 0
    assert programs.text().splitlines()[-1] == f"None {said}"


# --- The programs' own arguments ------------------------------------------------------------------


@pytest.mark.parametrize("role", ["api.py", "worker.py"])
def test_the_programs_describe_themselves(role: str) -> None:
    program = (sys.executable, ROOT / role)
    assert run(*program, "--version") == f"tailboard {__version__}\n"
    assert run(*program, "--help").startswith(f"Usage: {role} [OPTIONS]\n")
    ran = subprocess.run([*program, "nonsense"], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.endswith("Error: Got unexpected extra argument (nonsense)\n")


# --- The lists of requirements --------------------------------------------------------------------

# Packages that are used in another way than by an import.
NOT_IMPORTED = {"tzdata"}  # zoneinfo reads it
# Packages that always come with another one.
PARTS = {"itsdangerous": "flask", "werkzeug": "flask", "urllib3": "requests"}


def requirements(path: Path) -> dict[str, Requirement]:
    """The requirements in a file, by name."""
    lines = [line.partition(" #")[0].strip() for line in path.read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and line[0] not in "#-"]
    return {requirement.name: requirement for requirement in found}


def declared() -> dict[str, Requirement]:
    """The dependencies in pyproject.toml, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [Requirement(text) for text in project["dependencies"]]
    return {requirement.name: requirement for requirement in found}


def test_the_pinned_requirements_are_those_of_the_package() -> None:
    pinned, ranges = requirements(ROOT / "requirements.txt"), declared()
    assert pinned.keys() == ranges.keys()
    for name, requirement in pinned.items():
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert pin.version in ranges[name].specifier, name
        assert str(requirement.marker) == str(ranges[name].marker), name


def test_a_checkout_has_the_command_and_the_tests_have_the_rest() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert lines[-1].partition(" #")[0].strip() == "-e ."
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert "-r requirements.txt" in lines
    assert not declared().keys() & requirements(ROOT / "requirements-dev.txt").keys()


def test_what_the_code_imports_is_declared_and_the_other_way_around() -> None:
    packages = {
        module: names[0].lower().replace("_", "-")
        for module, names in packages_distributions().items()
    }
    imported = {packages[module] for module in imported_modules() if module in packages}
    imported = {PARTS.get(name, name) for name in imported} - {"tailboard"}
    assert imported | NOT_IMPORTED == declared().keys()


def imported_modules() -> set[str]:
    """The first part of the name of each module that the programs and the package import."""
    found: set[str] = set()
    for path in (*(ROOT / name for name in PROGRAMS), *(ROOT / "tailboard").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found |= {name.partition(".")[0] for name in names}
    return found
