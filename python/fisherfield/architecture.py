"""Architectures: ensembles of random networks, the input of the theory and the source of sampled networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import activations as _activations
from ._validate import FloatArray, as_dtype, as_generator, as_sequence, choice, non_negative, positive_int
from .activations import Activation

if TYPE_CHECKING:
    from .network import Network

__all__ = ["MLP", "ActivationLike"]

ActivationLike: TypeAlias = str | Activation | Callable[[Any], Any]


def variance_per_layer(value: Any, name: str, layers: int, *, strict: bool) -> tuple[float, ...]:
    """Return one variance per layer from one for all or one for each."""
    if not (isinstance(value, (list, tuple)) or np.ndim(value) > 0):
        return (non_negative(value, name, strict=strict),) * layers
    if len(value) != layers:
        raise ValueError(f"{name}: expected a number or one number per layer ({layers}), got {len(value)} numbers")
    return tuple(non_negative(entry, f"{name}[{l}]", strict=strict) for l, entry in enumerate(value))


def resolve_activations(activation: Any, hidden_layers: int) -> tuple[Activation, ...]:
    """Return one ``Activation`` per hidden layer from one activation or a sequence of them."""
    if isinstance(activation, Sequence) and not isinstance(activation, str):
        if len(activation) != hidden_layers:
            raise ValueError(
                f"activation: expected one activation or one per hidden layer ({hidden_layers}), got {len(activation)}"
            )
        return tuple(_activations.get(entry) for entry in activation)
    return (_activations.get(activation),) * hidden_layers


@dataclass(frozen=True, init=False)
class MLP:
    r"""A random fully connected network: widths, activations and the variances of weights and biases.

    .. math:: u^l = W^l h^{l-1} + b^l, \quad h^l = \phi(u^l), \quad l = 1, \dots, L-1, \qquad f = u^L,

    with :math:`W^l_{ij} \sim N(0, \sigma_w^2 / M_{l-1})` and :math:`b^l_i \sim N(0, \sigma_b^2)`
    (Karakida, Akaho, Amari 2019, Eqs. 5 and 8).

    Parameters
    ----------
    widths : sequence of int
        ``(M_0, ..., M_L)``: input dimension, hidden widths, number of outputs C. At least two entries.
    activation : str, Activation, callable, or a sequence with one of these per hidden layer
        See :func:`fisherfield.activations.get`.
    weight_var : float or sequence of L floats
        :math:`\sigma_w^2 > 0`, for all layers or one per layer.
    bias_var : float, sequence of L floats, or None
        :math:`\sigma_b^2 \ge 0`. With 0 the biases start at zero but are parameters and count in P; with None the
        network has no biases.
    init : {"gaussian", "orthogonal"}
        Law of the weights. ``"orthogonal"`` draws Haar orthogonal matrices (for a rectangular layer, orthonormal
        columns or rows) scaled so that :math:`E[(W^l_{ij})^2] = \sigma_w^2 / M_{l-1}` as in the Gaussian case. They
        come from LAPACK's QR factorisation: their last bits may follow the number of threads of the BLAS.

    Raises
    ------
    ValueError, TypeError
        For widths below 1, negative or non-finite variances, a zero weight variance, unknown names, and sequences
        of the wrong length.

    Examples
    --------
    >>> import fisherfield as ff
    >>> arch = ff.MLP(widths=(784, 100, 100, 10), activation="tanh", weight_var=3.0, bias_var=0.64)
    >>> arch.depth, arch.num_parameters
    (3, 89610)
    >>> net = arch.sample(seed=0)
    >>> net.weights[0].shape
    (100, 784)
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]
    weight_vars: tuple[float, ...]
    bias_vars: tuple[float, ...]
    has_biases: bool
    init: str

    def __init__(
        self,
        widths: Sequence[int],
        activation: ActivationLike | Sequence[ActivationLike] = "tanh",
        *,
        weight_var: float | Sequence[float] = 1.0,
        bias_var: float | Sequence[float] | None = 0.0,
        init: str = "gaussian",
    ) -> None:
        widths = as_sequence(widths, "widths", "a sequence (M_0, ..., M_L)")
        if len(widths) < 2:
            raise ValueError(f"widths: expected (M_0, ..., M_L) with at least two entries, got {widths!r}")
        layers = len(widths) - 1
        set_field = object.__setattr__
        set_field(self, "widths", tuple(positive_int(m, f"widths[{l}]") for l, m in enumerate(widths)))
        set_field(self, "activations", resolve_activations(activation, layers - 1))
        set_field(self, "weight_vars", variance_per_layer(weight_var, "weight_var", layers, strict=True))
        set_field(
            self,
            "bias_vars",
            variance_per_layer(0.0 if bias_var is None else bias_var, "bias_var", layers, strict=False),
        )
        set_field(self, "has_biases", bias_var is not None)
        set_field(self, "init", choice(init, "init", ("gaussian", "orthogonal")))

    @property
    def depth(self) -> int:
        """Number of weight layers L."""
        return len(self.widths) - 1

    @property
    def num_outputs(self) -> int:
        """Number of outputs C."""
        return self.widths[-1]

    @property
    def num_parameters(self) -> int:
        """P: all weights, and all biases where the network has them."""
        return sum(m * (n + self.has_biases) for n, m in zip(self.widths[:-1], self.widths[1:], strict=True))

    def sample(self, seed: int | np.random.Generator | None = None, dtype: npt.DTypeLike = "float64") -> Network:
        """Draw a network.

        Parameters
        ----------
        seed : int, numpy.random.Generator or None
            The same seed gives the same network (orthogonal weights up to the last bits, see ``init``); float32
            networks are the float64 ones, rounded.
        dtype : {"float64", "float32"}
            Precision of the weights.

        Returns
        -------
        Network
        """
        from .network import Network

        resolved = as_dtype(dtype)
        rng = as_generator(seed)
        draw = _haar if self.init == "orthogonal" else _gaussian
        weights, biases = [], []
        for l in range(self.depth):
            fan_in, fan_out = self.widths[l], self.widths[l + 1]
            weights.append(draw(rng, fan_out, fan_in, self.weight_vars[l]).astype(resolved, copy=False))
            if self.has_biases:
                bias = np.sqrt(self.bias_vars[l]) * rng.standard_normal(fan_out)
                biases.append(bias.astype(resolved, copy=False))
        net = Network(weights, biases if self.has_biases else None, activation=self.activations)
        net.architecture = self
        return net


def _gaussian(rng: np.random.Generator, rows: int, columns: int, variance: float) -> FloatArray:
    matrix = rng.standard_normal((rows, columns))
    matrix *= np.sqrt(variance / columns)
    return matrix


def _haar(rng: np.random.Generator, rows: int, columns: int, variance: float) -> FloatArray:
    """Orthonormal rows or columns, uniform, scaled to entries of variance ``variance / columns``."""
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))  # makes the factor unique, hence Haar distributed
    scale = np.sqrt(variance * max(rows, columns) / columns)
    return np.ascontiguousarray(scale * (q if rows >= columns else q.T))
