"""The benchmarks of a GPU, at the smallest sizes on the stand-in for one: they run, and a wrong answer is not timed."""

import json

import pytest

from child import run_python
from repository import needed

ROOT = needed("bench")
PATHS = [str(ROOT / "tests" / "simulated"), str(ROOT / "bench")]
SMALLEST = ["--scale", "0.002", "--rounds", "1", "--no-peers"]
PREAMBLE = f"""
import sys
sys.path[:0] = {PATHS}
import gpu
one_seed, ten_seeds = gpu.GRAM[:1], gpu.GRAM[-1:]
gpu.GRAM = one_seed
for cases in (gpu.PRODUCTS, gpu.DIAGONALS, gpu.DUALS):
    del cases[0]
"""
MODES = ["float64", "float32", "tf32", "tf32x3", "bf16x3"]


def run(code, *arguments):
    return run_python("-c", PREAMBLE + code, *arguments, OPENBLAS_NUM_THREADS="1")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    target = tmp_path_factory.mktemp("bench") / "gpu.json"
    done = run("gpu.main(sys.argv[1:])", *SMALLEST, "--json", str(target))
    assert done.returncode == 0, done.stderr
    assert "times mean nothing" in done.stdout
    return json.loads(target.read_text())


def test_facts_and_ceilings(results):
    assert results["machine"].keys() >= {"date", "gpu", "driver", "cuda_driver_api", "cuda_runtime", "cupy"}
    assert results["machine"]["simulated"]
    assert not results["failures"]
    rates = {f"{kind}_tflops" for kind in ("float64", "float32", "tf32", "bf16")} | {"copy_GB_per_s"}
    assert all(results["ceilings"][rate] > 0 for rate in rates)


def test_gram(results):
    assert [row["mode"] for row in results["gram"]] == MODES
    for row in results["gram"]:
        assert row["case"] == "2-2-2-2-1 T=40"
        assert row["goal"]
        assert row["seconds"].keys() == {"ours", "dual", "unfused half", "unfused whole", "gemm", "copy"}
        assert row["flops"] == 40**2 * (7 + 8)
        work = (3 if row["mode"].endswith("x3") else 1) * row["flops"]
        assert row["of_gemm"] == pytest.approx(work / row["seconds"]["ours"] / (row["gemm_tflops"] * 1e12))
        fastest = min(row["seconds"][f"unfused {part}"] for part in ("half", "whole"))
        assert row["faster_than_unfused"] == pytest.approx(fastest / row["seconds"]["ours"])
        assert max(row["errors"].values()) < row["tolerance"]


def test_other_suites(results):
    assert len(results["layers"]) == 8
    assert {row["case"].split()[0] for row in results["products"]} == {"product", "diagonal", "dual"}
    assert [row["case"].split()[0] for row in results["end"]] == [
        "eigenvalues",
        "top_eigenpairs",
        "spectral_density",
        "solve",
    ]
    for name in ("layers", "products", "end"):
        assert all(value > 0 for row in results[name] for value in row["seconds"].values())


WRONG = f"""
import cupy_gram
from fisherfield.devices import cuda

gpu.GRAM, gpu.PRODUCTS[:], gpu.DUALS[:] = ten_seeds, [], []
gpu.END = {{"eigenvalues": gpu.END["eigenvalues"]}}
gpu.ACTIVATIONS = {{"tanh": gpu.tanh}}
cupy_gram.PRODUCTS = {{"float64": "float64"}}


def spoiled(function, last):
    def call(*args, **kwargs):
        function(*args, **kwargs)
        last(args)[...] *= 1.001
    return call


gpu.main(["gram", *{SMALLEST}])
print("the right one passed")
for suite, name, last in [
    ("gram", "gram_tiles", lambda args: args[2][-1]),
    ("end", "gram_tiles", lambda args: args[2]),
    ("layers", "forward_epilogue", lambda args: args[7]),
    ("products", "sum_of_squares", lambda args: args[1]),
]:
    right = getattr(cuda, name)
    setattr(cuda, name, spoiled(right, last))
    try:
        gpu.main([suite, *{SMALLEST}])
    except SystemExit as failed:
        print("caught", suite, str(failed).count("AssertionError"))
    setattr(cuda, name, right)
"""


def test_wrong_answers_are_not_timed():
    done = run(WRONG)
    assert done.returncode == 0, done.stderr
    assert "the right one passed" in done.stdout
    caught = [line for line in done.stdout.splitlines() if line.startswith("caught")]
    assert caught == ["caught gram 1", "caught end 1", "caught layers 2", "caught products 2"]
