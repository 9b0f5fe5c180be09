"""PyTorch and JAX on the same GPU: what their automatic differentiation makes of the same tasks.

Each peer is a dictionary of functions of no arguments that return its own arrays: ``product`` (F v),
``diagonal`` of F and ``dual``, for networks of tanh with biases and the unit Gaussian likelihood.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fisherfield as ff

import peers
from gpu_device import SIMULATED

Tasks = dict[str, Callable[[], Any]]

JACOBIAN_BYTES = 2**31  # of the samples whose Jacobians are formed at once


def available(net: ff.Network, X: np.ndarray, v: np.ndarray) -> tuple[dict[str, Tasks], dict[str, str]]:
    """The peers that work on this GPU, and why others do not."""
    found, absent = {}, {}
    for name, make in {"torch.func": torch_tasks, "jax": jax_tasks}.items():
        module = name.partition(".")[0]
        reason = "not installed" if importlib.util.find_spec(module) is None else WITHOUT_GPU[module]()
        if reason is None:
            found[name] = make(net, X, v)
        else:
            absent[name] = reason
    return found, absent


def to_host(value: Any) -> np.ndarray:
    return value.cpu().numpy() if hasattr(value, "cpu") else np.asarray(value)


def _torch_without_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() or SIMULATED else f"torch {torch.__version__} finds no GPU"


def _jax_without_gpu() -> str | None:
    import jax

    return None if jax.default_backend() == "gpu" or SIMULATED else f"jax {jax.__version__} finds no GPU"


WITHOUT_GPU = {"torch": _torch_without_gpu, "jax": _jax_without_gpu}


def _chunk(net: ff.Network, X: np.ndarray) -> int:
    """Samples whose Jacobians are formed at once: a divisor of their number."""
    room = max(1, JACOBIAN_BYTES // (net.num_outputs * net.num_parameters * X.itemsize))
    return max(size for size in range(1, min(room, len(X)) + 1) if len(X) % size == 0)


def torch_tasks(net: ff.Network, X: np.ndarray, v: np.ndarray) -> Tasks:
    import torch
    from torch.func import functional_call, jacrev, jvp, vjp, vmap

    device = "cpu" if SIMULATED else "cuda"
    torch.set_float32_matmul_precision("highest")
    model = peers.torch_model(net).to(device)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    inputs, vector = torch.from_numpy(X).to(device), torch.from_numpy(v).to(device)
    T, R, chunk = len(X), net.num_outputs, _chunk(net, X)

    def outputs(params: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(model, params, (inputs,))

    def single(params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return functional_call(model, params, (x.unsqueeze(0),)).squeeze(0)

    def product() -> torch.Tensor:
        parts = torch.split(vector, [p.numel() for p in parameters.values()])
        shaped = {name: part.view_as(p) for (name, p), part in zip(parameters.items(), parts, strict=True)}
        _, moved = jvp(outputs, (parameters,), (shaped,))
        _, back = vjp(outputs, parameters)
        (found,) = back(moved)
        return torch.cat([g.reshape(-1) for g in found.values()]) / T

    def diagonal() -> torch.Tensor:
        total = [torch.zeros_like(p) for p in parameters.values()]
        for begin in range(0, T, chunk):
            jacobian = vmap(jacrev(single), (None, 0))(parameters, inputs[begin : begin + chunk])
            for sum_, j in zip(total, jacobian.values(), strict=True):
                sum_ += j.square_().sum((0, 1))
        return torch.cat([sum_.reshape(-1) for sum_ in total]) / T

    def dual() -> torch.Tensor:
        jacobian = vmap(jacrev(single), (None, 0))(parameters, inputs)
        rows = (j.flatten(2).transpose(0, 1).reshape(R * T, -1) for j in jacobian.values())
        return sum(j @ j.T for j in rows) / T

    return {"product": product, "diagonal": diagonal, "dual": dual}


def jax_tasks(net: ff.Network, X: np.ndarray, v: np.ndarray) -> Tasks:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in zip(net.weights, net.biases, strict=True)]
    inputs, vector = jnp.asarray(X), jnp.asarray(v)
    T, R, chunk = len(X), net.num_outputs, _chunk(net, X)

    def outputs(params: Any, x: Any) -> Any:
        for W, b in params[:-1]:
            x = jnp.tanh(x @ W.T + b)
        W, b = params[-1]
        return x @ W.T + b

    def joined(tree: Any) -> Any:
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree_util.tree_leaves(tree)])

    @jax.jit
    def product(params: Any, x: Any, flat: Any) -> Any:
        leaves, shape = jax.tree_util.tree_flatten(params)
        parts = jnp.split(flat, np.cumsum([math.prod(leaf.shape) for leaf in leaves])[:-1])
        shaped = jax.tree_util.tree_unflatten(
            shape, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        )
        _, moved = jax.jvp(lambda p: outputs(p, x), (params,), (shaped,))
        _, back = jax.vjp(lambda p: outputs(p, x), params)
        return joined(back(moved)[0]) / T

    jacobians = jax.vmap(jax.jacrev(outputs), (None, 0))

    @jax.jit
    def diagonal(params: Any, x: Any) -> Any:
        def add(total: Any, part: Any) -> Any:
            squares = jax.tree_util.tree_map(lambda j: jnp.square(j).sum((0, 1)), jacobians(params, part))
            return jax.tree_util.tree_map(jnp.add, total, squares), None

        start = jax.tree_util.tree_map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(add, start, x.reshape(-1, chunk, x.shape[1]))
        return joined(total) / T

    @jax.jit
    def dual(params: Any, x: Any) -> Any:
        leaves = jax.tree_util.tree_leaves(jacobians(params, x))
        rows = [jnp.swapaxes(j.reshape(T, R, -1), 0, 1).reshape(R * T, -1) for j in leaves]
        return sum(jnp.einsum("ip,jp->ij", j, j) for j in rows) / T

    return {
        "product": lambda: product(parameters, inputs, vector).block_until_ready(),
        "diagonal": lambda: diagonal(parameters, inputs).block_until_ready(),
        "dual": lambda: dual(parameters, inputs).block_until_ready(),
    }
