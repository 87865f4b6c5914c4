"""Markdown that a job has written, as HTML."""

from __future__ import annotations

import subprocess
import sys

from flask import abort

from tailboard.web import markdown_process

LONGEST_MARKDOWN = 1 << 20  # bytes
RENDER_TIME = 10.0  # seconds
HEAD = b"""<!doctype html>
<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
:root { color-scheme: light dark }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 50em; margin: 1.5em auto; padding: 0 1em;
  overflow-wrap: anywhere }
pre, code { font: 13px/1.45 ui-monospace, monospace; background: #8882; border-radius: 4px }
code { padding: .1em .3em }
pre { padding: .8em; overflow: auto }
pre code { padding: 0; background: none }
table { border-collapse: collapse; display: block; overflow: auto }
th, td { border: 1px solid #8886; padding: .3em .6em }
blockquote { margin: 0; padding-left: 1em; border-left: 3px solid #8886 }
img { max-width: 100% }
</style></head><body>
"""
FOOT = b"</body></html>\n"


def render_markdown(text: bytes) -> bytes:
    """A complete document. 400 if the text cannot be rendered in RENDER_TIME."""
    try:
        rendered = subprocess.run(
            [sys.executable, "-I", markdown_process.__file__],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            timeout=RENDER_TIME,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        abort(400, "render must be 0 for this file: its Markdown is too complex")
    return HEAD + rendered.stdout + FOOT
