"""The empirical neural tangent kernel: products of the outputs' gradients at pairs of inputs."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any

import numpy.typing as npt

from . import devices
from ._executor import Progress, check_executor
from ._memory import require_memory
from ._validate import FloatArray, boolean, choice, require_finite
from .architecture import variance_per_layer
from .factors import FactoredJacobian, LayerFactors
from .gram import gram_matrix, kernel_matrix
from .linearized import Chart
from .network import Network
from .network_metric import NetworkMetric

__all__ = ["TangentKernel", "ntk"]

PARAMETRIZATIONS = ("standard", "ntk")


class TangentKernel(NetworkMetric):
    r"""The empirical neural tangent kernel of a network on inputs X.

    .. math:: \Theta_{(k,s),(q,t)} = \nabla_\theta f_k(x_s) \cdot \nabla_\theta f_q(x_t),

    not divided by T: in the standard parametrisation it is T times the dual of the Fisher information matrix of the
    Gaussian likelihood. ``dual()`` is :math:`\Theta`, and the moments of ``statistics()`` run over its C T eigenvalues.
    ``shape``, ``diagonal()`` and ``dense()`` are those of :math:`\sum_t \sum_k \nabla f_k(x_t) \nabla f_k(x_t)^\top`,
    in the space of the parameters on which the outputs depend: without the biases of layers whose ``bias_var`` is 0.

    Parameters
    ----------
    net : Network
    X : array, shape (T, M_0)
    parametrization : {"standard", "ntk"}
        ``"standard"``: the parameters are W and b. ``"ntk"``: they are w and v in
        :math:`W = \sigma_w w / \sqrt{M_{l-1}}`, :math:`b = \sigma_b v`, so that :math:`\Theta` stays of order 1 as the
        width grows.
    weight_var, bias_var : float or sequence of L floats, optional
        :math:`\sigma_w^2, \sigma_b^2` of the NTK parametrisation. Default: those of the architecture that the network
        was sampled from.
    executor, memory, storage, precision
        As of :class:`~fisherfield.Fisher`.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names, variances that are missing or out of place.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.MLP((20, 400, 400, 1), "relu", weight_var=2.0, bias_var=0.0).sample(seed=0)
    >>> X = np.random.default_rng(0).standard_normal((30, 20))
    >>> kernel = ff.TangentKernel(net, X, parametrization="ntk")
    >>> kernel.dual().shape
    (30, 30)
    >>> bool(2 < kernel.statistics().mean < 10)  # theory: sum over layers of qtilde^l q^l = 6
    True
    """

    def __init__(
        self,
        net: Network,
        X: Any,
        *,
        parametrization: str = "standard",
        weight_var: Any = None,
        bias_var: Any = None,
        executor: Executor | None = None,
        memory: float | str | None = None,
        storage: npt.DTypeLike | None = None,
        precision: str | None = None,
    ) -> None:
        super().__init__(net, X, "gaussian", "exact", None, None, None, executor, memory, storage, precision)
        self.parametrization = choice(parametrization, "parametrization", PARAMETRIZATIONS)
        self._variances = _variances(net, self.parametrization, weight_var, bias_var)

    @property
    def _scale(self) -> float:
        return 1.0

    @property
    def _options(self) -> dict[str, Any]:
        return super()._options | {"parametrization": self.parametrization, "variances": self._variances}

    @property
    def _num_eigenvalues(self) -> int:
        return self.net.num_outputs * self.num_samples

    @property
    def _charts(self) -> tuple[Chart, ...]:
        return tuple(self._chart(l) for l in range(self.net.depth))

    def _chart(self, l: int) -> Chart:
        if self._variances is None:
            return Chart(biases=float(self.net.has_biases))
        weight_var, bias_var = (variances[l] for variances in self._variances)
        return Chart(math.sqrt(weight_var / self.net.widths[l]), math.sqrt(bias_var))

    def _represent(self, l: int, layer: LayerFactors) -> LayerFactors:
        if self._variances is None:
            return layer
        chart = self._chart(l)
        if chart.biases == 0:
            return LayerFactors(chart.weights * layer.A, layer.B, False)
        return LayerFactors(chart.weights / chart.biases * layer.A, chart.biases * layer.B, True)

    def _bytes_per_sample(self, num_seeds: int) -> int:
        return super()._bytes_per_sample(num_seeds) * (1 if self._variances is None else 2)  # scaled copies

    def __repr__(self) -> str:
        return (
            f"TangentKernel({self.parametrization}, T={self.num_samples}, C={self.net.num_outputs}, dtype={self.dtype})"
        )


def _variances(
    net: Network, parametrization: str, weight_var: Any, bias_var: Any
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Variances per layer of the NTK parametrisation; None for the standard one."""
    if parametrization == "standard":
        for name, value in (("weight_var", weight_var), ("bias_var", bias_var)):
            if value is not None:
                raise ValueError(f"{name}: expected only together with parametrization='ntk', got {value!r}")
        return None
    arch = net.architecture
    if weight_var is None and arch is None:
        raise ValueError(
            "weight_var: expected the sigma_w^2 of the NTK parametrisation, for this network was not sampled from an "
            "architecture, got None"
        )
    if bias_var is None and arch is None and net.has_biases:
        raise ValueError(
            "bias_var: expected the sigma_b^2 of the NTK parametrisation, for this network has biases and was not "
            "sampled from an architecture, got None"
        )
    weights = arch.weight_vars if weight_var is None and arch is not None else weight_var
    biases = arch.bias_vars if bias_var is None and arch is not None else 0.0 if bias_var is None else bias_var
    bias_vars = variance_per_layer(biases, "bias_var", net.depth, strict=False)
    if any(bias_vars) and not net.has_biases:
        raise ValueError(f"bias_var: expected 0 or None, for this network has no biases, got {bias_var!r}")
    return variance_per_layer(weights, "weight_var", net.depth, strict=True), bias_vars


def ntk(
    net: Network,
    X1: Any,
    X2: Any = None,
    *,
    trace: bool = False,
    parametrization: str = "standard",
    weight_var: Any = None,
    bias_var: Any = None,
    executor: Executor | None = None,
    progress: Progress = None,
) -> FloatArray:
    r"""Return the empirical neural tangent kernel between two sets of inputs.

    .. math:: \Theta_{st,kq} = \nabla_\theta f_k(x^1_s) \cdot \nabla_\theta f_q(x^2_t)

    Parameters
    ----------
    net : Network
    X1 : array, shape (T1, M_0)
    X2 : array, shape (T2, M_0), optional
        Default: ``X1``.
    trace : bool
        Sum over the outputs k = q: shape (T1, T2), at the cost of one output with C times the width.
    parametrization, weight_var, bias_var, executor
        As of :class:`TangentKernel`.
    progress : None, True or callable
        Progress over tiles: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    array, shape (T1, T2, C, C), or (T1, T2) with ``trace``
        Not divided by T nor by C. The four-index array is a view of the (C T1, C T2) matrix, output-major.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names.
    MemoryError
        If it cannot fit.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.MLP((20, 50, 3), "tanh").sample(seed=0)
    >>> X = np.random.default_rng(0).standard_normal((30, 20))
    >>> ff.ntk(net, X, X[:4]).shape, ff.ntk(net, X, trace=True).shape
    ((30, 4, 3, 3), (30, 30))
    """
    options: dict[str, Any] = {"parametrization": parametrization, "weight_var": weight_var, "bias_var": bias_var}
    check_executor(executor)
    boolean(trace, "trace")
    if not isinstance(net, Network):
        raise TypeError(
            f"net: expected a fisherfield.Network (for instance arch.sample(seed=0)), got {type(net).__name__}"
        )
    rows = TangentKernel(net, net.check_inputs(X1, "X1"), executor=executor, **options)
    columns = None
    if X2 is not None:
        columns = TangentKernel(net, net.check_inputs(X2, "X2"), executor=executor, **options)
    shape = rows.num_samples, (columns or rows).num_samples
    outputs = 1 if trace else net.num_outputs
    factor_bytes = rows._factor_bytes + (columns._factor_bytes if columns else 0)
    require_memory(
        shape[0] * shape[1] * outputs**2 * net.dtype.itemsize + (2 if trace else 1) * factor_bytes,
        f"the tangent kernel of {shape[0]} x {shape[1]} inputs and {outputs} x {outputs} outputs",
        "use fewer inputs at a time" + ("" if trace else ", or trace=True"),
        rows.X,
    )
    left = _outputs_in_one(rows.factors) if trace else rows.factors
    if columns is None:
        kernel = gram_matrix(left, 1.0, executor=executor, progress=progress)
    else:
        right = _outputs_in_one(columns.factors) if trace else columns.factors
        kernel = kernel_matrix(left, right, executor=executor, progress=progress)
    require_finite(kernel, "ntk()")
    if trace:
        return kernel
    return kernel.reshape(outputs, shape[0], outputs, shape[1]).transpose(1, 3, 0, 2)


def _outputs_in_one(factors: FactoredJacobian) -> FactoredJacobian:
    """One long gradient per sample instead of C: products of those are the trace over the outputs."""
    return FactoredJacobian(
        tuple(
            LayerFactors(
                layer.A, devices.contiguous(layer.B.transpose(1, 0, 2)).reshape(1, len(layer.A), -1), layer.bias
            )
            for layer in factors
        )
    )
