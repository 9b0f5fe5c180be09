"""Steps through dense layers and their factors on a CUDA GPU: cuBLAS through CuPy, and kernels of our own around it.

:mod:`.cpu` has the same functions; what an executor is there, the GPU is here. All work goes to CuPy's current stream.
The Gram matrix comes from a kernel that multiplies the products of all layers while they are in registers. In float64,
float32 and tf32 an entry is the same bits whatever the tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from .._executor import Progress, reporter
from .._validate import FloatArray
from . import identity, import_cupy
from .cuda_kernels import TILES, kernel, shared_bytes

__all__ = [
    "add_power_sum",
    "add_upper_curvature",
    "default_tile",
    "evaluate",
    "forward_epilogue",
    "gram_tiles",
    "kernel_tiles",
    "layer_backward",
    "layer_forward",
    "layer_gradient",
    "layer_jacobian",
    "layer_product",
    "layer_tangent",
    "layer_transposed_product",
    "over_entries",
    "sum_of_squares",
]

Range = tuple[int, int]
Layer = tuple[FloatArray, FloatArray, bool]  # A, B, bias

_NULL = np.uint64(0)
_INPUT_GRAMS = 2**28  # bytes of the Gram matrices of inputs that several seeds share


def evaluate(phi: Any, u: FloatArray, order: int) -> tuple[FloatArray, ...]:
    """Return phi(u) and its derivatives up to the order, for a native activation."""
    value, *derivatives = (np.empty_like(u) for _ in range(order + 1))
    slope, bend = (*derivatives, None, None)[:2]
    forward_epilogue((1, u.size), u, None, None, phi, None, value, slope, bend)
    return (value, *derivatives)


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
    """``u = h W^T + b + skip``, ``pre = u``, ``out = phi(u)``, and its derivatives ``slope`` and ``bend``."""
    np.matmul(h, W.T, out=out)
    forward_epilogue(out.shape, out, b, skip, phi, pre, out, slope, bend)


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
    along = None if h is None or dW is None else np.matmul(h, dW.T)
    through = None if dh is None else np.matmul(dh, W.T)
    over_entries("tangent_epilogue", out, out.shape, *out.shape, along, through, db, dskip, slope, dpre, out)


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
    seeds, samples, units = out.shape
    np.matmul(delta.reshape(seeds * samples, -1), W, out=out.reshape(seeds * samples, units))
    num_bent = 0 if bent is None else len(bent)
    carried = delta if skip else None
    rows = (seeds * samples, units)
    over_entries("backward_epilogue", out, rows, seeds, samples, units, slope, carried, out, num_bent, bend, bent)


def layer_jacobian(A: FloatArray, B: FloatArray, bias: bool, out: FloatArray, offset: int) -> None:
    """Write the layer's columns, from ``offset`` on, of the Jacobian ``out`` (T, R, P)."""
    seeds, samples, outputs = B.shape
    inputs = A.shape[1]
    entries = (seeds * samples * outputs, inputs + bias)
    sizes = (seeds, samples, inputs, outputs)
    over_entries("layer_jacobian", out, entries, *sizes, A, B, np.int32(bias), out, offset, out.shape[2])


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
    _weighted_sum(A, B[seed], bias, out)
    out *= scale


def layer_product(
    A: FloatArray, B: FloatArray, bias: bool, v: FloatArray, out: FloatArray, executor: Executor | None = None
) -> None:
    """``out[r, t] += gradient[r, t] . v`` over the layer's parameters."""
    seeds, samples, outputs = B.shape
    inputs = A.shape[1]
    moved = np.matmul(A, v[: outputs * inputs].reshape(outputs, inputs).T)
    if bias:
        moved += v[outputs * inputs :]
    warps = 8
    blocks = -(-seeds * samples // warps)
    kernel("seed_products", out.dtype)((blocks,), (32 * warps,), _packed(seeds, samples, outputs, B, moved, out))


def layer_transposed_product(
    A: FloatArray, B: FloatArray, bias: bool, u: FloatArray, out: FloatArray, executor: Executor | None = None
) -> None:
    """``out = sum_rt u[r, t] gradient[r, t]`` of the layer's parameters."""
    seeds, samples, outputs = B.shape
    weights = np.empty((samples, outputs), B.dtype, like=B)
    over_entries("weighted_seeds", weights, weights.shape, seeds, samples, outputs, u, B, weights)
    _weighted_sum(A, weights, bias, out)


def sum_of_squares(B: FloatArray, out: FloatArray, executor: Executor | None = None) -> None:
    """``out[t] = sum_r B[r, t]^2``, entry by entry."""
    over_entries("sum_of_squares", out, out.shape, *B.shape, B, out)


def add_power_sum(
    A: FloatArray, weights: FloatArray, bias: bool, power: int, out: FloatArray, executor: Executor | None = None
) -> None:
    """``out += sum_t weights[t, i] A[t, j]^power`` (2 or 4) of the layer's parameters."""
    squares = A * A
    part = np.empty_like(out)
    _weighted_sum(squares if power == 2 else squares * squares, weights, bias, part)
    out += part


def add_upper_curvature(
    steps: list[tuple[FloatArray, FloatArray, FloatArray, bool]], out: FloatArray, executor: Executor | None = None
) -> None:
    """Add to D of a layer (R', T, M_l) what bends two or more layers above; steps (W, slope, c, skip) lead there.

    The tangents of a layer, du[t, i, j] = d u^m_j / d u^l_i, are formed for as many samples as fit a buffer.
    """
    _, samples, units = out.shape
    widest = max(step[0].shape[0] for step in steps)
    batch = max(1, _INPUT_GRAMS // (3 * units * widest * out.itemsize))
    for begin in range(0, samples, batch):
        part = slice(begin, begin + batch)
        (W, slope, _, skip), *above = steps
        du = slope[part, :, None] * W.T
        if skip:
            du += identity(units, out)
        for W, slope, c, skip in above:
            up = np.matmul(du * slope[part, None, :], W.T)
            if skip:
                up += du
            du = up
            out[:, part] += np.matmul(du * du, c[:, part].transpose(1, 2, 0)).transpose(2, 0, 1)


def gram_tiles(
    layers: list[Layer],
    scale: float,
    out: FloatArray,
    pairs: list[tuple[Range, Range]],
    executor: Executor | None = None,
    progress: Progress = None,
    precision: str | None = None,
) -> None:
    """Write pairs of sample ranges of ``scale * J J^T``, for every pair of seeds, and their mirror images."""
    _tiles(layers, layers, scale, out, pairs, True, progress, "dual", precision)


def kernel_tiles(
    rows: list[Layer],
    columns: list[Layer],
    scale: float,
    out: FloatArray,
    pairs: list[tuple[Range, Range]],
    executor: Executor | None = None,
    progress: Progress = None,
    precision: str | None = None,
) -> None:
    """Write pairs of sample ranges of ``scale * J_rows J_columns^T``, for every pair of seeds."""
    _tiles(rows, columns, scale, out, pairs, False, progress, "kernel", precision)


def default_tile(layers: list[Layer], executor: Executor | None) -> int:
    """Samples a tile: all of them, or with several seeds as many as the Gram matrices of the inputs have room for."""
    B = layers[0][1]
    seeds, samples, _ = B.shape
    return int(samples) if seeds == 1 else min(samples, math.isqrt(_INPUT_GRAMS // (len(layers) * B.itemsize)))


def _tiles(
    rows: list[Layer],
    columns: list[Layer],
    scale: float,
    out: FloatArray,
    pairs: list[tuple[Range, Range]],
    symmetric: bool,
    progress: Progress,
    label: str,
    precision: str | None,
) -> None:
    sides = (rows[0][1].shape[:2], columns[0][1].shape[:2])  # seeds and samples
    mode = out.dtype.name if precision is None else precision
    addresses = np.asarray(_addresses(rows, columns), like=out)
    report, close = reporter(progress, len(pairs), label)
    try:
        for done, pair in enumerate(pairs, 1):
            arguments = (addresses, len(rows), sides, pair, mode)
            lower = symmetric and pair[0] == pair[1]
            if sides[0][0] == sides[1][0] == 1:
                _gram("whole", *arguments, lower, symmetric, scale, None, out)
            else:
                (i0, i1), (j0, j1) = pair
                inputs = np.empty((len(rows), i1 - i0, j1 - j0), out.dtype, like=out)
                one_seed = tuple((1, samples) for _, samples in sides)
                _gram("inputs", addresses, len(rows), one_seed, pair, mode, lower, lower, 1.0, None, inputs)
                _gram("seeds", *arguments, lower, symmetric, scale, inputs, out)
            if progress is not None:
                _wait()
            report(done, len(pairs))
    finally:
        close()


def _addresses(rows: list[Layer], columns: list[Layer]) -> list[list[int]]:
    """Layers as the kernel reads them: addresses of A and B for rows and columns, inputs, outputs, bias."""

    def address(array: Any) -> int:
        return int(array.data.ptr)

    return [
        [*map(address, (A, B, C, D)), A.shape[1], B.shape[2], int(bias)]
        for (A, B, bias), (C, D, _) in zip(rows, columns, strict=True)
    ]


def _gram(
    part: str,
    addresses: FloatArray,
    num_layers: int,
    sides: Sequence[tuple[int, int]],
    pair: tuple[Range, Range],
    mode: str,
    lower: bool,
    mirrored: bool,
    scale: float,
    inputs: FloatArray | None,
    out: FloatArray,
) -> None:
    described = [
        number
        for (seeds, samples), (begin, end) in zip(sides, pair, strict=True)
        for number in (seeds, samples, begin, end - begin)
    ]
    tile, band = TILES[mode], 8
    down, across = (
        -(-seeds * (end - begin) // size)
        for (seeds, _), (begin, end), size in zip(sides, pair, (tile.rows, tile.columns), strict=True)
    )
    launch = kernel(f"gram_{part}", mode)
    launch.max_dynamic_shared_size_bytes = shared_bytes(mode)
    launch(
        (band * across, -(-down // band)),
        (tile.threads,),
        (
            addresses,
            *(np.int32(number) for number in (num_layers, *described, lower, mirrored)),
            np.float64(scale),
            *_packed(inputs, out, out.shape[-1]),
        ),
        shared_mem=shared_bytes(mode),
    )


def _weighted_sum(A: FloatArray, weights: FloatArray, bias: bool, out: FloatArray) -> None:
    """``out = sum_t weights[t, i] A[t, j]``, then ``sum_t weights[t, i]`` for the biases."""
    outputs, inputs = weights.shape[1], A.shape[1]
    size = outputs * inputs
    if size:
        np.matmul(weights.T, A, out=out[:size].reshape(outputs, inputs))
    if bias:
        out[size:] = weights.sum(axis=0)


def forward_epilogue(
    shape: tuple[int, ...],
    product: FloatArray,
    b: FloatArray | None,
    skip: FloatArray | None,
    phi: Any,
    pre: FloatArray | None,
    out: FloatArray,
    slope: FloatArray | None,
    bend: FloatArray | None,
) -> None:
    """What follows the product of a forward step: bias, skip, activation and its derivatives in one pass."""
    kind, parameter = (0, 0.0) if phi is None else (phi.kind, phi.parameter)  # 0 is the identity
    activation = (np.int32(kind), np.float64(parameter))
    over_entries("forward_epilogue", product, shape, *shape, product, b, skip, *activation, pre, out, slope, bend)


def over_entries(name: str, like: FloatArray, shape: Sequence[int], *arguments: Any) -> None:
    """Launch a kernel that runs over the entries of a matrix of this shape: columns along x, rows along y."""
    rows, columns = shape
    across = min(256, 1 << max(0, columns - 1).bit_length())
    down = 256 // across
    grid = (min(-(-columns // across), 2**16), min(-(-rows // down), 2**15))
    if rows and columns:
        kernel(name, like.dtype)(grid, (across, down), _packed(*arguments))


def _packed(*arguments: Any) -> tuple[Any, ...]:
    """Arguments of a kernel: None is no array, a Python int is 64 bits long."""
    return tuple(
        _NULL if value is None else np.int64(value) if isinstance(value, int) else value for value in arguments
    )


def _wait() -> None:
    """Wait for what has been asked of the GPU, so that progress tells what is done."""
    import_cupy().cuda.get_current_stream().synchronize()
