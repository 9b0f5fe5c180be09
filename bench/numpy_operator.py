"""The baseline of products: forward- and reverse-mode sweeps over cached activations, written with care in NumPy."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import LinearOperator

import fisherfield as ff


def operator(net: ff.Network, X: np.ndarray) -> LinearOperator:
    """F of the unit Gaussian likelihood, for tanh networks with biases."""
    T, L = len(X), net.depth
    A, slopes = [X], []
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        u = A[-1] @ W.T
        u += b
        A.append(np.tanh(u, out=u))
        slopes.append(1 - np.square(A[-1]))
    sizes = [W.shape for W in net.weights]

    def product(v: np.ndarray) -> np.ndarray:
        v = v.ravel()
        moved, offset = None, 0
        for l, (rows, columns) in enumerate(sizes):
            V = v[offset : offset + rows * columns].reshape(rows, columns)
            c = v[offset + rows * columns : offset + rows * columns + rows]
            offset += rows * columns + rows
            du = A[l] @ V.T
            du += c
            if moved is not None:
                du += moved @ net.weights[l].T
            if l < L - 1:
                du *= slopes[l]
            moved = du
        delta, parts = moved, []
        for l in range(L - 1, -1, -1):
            parts[:0] = [(delta.T @ A[l]).ravel(), delta.sum(axis=0)]
            if l > 0:
                delta = delta @ net.weights[l]
                delta *= slopes[l - 1]
        out = np.concatenate(parts)
        out /= T
        return out

    size = net.num_parameters
    return LinearOperator((size, size), matvec=product, dtype=X.dtype)
