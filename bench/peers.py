"""Other libraries on the same Gram matrix, each used where it is installed."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fisherfield as ff

Baseline = Callable[[], np.ndarray]


def torch_model(net: ff.Network) -> Any:
    """``torch.nn.Sequential`` of ``Linear`` and ``Tanh`` with copies of the weights."""
    import torch

    layers: list[torch.nn.Module] = []
    for l, W in enumerate(net.weights):
        layers.append(torch.nn.Linear(W.shape[1], W.shape[0], dtype=getattr(torch, str(net.dtype))))
        if l < net.depth - 1:
            layers.append(torch.nn.Tanh())
    model = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for layer, W, b in zip(model[::2], net.weights, net.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(W))
            layer.bias.copy_(torch.from_numpy(b))
    return model


def has_curvlinops() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("curvlinops") is not None


def curvlinops_operator(net: ff.Network, X: np.ndarray) -> Any:
    """F of the unit Gaussian likelihood as curvlinops' Gauss-Newton operator for SciPy."""
    import torch
    from curvlinops import GGNLinearOperator

    model = torch_model(net)
    inputs = torch.from_numpy(X)
    targets = torch.zeros(len(X), net.num_outputs, dtype=inputs.dtype)
    loss = torch.nn.MSELoss(reduction="sum")  # its Gauss-Newton matrix is 2 T F
    parameters = [p for p in model.parameters() if p.requires_grad]
    ggn = GGNLinearOperator(model, loss, parameters, [(inputs, targets)], check_deterministic=False)
    return ggn.to_scipy()


def torch_func(net: ff.Network, X: np.ndarray) -> Baseline:
    """The recipe of PyTorch's neural-tangent-kernel tutorial: vmap(jacrev), one contraction per parameter tensor."""
    import torch
    from torch.func import functional_call, jacrev, vmap

    model = torch_model(net)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    inputs = torch.from_numpy(X)

    def single(params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return functional_call(model, params, (x.unsqueeze(0),)).squeeze(0)

    def dual() -> np.ndarray:
        jacobian = vmap(jacrev(single), (None, 0))(parameters, inputs)
        T, R = len(X), net.num_outputs
        rows = (j.flatten(2).transpose(0, 1).reshape(R * T, -1) for j in jacobian.values())
        return (sum(j @ j.T for j in rows) / T).numpy()

    return dual


def has_backpack() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("backpack") is not None


def backpack_diagonal(net: ff.Network, X: np.ndarray, labels: np.ndarray | None = None) -> Baseline:
    """The exact diagonal of F of the unit Gaussian likelihood; with labels, that of the Hessian of cross-entropy."""
    import torch
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact, DiagHessian

    model = extend(torch_model(net))
    inputs = torch.from_numpy(X)
    if labels is None:
        loss, extension, name = extend(torch.nn.MSELoss(reduction="sum")), DiagGGNExact(), "diag_ggn_exact"
        targets, scale = torch.zeros(len(X), net.num_outputs, dtype=inputs.dtype), 2 * len(X)
    else:
        loss, extension, name = extend(torch.nn.CrossEntropyLoss()), DiagHessian(), "diag_h"
        targets, scale = torch.from_numpy(labels), 1

    def diagonal() -> np.ndarray:
        model.zero_grad()
        with warnings.catch_warnings(), backpack(extension):
            warnings.simplefilter("ignore", UserWarning)  # of PyTorch, about inputs that require no gradients
            loss(model(inputs), targets).backward()
        return np.concatenate([getattr(p, name).numpy().ravel() for p in model.parameters()]) / X.dtype.type(scale)

    return diagonal


def has_torch() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("torch") is not None


def torch_descent(
    net: ff.Network, X: np.ndarray, labels: np.ndarray, momentum: float
) -> Callable[[list[float]], list[float]]:
    """Eager ``torch.optim.SGD`` on the cross-entropy of all samples: the losses before steps at the given rates."""
    import torch

    model = torch_model(net)
    inputs, targets, loss = torch.from_numpy(X), torch.from_numpy(labels), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=momentum)

    def run(rates: list[float]) -> list[float]:
        losses = []
        for rate in rates:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            value = loss(model(inputs), targets)
            value.backward()
            optimizer.step()
            losses.append(float(value.detach()))
        return losses

    return run


def available(net: ff.Network, X: np.ndarray) -> dict[str, Baseline]:
    """Peers that are installed and whose explicit Jacobian, which they form, fits 4 GB."""
    jacobian_bytes = net.num_outputs * len(X) * net.num_parameters * X.itemsize
    peers: dict[str, Baseline] = {}
    if has_torch() and jacobian_bytes < 4e9:
        peers["torch.func"] = torch_func(net, X)
    return peers
