r"""The spectrum of the conditional Fisher information matrix, given one input, in the limit of wide layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from fisherfield._native import kernels
from fisherfield._validate import as_sequence, choice, non_negative
from fisherfield.architecture import MLP, variance_per_layer
from fisherfield.statistics import critical_learning_rate

from .discrete_law import Atoms, DiscreteLaw
from .free_law import FreeLaw
from .gaussian import DEFAULT_TOL, warn_unconverged
from .slopes import slope_law

__all__ = ["ConditionalSpectrum", "conditional_spectrum", "layered_law"]


@dataclass(frozen=True, eq=False)
class ConditionalSpectrum:
    r"""The law of the C eigenvalues of :math:`J J^\top`, J the derivatives of the outputs at one input.

    They are the eigenvalues of the conditional FIM :math:`F(x) = J^\top J` that are not trivially zero; C is of the
    order of the widths. Over the width M they are those of :math:`H_L` of Hayase and Karakida (2021).

    Attributes
    ----------
    architecture : MLP
    q, qhat : tuple of L floats
        Variance of the pre-activations of layers 1, ..., L, and mean square of the activations of layers 0, ..., L - 1
        (Karakida, Akaho, Amari 2019, Eq. 9).
    slopes : tuple of DiscreteLaw
        Law of :math:`\phi'(u^l)^2` for each hidden layer.
    law : FreeLaw
        Density, distribution function, quantiles, moments, transforms.
    """

    architecture: MLP
    q: tuple[float, ...]
    qhat: tuple[float, ...]
    slopes: tuple[DiscreteLaw, ...]
    law: FreeLaw

    @property
    def mean(self) -> float:
        """Mean of the C eigenvalues."""
        return self.law.mean

    @property
    def variance(self) -> float:
        """Variance of the C eigenvalues."""
        return self.law.variance

    @cached_property
    def maximum(self) -> float:
        """Upper end of the spectrum: its topmost atom or edge."""
        return self.law.maximum

    @property
    def atoms(self) -> Atoms:
        """Positions and masses of the atoms."""
        return self.law.atoms

    def critical_learning_rate(self, momentum: float = 0.0) -> float:
        r"""Return :math:`2 (1 + \mu) / \lambda_{\max}`, for gradient descent on :math:`|f(x) - y|^2 / 2` of one input.

        Online training presents one input at a time: its rate is bounded by this conditional maximum, which grows in
        proportion to the depth even where the input-output Jacobian is isometric (Hayase, Karakida 2021).

        Parameters
        ----------
        momentum : float, default 0.0
            Heavy-ball coefficient :math:`\mu`, 0 <= mu < 1.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            For a momentum that is no number in [0, 1).
        """
        return critical_learning_rate(self.maximum, momentum)


def conditional_spectrum(architecture: MLP, qhat0: float = 1.0) -> ConditionalSpectrum:
    r"""Return the predicted spectrum of the conditional FIM of a random network, given one input.

    With :math:`\hat q_l` the mean square of layer l's activations and :math:`D_l = \mathrm{diag}\,\phi'(u^l)`, the dual
    matrix obeys (Hayase, Karakida 2021, for all widths M and without biases, over M)

    .. math:: K_1 = (M_0 \hat q_0 + 1) I, \quad K_{l+1} = (M_l \hat q_l + 1) I + W_{l+1} D_l K_l D_l W_{l+1}^\top,

    where 1 is the derivative by the bias, absent without biases. In the limit of wide layers :math:`D_l` is free from
    :math:`K_l` and from the weights, Haar orthogonal or Gaussian, so that each step is a free operation; the widths may
    differ.

    Parameters
    ----------
    architecture : MLP
        Any activations, variances per layer, ``init`` Gaussian or orthogonal. C should be large: a finite network has C
        eigenvalues where this is a law. Residual networks are refused: their layers are not free of each other.
    qhat0 : float, default 1.0
        :math:`|x|^2 / M_0` of the input, > 0.

    Returns
    -------
    ConditionalSpectrum

    Raises
    ------
    ValueError, TypeError
        For residual networks, and ``qhat0`` that is not positive.

    Examples
    --------
    >>> import fisherfield as ff
    >>> arch = ff.MLP((500,) * 11, "hard_tanh", weight_var=1.025, bias_var=0.003, init="orthogonal")
    >>> spectrum = ff.conditional_spectrum(arch, qhat0=0.15)
    >>> spectrum.atoms.masses.round(3).tolist(), spectrum.law.support.shape
    ([0.018, 0.866], (8, 2))
    >>> bool(spectrum.maximum == spectrum.atoms.positions[-1])
    True
    """
    if not isinstance(architecture, MLP):
        raise TypeError(f"architecture: expected an MLP, got {type(architecture).__name__}")
    if architecture.residual:
        raise ValueError("architecture: expected a network without skips, got a ResidualMLP: its layers are not free")
    q, qhat = _order_parameters(architecture, non_negative(qhat0, "qhat0", strict=True))
    widths, bias = architecture.widths, float(architecture.has_biases)
    slopes = tuple(slope_law(phi, variance) for phi, variance in zip(architecture.activations, q[:-1], strict=True))
    law = layered_law(
        [width * square + bias for width, square in zip(widths[:-1], qhat, strict=True)],
        architecture.weight_vars[1:],
        slopes,
        ratios=[after / before for before, after in pairwise(widths[1:])],
        init=architecture.init,
    )
    return ConditionalSpectrum(architecture, q, qhat, slopes, law)


def layered_law(
    shifts: Sequence[float],
    weight_vars: float | Sequence[float],
    slopes: Sequence[DiscreteLaw],
    *,
    ratios: float | Sequence[float] = 1.0,
    init: str = "orthogonal",
) -> FreeLaw:
    r"""Return the law of :math:`H_L`, given what its recursion is made of.

    .. math:: H_1 = c_0 I, \quad H_{l+1} = c_l I + W_{l+1} D_l H_l D_l W_{l+1}^\top.

    The numbers of each layer may be predictions, or those of a given network: then the atoms of orthogonal weights are
    exact at finite width.

    Parameters
    ----------
    shifts : sequence of L floats
        :math:`c_0, \dots, c_{L-1}`, >= 0.
    weight_vars : float or sequence of L - 1 floats
        :math:`\sigma_w^2` of :math:`W_2, \dots, W_L`: entries of variance :math:`\sigma_w^2` over the fan-in.
    slopes : sequence of L - 1 DiscreteLaw
        Laws of :math:`D_1^2, \dots, D_{L-1}^2`.
    ratios : float or sequence of L - 1 floats
        :math:`M_2 / M_1, \dots, M_L / M_{L-1}`.
    init : {"orthogonal", "gaussian"}

    Returns
    -------
    FreeLaw

    Raises
    ------
    ValueError, TypeError
        For numbers out of range, sequences of the wrong length, and factors that are no ``DiscreteLaw``.

    Examples
    --------
    >>> from fisherfield import theory
    >>> half = theory.DiscreteLaw.projection(0.75)
    >>> theory.layered_law([1.0, 1.0, 1.0], 1.25, [half, half]).atoms.positions.tolist()
    [1.0, 3.8125]
    """
    c = [non_negative(shift, "shifts") for shift in as_sequence(shifts, "shifts", "a sequence of L numbers")]
    if not c:
        raise ValueError("shifts: expected at least one number, got none")
    factors = as_sequence(slopes, "slopes", "a sequence of DiscreteLaw")
    if len(factors) != len(c) - 1:
        raise ValueError(f"slopes: expected one law for each shift but the first ({len(c) - 1}), got {len(factors)}")
    for l, factor in enumerate(factors):
        if not isinstance(factor, DiscreteLaw):
            raise TypeError(f"slopes[{l}]: expected a DiscreteLaw, got {type(factor).__name__}")
    choice(init, "init", ("orthogonal", "gaussian"))
    variances = variance_per_layer(weight_vars, "weight_vars", len(factors), strict=True)
    dimensions = variance_per_layer(ratios, "ratios", len(factors), strict=True)
    law = FreeLaw.point_mass(c[0])
    for shift, variance, ratio, factor in zip(c[1:], variances, dimensions, factors, strict=True):
        law = _through_weights(law.times(factor), ratio, init) * variance + shift
    return law


def _order_parameters(architecture: MLP, qhat0: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    recursion = kernels.DepthRecursion(
        list(architecture.activations),
        architecture.weight_vars,
        architecture.bias_vars,
        architecture.skips,
        [qhat0],
        DEFAULT_TOL,
    )
    q, qhat, _ = recursion.single
    warn_unconverged(*recursion.accuracy, DEFAULT_TOL, "order parameters")
    return tuple(q[:, 0].tolist()), tuple(qhat[:, 0].tolist())


def _through_weights(law: FreeLaw, ratio: float, init: str) -> FreeLaw:
    """Law of W X W^T for weights of unit variance, ratio n rows and n columns (n the dimension of X)."""
    if init == "gaussian":
        return law.times_wishart(ratio).resized(ratio)
    if ratio < 1:  # orthonormal rows
        return law.compressed(ratio)
    return (law * ratio).resized(ratio)
