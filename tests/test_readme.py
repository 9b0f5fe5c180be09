"""The README's examples run, and its commands exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import device_mode
from fisherfield import cli
from repository import needed

README = needed("README.md", "docs") / "README.md"
LARGE_DATA = README.parent / "docs" / "large-data.md"
ISOMETRY = README.parent / "docs" / "dynamical-isometry.md"
DIAGONAL = README.parent / "docs" / "diagonal.md"
LEARNING_RATES = README.parent / "docs" / "learning-rates.md"
MONITOR = README.parent / "docs" / "training-monitor.md"
NATURAL = README.parent / "docs" / "natural-gradient.md"
SINGULAR = README.parent / "docs" / "singular-models.md"
REPORT = README.parent / "docs" / "report.md"
GPU = README.parent / "docs" / "gpu.md"
SIMULATED = Path(__file__).parent / "simulated"


def blocks(language, page=README):
    found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    assert found
    return found


PRINTED = {  # what each example has to print
    README: ["FisherStatistics(", "FisherStatistics(", "critical learning rate", "'hessian']", "[", "TrainingMonitor("],
    LARGE_DATA: ["Solution(shape=", "EigenPairs(", "Estimate("],
    ISOMETRY: ["0.197", "["],
    DIAGONAL: ["['score', 'score', 'hessian']", "strength 100: first task 0.8", "by Fisher: loss 0.0043"],
    LEARNING_RATES: ["corrected", "rate 0.", "True", "fractions"],
    MONITOR: ["rate 0.2: condition 3135, energy 30.3, accuracy 0.92", "TrainingMonitor(every=5, records=8"],
    NATURAL: ["0.5 ", "gamma = 36.99", "exact                   4      7     13     26"],
    REPORT: ["The 9 largest eigenvalues hold", "trained 0.673"],
    GPU: ["True", "tf32x3  ", "True"],
    SINGULAR: ["2.23076923", "time=4.259", "6.02]", "plateau_length=33.49", "-0.00177"],
}
EXAMPLES = [
    (code, text) for page, texts in PRINTED.items() for code, text in zip(blocks("python", page), texts, strict=True)
]


def without_gpu(code):
    """Where an example finds a stand-in for CuPy, if it needs one."""
    return [str(SIMULATED)] if "import cupy" in code and hasattr(device_mode.best(), "simulation") else []


@pytest.mark.parametrize(("code", "text"), EXAMPLES)
def test_python_examples_run(code, text):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*without_gpu(code), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert text in done.stdout


def test_commands_parse():
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("fisherfield ")]
    assert len(lines) >= 3
    for line in lines:
        options = cli._parser().parse_args(shlex.split(line, comments=True)[1:])
        assert options.command == shlex.split(line, comments=True)[1]


def test_two_commands_set_up():
    set_up = [block for block in blocks("sh") if ".venv/bin" in block]
    assert [len(block.splitlines()) for block in set_up] == [1, 1]


def test_pictures_exist():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).is_file(), target
