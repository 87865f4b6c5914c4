"""Which tests run in the same process, if pytest-xdist runs them in several."""

from __future__ import annotations

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

ONE_HALF, OTHER_HALF = "one half of the page", "the other half of the page"
# Each process that runs tests of the page starts a browser and all sites, and visits each site for
# the first time, which takes 20 s of processor time. So only two do, for about as long.
GROUPS = {
    "test_dashboard.py": ONE_HALF,
    "test_page_find.py": ONE_HALF,
    "test_page_list.py": ONE_HALF,
    "test_page_palette.py": ONE_HALF,
    "test_new_option.py": OTHER_HALF,
    "test_install.py": "the package",
    "test_static.py": "the files of the page",
}


class TestDistribution(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps the tests of a group in one process, and distributes all others one by one. The largest
    groups start first."""

    def _split_scope(self, nodeid: str) -> str:
        """The group of a test."""
        name = PurePath(nodeid.partition("::")[0]).name
        if name.startswith("test_page_"):
            return GROUPS.get(name, OTHER_HALF)
        return GROUPS.get(name, nodeid)
