"""Architectures: ensembles of random networks, the input of the theory and the source of sampled networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from . import activations as _activations
from ._validate import FloatArray, as_dtype, as_generator, as_sequence, choice, non_negative, positive_int
from .activations import Activation

if TYPE_CHECKING:
    from .network import Network

__all__ = ["MLP", "ActivationLike", "ResidualMLP"]

ActivationLike: TypeAlias = str | Activation | Callable[[Any], Any]


def variance_per_layer(value: Any, name: str, layers: int, *, strict: bool) -> tuple[float, ...]:
    """Return one variance per layer from one for all or one for each."""
    if not (isinstance(value, (list, tuple)) or np.ndim(value) > 0):
        return (non_negative(value, name, strict=strict),) * layers
    if len(value) != layers:
        raise ValueError(f"{name}: expected a number or one number per layer ({layers}), got {len(value)} numbers")
    return tuple(non_negative(entry, f"{name}[{l}]", strict=strict) for l, entry in enumerate(value))


def resolve_activations(activation: Any, hidden_layers: int, *, residual: bool = False) -> tuple[Activation, ...]:
    """Return one ``Activation`` per hidden layer from one activation or a sequence of them.

    In a residual network they are those of the blocks; after the last block comes ``linear``.
    """
    count, place = (hidden_layers - 1, "residual block") if residual else (hidden_layers, "hidden layer")
    after = (_activations.get("linear"),) * residual
    if isinstance(activation, Sequence) and not isinstance(activation, str):
        if len(activation) != count:
            raise ValueError(f"activation: expected one activation or one per {place} ({count}), got {len(activation)}")
        return tuple(_activations.get(entry) for entry in activation) + after
    return (_activations.get(activation),) * count + after


def require_room_for_skips(widths: tuple[int, ...], name: str) -> None:
    """Raise unless a residual network can have these widths: a block or more, all hidden widths equal."""
    hidden = widths[1:-1]
    if len(hidden) < 2 or len(set(hidden)) > 1:
        raise ValueError(
            f"{name}: expected widths (M_0, M, ..., M, C) of a residual network, at least two hidden widths and all "
            f"of them equal, got {widths}"
        )


def skip_layers(depth: int, residual: bool) -> tuple[bool, ...]:
    """Return for each weight layer whether the layer before is added to it: all but the first and the last."""
    return tuple(residual and 0 < l < depth - 1 for l in range(depth))


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
    residual: ClassVar[bool] = False

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
        if self.residual:
            require_room_for_skips(self.widths, "widths")
        set_field(self, "activations", resolve_activations(activation, layers - 1, residual=self.residual))
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
    def skips(self) -> tuple[bool, ...]:
        """For each weight layer, whether the pre-activations of the layer before are added to its own."""
        return skip_layers(self.depth, self.residual)

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
            networks are the float64 ones, rounded. An integer starts a stream of its own: inputs drawn from
            ``numpy.random.default_rng`` of the same integer are independent of the weights.
        dtype : {"float64", "float32"}
            Precision of the weights.

        Returns
        -------
        Network

        Raises
        ------
        TypeError
            For another dtype, and a seed of another type.
        ValueError
            For a negative seed.
        """
        from .network import Network

        resolved = as_dtype(dtype)
        rng = as_generator(seed, stream="network")
        draw = _haar if self.init == "orthogonal" else _gaussian
        weights, biases = [], []
        for l in range(self.depth):
            fan_in, fan_out = self.widths[l], self.widths[l + 1]
            weights.append(draw(rng, fan_out, fan_in, self.weight_vars[l]).astype(resolved, copy=False))
            if self.has_biases:
                bias = np.sqrt(self.bias_vars[l]) * rng.standard_normal(fan_out)
                biases.append(bias.astype(resolved, copy=False))
        net = Network(
            weights,
            biases if self.has_biases else None,
            activation=self.activations[:-1] if self.residual else self.activations,
            residual=self.residual,
        )
        net.architecture = self
        return net


@dataclass(frozen=True, init=False)
class ResidualMLP(MLP):
    r"""A random residual network: a linear stem, blocks that add to what passes through them, a linear read-out.

    .. math::
        u^1 = W^1 x + b^1, \quad u^l = u^{l-1} + W^l \phi(u^{l-1}) + b^l, \quad l = 2, \dots, L-1, \qquad
        f = W^L u^{L-1} + b^L,

    with the law of weights and biases of :class:`MLP`. Order parameters follow the same recursions with the skips
    added, :math:`q^l = q^{l-1} + \sigma_w^2 \hat q^{l-1} + \sigma_b^2` and
    :math:`\tilde q^l = \tilde q^{l+1} (1 + \sigma_w^2 E[\phi'(u^l)^2])`: weights of mean zero leave what a block adds
    uncorrelated with what it is added to.

    Parameters
    ----------
    widths : sequence of int
        ``(M_0, M, ..., M, C)``: input dimension, hidden widths, all equal and at least two, number of outputs C.
    activation : str, Activation, callable, or a sequence with one of these per block
        There are L - 2 blocks. ``activations`` has one entry more, ``linear``, for what the read-out sees.
    weight_var, bias_var, init
        As of :class:`MLP`; for all L layers or one per layer, stem and read-out included.

    Raises
    ------
    ValueError, TypeError
        As of :class:`MLP`, and for hidden widths that differ or leave no block.

    Examples
    --------
    >>> import fisherfield as ff
    >>> arch = ff.ResidualMLP(widths=(784, 100, 100, 100, 10), activation="tanh", weight_var=0.8, bias_var=0.1)
    >>> [phi.name for phi in arch.activations]
    ['tanh', 'tanh', 'linear']
    >>> arch.sample(seed=0)
    Network(widths=(784, 100, 100, 100, 10), activation=tanh, residual=True, biases=True, dtype=float64)
    """

    residual: ClassVar[bool] = True


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
