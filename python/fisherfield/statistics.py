"""The record in which theory and measurement both report, so that they compare field by field."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._validate import as_momentum

__all__ = ["FisherStatistics", "critical_learning_rate"]


@dataclass(frozen=True)
class FisherStatistics:
    """Moments and maximum of the P eigenvalues of a Fisher information matrix F.

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
        Mean of the C largest eigenvalues. For C > 1 this, not ``maximum``, is what the mean-field formula for
        the maximum predicts at finite width: the largest of the C outliers lies above their mean by O(sqrt(M)).
    num_parameters : int
        P.
    num_samples : int
        T.
    num_outputs : int
        C.
    """

    mean: float
    second_moment: float
    maximum: float
    top_mean: float
    num_parameters: int
    num_samples: int
    num_outputs: int


def critical_learning_rate(maximum: float, momentum: float = 0.0) -> float:
    r"""Return :math:`2 (1 + \mu) / \lambda_{\max}`, infinite where no gradient is: ``maximum`` 0 (or rounded below)."""
    factor = 2 * (1 + as_momentum(momentum))
    return factor / maximum if maximum > 0 else math.inf
