"""Run the benchmarks of a CUDA GPU: ``python bench/gpu.py [SUITE...] [--rounds N] [--json FILE] [--scale S]``.

Every case asserts the answer before anything is timed. The contestants of a case take turns within each round, and with
them the GPU's own rates: products by cuBLAS through CuPy and copies from device to device. Medians over the rounds are
reported. Sizes follow ``--scale``. With the stand-in for CuPy (``PYTHONPATH=tests/simulated``) answers are checked and
times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the GPU's memory

import cupy
import numpy as np

import fisherfield as ff
from fisherfield import devices
from fisherfield.devices import cuda
from fisherfield.gram import tiles

import cupy_gram
import gpu_device
import gpu_peers
from gpu_device import Contestants, interleave, seconds_of

Row = dict[str, Any]


@dataclass
class Run:
    """How the suites run: rounds, scale of sizes, with other libraries or without; the GPU's own rates; failures."""

    rounds: int
    scale: float
    peers: bool
    gemms: dict[str, gpu_device.Gemm] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def cases(self, function: Callable[..., Row], cases: Iterable[tuple[Any, ...]]) -> list[Row]:
        """The rows of the cases; one that fails is reported, and the next goes on."""
        rows = []
        for case in cases:
            try:
                rows.append(function(self, *case))
            except Exception as error:
                traceback.print_exc()
                self.failures.append(f"{function.__name__}{case}: {type(error).__name__}: {error}")
            gpu_device.free()
        return rows

    def size(self, full: int) -> int:
        """A size at the run's scale."""
        return max(2, round(full * self.scale))

    def widths(self, full: tuple[int, ...]) -> tuple[int, ...]:
        """Widths at the run's scale; the number of outputs stays."""
        return (*(self.size(width) for width in full[:-1]), full[-1])

    def gemm(self, kind: str) -> gpu_device.Gemm:
        if kind not in self.gemms:
            self.gemms[kind] = gpu_device.Gemm(kind, self.size(8192))
        return self.gemms[kind]

    @cached_property
    def copy(self) -> gpu_device.Copy:
        return gpu_device.Copy(self.size(2**30))


def network(widths: tuple[int, ...], dtype: str) -> ff.Network:
    return ff.MLP(widths, "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0, dtype=dtype)


def normal(*shape: int, dtype: str, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def text_of(widths: tuple[int, ...]) -> str:
    return "-".join(map(str, widths))


def rounding(widths: tuple[int, ...], dtype: Any) -> float:
    """Of sums as long as a row: rounding errors of either sign, and a margin."""
    return 8 * max(widths) ** 0.5 * float(np.finfo(dtype).eps)


def ceilings(run: Run) -> Row:
    """The GPU's own rates, all of them side by side."""
    gemms = {kind: run.gemm(kind) for kind in gpu_device.KINDS}
    seconds = interleave({**gemms, "copy": run.copy}, run.rounds)
    row: Row = {f"{kind}_tflops": gemm.flops / seconds[kind] / 1e12 for kind, gemm in gemms.items()}
    row |= {"copy_GB_per_s": run.copy.bytes / seconds["copy"] / 1e9, "gemm_size": len(run.gemm("float64").out)}
    print(
        f"products of {row['gemm_size']}: "
        + ", ".join(f"{kind} {row[f'{kind}_tflops']:.1f} TFLOP/s" for kind in gemms)
        + f"; copies {row['copy_GB_per_s']:.0f} GB/s, read and written",
        flush=True,
    )
    return row


# --- the Gram matrix ----------------------------------------------------------------------------------------

GRAM = [(20000, 1), (5000, 1), (2000, 1), (2000, 10)]  # samples, outputs
REDUCED = {"tf32": 2e-3, "tf32x3": 2e-6, "bf16x3": 1e-4}  # errors of the modes: fisherfield.devices.PRECISIONS
GOAL_RATE, GOAL_FACTOR = 0.70, 1.5


def gram(run: Run) -> list[Row]:
    """The fused Gram kernel beside unfused CuPy, in every precision.

    Operations are sum_l T^2 (R^2 M_l + M_{l-1}), half of the symmetric products. What part they are of cuBLAS's rate in
    the same arithmetic counts them three times in the modes that add three products.
    """
    print(
        f"\n{'dual Gram matrix':32s} {'mode':8s} {'ours':>10s} {'TFLOP/s':>8s} {'of GEMM':>8s} {'unfused':>10s}"
        f" {'x faster':>8s} {'written':>8s} {'error':>8s} {'dual()':>10s}  unfused's tiles"
    )
    rows = run.cases(gram_case, [(*shape, mode) for shape in GRAM for mode in cupy_gram.PRODUCTS])
    for row in rows:
        if row["goal"]:
            print(
                f"goal, {row['case']}, {row['mode']}: {row['of_gemm']:.2f} of the matrix rate (goal {GOAL_RATE:.2f}), "
                f"{row['faster_than_unfused']:.2f} times as fast as unfused CuPy (goal {GOAL_FACTOR})"
            )
    return rows


def gram_case(run: Run, samples: int, outputs: int, mode: str) -> Row:
    T, widths = run.size(samples), run.widths((1000, 1000, 1000, 1000, outputs))
    dtype = "float64" if mode == "float64" else "float32"
    net, X = network(widths, dtype).to("cuda"), cupy.asarray(normal(T, widths[0], dtype=dtype))
    layers = [(layer.A, layer.B, layer.bias) for layer in ff.Fisher(net, X).factors]
    size, scale = outputs * T, 1.0 / T
    ours, theirs = cupy.empty((size, size), dtype), cupy.empty((size, size), dtype)
    precision = None if mode == dtype else mode
    pairs = tiles(T, cuda.default_tile(layers, None))

    def fused() -> None:
        cuda.gram_tiles(layers, scale, ours, pairs, precision=precision)

    def dual() -> Any:
        return ff.Fisher(net, X, precision=precision).dual()

    unfused = _best_unfused(layers, scale, theirs, mode)
    expected = Expected(layers, scale)
    tolerance = REDUCED.get(mode, 0.0) + rounding(widths, dtype)
    errors = {}
    for name, call, out in (("ours", fused, ours), *((name, call, theirs) for name, (call, _) in unfused.items())):
        call()
        errors[name] = expected.error(out)
        assert errors[name] < tolerance, f"{T} samples, {mode}: {name} differs by {errors[name]:.1e}"
        if name != "ours":
            apart = expected.difference(ours, theirs)
            assert apart < 2 * tolerance, f"{T} samples, {mode}: ours and {name} differ by {apart:.1e}"
    errors["dual"] = expected.error(dual())
    assert errors["dual"] < tolerance, f"{T} samples, {mode}: dual() differs by {errors['dual']:.1e}"
    gemm, copy = run.gemm(cupy_gram.PRODUCTS[mode]), run.copy
    calls: Contestants = {"ours": fused, **{name: call for name, (call, _) in unfused.items()}, "dual": dual}
    seconds = interleave({**calls, "gemm": gemm, "copy": copy}, run.rounds)
    flops = float(T**2 * sum(outputs**2 * after + before for before, after in pairwise(widths)))
    work = flops * (3 if mode.endswith("x3") else 1)
    best = min(unfused, key=lambda name: seconds[name])
    row: Row = {
        "case": f"{text_of(widths)} T={T}",
        "mode": mode,
        "goal": (samples, outputs) == GRAM[0],
        "seconds": seconds,
        "errors": errors,
        "tolerance": tolerance,
        "flops": flops,
        "tflops": flops / seconds["ours"] / 1e12,
        "gemm_tflops": gemm.flops / seconds["gemm"] / 1e12,
        "of_gemm": work / seconds["ours"] / (gemm.flops / seconds["gemm"]),
        "faster_than_unfused": seconds[best] / seconds["ours"],
        "unfused": best,
        "unfused_tiles": {name: tile for name, (_, tile) in unfused.items()},
        "written_bytes": ours.nbytes,
        "written_of_copy": ours.nbytes / seconds["ours"] / (copy.bytes / seconds["copy"]),
    }
    print(
        f"{row['case']:32s} {mode:8s} {seconds['ours'] * 1e3:8.2f}ms {row['tflops']:8.1f} {row['of_gemm']:8.2f}"
        f" {seconds[best] * 1e3:8.2f}ms {row['faster_than_unfused']:8.2f} {100 * row['written_of_copy']:7.0f}%"
        f" {errors['ours']:8.1e} {seconds['dual'] * 1e3:8.2f}ms  {best}, {row['unfused_tiles'][best]}",
        flush=True,
    )
    return row


def _best_unfused(
    layers: list[cupy_gram.Layer], scale: float, out: Any, mode: str
) -> dict[str, tuple[Callable[[], None], int]]:
    """The fastest unfused computation of one half and of all of the matrix, and their tiles: one call each decides."""
    seeds, T, _ = layers[0][1].shape
    shares = (1, 4, 8, 16) if seeds == 1 else (1, 2)
    unit = 64 if 64 * max(shares) < T else 1  # rows of products begin where the tensor cores like it
    best: dict[str, tuple[float, Callable[[], None], int]] = {}
    for symmetric in (True, False):
        for tile in sorted({min(T, unit * -(-T // (share * unit))) for share in shares}):
            gpu_device.free()
            needed = cupy_gram.Unfused.bytes(seeds, len(layers), tile, out.itemsize)
            if needed > 0.8 * cupy.cuda.Device().mem_info[0]:
                continue
            call = cupy_gram.Unfused(layers, scale, out, mode, tile, symmetric)
            call()
            name, seconds = "half" if symmetric else "whole", seconds_of(call)
            if name not in best or seconds < best[name][0]:
                best[name] = (seconds, call, tile)
    return {f"unfused {name}": (call, tile) for name, (_, call, tile) in best.items()}


class Expected:
    """The matrix by an independent route: rows of some samples, in float64 on the processor.

    Errors are relative to the roots of the products of diagonal entries.
    """

    def __init__(self, layers: list[cupy_gram.Layer], scale: float, rows: int = 32) -> None:
        seeds, T, _ = layers[0][1].shape
        chosen = np.unique(np.linspace(0, T - 1, min(rows, T)).astype(int))
        self.rows = (np.arange(seeds)[:, None] * T + chosen).ravel()
        self.entries, diagonal = np.zeros((seeds, len(chosen), seeds, T)), np.zeros((seeds, T))
        for A, B, bias in layers:
            a, b = (devices.on_host(array).astype(float) for array in (A, B))
            part = np.einsum("rsi,qti->rsqt", b[:, chosen], b, optimize=True)
            self.entries += scale * part * (a[chosen] @ a.T + bias)[None, :, None]
            diagonal += scale * np.square(b).sum(-1) * (np.square(a).sum(-1) + bias)
        self.roots = np.sqrt(diagonal.ravel())

    def error(self, found: Any) -> float:
        """Largest error of these rows and of the same columns."""
        entries = self.entries.reshape(len(self.rows), -1)
        sides = (found[self.rows].get(), found[:, self.rows].get().T)
        scale = np.outer(self.roots[self.rows], self.roots)
        return max(float((np.abs(side - entries) / scale).max()) for side in sides)

    def difference(self, a: Any, b: Any) -> float:
        """Largest difference of two whole matrices."""
        roots = cupy.asarray(self.roots)
        strips = (slice(begin, begin + 1024) for begin in range(0, len(roots), 1024))
        return max(float((np.abs(a[i] - b[i]) / np.outer(roots[i], roots)).max()) for i in strips)


# --- layers -------------------------------------------------------------------------------------------------


def tanh(u: Any, value: Any, slope: Any) -> None:
    np.tanh(u, out=value)
    np.multiply(value, value, out=slope)
    np.subtract(1, slope, out=slope)


def relu(u: Any, value: Any, slope: Any) -> None:
    np.maximum(u, 0, out=value)
    slope[...] = u > 0


def gelu(u: Any, value: Any, slope: Any) -> None:
    from cupyx.scipy.special import ndtr

    cdf = ndtr(u)
    np.multiply(u, u, out=slope)
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= (2 * np.pi) ** -0.5
    slope *= u
    slope += cdf
    np.multiply(u, cdf, out=value)


# value and slope of u by operations of CuPy
ACTIVATIONS: dict[str, Callable[[Any, Any, Any], None]] = {"tanh": tanh, "relu": relu, "gelu": gelu}


def layers(run: Run) -> list[Row]:
    """What follows the product of a layer, in one kernel and by operations of CuPy: bytes beside those of copies.

    Forward a kernel reads the product and writes value and slope; backward, for R = 10, it reads the seeds and the
    slopes and writes the seeds.
    """
    print(
        f"\n{'what follows the product':32s} {'ours':>10s} {'GB/s':>8s} {'of copy':>8s} {'unfused':>10s}"
        f" {'x faster':>8s} {'layer':>10s} {'its GEMM':>10s} {'unfused':>10s}"
    )
    dtypes = ("float64", "float32")
    rows = run.cases(forward_case, [(name, dtype) for dtype in dtypes for name in ACTIVATIONS])
    return rows + run.cases(backward_case, [(10, dtype) for dtype in dtypes])


def forward_case(run: Run, name: str, dtype: str) -> Row:
    T, M = run.size(20000), run.size(1000)
    h, W, b = (cupy.asarray(normal(*shape, dtype=dtype)) for shape in ((T, M), (M, M), (M,)))
    W /= M**0.5
    phi, u = ff.activations.get(name).native, h @ W.T
    value, slope, other_value, other_slope = (cupy.empty_like(u) for _ in range(4))

    def epilogue() -> None:
        cuda.forward_epilogue(u.shape, u, b, None, phi, None, value, slope, None)

    def unfused_epilogue() -> None:
        ACTIVATIONS[name](u + b, other_value, other_slope)

    def layer() -> None:
        cuda.layer_forward(h, W, b, phi, value, slope)

    def unfused_layer() -> None:
        np.matmul(h, W.T, out=other_value)
        np.add(other_value, b, out=other_value)
        ACTIVATIONS[name](other_value, other_value if name == "tanh" else cupy.empty_like(u), other_slope)

    tolerance = 50 * float(np.finfo(u.dtype).eps)
    for call in (epilogue, layer):
        unfused_epilogue()
        call()
        allowed = tolerance if call is epilogue else tolerance + rounding(W.shape, u.dtype)
        for found, expected in ((value, other_value), (slope, other_slope)):
            apart = np.abs(found - expected)
            if name == "relu":  # it jumps where rounding may decide
                apart = apart[np.abs(u + b) > allowed]
            assert float(apart.max()) < allowed, f"{name} {u.dtype}: {float(apart.max()):.1e}"
    calls = {"epilogue": epilogue, "unfused epilogue": unfused_epilogue, "layer": layer}
    return _layer_row(
        run, f"{name} {u.shape} {u.dtype}", 3 * u.nbytes, calls, unfused_layer, lambda: np.matmul(h, W.T, out=value)
    )


def backward_case(run: Run, seeds: int, dtype: str) -> Row:
    T, M = run.size(20000) // seeds, run.size(1000)
    delta, slope, W = (cupy.asarray(normal(*shape, dtype=dtype)) for shape in ((seeds, T, M), (T, M), (M, M)))
    out, other = cupy.empty_like(delta), cupy.empty_like(delta)
    carried = np.matmul(delta, W)

    def epilogue() -> None:
        cuda.over_entries("backward_epilogue", out, (seeds * T, M), seeds, T, M, slope, None, out, 0, None, None)

    def unfused_epilogue() -> None:
        np.multiply(other, slope, out=other)

    def unfused() -> None:
        np.matmul(delta.reshape(seeds * T, M), W, out=other.reshape(seeds * T, M))
        unfused_epilogue()

    def layer() -> None:
        cuda.layer_backward(delta, W, slope, out)

    layer()
    unfused()
    out_of_layer = out.copy()
    out[...] = carried
    epilogue()
    for found in (out, out_of_layer):
        apart = float(np.abs(found - other).max() / np.abs(other).max())
        assert apart < rounding(W.shape, dtype), f"backward {dtype}: {apart:.1e}"
    slope[...] = 1  # repeated calls keep the seeds as they are
    calls = {"epilogue": epilogue, "unfused epilogue": unfused_epilogue, "layer": layer}

    def gemm() -> None:
        np.matmul(delta.reshape(seeds * T, M), W, out=out.reshape(seeds * T, M))

    return _layer_row(run, f"backward {delta.shape} {dtype}", 2 * delta.nbytes + slope.nbytes, calls, unfused, gemm)


def _layer_row(
    run: Run, name: str, nbytes: int, calls: Contestants, unfused: Callable[[], None], gemm: Callable[[], object]
) -> Row:
    copy = run.copy
    seconds = interleave({**calls, "unfused layer": unfused, "gemm": gemm, "copy": copy}, run.rounds)
    rate = nbytes / seconds["epilogue"]
    row: Row = {
        "case": name,
        "seconds": seconds,
        "bytes": nbytes,
        "GB_per_s": rate / 1e9,
        "of_copy": rate / (copy.bytes / seconds["copy"]),
        "faster_than_unfused": seconds["unfused epilogue"] / seconds["epilogue"],
        "layer_faster_than_unfused": seconds["unfused layer"] / seconds["layer"],
    }
    print(
        f"{name:32s} {seconds['epilogue'] * 1e3:8.3f}ms {row['GB_per_s']:8.0f} {row['of_copy']:8.2f}"
        f" {seconds['unfused epilogue'] * 1e3:8.3f}ms {row['faster_than_unfused']:8.2f} {seconds['layer'] * 1e3:8.3f}ms"
        f" {seconds['gemm'] * 1e3:8.3f}ms {seconds['unfused layer'] * 1e3:8.3f}ms",
        flush=True,
    )
    return row


# --- products, diagonals, duals beside other libraries ----------------------------------------------------------

PRODUCTS = [((784, 1000, 1000, 1000, 1), 10000), ((784, 512, 512, 512, 10), 10000)]
DIAGONALS = [((784, 1000, 1000, 1), 1000), ((784, 512, 512, 512, 10), 1000)]
DUALS = [((784, 1000, 1000, 1), 200), ((784, 512, 512, 512, 10), 100)]  # their Jacobians are formed

TASKS: dict[str, tuple[list[tuple[tuple[int, ...], int]], Callable[[ff.Fisher, Any], Any]]] = {
    "product": (PRODUCTS, lambda fim, v: fim @ v),
    "diagonal": (DIAGONALS, lambda fim, v: fim.diagonal()),
    "dual": (DUALS, lambda fim, v: fim.dual()),
}


def products(run: Run) -> list[Row]:
    """F v with factors at hand; diagonals and small duals from the weights on; beside PyTorch and JAX."""
    print(f"\n{'F v, diagonal, dual':48s} {'ours':>10s} {'bound':>10s} {'x bound':>8s}  others (x slower)")
    dtypes = ("float32", "float64")
    return run.cases(task_case, [(task, *case, dtype) for task in TASKS for case in TASKS[task][0] for dtype in dtypes])


def task_case(run: Run, task: str, full: tuple[int, ...], samples: int, dtype: str) -> Row:
    measure, widths, T = TASKS[task][1], run.widths(full), run.size(samples)
    net, X = network(widths, dtype), normal(T, widths[0], dtype=dtype)
    v = normal(net.num_parameters, dtype=dtype, seed=2)
    on_gpu, inputs, vector = net.to("cuda"), cupy.asarray(X), cupy.asarray(v)
    found, absent = gpu_peers.available(net, X, v) if run.peers else ({}, {})
    answer = devices.on_host(measure(ff.Fisher(on_gpu, inputs), vector))
    others = {"the processor": measure(ff.Fisher(net, X), v)}
    others |= {name: gpu_peers.to_host(tasks[task]()) for name, tasks in found.items()}
    for name, other in others.items():
        apart = float(np.abs(answer - other).max() / np.abs(other).max())
        assert apart < rounding(widths, dtype), f"{task} {text_of(widths)} {dtype}: {name} differs by {apart:.1e}"
    if task == "product":
        fim = ff.Fisher(on_gpu, inputs)
        contestants: Contestants = {"ours": lambda: measure(fim, vector)}
    else:
        contestants = {"ours": lambda: measure(ff.Fisher(on_gpu, inputs), vector)}
    contestants |= {name: tasks[task] for name, tasks in found.items()}
    gemm = run.gemm(dtype)
    seconds = interleave({**contestants, "gemm": gemm}, run.rounds)
    flops = task_flops(task, widths, T)
    bound = flops / (gemm.flops / seconds["gemm"])
    row: Row = {
        "case": f"{task} {text_of(widths)} T={T} {dtype}",
        "seconds": seconds,
        "flops": flops,
        "bound_seconds": bound,
        "over_bound": seconds["ours"] / bound,
        "times_slower": {name: seconds[name] / seconds["ours"] for name in found},
        "absent": absent,
    }
    beside = [f"{name} {seconds[name] * 1e3:.2f}ms ({row['times_slower'][name]:.1f})" for name in found]
    beside += [f"{name}: {reason}" for name, reason in absent.items()]
    print(
        f"{row['case']:48s} {seconds['ours'] * 1e3:8.2f}ms {bound * 1e3:8.2f}ms {row['over_bound']:8.2f}"
        f"  {', '.join(beside)}",
        flush=True,
    )
    return row


def task_flops(task: str, widths: tuple[int, ...], T: int) -> float:
    """Least operations: two products forward and two back for F v; else forward, backward and a product per layer."""
    R, weights = widths[-1], [before * after for before, after in pairwise(widths)]
    if task == "product":
        return 8.0 * T * sum(weights)
    swept = 2.0 * T * sum(weights) + 2.0 * R * T * sum(weights[1:-1])
    if task == "diagonal":
        return swept + 2.0 * T * sum(weights)
    return swept + float(T**2 * sum(R**2 * after + before for before, after in pairwise(widths)))


# --- end to end -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A measurement from the weights on: its answer as a vector, and how far the processor's may be from it."""

    widths: tuple[int, ...]
    samples: int
    dtype: str
    measure: Callable[[ff.Fisher, Any], Any]
    tolerance: float


WIDE = (784, 1000, 1000, 10)
END = {
    "eigenvalues": Job((1000, 1000, 1000, 1), 4000, "float64", lambda fim, v: fim.eigenvalues(), 1e-12),
    "top_eigenpairs": Job(WIDE, 10000, "float32", lambda fim, v: fim.top_eigenpairs(10, tol=1e-3).values, 2e-3),
    "spectral_density": Job(
        WIDE,
        10000,
        "float32",
        lambda fim, v: moments(fim.spectral_density(probes=2, steps=16, deflate=0, seed=0)),
        1e-3,
    ),
    "solve": Job((1000, 1000, 1000, 1), 4000, "float64", lambda fim, v: fim.solve(v, damping=1e-2), 1e-5),
}


def moments(density: Any) -> np.ndarray:
    return np.array([density.mean.value, density.maximum])


def end(run: Run) -> list[Row]:
    """Measurements end to end on the GPU and on the processor of the same machine."""
    print(f"\n{'end to end':56s} {'GPU':>10s} {'processor':>10s} {'x faster':>8s} {'apart':>8s}")
    return run.cases(job_case, [(name,) for name in END])


def job_case(run: Run, name: str) -> Row:
    job = END[name]
    widths, T = run.widths(job.widths), run.size(job.samples)
    net, X = network(widths, job.dtype), normal(T, widths[0], dtype=job.dtype)
    v = normal(net.num_parameters, dtype=job.dtype, seed=2)
    on_gpu, inputs, vector = net.to("cuda"), cupy.asarray(X), cupy.asarray(v)

    def on_the_gpu() -> Any:
        return job.measure(ff.Fisher(on_gpu, inputs), vector)

    def on_the_processor() -> Any:
        return job.measure(ff.Fisher(net, X), v)

    start = time.perf_counter()
    expected = on_the_processor()
    slow = time.perf_counter() - start > gpu_device.SINGLE_CALL
    apart = float(np.abs(devices.on_host(on_the_gpu()) - expected).max() / np.abs(expected).max())
    assert apart < job.tolerance, f"{name}: GPU and processor differ by {apart:.1e}"
    seconds = interleave({"gpu": on_the_gpu}, run.rounds)
    seconds |= interleave({"cpu": on_the_processor}, 1 if slow else run.rounds)
    row: Row = {
        "case": f"{name} {text_of(widths)} T={T} {job.dtype}",
        "seconds": seconds,
        "apart": apart,
        "faster_than_cpu": seconds["cpu"] / seconds["gpu"],
    }
    print(
        f"{row['case']:56s} {seconds['gpu'] * 1e3:8.1f}ms {seconds['cpu'] * 1e3:8.1f}ms {row['faster_than_cpu']:8.1f}"
        f" {apart:8.1e}",
        flush=True,
    )
    return row


SUITES = {"gram": gram, "layers": layers, "products": products, "end": end}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "suite", nargs="*", metavar="suite", help=f"what to run: {', '.join(SUITES)} (default: everything)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every case")
    parser.add_argument("--json", type=Path, help="write machine facts and results to this file, suite by suite")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all sizes, such as 0.005 for a smoke test")
    parser.add_argument("--no-peers", action="store_true", help="leave other libraries out")
    options = parser.parse_args(arguments)
    if unknown := set(options.suite) - set(SUITES):
        parser.error(f"unknown suite {', '.join(sorted(unknown))}; expected {', '.join(SUITES)}")
    run = Run(options.rounds, options.scale, not options.no_peers)
    results: dict[str, object] = {"machine": gpu_device.facts(), "rounds": run.rounds, "scale": run.scale}
    print(json.dumps(results["machine"]))
    if gpu_device.SIMULATED or run.scale < 1:
        print("sizes are scaled or the GPU is simulated: the answers are checked, the times mean nothing")
    results["ceilings"] = ceilings(run)
    for name in options.suite or SUITES:
        results[name] = SUITES[name](run)
        results["failures"] = run.failures
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    if run.failures:
        sys.exit("\n".join(["failed:", *run.failures]))


if __name__ == "__main__":
    main()
