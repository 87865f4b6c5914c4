"""The process that makes HTML of the Markdown on its standard input.

It is a program of its own and imports nothing of Tailboard: a job can write Markdown whose parsing
takes hours, so the API must be able to end it, and it must not slow down the API's threads."""

import os
import resource
import sys
from contextlib import suppress

from markdown_it import MarkdownIt

MEMORY = 512 << 20  # bytes of addresses; 1 MiB of prose takes 160
NICE = 10  # so that the API's other requests are answered first
CPU_TIME = 20  # seconds: the API may be killed before it ends this process


def main() -> None:
    os.nice(NICE)
    with suppress(ValueError, OSError):  # macOS
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_TIME, CPU_TIME))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    text = sys.stdin.buffer.read().decode(errors="replace")
    # `html`: HTML in the text is shown as text. Links to scripts stay text in any case.
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    sys.stdout.buffer.write(parser.render(text).encode())


if __name__ == "__main__":
    main()
