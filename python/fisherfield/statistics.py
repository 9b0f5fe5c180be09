"""The record in which theory and measurement both report, so that they compare field by field."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._validate import as_momentum

__all__ = ["FisherStatistics", "critical_learning_rate"]


@dataclass(frozen=True)
class FisherStatistics:
    """Moments and maximum of the P eigenvalues of a Fisher information matrix F, or of another metric.

    ``F = (1/T) sum_t J_t^T (S_t S_t^T) J_t``: the 1/T is inside, there is no 1/C and no 1/2.

    Attributes
    ----------
    mean : float
        ``tr F / P``.
    second_moment : float
        ``tr F^2 / P`` (the raw second moment, not the variance).
    maximum : float
        Largest eigenvalue.
    top_mean : float
        Mean of the ``num_outliers`` largest eigenvalues. For the Gaussian likelihood and C > 1 this, not
        ``maximum``, is what the mean-field formula for the maximum predicts at finite width: the largest of the C
        outliers lies above their mean by O(sqrt(M)).
    num_parameters : int
        P, how many eigenvalues the moments run over: parameters; features, for the metric of feature space; C T for
        the tangent kernel.
    num_samples : int
        T.
    num_outputs : int
        C.
    num_outliers : int
        How many eigenvalues leave the bulk in a wide network: the rank of the output Fisher information, C for the
        Gaussian likelihood and C - 1 for the categorical one.
    """

    mean: float
    second_moment: float
    maximum: float
    top_mean: float
    num_parameters: int
    num_samples: int
    num_outputs: int
    num_outliers: int


def critical_learning_rate(maximum: float, momentum: float = 0.0) -> float:
    r"""Return :math:`2 (1 + \mu) / \lambda_{\max}`, infinite where no gradient is.

    Beyond it gradient descent with momentum does not settle (Karakida, Akaho, Amari 2019, Theorem 7).

    Parameters
    ----------
    maximum : float
        :math:`\lambda_{\max}`, of 0 (or rounded below) where no gradient is.
    momentum : float
        :math:`\mu`, at least 0 and below 1 (default 0).

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        For another momentum.
    """
    factor = 2 * (1 + as_momentum(momentum))
    return factor / maximum if maximum > 0 else math.inf
