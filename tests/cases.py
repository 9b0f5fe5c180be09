"""Random networks for the property tests, each with its naive twin."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

import fisherfield as ff
import reference

KINK_GAP = 1e-4  # float32 rounds pre-activations by about 1e-6: none of them may change sides of a kink


def swish_like(u):
    """A custom activation: only its value is given, its derivative is taken numerically."""
    return u / (1 + np.exp(-1.5 * u)) + 0.1 * u


@dataclass(frozen=True)
class Case:
    """A network with inputs, in one precision, and how it was made (names: one per hidden layer or block)."""

    net: ff.Network
    X: np.ndarray
    names: tuple[str, ...]

    @property
    def twin(self):
        functions = [swish_like if name == "custom" else reference.FUNCTIONS[name] for name in self.names]
        return reference.Twin(self.net.weights, self.net.biases, functions, residual=self.net.residual)

    @property
    def smooth_here(self):
        kinks = [reference.KINKS.get(name, []) for name in self.names] + [[]] * self.net.residual
        return self.twin.distance_to_kinks(self.X, kinks) > KINK_GAP


def make_case(widths, names, samples, *, biases=True, seed=0, dtype="float64", residual=False):
    """Draw weights and biases that keep pre-activations of order 1 in every layer."""
    rng = np.random.default_rng(seed)
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    weights = [(rng.standard_normal(shape) / np.sqrt(shape[1])).astype(dtype) for shape in shapes]
    vectors = [(0.5 * rng.standard_normal(rows)).astype(dtype) for rows, _ in shapes] if biases else None
    X = rng.standard_normal((samples, widths[0])).astype(dtype)
    activation = [swish_like if name == "custom" else name for name in names]
    return Case(ff.Network(weights, vectors, activation=activation, residual=residual), X, tuple(names))


@st.composite
def cases(draw, *, dtype="float64", max_width=9, max_samples=9, max_outputs=4):
    """1 to 5 layers, widths from 1, any activation in each, with or without biases, with or without skips."""
    depth = draw(st.integers(1, 5))
    residual = depth > 2 and draw(st.booleans())
    width = st.integers(1, max_width)
    hidden = [draw(width)] * (depth - 1) if residual else [draw(width) for _ in range(depth - 1)]
    widths = [draw(width), *hidden, draw(st.integers(1, max_outputs))]
    names = [draw(st.sampled_from([*reference.FUNCTIONS, "custom"])) for _ in range(depth - 1 - residual)]
    return make_case(
        widths,
        names,
        draw(st.integers(1, max_samples)),
        biases=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
        dtype=dtype,
        residual=residual,
    )
