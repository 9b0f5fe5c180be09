"""Run tests on a GPU, or on the stand-in for one: ``pytest --device cuda`` or ``--device simulated``.

The tests stay as they are, with networks and arrays of NumPy. At the border of the library, where a test calls a
measurement or reads a result, networks and arrays go to the device and answers come back; inside, nothing is touched.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import importlib
import importlib.util
import inspect
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

SIMULATED = Path(__file__).parent / "simulated"

# whose constructors and methods take networks and arrays
MEASURES = {
    "conditional": ["ConditionalFisher"],
    "factors": ["FactoredJacobian", "LayerFactors"],
    "metric": ["Metric"],
    "network_metric": ["NetworkMetric"],
    "centered": ["Centered"],
    "fisher": ["Fisher"],
    "tangent": ["TangentKernel"],
    "features": ["FeatureMetric"],
}
# what they hand out
RESULTS = {
    "diagonal": ["DiagonalEstimate", "DiagonalVariance"],
    "eigenpairs": ["EigenPairs"],
    "lanczos": ["SpectralDensity", "Tridiagonals"],
    "solve": ["Solution"],
}
FUNCTIONS = {
    "conditional": ["conditional_fisher"],
    "diagonal": ["diagonal_variance", "estimate_diagonal"],
    "eigenpairs": ["block_lanczos"],
    "estimators": ["hutch_plus_plus", "hutchinson"],
    "features": ["feature_metric"],
    "gram": ["gram_matrix", "kernel_matrix", "symmetric_product"],
    "lanczos": ["spectral_density", "tridiagonalize"],
    "losses": ["hessian_diagonal", "loss_gradient", "loss_value"],
    "spectrum": ["dense_eigenpairs", "eigenvalues", "largest_eigenvalues", "largest_of_operator"],
    "tangent": ["ntk"],
}

# tests that say nothing about a device, and why: patterns of modules, or of module::test
ELSEWHERE = {
    "the theory has tests of its own on a device, test_cuda_theory, or none": [
        *("test_free_law", "test_isometry*", "test_quadrature", "test_theory*", "test_bulk", "test_architecture"),
        *("test_singular", "test_learning_rates"),
    ],
    "learning is of the processor": ["test_training", "test_monitor", "test_natural_gradient"],
    "no measurement": [
        *("test_activations", "test_cli", "test_codebase", "test_data", "test_diagonal_command", "test_plot"),
        *(
            "test_peers",
            "test_readers",
            "test_readme",
            "test_docs",
            "test_packaging",
            "test_figures*",
            "test_likelihoods",
        ),
    ],
    "it asks for the device itself": ["test_cuda*", "test_simulated", "test_bench_gpu", "test_report"],
    "threads, processes and instruction sets are of the processor": [
        *("test_engines", "test_isa", "test_threads", "*::*thread*", "*::*executor*", "*::*process*"),
    ],
    "files and memory of the host": ["test_gramfile", "test_memory", "*::*cannot_fit*", "*::*memory_is_*"],
    "lists are arrays of the host": ["test_network::test_memory_layout_of_the_arguments_does_not_matter"],
    "answers that come to the host are copies": [
        *("test_fisher::test_results_are_kept_and_read_only", "test_metrics::test_what_is_kept_cannot_be_changed*"),
        "test_conditional::test_results_are_kept_and_read_only",
    ],
    "its function is of NumPy's arrays alone": [
        *(
            "test_bad_input::test_custom_activations_may_return_any_layout*",
            "test_eigenpairs::test_of_explicit_matrices",
        ),
        *("test_eigenpairs::test_restarts_keep_what_was_found", "test_eigenpairs::test_what_does_not_converge_says_so"),
        "test_eigenpairs::test_start_at_an_eigenvector_needs_one_product",
    ],
    "it cuts batches for the processor": [
        *("test_fisher::test_batches_do_not_change_the_answer", "test_fisher::test_kept_factors_give_the_same_bits"),
        *("test_kinds::test_one_seed_one_estimate", "test_kinds::test_overflowing_rates_are_refused_with_their_place"),
        *("test_products::test_refusals_tell_the_cost", "test_products::test_sums_over_batches_tell_their_progress"),
        "test_products::test_diagonals_tell_how_many_samples_are_done",
        *("test_conditional::test_eigenvalues_hold_no_duals*", "test_conditional::test_progress_over_layers*"),
    ],
    "the last bits of a GPU's matrix products follow their shapes": [
        *(
            "test_conditional::test_norms_and_slopes",
            "test_conditional::test_dual_against_the_twin",
            "test_products::test_bits_do_not_depend_on_what_is_kept",
        ),
    ],
}

_depth = 0
_hosts: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # of networks sent to the device, by id


def load(name: str) -> types.ModuleType:
    """Return CuPy, with ``name="cuda"`` the installed one, with ``"simulated"`` the stand-in."""
    if "cupy" not in sys.modules and name == "simulated":
        sys.path.insert(0, str(SIMULATED))
    cupy = importlib.import_module("cupy")
    if hasattr(cupy, "simulation") != (name == "simulated"):
        raise RuntimeError(f"expected the {name} CuPy, got {cupy.__file__}")
    return cupy


def best() -> types.ModuleType:
    """Return the installed CuPy if a GPU works, else the stand-in."""
    if hasattr(sys.modules.get("cupy"), "simulation"):
        return sys.modules["cupy"]
    if importlib.util.find_spec("cupy") is None or not works():
        for module in [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupyx", "cupy_backends")]:
            del sys.modules[module]
        return load("simulated")
    return load("cuda")


def works() -> bool:
    """Whether the installed CuPy has a GPU to work on."""
    return bool(importlib.import_module("cupy").cuda.is_available())


def reason_to_skip(nodeid: str) -> str | None:
    """Why a test does not run on a device, or None."""
    module, _, test = nodeid.partition("[")[0].rpartition("/")[2].partition(".py::")
    for reason, patterns in ELSEWHERE.items():
        for pattern in patterns:
            if fnmatch.fnmatch(f"{module}::{test}" if "::" in pattern else module, pattern):
                return reason
    return None


# --- the border ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """The library's own work, in which nothing is moved; also that of its threads."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def to_device(value: Any) -> Any:
    """The same on the device: arrays, networks, operators, and what holds them."""
    import cupy

    from fisherfield import Network

    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return cupy.asarray(value) if value.dtype.kind in "fiub" and value.ndim else value
    if isinstance(value, Network) and value.device == "cpu":
        moved = value.to("cuda")
        _hosts[id(moved)] = value
        return moved
    if isinstance(value, OnHost):
        return value.original
    if isinstance(value, LinearOperator) or sparse.issparse(value):
        return on_device(aslinearoperator(value))
    if isinstance(value, (list, tuple)) and any(isinstance(part, np.ndarray) for part in value):
        return type(value)(to_device(part) for part in value)
    return value


def to_host(value: Any) -> Any:
    """The same on the host; results and measurements stay, and answer at the border."""
    import cupy
    import cupyx.scipy.sparse.linalg

    from fisherfield import Network

    if isinstance(value, cupy.ndarray):
        return value.get()
    if isinstance(value, Network) and value.device != "cpu":
        return _hosts.get(id(value)) or value.to("cpu")
    if isinstance(value, cupyx.scipy.sparse.linalg.LinearOperator):
        return OnHost(value)
    if isinstance(value, types.GeneratorType):
        return map(to_host, drained(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(to_host, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_host, value))
    if isinstance(value, dict):
        return {key: to_host(part) for key, part in value.items()}
    return value


def drained(generator: types.GeneratorType) -> Iterator[Any]:
    """What it yields; it runs inside."""
    with inside():
        return iter(list(generator))


def on_device(operator: LinearOperator) -> Any:
    """An operator of the host for vectors of the device."""
    import cupy
    from cupyx.scipy.sparse import linalg

    return linalg.LinearOperator(
        operator.shape,
        lambda x: cupy.asarray(operator.matvec(x.get())),
        lambda x: cupy.asarray(operator.rmatvec(x.get())),
        lambda X: cupy.asarray(operator.matmat(X.get())),
        operator.dtype,
    )


class OnHost(LinearOperator):
    """An operator of the device for vectors of the host."""

    def __init__(self, original: Any) -> None:
        super().__init__(original.dtype, original.shape)
        self.original = original

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return at_border(self.original.matmat)(np.ascontiguousarray(X))

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return at_border(self.original.matvec)(np.ascontiguousarray(x).reshape(-1))

    def _adjoint(self) -> OnHost:
        return OnHost(self.original.H)


def at_border(function: Callable[..., Any], *, sends: bool = True) -> Callable[..., Any]:
    """The function for arrays of the host; called from inside it is the function itself."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _depth:
            return function(*args, **kwargs)
        if sends:
            args, kwargs = tuple(map(to_device, args)), {key: to_device(value) for key, value in kwargs.items()}
        with inside():
            found = function(*args, **kwargs)
        return to_host(found)

    return call


def guard(cls: type, *, sends: bool) -> None:
    """Let a class answer at the border: its attributes, its methods, and the special methods that it defines."""

    def answer(self: Any, name: str) -> Any:
        if _depth or name.startswith("__"):
            return object.__getattribute__(self, name)
        with inside():
            found = object.__getattribute__(self, name)
        return at_border(found, sends=sends) if inspect.ismethod(found) else to_host(found)

    cls.__getattribute__ = answer
    for name, method in list(vars(cls).items()):
        if name.startswith("__") and inspect.isfunction(method) and name not in LOOKUPS:
            setattr(cls, name, at_border(method, sends=sends))


LOOKUPS = {
    "__getattribute__",
    "__getattr__",
    "__setattr__",
    "__delattr__",
    "__getstate__",
    "__setstate__",
    "__reduce__",
}


def switch_on() -> None:
    """Put the border up around the library."""
    from fisherfield import Network

    for names, sends in ((MEASURES, True), (RESULTS, False)):
        for module, classes in names.items():
            for name in classes:
                guard(getattr(importlib.import_module(f"fisherfield.{module}"), name), sends=sends)
    Network.__call__ = at_border(Network.__call__)
    for module, functions in FUNCTIONS.items():
        for name in functions:
            replace(getattr(importlib.import_module(f"fisherfield.{module}"), name))


def replace(function: Callable[..., Any]) -> None:
    """Put the border around a function, wherever the library refers to it."""
    bordered = at_border(function)
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "fisherfield"]:
        for name, value in list(vars(module).items()):
            if value is function:
                setattr(module, name, bordered)
