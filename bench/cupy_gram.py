"""The baseline of the Gram matrix on a GPU: the same structured algorithm, written with care in CuPy and its cuBLAS.

For every layer K = A A^T and G = B B^T come from cuBLAS and ``acc += (K + 1) * G`` is one elementwise kernel. Work goes
by tiles of samples that the L2 cache or the memory has room for; K is computed once and shared by all pairs of seeds;
one product serves all rows of seeds; the seeds of the last layer are the identity and take no product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import cupy
import numpy as np

from gpu_device import SIMULATED, halves, product

Layer = tuple[Any, Any, bool]  # A, B, bias

PRODUCTS = {"float64": "float64", "float32": "float32", "tf32": "tf32", "tf32x3": "tf32", "bf16x3": "bf16"}
"""Modes of the Gram kernel, and the product of cuBLAS whose arithmetic they have."""

_STEPS: dict[str, tuple[str, str, Callable[..., Any]]] = {  # inputs, what happens to y, and the same in NumPy's words
    "multiply": ("T k", "y *= k + T(1)", lambda k, y: np.multiply(y, k + 1, out=y)),
    "add": ("T k, T g", "y += (k + T(1)) * g", lambda k, g, y: np.add(y, (k + 1) * g, out=y)),
    "add_scaled": ("T k, float64 s", "y += (k + T(1)) * T(s)", lambda k, s, y: np.add(y, (k + 1) * s, out=y)),
}


@cache
def step(name: str) -> Callable[..., Any]:
    """An elementwise kernel that works on its last argument in place; the stand-in compiles none."""
    inputs, operation, on_host = _STEPS[name]
    return on_host if SIMULATED else cupy.ElementwiseKernel(inputs, "T y", operation, f"unfused_{name}")


def split(x: Any, mode: str, left: bool) -> Any:
    """Rows as the product takes them; three products of halves are one product of rows thrice as long."""
    if not mode.endswith("x3"):
        return x
    high, low = halves(x, PRODUCTS[mode])
    return np.concatenate([high, high, low] if left else [high, low, high], axis=-1)


class Unfused:
    """``scale * J J^T`` (R*T, R*T) of layers with biases, the seeds of the last one the identity, into ``out``.

    ``symmetric`` computes one half of the tiles and mirrors it, else all of them are computed.
    """

    def __init__(self, layers: list[Layer], scale: float, out: Any, mode: str, tile: int, symmetric: bool) -> None:
        assert all(bias for _, _, bias in layers)
        self.layers, self.scale, self.out, self.mode, self.symmetric = layers, scale, out, mode, symmetric
        self.seeds, self.samples = layers[-1][1].shape[:2]
        ranges = [(begin, min(begin + tile, self.samples)) for begin in range(0, self.samples, tile)]
        self.pairs = [(i, j) for i in ranges for j in ranges if i <= j or not symmetric]
        self.in_place = self.seeds == 1 and len(ranges) == 1
        rows = self.seeds * tile * tile
        self.grams = cupy.empty((len(layers) if self.seeds > 1 else 1, tile * tile), out.dtype)
        self.terms = cupy.empty(rows, out.dtype)
        self.sums = out.reshape(-1) if self.in_place else cupy.empty(rows, out.dtype)

    @staticmethod
    def bytes(seeds: int, num_layers: int, tile: int, itemsize: int) -> int:
        """Memory besides factors and answer."""
        return (2 * seeds + (num_layers if seeds > 1 else 1)) * tile * tile * itemsize

    def __call__(self) -> None:
        inputs = [tuple(split(A, self.mode, left) for left in (True, False)) for A, _, _ in self.layers]
        seeds = [(split(B, self.mode, True), split(B * self.scale, self.mode, False)) for _, B, _ in self.layers[:-1]]
        for rows, columns in self.pairs:
            self._tile(inputs, seeds, rows, columns)

    def _tile(self, inputs: list[Any], seeds: list[Any], rows: tuple[int, int], columns: tuple[int, int]) -> None:
        (i0, i1), (j0, j1) = rows, columns
        down, across = i1 - i0, j1 - j0
        kind, whole = PRODUCTS[self.mode], self.out.reshape(self.seeds, self.samples, self.seeds, self.samples)

        def gram(l: int) -> Any:
            K = self.grams[l if self.seeds > 1 else 0, : down * across].reshape(down, across)
            if self.seeds == 1 or not made[l]:
                product(kind, inputs[l][0][i0:i1], inputs[l][1][j0:j1], K)
                made[l] = True
            return K

        made = [False] * len(self.layers)
        for q in range(self.seeds):
            first = q if self.symmetric and rows == columns else 0
            shape = (self.seeds - first, down, across)
            total, term = (held[: shape[0] * down * across].reshape(shape) for held in (self.sums, self.terms))
            for l, (left, right) in enumerate(seeds):
                B = np.ascontiguousarray(left[first:, i0:i1], like=left).reshape(shape[0] * down, -1)
                target = term if l else total
                product(kind, B, right[q, j0:j1], target.reshape(-1, across))
                K = gram(l)
                if l:
                    step("add")(K, term, total)
                else:
                    step("multiply")(K, total)
            step("add_scaled")(gram(len(seeds)), self.scale, total[q - first])
            if self.in_place:
                continue
            whole[first:, i0:i1, q, j0:j1] = total
            if self.symmetric and rows != columns:
                whole[q, j0:j1, :, i0:i1] = total.transpose(2, 0, 1)
            elif self.symmetric and first + 1 < self.seeds:
                whole[q, j0:j1, first + 1 :, i0:i1] = total[1:].transpose(2, 0, 1)
