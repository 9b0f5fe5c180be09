"""Networks from scikit-learn, which is not imported: estimators are known by their attributes."""

from __future__ import annotations

from typing import Any

from ..network import Network
from .stack import Dense, read_array, to_network

__all__ = ["from_sklearn"]

_ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
_OUTPUTS = ("identity", "logistic", "softmax", "exp")  # all but the first are the matter of the likelihood


def from_sklearn(estimator: Any) -> Network:
    r"""Return the network of a fitted ``MLPClassifier`` or ``MLPRegressor``.

    Its outputs are those before the estimator's output activation, which is part of the likelihood:

    ================================  =======================  =====================  =================
    estimator                         ``out_activation_``      outputs                likelihood
    ================================  =======================  =====================  =================
    MLPRegressor                      identity                 predictions            ``"gaussian"``
    MLPRegressor, loss="poisson"      exp                      logarithms of rates    ``"poisson"``
    MLPClassifier, two classes        logistic                 one logit              ``"bernoulli"``
    MLPClassifier, more classes       softmax                  one logit per class    ``"categorical"``
    MLPClassifier, several labels     logistic                 one logit per label    ``"bernoulli"``
    ================================  =======================  =====================  =================

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Fitted. It has biases; the network is in the precision of the data it was fitted to.

    Returns
    -------
    Network
        Parameters are copies; the layers in order, with the estimator's hidden activation.

    Raises
    ------
    TypeError
        For other estimators. Of a pipeline or a search give the network inside, and transformed inputs with it.
    ValueError
        If the estimator is not fitted.

    Notes
    -----
    Classes are numbered in the order of ``estimator.classes_``. The penalty ``alpha`` is no part of the likelihood.
    Parameters are copied.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> from fisherfield.readers import from_sklearn
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = MLPRegressor(hidden_layer_sizes=5, activation="tanh", solver="lbfgs", max_iter=2000, random_state=0)
    >>> fitted = model.fit(X, X[:, 0] ** 2)
    >>> net = from_sklearn(fitted)
    >>> net
    Network(widths=(1, 5, 1), activation=tanh, biases=True, dtype=float64)
    >>> np.allclose(net(X)[:, 0], fitted.predict(X))
    True
    """
    found = type(estimator).__name__
    if not hasattr(estimator, "coefs_"):
        if hasattr(estimator, "hidden_layer_sizes"):
            raise ValueError(f"estimator: expected a fitted estimator, got {found} before fit; call fit first")
        if hasattr(estimator, "steps"):
            hint = "; give its last step, pipeline[-1], and use it with pipeline[:-1].transform(X)"
        else:
            hint = "; give its best_estimator_" if hasattr(estimator, "best_estimator_") else ""
        raise TypeError(f"estimator: expected an MLPClassifier or MLPRegressor, got {found}{hint}")
    for attribute, known in (("activation", tuple(_ACTIVATIONS)), ("out_activation_", _OUTPUTS)):
        value = getattr(estimator, attribute)
        if value not in known:
            raise ValueError(f"estimator.{attribute}: expected one of {', '.join(map(repr, known))}, got {value!r}")
    layers = [
        Dense(
            f"coefs_[{l}]",
            read_array(W.T, f"coefs_[{l}]", 2, None),
            read_array(b, f"intercepts_[{l}]", 1, None),
        )
        for l, (W, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True))
    ]
    return to_network(layers, _ACTIVATIONS[estimator.activation])
