"""Estimates before allocation: an answer that cannot fit is refused with the bytes it needs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._validate import non_negative

__all__ = ["as_bytes", "available_bytes", "require_memory"]


def _cgroup_bytes() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return None
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        in_use = int((folder / "memory.current").read_text()) - int(statistics["inactive_file"])
        return int(limit) - in_use  # cached files give way to the process
    except (OSError, ValueError, KeyError):
        return None


def available_bytes() -> int | None:
    """Memory that can still be used, or None where the system does not tell."""
    found: int | None = None
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found = int(line.split()[1]) * 1024
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _cgroup_bytes()
    return limit if found is None else found if limit is None else min(found, limit)


_UNITS = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGTP", 1)
}


def as_bytes(value: Any, name: str) -> int:
    """Return a positive number of bytes, given as a number or as text: ``"4 GB"``, ``"500MiB"``."""
    if not isinstance(value, str):
        size = non_negative(value, name, strict=True)
    else:
        found = re.fullmatch(r"\s*([0-9.]+(?:[eE]\+?[0-9]+)?)\s*([A-Za-z]*)\s*", value)
        units = {unit.lower(): factor for unit, factor in _UNITS.items()}
        try:
            size = float(found[1]) * units[found[2].lower()] if found else 0
        except (KeyError, ValueError):
            size = 0
    if not 1 <= size < 2**63:
        raise ValueError(f"{name}: expected bytes, as a number or like '4 GB' or '500 MiB', got {value!r}")
    return int(size)


def human(size: float) -> str:
    """Return a number of bytes as people write it."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} PiB"


def require_memory(size: int, what: str | Callable[[], str], instead: str) -> None:
    """Raise ``MemoryError`` if ``size`` bytes are not available, naming the call that avoids the need."""
    available = available_bytes()
    if available is not None and size > available:
        name = what if isinstance(what, str) else what()
        raise MemoryError(f"{name} needs {human(size)}, and {human(available)} are available; {instead}")
