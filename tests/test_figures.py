"""The framework of the figures: names, files, resumption, versions, the command.

It runs on a figure of its own, whose numbers are known.
"""

import importlib.metadata
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fisherfield import cli, figures
from fisherfield.figures import Agreement, Figure, catalogue, reproduction


class Squares:
    """A figure whose cells have a number each; it counts what it computes, and may be stopped on the way."""

    def __init__(self, values=(1, 2, 3), stop_at=None):
        self.values, self.stop_at, self.computed = values, stop_at, []
        self.figure = Figure(
            "squares", "squares of numbers", "nobody", self.cells, self.compute, self.draw, self.agreements
        )

    def cells(self, quick):
        return [{"x": x, "scale": 0.1} for x in self.values[: 2 if quick else None]]

    def compute(self, x, scale):
        if x == self.stop_at:
            raise KeyboardInterrupt
        self.computed.append(x)
        return {"square": np.float64(scale * x) ** 2, "all": np.arange(x), "none": math.inf}

    def draw(self, results, figure):
        figure.subplots().plot([cell["x"] for cell, _ in results], [numbers["square"] for _, numbers in results])

    def agreements(self, results):
        return [Agreement("last", 0.01 * results[-1][0]["x"] ** 2, results[-1][1]["square"], 1e-9)]


@pytest.fixture
def squares(monkeypatch):
    """Put a figure of squares in the catalogue; its arguments are those of Squares."""

    def install(*args, **options):
        made = Squares(*args, **options)
        monkeypatch.setattr(catalogue, "_MODULES", {"squares": "squares", "others": "others"})
        monkeypatch.setattr(catalogue, "load", lambda name: made.figure)
        return made

    return install


def read(folder):
    text = (folder / "squares.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# --- files --------------------------------------------------------------------------------------------------


def test_writes_numbers_and_pictures(squares, tmp_path):
    squares()
    (found,) = figures.reproduce("squares", out=tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["squares.json", "squares.png", "squares.svg"]
    assert (folder / "squares.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "squares.svg").read_text(encoding="utf-8")
    assert found.numbers == folder / "squares.json"
    assert found.pictures == (folder / "squares.png", folder / "squares.svg")
    assert (found.name, found.computed, found.kept, found.holds) == ("squares", 3, 0, True)


def test_content_of_the_file(squares, tmp_path):
    squares()
    figures.reproduce(["squares"], out=tmp_path)
    content = read(tmp_path)
    assert {name: content[name] for name in ("figure", "title", "source", "version", "quick")} == {
        "figure": "squares",
        "title": "squares of numbers",
        "source": "nobody",
        "version": importlib.metadata.version("fisherfield"),
        "quick": False,
    }
    assert [entry["cell"] for entry in content["cells"]] == [{"x": x, "scale": 0.1} for x in (1, 2, 3)]
    last = content["cells"][2]["numbers"]
    assert last == {"square": pytest.approx(0.09), "all": [0, 1, 2], "none": None}
    (agreement,) = content["agreements"]
    assert agreement == {
        "quantity": "last", "theory": 0.09, "measured": pytest.approx(0.09), "allowed": 1e-9, "holds": True,
    }  # fmt: skip


def test_table(squares, tmp_path):
    squares()
    text = str(figures.reproduce("squares", out=tmp_path)[0])
    assert "squares: squares of numbers\nnobody; 3 computed, " in text
    assert "last        0.09      0.09    +0.00 %" in text
    assert text.endswith("squares.svg")
    assert "nobody; 0 computed, 3 kept, " in str(figures.reproduce("squares", out=tmp_path)[0])


# --- what is kept -------------------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on(squares, tmp_path):
    stopped = squares(stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        figures.reproduce("squares", out=tmp_path)
    assert [entry["cell"]["x"] for entry in read(tmp_path)["cells"]] == [1]
    rest = squares()
    (found,) = figures.reproduce("squares", out=tmp_path)
    assert (stopped.computed, rest.computed) == ([1], [2, 3])
    assert (found.computed, found.kept) == (2, 1)
    assert [entry["numbers"]["square"] for entry in read(tmp_path)["cells"]] == pytest.approx([0.01, 0.04, 0.09])


def test_again_computes_everything(squares, tmp_path):
    for again, computed in ((False, 3), (False, 0), (True, 3)):
        made = squares()
        figures.reproduce("squares", out=tmp_path, again=again)
        assert len(made.computed) == computed


def test_another_version_computes_everything(squares, tmp_path, monkeypatch):
    squares()
    figures.reproduce("squares", out=tmp_path)
    monkeypatch.setattr(reproduction, "version", lambda: "0.0.0")
    made = squares()
    figures.reproduce("squares", out=tmp_path)
    assert made.computed == [1, 2, 3]
    assert read(tmp_path)["version"] == "0.0.0"


def test_quick_is_a_run_of_its_own(squares, tmp_path):
    squares()
    figures.reproduce("squares", out=tmp_path)
    made = squares()
    figures.reproduce("squares", quick=True, out=tmp_path)
    assert made.computed == [1, 2]
    assert read(tmp_path)["quick"] is False
    assert json.loads((tmp_path / "squares-quick.json").read_text(encoding="utf-8"))["quick"] is True


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"cells": 3}'])
def test_a_file_that_is_no_record_is_replaced(squares, tmp_path, content):
    (tmp_path / "squares.json").write_text(content, encoding="utf-8")
    made = squares()
    figures.reproduce("squares", out=tmp_path)
    assert made.computed == [1, 2, 3]
    assert len(read(tmp_path)["cells"]) == 3


def test_progress_counts_cells(squares, tmp_path):
    squares()
    seen = []
    figures.reproduce("squares", out=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert [entry for entry in seen if entry[0]] == [(1, 3), (2, 3), (3, 3)]


# --- names --------------------------------------------------------------------------------------------------


def test_every_figure_loads_under_its_name():
    loaded = figures.find("all")
    assert tuple(figure.name for figure in loaded) == figures.names()
    assert len({figure.title for figure in loaded}) == len(loaded)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", figures.names())
def test_cells_are_different_json(name, quick):
    (figure,) = figures.find(name)
    keys = [json.dumps(cell, sort_keys=True) for cell in figure.cells(quick)]
    assert len(set(keys)) == len(keys) > 0
    assert [json.loads(key) for key in keys] == figure.cells(quick)


def test_some_figures_in_the_order_asked_for():
    first, last = figures.names()[0], figures.names()[-1]
    assert [figure.name for figure in figures.find([last, first])] == [last, first]


@pytest.mark.parametrize("asked", ["statistics", ["statistics-width", "Statistics-Width"], ""])
def test_unknown_names(asked, tmp_path):
    with pytest.raises(ValueError, match=r"figure: expected one of 'all', 'statistics-width', .*, got "):
        figures.reproduce(asked, out=tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("name", ["quick", "again"])
def test_flags_are_checked(name, tmp_path):
    with pytest.raises(TypeError, match=f"{name}: expected"):
        figures.reproduce("statistics-width", out=tmp_path, **{name: "yes"})


# --- agreements ---------------------------------------------------------------------------------------------


def test_agreement_of_samples():
    found = Agreement.of_samples("mean", 2.0, [1.9, 2.1, 2.3], gap=0.01)
    assert found.measured == pytest.approx(2.1)
    assert found.deviation == pytest.approx(0.05)
    assert found.allowed == pytest.approx(0.01 + 3 * 0.2 / math.sqrt(3) / 2)
    assert found.holds


@given(st.floats(0.1, 10), st.floats(-0.5, 0.5), st.floats(0, 0.4), st.sampled_from([-1, 1]))
def test_holds_within_what_is_allowed(theory, deviation, allowed, sign):
    found = Agreement("anything", sign * theory, sign * theory * (1 + deviation), allowed)
    assert found.deviation == pytest.approx(deviation, abs=1e-12)
    if abs(abs(deviation) - allowed) > 1e-12:
        assert found.holds == (abs(deviation) < allowed)


# --- the command --------------------------------------------------------------------------------------------


def run(capsys, *arguments):
    code = cli.main(("reproduce", *arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command_lists_figures(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()[2:] if line]
    assert tuple(names[: len(figures.names())]) == figures.names()
    code, out, _ = run(capsys, "--json")
    assert [entry["name"] for entry in json.loads(out)["figures"]] == list(figures.names())


def test_command_reproduces(squares, tmp_path, capsys):
    made = squares()
    code, out, err = run(capsys, "squares", "--quick", "--out", str(tmp_path), "--json")
    assert (code, err, made.computed) == (0, "", [1, 2])
    (entry,) = json.loads(out)["figures"]
    assert entry["pictures"] == [str(tmp_path / f"squares-quick.{ending}") for ending in ("png", "svg")]
    assert entry["agreements"][0]["holds"] is True
    code, out, _ = run(capsys, "squares", "--quick", "--out", str(tmp_path), "--again")
    assert (code, made.computed) == (0, [1, 2, 1, 2])
    assert "agrees" in out


def test_command_refuses_unknown_names(capsys, tmp_path):
    code, out, err = run(capsys, "nothing", "--out", str(tmp_path))
    assert code != 0
    assert out == ""
    assert "expected one of 'all', 'statistics-width'" in err
