"""Choice of the compiled kernels: the best build for this processor, or the one ``FISHERFIELD_ISA`` names."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

from . import _cpu

if TYPE_CHECKING:
    from . import _native_generic as kernels  # every build has the same functions

__all__ = ["kernels", "level"]


def _built_levels() -> list[str]:
    package = __name__.rpartition(".")[0]
    return [
        level
        for level in ("generic", "v2", "v3", "v4")
        if importlib.util.find_spec(f"{package}._native_{level}") is not None
    ]


def usable_levels() -> list[str]:
    """Builds of the kernels that are installed and that this processor can run, oldest level first."""
    supported = _cpu.supported_levels()
    return [level for level in _built_levels() if level in supported]


def _choose() -> str:
    usable = usable_levels()
    if not usable:
        raise ImportError(
            f"fisherfield: none of the installed kernel builds ({', '.join(_built_levels()) or 'none'}) runs on this "
            f"processor, which supports {', '.join(_cpu.supported_levels()) or 'no known level'}. "
            "Install from source: pip install --no-binary fisherfield fisherfield."
        )
    wanted = os.environ.get("FISHERFIELD_ISA", "")
    if not wanted:
        return usable[-1]
    if wanted not in usable:
        raise ImportError(
            f"FISHERFIELD_ISA={wanted!r}: expected one of {', '.join(usable)} (the builds that are installed and that "
            "this processor can run). Unset the variable to let fisherfield choose."
        )
    return wanted


level: str = _choose()
if not TYPE_CHECKING:
    kernels = importlib.import_module(f"._native_{level}", __package__)
