"""A network of ours in PyTorch, and one loss of PyTorch on it. PyTorch is imported where used: it may be missing."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

import fisherfield as ff

MODULES = {"tanh": "Tanh"}  # PyTorch's modules of the same function


def torch_model(net):
    """``torch.nn.Sequential`` of ``Linear`` layers and activations, with copies of the weights of ``net``."""
    import torch

    assert not net.residual, "a Sequential has no skips"
    layers = []
    for l, W in enumerate(net.weights):
        linear = torch.nn.Linear(W.shape[1], W.shape[0], bias=net.has_biases, dtype=getattr(torch, str(net.dtype)))
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(W))
            if net.has_biases:
                linear.bias.copy_(torch.tensor(net.biases[l]))
        layers.append(linear)
        if l < net.depth - 1:
            layers.append(getattr(torch.nn, MODULES[net.activations[l].name])())
    return torch.nn.Sequential(*layers)


def jacobian(model, X):
    """Explicit Jacobians of all outputs with respect to ``model.parameters()``, shape (T, C, P)."""
    from torch.func import functional_call, jacrev, vmap

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    of_one = jacrev(lambda values, x: functional_call(model, values, (x[None],))[0])
    return np.concatenate([J.flatten(2).numpy() for J in vmap(of_one, (None, 0))(parameters, X).values()], axis=2)


LOSSES = {"gaussian": "MSELoss", "categorical": "CrossEntropyLoss", "bernoulli": "BCEWithLogitsLoss"}


@dataclass
class Problem:
    """A network, inputs, targets and the PyTorch loss that belongs to a likelihood.

    That loss is ``unit / divisor`` times the sum over samples of ``-log p(y | f)``, up to a constant.
    """

    net: ff.Network
    X: np.ndarray
    targets: np.ndarray
    likelihood: str
    reduction: str

    @property
    def unit(self):
        """MSELoss is the square without the 1/2 of a Gaussian of unit variance."""
        return 2 if self.likelihood == "gaussian" else 1

    @property
    def divisor(self):
        """A mean of CrossEntropyLoss is over samples, one of MSELoss or BCEWithLogitsLoss over outputs as well."""
        if self.reduction == "sum":
            return 1
        return len(self.X) * (1 if self.likelihood == "categorical" else self.net.num_outputs)

    @property
    def loss(self):
        """A new loss module."""
        import torch

        return getattr(torch.nn, LOSSES[self.likelihood])(reduction=self.reduction)

    @cached_property
    def model(self):
        return torch_model(self.net)

    @property
    def inputs(self):
        """A new copy of X as a tensor that a peer may mark as it likes."""
        import torch

        return torch.tensor(self.X)

    def tensor(self, targets):
        """Targets as PyTorch's loss wants them: class numbers, or one number per output."""
        import torch

        return torch.tensor(targets, dtype=torch.int64 if self.likelihood == "categorical" else self.inputs.dtype)
