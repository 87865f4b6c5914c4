"""Sizes in bytes, as text for people."""

from __future__ import annotations

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def show_size(size: int) -> str:
    """A size with a unit: 2 GiB, 1.5 MiB, 512 bytes."""
    number, unit = float(size), UNITS[0]
    for unit in UNITS:
        if number < 1024 or unit == UNITS[-1]:
            break
        number /= 1024
    text = f"{number:,.0f}" if number.is_integer() or number >= 100 else f"{number:.1f}"
    return f"{text} {unit}"
