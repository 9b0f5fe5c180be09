"""The baselines of diagonals: the same structured algorithms in NumPy."""

from __future__ import annotations

import numpy as np

import fisherfield as ff


def _forward(net: ff.Network, X: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Inputs of all layers, slopes of the hidden ones (tanh), outputs."""
    h, inputs, slopes = X, [X], []
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        h = np.tanh(h @ W.T + b)
        inputs.append(h)
        slopes.append(1 - h * h)
    return inputs, slopes, h @ net.weights[-1].T + net.biases[-1]


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], scale: float) -> np.ndarray:
    joined = np.concatenate([x.ravel() for pair in parts for x in pair])
    joined *= scale
    return joined


def fisher(net: ff.Network, X: np.ndarray) -> np.ndarray:
    """The exact diagonal of the unit Gaussian likelihood: one product per layer of squares."""
    inputs, slopes, outputs = _forward(net, X)
    T, C = outputs.shape
    delta = np.broadcast_to(np.eye(C, dtype=X.dtype), (T, C, C))
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for l in range(net.depth - 1, -1, -1):
        squares = np.einsum("trm,trm->tm", delta, delta)
        parts.insert(0, (squares.T @ (inputs[l] * inputs[l]), squares.sum(axis=0)))
        if l > 0:
            delta = (delta.reshape(T * C, -1) @ net.weights[l]).reshape(T, C, -1) * slopes[l - 1][:, None]
    return _joined(parts, 1 / T)


def hessian(net: ff.Network, X: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The Hessian diagonal of cross-entropy with two hidden layers of tanh."""
    assert net.depth == 3
    inputs, slopes, outputs = _forward(net, X)
    T, C = outputs.shape
    g = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    g /= g.sum(axis=1, keepdims=True)
    residual = g.copy()
    residual[np.arange(T), labels] -= 1
    root = np.sqrt(g)
    delta = root[:, :, None] * (np.eye(C, dtype=X.dtype) - g[:, None, :])  # rows of a square root of the information
    bends = [-2 * h * s for h, s in zip(inputs[1:], slopes, strict=True)]
    upper = residual @ net.weights[2]
    c2 = upper * bends[1]
    c1 = ((upper * slopes[1]) @ net.weights[1]) * bends[0]
    curved = [c1 + slopes[0] ** 2 * (c2 @ net.weights[1] ** 2), c2, np.zeros_like(outputs)]
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for l in (2, 1, 0):
        numbers = np.einsum("trm,trm->tm", delta, delta) + curved[l]
        parts.insert(0, (numbers.T @ (inputs[l] * inputs[l]), numbers.sum(axis=0)))
        if l > 0:
            delta = (delta.reshape(T * C, -1) @ net.weights[l]).reshape(T, C, -1) * slopes[l - 1][:, None]
    return _joined(parts, 1 / T)
