"""The command reproduce: figures of the papers."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from .. import figures, report
from .options import AddCommand, Answer

__all__ = ["add_commands"]


def add_commands(command: AddCommand) -> None:
    """Add reproduce."""
    reproduce = command(
        "reproduce",
        run_reproduce,
        "figures of the papers, theory beside measurement: PNG, SVG, numbers, and how far they agree",
        "statistics-width --quick --out figures",
    )
    reproduce.add_argument(
        "figures",
        nargs="*",
        metavar="FIGURE",
        help=f"all, or some of: {', '.join(figures.names())} (default: list them)",
    )
    reproduce.add_argument("--quick", action="store_true", help="smaller networks, fewer seeds: a minute or two each")
    reproduce.add_argument("--out", default="figures", metavar="DIR", help="folder to write to (default: figures)")
    reproduce.add_argument("--again", action="store_true", help="compute what is there anew")
    reproduce.add_argument("--progress", action="store_true", help="show a progress bar (needs tqdm)")


def run_reproduce(options: argparse.Namespace) -> Answer:
    """List the figures, or reproduce some."""
    if not options.figures:
        rows = [(figure.name, figure.title, figure.source) for figure in figures.find("all")]
        listed = [dict(zip(("name", "title", "source"), row, strict=True)) for row in rows]
        return report.table(("figure", "what", "source"), rows, left=3), {"figures": listed}
    found = figures.reproduce(
        options.figures if len(options.figures) > 1 else options.figures[0],
        quick=options.quick,
        out=options.out,
        again=options.again,
        progress=options.progress,
    )
    text = "\n\n".join(map(str, found))
    return text, {
        "figures": [
            {
                "name": one.name,
                "numbers": str(one.numbers),
                "pictures": list(map(str, one.pictures)),
                "seconds": one.seconds,
                "agreements": [asdict(entry) | {"holds": entry.holds} for entry in one.agreements],
            }
            for one in found
        ]
    }
