"""Gradient descent with momentum in NumPy: the products of a step, and in-place updates."""

from __future__ import annotations

import numpy as np

import fisherfield as ff


class Descent:
    """Cross-entropy of a tanh network with biases, on all samples."""

    def __init__(self, net: ff.Network, X: np.ndarray, labels: np.ndarray, momentum: float) -> None:
        self.parameters = [[W.copy(), b.copy()] for W, b in zip(net.weights, net.biases, strict=True)]
        self.moves = [[np.zeros_like(p) for p in layer] for layer in self.parameters]
        self.X, self.labels, self.momentum = X, labels, momentum

    def run(self, rates: list[float]) -> list[float]:
        return [self.step(rate) for rate in rates]

    def step(self, rate: float) -> float:
        T, rows = len(self.X), np.arange(len(self.X))
        inputs = [self.X]
        for W, b in self.parameters[:-1]:
            u = inputs[-1] @ W.T
            u += b
            inputs.append(np.tanh(u, out=u))
        W, b = self.parameters[-1]
        delta = inputs[-1] @ W.T + b
        delta -= delta.max(axis=1, keepdims=True)
        picked = delta[rows, self.labels]
        np.exp(delta, out=delta)
        total = delta.sum(axis=1)
        loss = float((np.log(total) - picked).mean())
        delta /= total[:, None]
        delta[rows, self.labels] -= 1
        for l in range(len(self.parameters) - 1, -1, -1):
            gradients = delta.T @ inputs[l], delta.sum(axis=0)
            if l > 0:
                delta = delta @ self.parameters[l][0]
                h = inputs[l]
                delta -= delta * h * h
            for p, v, g in zip(self.parameters[l], self.moves[l], gradients, strict=True):
                g *= rate / T
                v *= self.momentum
                v -= g
                p += v
        return loss
