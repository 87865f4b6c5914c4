"""Counts the files opened and the folders listed for two pages of a list, and for the counts.

cost_of_list.py FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from storage import open_store

opened: list[str] = []
listed: list[str] = []


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).startswith(sys.argv[1]):
        opened.append(arguments[0])
    if event in ("os.listdir", "os.scandir"):
        listed.append(arguments[0])


def cost(ask: Callable[[], Any]) -> tuple[Any, list[int]]:
    opened.clear()
    listed.clear()
    answer = ask()
    return answer, [len(opened), len(listed)]


store = open_store(sys.argv[1])
sys.addaudithook(note)
(page, more), first = cost(lambda: store.list(limit=50))
assert len(page) == 50 and more == page[-1].id, page
assert all(job.command == "true" for job in page)
(page, _), second = cost(lambda: store.list(limit=50, before=more))
assert page[0].id < more
counts, third = cost(store.counts)
print(json.dumps([*first, *second, *third, sum(counts.values())]))
