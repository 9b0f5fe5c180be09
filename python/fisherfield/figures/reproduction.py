"""Figures of the papers by name: computed cell by cell, kept as JSON, drawn as PNG and SVG."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .._config import version
from .._executor import Progress, reporter
from .._validate import boolean
from ..plot.files import require_matplotlib
from ..plot.style import context
from ..report import plain, table
from . import catalogue
from ._figure import Agreement, Cell, Figure, Results

__all__ = ["Reproduction", "reproduce"]


@dataclass(frozen=True)
class Reproduction:
    """A figure that was reproduced.

    Attributes
    ----------
    name, title, source : str
    agreements : tuple of Agreement
    numbers, pictures : Path, tuple of Path
        The JSON file, and the pictures.
    computed, kept : int
        Cells that were computed now, and that were in the file already.
    seconds : float
    """

    name: str
    title: str
    source: str
    agreements: tuple[Agreement, ...]
    numbers: Path
    pictures: tuple[Path, ...]
    computed: int
    kept: int
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every number agrees."""
        return all(agreement.holds for agreement in self.agreements)

    def __str__(self) -> str:
        rows = [
            (
                agreement.quantity,
                f"{agreement.theory:.4g}",
                f"{agreement.measured:.4g}",
                f"{100 * agreement.deviation:+.2f} %",
                f"{100 * agreement.allowed:.3g} %",
                "yes" if agreement.holds else "NO",
            )
            for agreement in self.agreements
        ]
        header = ("quantity", "theory", "measured", "deviation", "allowed", "agrees")
        made = f"{self.computed} computed, {self.kept} kept" if self.kept else f"{self.computed} computed"
        lines = [
            f"{self.name}: {self.title}",
            f"{self.source}; {made}, {self.seconds:.1f} s",
            table(header, rows),
            *map(str, (self.numbers, *self.pictures)),
        ]
        return "\n".join(lines)


def reproduce(
    names: str | Sequence[str] = "all",
    *,
    quick: bool = False,
    out: str | os.PathLike[str] = "figures",
    again: bool = False,
    progress: Progress = None,
) -> list[Reproduction]:
    """Reproduce figures of the papers, theory beside measurement.

    Each writes ``NAME.json`` (all numbers, with seeds and version), ``NAME.png`` and ``NAME.svg``, in quick mode
    ``NAME-quick.*``. The JSON file is written after every cell: a run that was stopped goes on where it was, and what
    is there is not computed again.

    Parameters
    ----------
    names : str or sequence of str
        Of :func:`fisherfield.figures.names`; ``"all"``.
    quick : bool, default False
        Smaller networks and fewer seeds: a minute or two each on two processors.
    out : path, default "figures"
        Folder, made if it is not there.
    again : bool, default False
        Compute everything anew.
    progress : None, True or callable
        Progress over the cells of each figure: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    list of Reproduction

    Raises
    ------
    ValueError, TypeError
        For unknown names.
    ImportError
        Without matplotlib, or where a figure needs data that an extra brings. Of ``"all"`` such figures are left out.

    Warns
    -----
    RuntimeWarning
        If a figure of ``"all"`` is left out.
    """
    figures = catalogue.find(names)
    boolean(quick, "quick")
    boolean(again, "again")
    require_matplotlib()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for figure in figures:
        try:
            found.append(_reproduce(figure, quick, folder, again, progress))
        except ImportError as error:
            if names != "all":
                raise
            warnings.warn(f"{figure.name} is left out: {error}", RuntimeWarning, stacklevel=2)
    return found


def _reproduce(figure: Figure, quick: bool, folder: Path, again: bool, progress: Progress) -> Reproduction:
    start = time.perf_counter()
    stem = f"{figure.name}-quick" if quick else figure.name
    path = folder / f"{stem}.json"
    known = {} if again else _read(path, quick)
    cells = figure.cells(quick)
    results: Results = []
    computed = 0
    report, close = reporter(progress, len(cells), figure.name)
    try:
        for done, cell in enumerate(cells, 1):
            key = _key(cell)
            if key not in known:
                known[key] = plain(figure.compute(**cell))
                computed += 1
                _write(path, figure, quick, [*results, (cell, known[key])], ())
            results.append((cell, known[key]))
            report(done, len(cells))
    finally:
        close()
    agreements = tuple(figure.agreements(results))
    _write(path, figure, quick, results, agreements)
    pictures = tuple(folder / f"{stem}.{ending}" for ending in ("png", "svg"))
    _draw(figure, results, pictures)
    seconds = time.perf_counter() - start
    kept = len(cells) - computed
    return Reproduction(figure.name, figure.title, figure.source, agreements, path, pictures, computed, kept, seconds)


def _draw(figure: Figure, results: Results, paths: Sequence[Path]) -> None:
    from matplotlib.figure import Figure as Canvas

    with context():
        canvas = Canvas(figsize=figure.size, layout="constrained")
        figure.draw(results, canvas)
        for path in paths:
            canvas.savefig(path, dpi=160)


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)


def _read(path: Path, quick: bool) -> dict[str, Any]:
    """Numbers of cells that a file of this version has, by cell."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if (held["version"], held["quick"]) != (version(), quick):
            return {}
        return {_key(entry["cell"]): entry["numbers"] for entry in held["cells"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(path: Path, figure: Figure, quick: bool, results: Results, agreements: Sequence[Agreement]) -> None:
    """Replace the file at once, so that it is whole whenever the run is stopped."""
    content = {
        "figure": figure.name,
        "title": figure.title,
        "source": figure.source,
        "version": version(),
        "quick": quick,
        "cells": [{"cell": cell, "numbers": numbers} for cell, numbers in results],
        "agreements": [asdict(agreement) | {"holds": agreement.holds} for agreement in agreements],
    }
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(part, path)
