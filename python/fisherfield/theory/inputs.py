"""What the theory knows of the inputs, and the order parameters that follow from it layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fisherfield._validate import as_float_array, non_negative, number, positive_int

__all__ = ["InputStatistics", "OrderParameters"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class InputStatistics:
    r"""T inputs that share one mean square and one overlap.

    Parameters
    ----------
    T : int
        Number of inputs, >= 1.
    qhat0 : float, default 1.0
        :math:`\hat q^0 = |x_s|^2 / M_0`, > 0. 1 for standard Gaussian inputs.
    qhat_st0 : float, default 0.0
        :math:`\hat q^0_{st} = x_s \cdot x_t / M_0` for s != t; at most ``qhat0``, and at least
        ``-qhat0 / (T - 1)``: below it no T inputs exist.

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong kind or out of its range.

    Examples
    --------
    >>> import fisherfield as ff
    >>> ff.InputStatistics(T=100, qhat0=1.0, qhat_st0=0.2)
    InputStatistics(T=100, qhat0=1.0, qhat_st0=0.2)
    """

    T: int
    qhat0: float = 1.0
    qhat_st0: float = 0.0

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "T", positive_int(self.T, "T"))
        set_field(self, "qhat0", non_negative(self.qhat0, "qhat0", strict=True))
        overlap = number(self.qhat_st0, "qhat_st0")
        lowest = -self.qhat0 / max(self.T - 1, 1)
        possible = min(max(overlap, lowest), self.qhat0)
        if abs(overlap - possible) > 1e-12 * self.qhat0:  # more than rounding
            raise ValueError(
                f"qhat_st0: expected {lowest:g} <= qhat_st0 <= {self.qhat0:g} for T = {self.T} (from -qhat0 / (T - 1) "
                f"to qhat0: the matrix of overlaps is positive semi-definite), got {overlap:g}"
            )
        set_field(self, "qhat_st0", possible)

    @classmethod
    def from_data(cls, X: npt.ArrayLike) -> InputStatistics:
        """Return the mean square and the mean overlap of the rows of X (T, M_0).

        A quick estimate where the norms are nearly constant; ``mean_field(arch, X)`` uses every
        overlap instead.

        Parameters
        ----------
        X : array_like, shape (T, M_0)
            Inputs, one a row, float32 or float64; sums are made in float64.

        Returns
        -------
        InputStatistics
            With overlap 0 for a single input.

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        x = as_float_array(X, "X", ndim=2).astype(np.float64, copy=False)
        T, dimension = x.shape
        squares = float(np.vdot(x, x))
        total = x.sum(axis=0)
        overlap = (float(total @ total) - squares) / (dimension * T * (T - 1)) if T > 1 else 0.0
        return cls(T, squares / (dimension * T), overlap)


@dataclass(frozen=True, eq=False)
class OrderParameters:
    r"""Order parameters per layer (Karakida, Akaho, Amari 2019, Eqs. 9-12).

    For data X the entries are means: over the samples, and (``_st``) over the pairs s != t; NaN where there
    is no pair.

    Attributes
    ----------
    q, q_st : (L,) ndarray
        :math:`q^l, q^l_{st}` for l = 1, ..., L, at index l - 1: variance and covariance of the
        pre-activations.
    qhat, qhat_st : (L,) ndarray
        :math:`\hat q^l, \hat q^l_{st}` for l = 0, ..., L - 1, at index l: mean square and overlap of the
        activations.
    qtilde, qtilde_st : (L,) ndarray
        :math:`\tilde q^l, \tilde q^l_{st}` for l = 1, ..., L, at index l - 1: :math:`\sum_i (\delta^l_i)^2`,
        the sum (not the mean) over the units of one output's squared derivatives, and its overlap. 1 at the
        output layer.
    """

    q: Array
    q_st: Array
    qhat: Array
    qhat_st: Array
    qtilde: Array
    qtilde_st: Array
