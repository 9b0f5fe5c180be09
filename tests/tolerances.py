"""Comparison on the scale of the whole answer: cancellation inside an entry is not an error of the method."""

import numpy as np

# Rounding of a chain of a few dozen products and four layers, in units of the largest entry.
RELATIVE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}
# A derivative taken numerically (nine points a step of 2^-9 apart, in float64) loses eps / step, about 1e-13, a layer.
DIFFERENCED = RELATIVE | {np.dtype(np.float64): 5e-12}


def assert_close(got, expected, *, tolerance=None, scale=None):
    """``max|got - expected| <= tolerance * max|expected|``."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    limit = RELATIVE[got.dtype] if tolerance is None else tolerance
    size = np.abs(expected).max() if scale is None else scale
    error = np.abs(got - expected).max()
    assert error <= limit * size, f"error {error / size:.2e} of the largest entry, allowed {limit:.0e}"


def tolerance_of(case):
    table = DIFFERENCED if "custom" in case.names else RELATIVE
    return table[case.net.dtype]
