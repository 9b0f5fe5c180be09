"""Estimates before allocation: an answer that cannot fit is refused with the bytes it needs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from . import devices
from ._validate import non_negative

__all__ = ["as_bytes", "available_beside", "available_bytes", "batch_bytes", "require_memory"]


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
    """Memory of this machine that can still be used, or None where the system does not tell."""
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


def available_beside(array: Any) -> int | None:
    """Memory that can still be used where an array lies: of its GPU what is free, or held by CuPy for reuse."""
    if not devices.is_cuda(array):
        return available_bytes()
    cupy = devices.import_cupy()
    with array.device:
        return int(array.device.mem_info[0] + cupy.get_default_memory_pool().free_bytes())


def batch_bytes(array: Any, on_host: int) -> int:
    """How much the factors of one batch of samples may take where an array lies.

    A GPU takes a 64th of its memory: the tens of thousands of rows that keep it busy, in few launches, and there is
    room for what a sweep holds besides, which is several times as much. Like ``on_host`` it depends on nothing that
    changes from call to call, so that neither does the cut into batches.
    """
    return max(on_host, _gpu_bytes(array.device.id) // 64) if devices.is_cuda(array) else on_host


@cache
def _gpu_bytes(index: int) -> int:
    """All memory of a GPU."""
    return int(devices.import_cupy().cuda.Device(index).mem_info[1])


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


def require_memory(size: int, what: str | Callable[[], str], instead: str, like: Any = None) -> None:
    """Raise ``MemoryError`` if ``size`` bytes are not available, naming the call that avoids the need.

    They are to lie on the device of the array ``like``, by default in the memory of this machine.
    """
    available = available_beside(like)
    if available is not None and size > available:
        name = what if isinstance(what, str) else what()
        where = f" on {devices.name_of(like)}" if devices.is_cuda(like) else ""
        raise MemoryError(f"{name} needs {human(size)}{where}, and {human(available)} are available; {instead}")
