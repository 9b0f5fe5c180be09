"""Networks from PyTorch, which is not imported: modules are known by their classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import activations
from ..activations import Activation
from ..network import Network
from .stack import LIKELIHOODS, Dense, Stack, library_class, optional_dtype, read_array, refuse_precision

__all__ = ["from_torch"]

_PLAIN = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "SiLU": "silu", "SELU": "selu"}
_WITH_PARAMETER: dict[str, Callable[[Any], Activation]] = {
    "LeakyReLU": lambda module: activations.leaky_relu(module.negative_slope),
    "ELU": lambda module: activations.elu(module.alpha),
}
# activations of which one setting is ours: name, setting, whether it is the right one
_IF: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "GELU": ("gelu", "approximate='none'", lambda module: bool(module.approximate == "none")),
    "Softplus": ("softplus", "beta=1, threshold>=20", lambda module: bool(module.beta == 1 and module.threshold >= 20)),
    "Hardtanh": ("hard_tanh", "(-1, 1)", lambda module: bool((module.min_val, module.max_val) == (-1, 1))),
}
_KNOWN = ("Linear", "Sequential", "Flatten", "Identity", "Dropout", *_PLAIN, *_WITH_PARAMETER, *_IF)

_REASONS = {
    "BatchNorm": "in evaluation mode fold it into the layer before it, torch.nn.utils.fuse_linear_bn_eval",
    "Conv": "convolutions are not supported",
    "Norm": "normalisation layers are not supported",
    "Lazy": "run the model once, so that it knows its widths",
    "DataParallel": "give model.module",
    "OptimizedModule": "give the model as it was before torch.compile",
    "Script": "give the model as it was before torch.jit.script",
}


def from_torch(model: Any, *, dtype: npt.DTypeLike | None = None) -> Network:
    """Return the network of a PyTorch model.

    Parameters
    ----------
    model : torch.nn.Sequential or torch.nn.Linear
        Of ``Linear`` layers and activations between them, with ``Sequential`` inside if wanted: ``ReLU``,
        ``LeakyReLU``, ``Tanh``, ``Sigmoid``, ``GELU`` (exact), ``SiLU``, ``Softplus`` (beta 1), ``ELU``, ``SELU``,
        ``Hardtanh`` (-1 to 1). ``Flatten``, ``Identity`` and ``Dropout`` in evaluation mode change nothing. Two
        ``Linear`` in a row have the linear activation between them. It must end with a ``Linear``.
    dtype : {"float32", "float64"}, optional
        Precision to convert the parameters to. Default: as they are, float32 or float64.

    Returns
    -------
    Network
        On the device of the model: on a GPU the parameters become CuPy arrays. ``architecture`` is None.

    Raises
    ------
    ValueError
        For modules that are not listed above, layers with and without biases, shared or reparametrised weights
        (``weight_norm``, pruning), and dropout in training mode. The error names the module.
    TypeError
        If the model is no module, or its parameters are neither float32 nor float64 and no ``dtype`` is given.

    Notes
    -----
    Parameters are copied. All of them count in P, those with ``requires_grad=False`` too. Hooks are not run. PyTorch's
    ``Softplus`` is the identity above its threshold, 20: a difference of at most 2.1e-9.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> import fisherfield as ff
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))  # doctest: +SKIP
    >>> ff.from_torch(model)  # doctest: +SKIP
    Network(widths=(3, 5, 2), activation=tanh, biases=True, dtype=float32)
    """
    if not hasattr(model, "named_parameters"):
        hint = "; load a state dict into the model it belongs to first" if isinstance(model, Mapping) else ""
        raise TypeError(
            f"model: expected a torch.nn.Sequential or torch.nn.Linear, got an object of {type(model).__name__}{hint}"
        )
    stack = Stack("for instance model[:-1]")
    _walk(model, "model", stack, optional_dtype(dtype))
    return stack.network()


def _walk(module: Any, name: str, stack: Stack, dtype: np.dtype[Any] | None) -> None:
    kind = library_class(module, "torch.nn.modules", "forward")
    if hasattr(module, "parametrizations"):
        raise ValueError(
            f"{name}: expected plain parameters, got parametrizations of {', '.join(module.parametrizations)}; remove "
            "them with torch.nn.utils.parametrize.remove_parametrizations"
        )
    if kind == "Sequential":
        for position, child in enumerate(module):
            _walk(child, f"{name}[{position}]", stack, dtype)
    elif kind == "Linear":
        stack.add_dense(_linear(module, name, stack, dtype))
    elif kind == "Flatten":
        if (module.start_dim, module.end_dim) != (1, -1):
            raise ValueError(
                f"{name}: expected Flatten(1, -1), which makes a row of each sample, got "
                f"Flatten({module.start_dim}, {module.end_dim}); leave it out and give X with one sample a row"
            )
    elif kind in ("Dropout", "AlphaDropout"):
        if module.training and module.p > 0:
            raise ValueError(f"{name}: expected evaluation mode, got {kind} in training mode; call model.eval() first")
    elif kind is not None and kind.lower() in LIKELIHOODS and kind not in _PLAIN:
        stack.refuse_output(name, kind)
    elif kind != "Identity":
        stack.add_activation(name, kind or type(module).__name__, _activation(module, kind, name))


def _linear(module: Any, name: str, stack: Stack, dtype: np.dtype[Any] | None) -> Dense:
    own = dict(module.named_parameters(recurse=False))
    if not {"weight"} <= set(own) <= {"weight", "bias"}:
        raise ValueError(
            f"{name}: expected the parameters weight and bias, got {', '.join(own)}; make a reparametrised layer plain "
            "first (torch.nn.utils.remove_weight_norm, remove_spectral_norm, prune.remove)"
        )
    arrays: dict[str, Any] = {}
    for part, parameter in own.items():
        stack.require_new(parameter, f"{name}.{part}")
        arrays[part] = read_array(
            _as_array(parameter, f"{name}.{part}", dtype), f"{name}.{part}", 2 if part == "weight" else 1, dtype
        )
    return Dense(name, arrays["weight"], arrays.get("bias"))


def _as_array(parameter: Any, name: str, dtype: np.dtype[Any] | None) -> Any:
    """The values of a parameter, where NumPy or CuPy can read them."""
    tensor, place = parameter.detach(), parameter.device.type
    if place not in ("cpu", "cuda"):
        raise ValueError(
            f"{name}: expected a parameter on the CPU or a CUDA GPU, got one on {place!r}; use model.cpu()"
        )
    precision = str(tensor.dtype).removeprefix("torch.")
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.double() if dtype == np.float64 else tensor.float()
    elif precision not in ("float32", "float64"):
        refuse_precision(name, precision)
    return tensor if place == "cuda" else tensor.numpy()


def _activation(module: Any, kind: str | None, name: str) -> Activation:
    if kind in _PLAIN:
        return activations.get(_PLAIN[kind])
    if kind in _WITH_PARAMETER:
        return _WITH_PARAMETER[kind](module)
    if kind in _IF:
        ours, wanted, holds = _IF[kind]
        if not holds(module):
            raise ValueError(
                f"{name}: expected {kind} with {wanted}, got {module!r}; for another function write "
                "Network(weights, biases, activation=...) with it"
            )
        return activations.get(ours)
    found = type(module).__name__
    reason = next(
        (reason for part, reason in _REASONS.items() if part in found),
        "for another order of layers or function write Network(weights, biases, activation=...)",
    )
    raise ValueError(f"{name}: expected a module of torch.nn, one of {', '.join(_KNOWN)}, got {found}; {reason}")
