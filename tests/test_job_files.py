"""The files of a job while it runs: its folder, its limit, and removing them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tailboard.files import remove_tree_in_steps

# --- Removing them --------------------------------------------------------------------------------


def test_a_tree_is_removed_in_small_steps(tmp_path: Path) -> None:
    """Between two steps at most one entry disappears, however many there are."""
    top = tmp_path / "top"
    for number in range(20):
        (top / f"{number}/below").mkdir(parents=True)
        for name in range(10):
            (top / f"{number}/below/{name}").touch()
    left, steps = 240, 0
    for _ in remove_tree_in_steps(str(top)):
        now = sum(len(folders) + len(files) for _, folders, files in os.walk(top))
        assert left - 1 <= now <= left
        left, steps = now, steps + 1
    assert not top.exists() and steps < 500


@pytest.mark.parametrize("place", ["mount", "folder/mount", "folder/below/mount"])
def test_what_a_job_has_mounted_is_not_removed(tmp_path: Path, place: str) -> None:
    """Everything else is. `mount --bind` is as safe, although it is the same device."""
    top = tmp_path / "top"
    (top / place).mkdir(parents=True)
    (top / "folder/other").mkdir(parents=True, exist_ok=True)
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").touch()
    for option in ("--bind", "-t"):
        arguments = [option, source] if option == "--bind" else [option, "tmpfs", "tmpfs"]
        if subprocess.run(["mount", *arguments, top / place], capture_output=True).returncode:
            pytest.skip("mounting is not permitted")
    try:
        (top / place / "kept").touch()
        with pytest.raises(OSError):
            for _ in remove_tree_in_steps(str(top)):
                pass
        assert (source / "kept").exists()
        assert [found.name for found in top.rglob("kept")] == ["kept"]
        assert not list(top.rglob("other"))
    finally:
        for _ in range(2):
            subprocess.run(["umount", "-l", next(top.rglob("mount"), top)], capture_output=True)
