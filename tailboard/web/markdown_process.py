"""The process that makes HTML of the Markdown on its standard input.

It is a program of its own and imports nothing of Tailboard: a job can write Markdown whose parsing
takes hours, so the API must be able to end it, and it must not slow down the API's threads."""

import resource
import sys
from contextlib import suppress

from markdown_it import MarkdownIt

MEMORY = 1 << 30  # bytes of addresses


def main() -> None:
    with suppress(ValueError, OSError):  # macOS
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    text = sys.stdin.buffer.read().decode(errors="replace")
    # `html`: HTML in the text is shown as text. Links to scripts stay text in any case.
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    sys.stdout.buffer.write(parser.render(text).encode())


if __name__ == "__main__":
    main()
