"""Adds the programs and their files to a wheel: hatchling runs this file when it builds one."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class IncludePrograms(BuildHookInterface[Any]):
    """Copies the files that pyproject.toml lists for this hook to tailboard/roles/. An editable
    installation runs those of the checkout: copies would be out of date after the next change."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"] |= self.config["force-include"]
