"""``{benchmarks}``: tables of the results in ``bench/results``, made when the site is built."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results"
PEERS = {"numpy": "NumPy", "torch": "PyTorch", "backpack": "BackPACK", "curvlinops": "curvlinops"}
SUITES = {
    "gram": "Dual Gram matrix",
    "products": "Products with F",
    "largest": "Largest eigenvalue, residual 1e-3",
    "conditional": "Dual at one input",
    "diagonal": "Exact diagonals",
    "training": "A step of gradient descent",
    "theory": "Theory",
}
HEADER = ("case", "ours", "peer", "time", "peer / ours", "ours / bound")


def duration(seconds: float) -> str:
    """Seconds to three digits, in a unit that suits them."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def seconds_of(entry: Any) -> float:
    """Seconds of one contestant, who may have reported more than that."""
    return float(entry["seconds"] if isinstance(entry, dict) else entry)


def rows(suite: list[dict[str, Any]], key: str) -> Iterator[tuple[str, ...]]:
    """One row for each peer of a case; a case without peers has one row."""
    for case in suite:
        times = case.get(key)
        if not isinstance(times, dict) or "ours" not in times:
            continue
        ours = seconds_of(times["ours"])
        bound = f"{case['over_bound']:.2f}" if key == "seconds" and "over_bound" in case else ""
        peers = [name for name in PEERS if name in times]
        for name in peers:
            theirs = seconds_of(times[name])
            yield case["case"], duration(ours), PEERS[name], duration(theirs), f"{theirs / ours:.2f}", bound
        if not peers:
            yield case["case"], duration(ours), "", "", "", bound


def suites(results: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Title and rows of every table that one file of results has."""
    for name, title in SUITES.items():
        source, key = ("products", "largest") if name == "largest" else (name, "seconds")
        found = list(rows(results.get(source, []), key))
        if found:
            yield title, found


def machine(results: dict[str, Any]) -> str:
    """Where and when the results were measured, in words."""
    facts = results["machine"]
    return (
        f"{facts['cpu']}, {facts['processors']} processors, kernels {facts['isa']}, NumPy {facts['numpy']}, "
        f"{facts['date']}"
    )


def table(title: str, body: list[tuple[str, ...]]) -> nodes.table:
    """A table with its title; numbers to the right."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in HEADER), cols=len(HEADER))
    parts = [("head", nodes.thead(), [HEADER]), ("body", nodes.tbody(), body)]
    for _, part, lines in parts:
        for line in lines:
            cells = [
                nodes.entry("", nodes.paragraph("", text), classes=["" if column in (0, 2) else "text-right"])
                for column, text in enumerate(line)
            ]
            part += nodes.row("", *cells)
        group += part
    return nodes.table("", nodes.title("", title), group)


class Benchmarks(SphinxDirective):
    """The tables of all files, one section for each."""

    def run(self) -> list[nodes.Node]:
        """Return paragraphs that name the machines, and tables."""
        found: list[nodes.Node] = []
        for path in sorted(RESULTS.glob("*.json")):
            self.env.note_dependency(str(path))
            results = json.loads(path.read_text(encoding="utf-8"))
            tables = [table(*suite) for suite in suites(results)]
            if tables:
                found += [nodes.paragraph("", "", nodes.strong("", machine(results))), *tables]
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("benchmarks", Benchmarks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
