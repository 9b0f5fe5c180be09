"""Benchmark cases as data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

import fisherfield as ff


@dataclass(frozen=True)
class GramCase:
    """The dual matrix of one network on T unit Gaussian inputs."""

    widths: tuple[int, ...]
    num_samples: int
    dtype: str
    goal: float | None = None  # time over the flop bound at the machine's own GEMM rate
    activation: str = "tanh"

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.widths))} T={self.num_samples} {self.dtype}"

    def network(self) -> ff.Network:
        arch = ff.MLP(self.widths, self.activation, weight_var=3.0, bias_var=0.64)
        return arch.sample(seed=0, dtype=self.dtype)

    def inputs(self) -> np.ndarray:
        rng = np.random.default_rng(1)
        return rng.standard_normal((self.num_samples, self.widths[0])).astype(self.dtype)

    def flops(self) -> float:
        """Lower bound: the Gram matrix as symmetric products, forward and backward passes.

        sum_l (R^2 T^2 M_l + T^2 M_{l-1}) + 2 T sum_l M_l M_{l-1} + 2 R T sum_{1 < l < L} M_l M_{l-1}; the first
        backward step, from the identity seeds, is elementwise.
        """
        M, T, R = self.widths, self.num_samples, self.widths[-1]
        layers = range(1, len(M))
        gram = sum(R**2 * T**2 * M[l] + T**2 * M[l - 1] for l in layers)
        forward = 2 * T * sum(M[l] * M[l - 1] for l in layers)
        backward = 2 * R * T * sum(M[l] * M[l - 1] for l in layers if 1 < l < len(M) - 1)
        return float(gram + forward + backward)


SHAPES = [
    ((1000, 1000, 1000, 1), 100, None),
    ((1000, 1000, 1000, 1000, 10), 100, 1.3),
    ((784, 512, 512, 512, 10), 1000, 1.3),
    ((784, 1024, 1024, 1024, 1), 5000, 1.3),
]
GRAM = [GramCase(widths, T, dtype, goal) for widths, T, goal in SHAPES for dtype in ("float32", "float64")]


@dataclass(frozen=True)
class ConditionalCase:
    """The dual matrix at one input of a square network, and its eigenvalues."""

    width: int
    depth: int
    dtype: str
    goal: float | None = None  # as of GramCase, for the dual

    @property
    def name(self) -> str:
        return f"M={self.width} L={self.depth} {self.dtype}"

    def network(self) -> ff.Network:
        arch = ff.MLP((self.width,) * (self.depth + 1), "tanh", weight_var=1.5, bias_var=0.1)
        return arch.sample(seed=0, dtype=self.dtype)

    def input(self) -> np.ndarray:
        return np.random.default_rng(1).standard_normal(self.width).astype(self.dtype)

    def flops(self) -> float:
        """Lower bound: L - 1 symmetric products and L - 2 backward steps; the seeds of the last layer are 1."""
        return float((self.depth - 1 + 2 * (self.depth - 2)) * self.width**3)


CONDITIONAL = [
    ConditionalCase(2000, 10, "float32", 1.3),
    ConditionalCase(2000, 10, "float64"),
    ConditionalCase(1000, 10, "float32"),
    ConditionalCase(1000, 10, "float64"),
]


@dataclass(frozen=True)
class DiagonalCase:
    """The exact diagonal of the unit Gaussian likelihood; with ``hessian`` that of the Hessian of cross-entropy."""

    widths: tuple[int, ...]
    num_samples: int
    dtype: str
    hessian: bool = False
    goal: float | None = None  # time over the flop bound
    over_backpack: float | None = None  # times faster than BackPACK

    @property
    def name(self) -> str:
        what = "Hessian" if self.hessian else "Fisher"
        return f"{what} {'-'.join(map(str, self.widths))} T={self.num_samples} {self.dtype}"

    def network(self) -> ff.Network:
        arch = ff.MLP(self.widths, "tanh", weight_var=3.0, bias_var=0.64)
        return arch.sample(seed=0, dtype=self.dtype)

    def inputs(self) -> np.ndarray:
        rng = np.random.default_rng(1)
        return rng.standard_normal((self.num_samples, self.widths[0])).astype(self.dtype)

    def flops(self) -> float:
        """Forward, backward and one product per layer: 4 T sum_l M_l M_{l-1} + 2 R T sum_{1 < l < L} M_l M_{l-1}.

        From identity seeds the first backward step is elementwise. The Hessian has R = C - 1 seeds of the softmax and
        the score, all of which pass through the last layer too, and one more vector through each layer between hidden
        ones; pairs of hidden layers l, m further apart take 2 T M_l M_m M_{m-1} each.
        """
        M, T, C = self.widths, self.num_samples, self.widths[-1]
        L = len(M) - 1
        every = sum(M[l] * M[l - 1] for l in range(1, L + 1))
        between = sum(M[l] * M[l - 1] for l in range(2, L))
        if not self.hessian:
            return float(4 * T * every + 2 * C * T * between)
        pairs = sum(M[l] * M[m] * M[m - 1] for m in range(3, L) for l in range(1, m - 1))
        return float(4 * T * every + 2 * T * ((C + 1) * between + C * M[-1] * M[-2] + pairs))


DIAGONAL = [
    DiagonalCase((784, 512, 512, 512, 10), 1000, "float32", goal=1.3, over_backpack=2.5),
    DiagonalCase((784, 512, 512, 512, 10), 1000, "float64", goal=1.3),
    DiagonalCase((784, 256, 256, 10), 128, "float32", hessian=True, over_backpack=20),
    DiagonalCase((784, 256, 256, 10), 128, "float64", hessian=True),
    DiagonalCase((784, 256, 256, 256, 10), 128, "float32", hessian=True),
]


@dataclass(frozen=True)
class TrainingCase:
    """Steps of gradient descent with momentum on the cross-entropy of one batch."""

    widths: tuple[int, ...]
    batch: int
    dtype: str
    goal: float | None = None  # time over the flop bound
    over_torch: float | None = None  # times faster than PyTorch

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.widths))} batch {self.batch} {self.dtype}"

    def network(self) -> ff.Network:
        arch = ff.MLP(self.widths, "tanh", weight_var=2.0, bias_var=0.1)
        return arch.sample(seed=0, dtype=self.dtype)

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(1)
        X = rng.standard_normal((self.batch, self.widths[0])).astype(self.dtype)
        return X, rng.integers(0, self.widths[-1], self.batch)

    def flops(self) -> float:
        """Of a step: forward and gradient of every layer, backward through all but the first."""
        pairs = [a * b for a, b in pairwise(self.widths)]
        return 2.0 * self.batch * (2 * sum(pairs) + sum(pairs[1:]))


TRAINING = [
    TrainingCase((784, 512, 512, 10), 500, "float32", goal=1.3, over_torch=2.0),
    TrainingCase((784, 512, 512, 10), 500, "float64", goal=1.3),
    TrainingCase((784, 512, 512, 10), 64, "float32"),
    TrainingCase((784, 64, 64, 10), 64, "float32"),
]
