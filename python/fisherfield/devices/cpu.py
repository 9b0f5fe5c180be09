"""Steps through dense layers and their factors on the processor: the compiled kernels, spread over threads.

:mod:`.cuda` has the same functions. Results are written to arrays that the caller made.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any

from .. import _executor
from .._executor import Progress
from .._native import kernels
from .._validate import FloatArray

__all__ = [
    "add_power_sum",
    "add_upper_curvature",
    "default_tile",
    "evaluate",
    "gram_tiles",
    "kernel_tiles",
    "layer_backward",
    "layer_forward",
    "layer_gradient",
    "layer_jacobian",
    "layer_product",
    "layer_tangent",
    "layer_transposed_product",
    "sum_of_squares",
]

Range = tuple[int, int]
Layer = tuple[FloatArray, FloatArray, bool]  # A, B, bias


def evaluate(phi: Any, u: FloatArray, order: int) -> tuple[FloatArray, ...]:
    """Return phi(u) and its derivatives up to the order, for a native activation."""
    found: tuple[FloatArray, ...] = phi.evaluate(u, order)
    return found


def layer_forward(
    h: FloatArray,
    W: FloatArray,
    b: FloatArray | None,
    phi: Any,
    out: FloatArray,
    slope: FloatArray | None = None,
    bend: FloatArray | None = None,
    skip: FloatArray | None = None,
    pre: FloatArray | None = None,
    executor: Executor | None = None,
) -> None:
    """``u = h W^T + b + skip``, ``pre = u``, ``out = phi(u)``, and its derivatives ``slope`` and ``bend``.

    ``phi`` is a native activation or None, the identity.
    """
    blocks = _executor.column_blocks(out.shape[1], out.itemsize, 2.0 * h.size * out.shape[1], executor)
    _executor.run(
        lambda block: kernels.layer_forward(h, W, b, phi, out, slope, *block, skip, pre, bend), blocks, executor
    )


def layer_tangent(
    h: FloatArray | None,
    dW: FloatArray | None,
    db: FloatArray | None,
    dh: FloatArray | None,
    W: FloatArray,
    slope: FloatArray | None,
    out: FloatArray,
    dskip: FloatArray | None = None,
    dpre: FloatArray | None = None,
    executor: Executor | None = None,
) -> None:
    """``dpre = h dW^T + db + dh W^T + dskip`` and ``out = slope o dpre``."""
    flops = 2.0 * out.size * W.shape[1] * ((dW is not None) + (dh is not None))
    _executor.run(
        lambda block: kernels.layer_tangent(h, dW, db, dh, W, slope, out, *block, dskip, dpre),
        _executor.column_blocks(W.shape[0], W.itemsize, flops, executor),
        executor,
    )


def layer_backward(
    delta: FloatArray,
    W: FloatArray,
    slope: FloatArray,
    out: FloatArray,
    skip: bool = False,
    bend: FloatArray | None = None,
    bent: FloatArray | None = None,
    executor: Executor | None = None,
) -> None:
    """``out = (delta W) o slope (+ delta)`` for delta (R, T, M_l); of the last seeds ``bent = (delta W) o bend``."""
    _executor.run(
        lambda columns: kernels.layer_backward(delta, W, slope, out, *columns, skip, bend, bent),
        _executor.column_blocks(W.shape[1], W.itemsize, 2.0 * delta.size * W.shape[1], executor),
        executor,
    )


def layer_jacobian(A: FloatArray, B: FloatArray, bias: bool, out: FloatArray, offset: int) -> None:
    """Write the layer's columns, from ``offset`` on, of the Jacobian ``out`` (T, R, P)."""
    kernels.layer_jacobian(A, B, bias, out, offset)


def layer_gradient(
    A: FloatArray,
    B: FloatArray,
    bias: bool,
    seed: int,
    scale: float,
    out: FloatArray,
    executor: Executor | None = None,
) -> None:
    """``out = scale * sum_t gradient[seed, t]`` of the layer's parameters."""
    _executor.run(
        lambda block: kernels.layer_gradient(A, B, bias, seed, scale, out, *block),
        _weight_blocks(A, B.shape[2], bias, executor),
        executor,
    )


def layer_product(
    A: FloatArray, B: FloatArray, bias: bool, v: FloatArray, out: FloatArray, executor: Executor | None = None
) -> None:
    """``out[r, t] += gradient[r, t] . v`` over the layer's parameters."""
    flops = 2.0 * len(A) * B.shape[2] * (A.shape[1] + bias)
    _executor.run(
        lambda samples: kernels.layer_product(A, B, bias, v, out, *samples),
        _executor.column_blocks(B.shape[1], B.itemsize, flops, executor),
        executor,
    )


def layer_transposed_product(
    A: FloatArray, B: FloatArray, bias: bool, u: FloatArray, out: FloatArray, executor: Executor | None = None
) -> None:
    """``out = sum_rt u[r, t] gradient[r, t]`` of the layer's parameters."""
    _executor.run(
        lambda block: kernels.layer_transposed_product(A, B, bias, u, out, *block),
        _weight_blocks(A, B.shape[2], bias, executor),
        executor,
    )


def sum_of_squares(B: FloatArray, out: FloatArray, executor: Executor | None = None) -> None:
    """``out[t] = sum_r B[r, t]^2``, entry by entry."""
    _executor.run(
        lambda samples: kernels.sum_of_squares(B, out, *samples),
        _executor.column_blocks(B.shape[1], B.itemsize, 2.0 * B.size, executor),
        executor,
    )


def add_power_sum(
    A: FloatArray, weights: FloatArray, bias: bool, power: int, out: FloatArray, executor: Executor | None = None
) -> None:
    """``out += sum_t weights[t, i] A[t, j]^power`` (2 or 4) of the layer's parameters."""
    _executor.run(
        lambda block: kernels.layer_power_sum(A, weights, bias, power, out, *block),
        _weight_blocks(A, weights.shape[1], bias, executor),
        executor,
    )


def add_upper_curvature(
    steps: list[tuple[FloatArray, FloatArray, FloatArray, bool]], out: FloatArray, executor: Executor | None = None
) -> None:
    """Add to D of a layer (R', T, M_l) what bends two or more layers above; steps (W, slope, c, skip) lead there."""
    _, samples, units = out.shape
    flops = 2.0 * samples * units * sum(step[0].size for step in steps[1:])
    _executor.run(
        lambda block: kernels.add_upper_curvature(steps, out, *block),
        _executor.sample_blocks(samples, flops, executor),
        executor,
    )


def default_tile(layers: list[Layer], executor: Executor | None) -> int:
    """Samples a tile: enough tiles to keep every worker busy, none so small that starting it costs more than it."""
    seeds, samples, _ = layers[0][1].shape
    flops = sum(samples**2 * (seeds**2 * B.shape[2] + A.shape[1]) for A, B, _ in layers)
    blocks = max(1, min(4 * _executor.workers(executor), math.isqrt(int(flops // 4e6))))
    panel = 192 // layers[0][1].itemsize  # the widest micro-kernel panel
    return int(min(max(-(-samples // (blocks * panel)) * panel, 48), 480))


def gram_tiles(
    layers: list[Layer],
    scale: float,
    out: FloatArray,
    pairs: list[tuple[Range, Range]],
    executor: Executor | None = None,
    progress: Progress = None,
    precision: None = None,
) -> None:
    """Write pairs of sample ranges of ``scale * J J^T``, for every pair of seeds, and their mirror images.

    Here the only precision is that of the factors.
    """
    _executor.run(lambda pair: kernels.gram_tile(layers, scale, out, *pair), pairs, executor, progress, "dual")


def kernel_tiles(
    rows: list[Layer],
    columns: list[Layer],
    scale: float,
    out: FloatArray,
    pairs: list[tuple[Range, Range]],
    executor: Executor | None = None,
    progress: Progress = None,
    precision: None = None,
) -> None:
    """Write pairs of sample ranges of ``scale * J_rows J_columns^T``, for every pair of seeds."""
    _executor.run(
        lambda pair: kernels.kernel_tile(rows, columns, scale, out, *pair), pairs, executor, progress, "kernel"
    )


def _weight_blocks(A: FloatArray, rows: int, bias: bool, executor: Executor | None) -> list[tuple[Range, Range]]:
    samples, columns = A.shape
    return _executor.weight_blocks(rows, columns, A.itemsize, 2.0 * samples * rows * (columns + bias), executor)
