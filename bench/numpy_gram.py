"""The baselines: the same structured algorithms, written with care in NumPy and its BLAS."""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas

import fisherfield as ff


def dual(net: ff.Network, X: np.ndarray) -> np.ndarray:
    """F* = (1/T) sum_l (B_l B_l^T) o (A_l A_l^T + 1), index r*T + t, for tanh networks with biases.

    ``B @ B.T`` is one symmetric rank-k update of BLAS per layer; Hadamard product and sum run in place.
    """
    T, R = len(X), net.num_outputs
    A = [X]
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        u = A[-1] @ W.T
        u += b
        A.append(np.tanh(u, out=u))
    delta = None  # the identity at the output, (R, T, C), is never written out
    out = None
    for l in range(net.depth - 1, -1, -1):
        K = A[l] @ A[l].T
        K += 1
        if delta is None:
            term = np.zeros((R, T, R, T), X.dtype)
            term[np.arange(R), :, np.arange(R), :] = K
        else:
            flat = delta.reshape(R * T, -1)
            term = (flat @ flat.T).reshape(R, T, R, T)
            term *= K[None, :, None, :]
        if out is None:
            out = term
        else:
            out += term
        del term
        if l > 0:
            W = net.weights[l]
            delta = np.repeat(W[:, None, :], T, axis=1) if delta is None else delta @ W
            delta *= 1 - np.square(A[l])
    out /= T
    return out.reshape(R * T, R * T)


def conditional(net: ff.Network, x: np.ndarray) -> np.ndarray:
    """K = sum_l (|h^{l-1}|^2 + 1) B_l B_l^T at one input, for tanh networks with biases.

    One GEMM and one symmetric rank-k update onto the sum per hidden layer.
    """
    syrk = blas.ssyrk if x.dtype == np.float32 else blas.dsyrk
    h, norms = [x], [float(x @ x) + 1]
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        h.append(np.tanh(W @ h[-1] + b))
        norms.append(float(h[-1] @ h[-1]) + 1)
    K = np.diag(np.full(net.num_outputs, norms[-1], x.dtype)).T
    B = None
    for l in range(net.depth - 1, 0, -1):
        B = net.weights[l].copy() if B is None else B @ net.weights[l]
        B *= 1 - np.square(h[l])
        K = syrk(norms[l - 1], B.T, trans=1, beta=1, c=K, overwrite_c=1)  # the upper triangle
    lower = np.tril_indices(len(K), -1)
    K[lower] = K.T[lower]
    return K
