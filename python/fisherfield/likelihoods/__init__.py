r"""Output distributions p(y | f): how the likelihood enters the Fisher information matrix.

A network gives outputs f(x), a :class:`Likelihood` turns them into a distribution of targets. All that the Fisher
information matrix needs of it are the *seeds* :math:`S_t` (C x R), a square root of the information of the output:

.. math:: F = \frac{1}{T} \sum_t J_t^\top S_t S_t^\top J_t, \qquad
    S_t S_t^\top = \mathrm{E}_{y \sim p(y | f_t)} [s s^\top], \quad s = \partial \log p(y | f_t) / \partial f.

The backward pass starts from the R columns of :math:`S_t`, so every likelihood runs through the same kernels. The
Monte-Carlo and the empirical Fisher start from scores of drawn or given targets instead. Built in, by name:

================  ==============================  =======================================  ===================  =====
name              outputs                         targets                                  information          R
================  ==============================  =======================================  ===================  =====
gaussian          mean                            float (T, C)                             diag(1 / noise_var)  C
heteroscedastic   means and log variances s       float (T, C / 2)                         diag(exp(-s), 1/2)   C
categorical       logits (also ``"softmax"``)     class indices (T,)                       diag(g) - g g^T      C - 1
bernoulli         logits of independent sigmoids  0 or 1 (T, C)                            diag(p (1 - p))      C
poisson           logarithms of the rates         counts (T, C)                            diag(exp(f))         C
================  ==============================  =======================================  ===================  =====

Any other distribution is a subclass of :class:`Likelihood` with four methods, as shown there.

Examples
--------
>>> import numpy as np
>>> from fisherfield import likelihoods
>>> softmax = likelihoods.get("categorical")
>>> outputs = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
>>> S = softmax.seeds(outputs)
>>> S.shape
(2, 2, 3)
>>> np.allclose(np.einsum("rtc,rtd->tcd", S, S), softmax.information(outputs))
True
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import devices
from .._validate import FloatArray, choice
from ._values import beside
from .base import Likelihood
from .categorical import Categorical
from .discrete import Bernoulli, Poisson
from .gaussian import Gaussian, HeteroscedasticGaussian

__all__ = [
    "KINDS",
    "LOSSES",
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "HeteroscedasticGaussian",
    "Likelihood",
    "Poisson",
    "available",
    "checked",
    "draw_targets",
    "get",
    "observed_targets",
    "score_seeds",
    "scores",
]

KINDS = ("exact", "monte_carlo", "empirical")


def draw_targets(
    likelihood: Likelihood, outputs: FloatArray, rng: np.random.Generator, count: int
) -> tuple[npt.NDArray[Any], ...]:
    """Return draws of one target per sample, each checked to be that; NumPy draws them.

    Parameters
    ----------
    likelihood : Likelihood
        Of the outputs.
    outputs : array, shape (T, C)
        Outputs of the network, float32 or float64.
    rng : numpy.random.Generator
        Advanced by what is drawn.
    count : int
        Number of draws n.

    Returns
    -------
    tuple of n arrays
        Of T rows each, in the format of the targets, on the device of the outputs, read-only where arrays can be.

    Raises
    ------
    ValueError
        If ``sample()`` draws another number of targets.
    """
    on_host = devices.on_host(outputs)
    drawn = tuple(np.array(likelihood.sample(on_host, rng)) for _ in range(count))
    for targets in drawn:
        if targets.shape[:1] != (len(outputs),):
            raise ValueError(
                f"likelihood {likelihood.name}: expected sample() to draw one target per sample "
                f"({len(outputs)}), got shape {targets.shape}"
            )
    return tuple(devices.read_only(devices.as_like(targets, outputs)) for targets in drawn)


def observed_targets(likelihood: Likelihood, targets: Any, num_outputs: int, like: FloatArray) -> npt.NDArray[Any]:
    """Return a copy of observed targets, checked, read-only where arrays can be.

    Parameters
    ----------
    likelihood : Likelihood
    targets : array_like
        An array must lie on the device of ``like``; numbers in a list are moved there.
    num_outputs : int
        C.
    like : array
        Of T rows, on the device and in the precision of the network: its inputs, say.

    Returns
    -------
    array
        Of T rows, in the format of the likelihood.

    Raises
    ------
    ValueError, TypeError
        As :meth:`Likelihood.as_targets`, and for an array on another device.
    """
    found = likelihood.as_targets(targets, num_samples=len(like), num_outputs=num_outputs, dtype=like.dtype)
    copied: npt.NDArray[Any] = devices.read_only(beside(like, targets, found).copy())
    return copied


def checked(likelihood: Likelihood, method: str, result: Any, like: FloatArray) -> FloatArray:
    """Return what a method of a likelihood, possibly of one's own, made, if it is of the right shape.

    Parameters
    ----------
    likelihood : Likelihood
        Of the outputs.
    method : str
        Its name, for messages.
    result : array_like
        What it returned.
    like : array
        Of the shape that is expected, on the device where the result is wanted.

    Returns
    -------
    array
        Floats of the shape of ``like``, on its device.

    Raises
    ------
    ValueError
        If the result is of another shape, or holds no floats.
    """
    array = devices.as_array(result)
    if array.shape != like.shape or array.dtype.kind != "f":
        raise ValueError(
            f"likelihood {likelihood.name}: expected {method}() to return floats of shape {like.shape}, got shape "
            f"{array.shape} and dtype {array.dtype}"
        )
    moved: FloatArray = devices.as_like(array, like)
    return moved


def scores(likelihood: Likelihood, outputs: FloatArray, targets: Sequence[npt.NDArray[Any]]) -> FloatArray:
    """Return the scores of n targets per sample.

    Parameters
    ----------
    likelihood : Likelihood
        Of the outputs.
    outputs : array, shape (T, C)
        Outputs of the network, float32 or float64.
    targets : sequence of n arrays
        Each one target per sample, in the format of the likelihood.

    Returns
    -------
    array, shape (n, T, C)
        In the dtype of the outputs.

    Raises
    ------
    ValueError
        If ``score()`` returns another shape or dtype than that of the outputs.
    """
    found = [devices.as_array(likelihood.score(outputs, drawn)) for drawn in targets]
    for score in found:
        if score.shape != outputs.shape or score.dtype != outputs.dtype:
            raise ValueError(
                f"likelihood {likelihood.name}: expected score() to return shape {outputs.shape} and dtype "
                f"{outputs.dtype}, those of the outputs, got shape {score.shape} and dtype {score.dtype}"
            )
    return np.stack([devices.as_like(score, outputs) for score in found])


def score_seeds(likelihood: Likelihood, outputs: FloatArray, targets: Sequence[npt.NDArray[Any]]) -> FloatArray:
    """Return seeds from n targets per sample: their sum of squares is the mean of score score^T.

    Parameters
    ----------
    likelihood : Likelihood
        Of the outputs.
    outputs : array, shape (T, C)
        Outputs of the network, float32 or float64.
    targets : sequence of n arrays
        Each one target per sample, in the format of the likelihood.

    Returns
    -------
    array, shape (n, T, C)
        In the dtype of the outputs.

    Raises
    ------
    ValueError
        As :func:`scores`.
    """
    return scores(likelihood, outputs, targets) / outputs.dtype.type(np.sqrt(len(targets)))


_BY_NAME: dict[str, Likelihood] = {
    "gaussian": Gaussian(),
    "heteroscedastic": HeteroscedasticGaussian(),
    "categorical": Categorical(),
    "softmax": Categorical(),
    "bernoulli": Bernoulli(),
    "poisson": Poisson(),
}


def available() -> tuple[str, ...]:
    """Return the names that :func:`get` knows.

    Returns
    -------
    tuple of str
    """
    return tuple(_BY_NAME)


LOSSES = {"squared": "gaussian", "cross_entropy": "categorical"}  # whose negative log-likelihoods they are


def get(likelihood: str | Likelihood) -> Likelihood:
    """Return the likelihood of that name, or ``likelihood`` itself if it is one.

    ``"squared"`` and ``"cross_entropy"``, the losses of the Gaussian and the categorical one, name these too.

    Parameters
    ----------
    likelihood : str or Likelihood
        One of :func:`available`, a loss, or an instance of a subclass of :class:`Likelihood`.

    Returns
    -------
    Likelihood

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor an instance of a subclass of :class:`Likelihood`.

    Examples
    --------
    >>> from fisherfield import likelihoods
    >>> likelihoods.get("gaussian")
    Gaussian(noise_var=1.0)
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    if isinstance(likelihood, str):
        return _BY_NAME[choice(LOSSES.get(likelihood, likelihood), "likelihood", tuple(_BY_NAME))]
    is_class = isinstance(likelihood, type) and issubclass(likelihood, Likelihood)
    hint = f"the class {likelihood.__name__}; call it: {likelihood.__name__}()" if is_class else repr(likelihood)
    names = ", ".join(map(repr, _BY_NAME))
    raise TypeError(f"likelihood: expected one of {names}, or an instance of a subclass of Likelihood, got {hint}")
