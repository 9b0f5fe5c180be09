"""Output distributions p(y | f(x)): how the likelihood enters the Fisher information matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ._validate import FloatArray, choice

__all__ = ["Gaussian", "Likelihood", "get"]


class Likelihood(Protocol):
    """What the Fisher information matrix needs to know of an output distribution."""

    @property
    def name(self) -> str:
        """Name by which the likelihood is asked for."""

    def num_seeds(self, num_outputs: int) -> int:
        """R, the number of columns of the square root of the output Fisher information."""

    def seeds(self, outputs: FloatArray) -> FloatArray:
        """Return S, shape (R, T, C): ``sum_r S[r, t] S[r, t]^T`` is the Fisher information of y at ``outputs[t]``."""


@dataclass(frozen=True)
class Gaussian:
    """``y ~ N(f(x), I)``: unit noise in every output; the output Fisher information is the identity, R = C.

    Karakida, Akaho, Amari (2019), Eqs. 1-2.
    """

    name: str = "gaussian"

    def num_seeds(self, num_outputs: int) -> int:
        """R = C."""
        return num_outputs

    def seeds(self, outputs: FloatArray) -> FloatArray:
        """Return the C unit vectors of output space at every sample, shape (C, T, C)."""
        samples, num_outputs = outputs.shape
        identity = np.eye(num_outputs, dtype=outputs.dtype)
        return np.ascontiguousarray(np.broadcast_to(identity[:, None, :], (num_outputs, samples, num_outputs)))


_BY_NAME = {"gaussian": Gaussian()}


def get(likelihood: Any) -> Likelihood:
    """Return the likelihood of that name, or ``likelihood`` itself if it is one."""
    if hasattr(likelihood, "seeds") and hasattr(likelihood, "num_seeds"):
        result: Likelihood = likelihood
        return result
    return _BY_NAME[choice(likelihood, "likelihood", tuple(_BY_NAME))]
