r"""Layer-wise approximations of the Fisher information matrix and damped systems with them.

With :math:`J_l` the (R T, P_l) gradients of layer l and :math:`S = \mathrm{blockdiag}(J_1, \dots, J_L)`,

.. math:: G = \frac{1}{T} S^\top (\Sigma \otimes I_{RT}) S, \qquad \Sigma \in \mathbb{R}^{L \times L}

is the Fisher information matrix where :math:`\Sigma` is all ones, its diagonal blocks where it is the identity, and its
three block diagonals where it is tri-diagonal (Karakida, Osawa 2020, arXiv:2010.00879). Systems with it are solved in
function space,

.. math:: (G + \lambda I)^{-1} S^\top = S^\top \left[ \tfrac{1}{T} (\Sigma \otimes I) S S^\top + \lambda I \right]^{-1},

which needs the Gram matrices :math:`J_l J_l^\top` of the layers alone. K-FAC puts the Kronecker product of two averages
in the place of each block, :math:`B_l \otimes A_l`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from .._memory import require_memory
from .._validate import FloatArray, as_float_array, choice, non_negative, require_cpu, require_finite
from ..factors import FactoredJacobian, LayerFactors
from ..fisher import Fisher
from ..gram import gram_matrix, symmetric_product
from ..likelihoods import Likelihood
from ..network import Network

__all__ = [
    "APPROXIMATIONS",
    "ApproximateFisher",
    "Isotropy",
    "approximate_fisher",
    "as_coupling",
]

APPROXIMATIONS = ("exact", "block_diagonal", "tri_diagonal", "kfac")

_RANK = 1e-12  # eigenvalues of Sigma below this part of the largest count as zero

_Map = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Isotropy:
    r"""How close :math:`\frac{1}{T} J (G + \lambda I)^{-1} J^\top` is to a multiple of the identity.

    Where it is :math:`\gamma I`, steps of size :math:`\eta / \gamma` move the outputs of a wide network as steps of
    exact natural gradient of size :math:`\eta` do (Karakida, Osawa 2020).

    Attributes
    ----------
    gamma : float
        Mean of the diagonal.
    deviation : float
        Largest :math:`|\mu - \gamma| / \gamma` of the eigenvalues :math:`\mu` of the (symmetrised) matrix; NaN where
        no gradient is.
    damping : float
        :math:`\lambda`.
    """

    gamma: float
    deviation: float
    damping: float


class ApproximateFisher:
    r"""A layer-wise approximation G of the Fisher information matrix, P x P, never formed unless asked for.

    Made by :func:`approximate_fisher`. It holds the factored Jacobian and, once it has solved a system, Gram matrices
    of size R T: one per layer where :math:`\Sigma` couples none, one of k R T for layers coupled by a part of rank k.

    Attributes
    ----------
    fisher : Fisher
        What it approximates.
    coupling : array, shape (L, L), or None
        :math:`\Sigma`; None for K-FAC.
    gamma : float or None
        :math:`1^\top \Sigma^{-1} 1` (Karakida, Osawa 2020), which :meth:`isotropy` finds in wide networks: L for the
        identity, :math:`\lceil L / 3 \rceil` for the tri-diagonal matrix. None for K-FAC, and where (1, ..., 1) is no
        image of a singular :math:`\Sigma`.
    """

    def __init__(self, fisher: Fisher, coupling: FloatArray | None) -> None:
        self.fisher, self.coupling = fisher, coupling
        self.gamma: float | None = None
        layers, executor = fisher.factors.layers, fisher._executor
        places = _slices([layer.num_parameters for layer in layers])
        self._parts: list[tuple[Any, _Coupled | _Kronecker]] = []
        if coupling is None:
            kronecker = (_Kronecker(layer, executor) for layer in layers)
            self._parts += zip(places, kronecker, strict=True)
            return
        coupled = []
        for members in _components(coupling):
            coupled.append(_Coupled([layers[l] for l in members], coupling[np.ix_(members, members)], executor))
            self._parts.append((_union([places[l] for l in members]), coupled[-1]))
        if all(part.in_range for part in coupled):
            self.gamma = sum(part.gamma for part in coupled)

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, P)``."""
        return self.fisher.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the network."""
        return self.fisher.dtype

    def solve(self, g: Any, damping: float = 1e-3) -> FloatArray:
        r"""Return :math:`(G + \lambda I)^{-1} g`; K-FAC damps its factors instead.

        Parameters
        ----------
        g : array, shape (P,) or (P, k)
            Right-hand sides, in the precision of the network.
        damping : float, default 1e-3
            :math:`\lambda > 0`, in units of the eigenvalues of the Fisher information matrix.

        Returns
        -------
        array, shape of ``g``

        Raises
        ------
        ValueError, TypeError
            For bad arguments, or where the damping leaves the matrix singular beside rounding.
        MemoryError
            If the Gram matrices cannot fit.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> from fisherfield.learning.approximations import approximate_fisher
        >>> net = ff.MLP((5, 9, 7, 2), "tanh").sample(seed=0)
        >>> X = np.random.default_rng(0).standard_normal((6, 5))
        >>> G, g = approximate_fisher(net, X, "block_diagonal"), np.ones(net.num_parameters)
        >>> bool(np.allclose(G.dense(damping=0.1) @ G.solve(g, damping=0.1), g))
        True
        """
        vectors = self.fisher._as_vectors(g, "g")
        size = non_negative(damping, "damping", strict=True)
        columns = vectors.reshape(len(vectors), -1)
        x = np.empty_like(columns)
        with np.errstate(over="ignore", invalid="ignore"):
            for place, part in self._parts:
                solve = part.solver(size)
                for j, column in enumerate(columns.T):
                    x[place, j] = solve(np.ascontiguousarray(column[place]))
        require_finite(x, "solve()")
        return x.reshape(vectors.shape)

    def solve_function_space(self, u: Any, damping: float = 0.0) -> FloatArray:
        r"""Return :math:`(G + \lambda I)^{-1} J^\top u`, from systems in the space of u.

        Nothing cancels here however small the damping, as it does in :meth:`solve`. The gradient of the squared loss is
        :math:`J^\top r / T` with the residuals r.

        Parameters
        ----------
        u : array, shape (R, T)
            A weight for every gradient of the factored Jacobian, in the precision of the network.
        damping : float, default 0
            :math:`\lambda \ge 0`; with zero the Gram matrices of the layers have to be invertible, as they are in
            networks that are wide beside R T.

        Returns
        -------
        array, shape (P,)
            In the precision of the network.

        Raises
        ------
        ValueError, TypeError
            For bad arguments, or where the damping leaves a matrix singular beside rounding.
        MemoryError
            If the Gram matrices cannot fit.
        """
        weights = as_float_array(u, "u", ndim=2, shape=(self.fisher.num_seeds, self.fisher.num_samples))
        if weights.dtype != self.dtype:
            raise TypeError(f"u: expected {self.dtype} like the network, got {weights.dtype}; convert it with .astype")
        size = non_negative(damping, "damping")
        self._require_range()
        x = np.empty(self.shape[0], self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for place, part in self._parts:
                x[place] = part.solve_function_space(weights, size)
        require_finite(x, "solve_function_space()")
        return x

    def isotropy(self, damping: float = 1e-8) -> Isotropy:
        r"""Return how close :math:`\frac{1}{T} J (G + \lambda I)^{-1} J^\top` is to :math:`\gamma I`.

        It is formed in function space, of size R T, from the Gram matrices of the layers.

        Parameters
        ----------
        damping : float, default 1e-8
            :math:`\lambda \ge 0`; the theorem is about :math:`\lambda \to 0`.

        Returns
        -------
        Isotropy

        Raises
        ------
        ValueError, TypeError
            For bad arguments, or where the damping leaves a matrix singular beside rounding.
        MemoryError
            If the Gram matrices cannot fit.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> from fisherfield.learning.approximations import approximate_fisher
        >>> net = ff.MLP((100, 100, 100, 1), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=0)
        >>> X = np.random.default_rng(0).standard_normal((6, 100))
        >>> found = approximate_fisher(net, X, "block_diagonal").isotropy()
        >>> round(found.gamma, 6), found.deviation < 1e-6  # gamma is the number of layers
        (3.0, True)
        """
        size = non_negative(damping, "damping")
        self._require_range()
        with np.errstate(over="ignore", invalid="ignore"):
            matrix = np.asarray(sum(part.response(size) for _, part in self._parts), np.float64)
        require_finite(matrix, "isotropy()")
        gamma = float(np.trace(matrix)) / len(matrix)
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        deviation = float(np.abs(values - gamma).max() / abs(gamma)) if gamma else math.nan
        return Isotropy(gamma, deviation, size)

    def dense(self, damping: float = 0.0) -> FloatArray:
        r"""Return G, damped, for small networks.

        Parameters
        ----------
        damping : float, default 0
            :math:`\lambda \ge 0`, as of :meth:`solve`.

        Returns
        -------
        array, shape (P, P)
            Symmetric, in the precision of the network.

        Raises
        ------
        ValueError, TypeError
            For a damping that is no number >= 0, and entries that overflow the precision of the network.
        MemoryError
            If it cannot fit.
        """
        size = non_negative(damping, "damping")
        require_memory(
            3 * self.shape[0] ** 2 * self.dtype.itemsize, f"the matrix of shape {self.shape}", "solve() does without it"
        )
        G = np.zeros(self.shape, self.dtype)
        entries = np.arange(self.shape[0])
        with np.errstate(over="ignore", invalid="ignore"):
            for place, part in self._parts:
                G[np.ix_(entries[place], entries[place])] = part.dense(size)
        require_finite(G, "dense()")
        return G

    def _require_range(self) -> None:
        if self.coupling is not None and self.gamma is None:
            raise ValueError(
                "Sigma: expected an invertible matrix, or one with (1, ..., 1) among its images, got another; the "
                "damping then decides alone: use solve()"
            )

    def __repr__(self) -> str:
        kind = "K-FAC" if self.coupling is None else f"gamma={self.gamma}"
        return f"ApproximateFisher({kind}, {self.fisher._described}, dtype={self.dtype})"


def approximate_fisher(
    net: Network,
    X: Any,
    approximation: str | npt.ArrayLike = "block_diagonal",
    *,
    likelihood: str | Likelihood = "gaussian",
    executor: Executor | None = None,
) -> ApproximateFisher:
    r"""Return a layer-wise approximation of the Fisher information matrix of a network.

    A tri-diagonal :math:`\Sigma` of three or more layers has negative eigenvalues, and so has G: the damped matrix is
    positive definite, and its step a direction of descent for every gradient, only where the damping exceeds the lowest
    one. The theorem of Karakida and Osawa needs a damping that is small beside all of them; between the two the matrix
    may be singular.

    K-FAC (Martens, Grosse 2015, arXiv:1503.05671) takes inputs a of a layer (with a one where it has biases) and
    backpropagated seeds b as independent, :math:`G_l = B_l \otimes A_l` with :math:`A_l = \frac{1}{T} \sum_t a_t
    a_t^\top`, :math:`B_l = \frac{1}{T} \sum_{rt} b_{rt} b_{rt}^\top`. It is damped as in their section 6.3,

    .. math:: \left( B_l + \tfrac{\sqrt\lambda}{\pi} I \right) \otimes \left( A_l + \pi \sqrt\lambda I \right),
        \qquad \pi^2 = \frac{\mathrm{tr} A_l / \dim A_l}{\mathrm{tr} B_l / \dim B_l},

    which depends, as the product does, on no factor moved from A to B: each side is damped by the same part of its mean
    eigenvalue. Plain :math:`\sqrt\lambda` on both sides would swamp the small B of wide networks.

    Parameters
    ----------
    net : Network
        P parameters, L layers.
    X : array, shape (T, M_0)
        Inputs, one a row, in the precision of the network.
    approximation : str or array, shape (L, L)
        ``"block_diagonal"``, ``"tri_diagonal"``, ``"exact"``, any symmetric :math:`\Sigma`, or ``"kfac"``.
    likelihood : str or Likelihood
        As of :class:`~fisherfield.Fisher`.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool).

    Returns
    -------
    ApproximateFisher

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names, and for ``"tri_diagonal"`` where it is
        singular: for L = 2, 5, 8, ... layers.
    MemoryError
        If the factors cannot fit.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> from fisherfield.learning.approximations import approximate_fisher
    >>> net = ff.MLP((20, 50, 50, 50, 3), "tanh").sample(seed=0)
    >>> X = np.random.default_rng(0).standard_normal((10, 20))
    >>> G = approximate_fisher(net, X, "tri_diagonal", likelihood="categorical")
    >>> G.shape, round(G.gamma)
    ((6303, 6303), 2)
    """
    fisher = Fisher(net, X, likelihood=likelihood, executor=executor)
    require_cpu(net.weights[0], "net", "approximations layer by layer work")
    return ApproximateFisher(fisher, as_coupling(approximation, net.depth))


def as_coupling(approximation: str | npt.ArrayLike, depth: int, name: str = "approximation") -> FloatArray | None:
    r"""Return :math:`\Sigma`, shape (L, L), float64, of an approximation for L layers; None for ``"kfac"``.

    Raises
    ------
    ValueError, TypeError
        As of :func:`approximate_fisher`.
    """
    if isinstance(approximation, str):
        chosen = choice(approximation, name, APPROXIMATIONS)
        if chosen == "kfac":
            return None
        if chosen == "exact":
            return np.ones((depth, depth))
        if chosen == "block_diagonal":
            return np.eye(depth)
        if depth % 3 == 2:
            raise ValueError(
                f"{name}: 'tri_diagonal' is singular for L = 2, 5, 8, ... layers (L = 3 s + 2), and the network has "
                f"L = {depth}; take 'block_diagonal', another depth, or give the matrix Sigma itself, whose "
                "pseudo-inverse is then used"
            )
        return np.eye(depth) + np.eye(depth, k=1) + np.eye(depth, k=-1)
    sigma = as_float_array(approximation, name, ndim=2, shape=(depth, depth)).astype(np.float64)
    if not np.array_equal(sigma, sigma.T):
        raise ValueError(f"{name}: expected a symmetric matrix, got one whose entries differ from their transposes")
    if not sigma.any(axis=1).all():
        layer = int((~sigma.any(axis=1)).argmax()) + 1
        raise ValueError(f"{name}: expected no row of zeros, got one for layer {layer}, which would have no metric")
    return sigma


# --- Sigma ----------------------------------------------------------------------------------------------------


class _Coupled:
    """Layers coupled by Sigma: ``G = (1/T) Z^T s Z`` with k R T rows ``Z = (roots (x) I) S`` and signs s = +-1."""

    def __init__(self, layers: list[LayerFactors], sigma: FloatArray, executor: Executor | None) -> None:
        self._layers, self._sigma, self._executor = layers, sigma, executor
        self._places = _slices([layer.num_parameters for layer in layers])
        self._seeds, self._samples, dtype = len(layers[0].B), len(layers[0].A), layers[0].A.dtype
        values, vectors = np.linalg.eigh(sigma)
        kept = np.abs(values) > _RANK * np.abs(values).max()
        signs, roots = np.sign(values[kept]), (vectors[:, kept] * np.sqrt(np.abs(values[kept]))).T
        ones = np.ones(len(sigma))
        weights = np.linalg.lstsq(roots.T, ones, rcond=None)[0]  # J^T = Z^T (weights (x) I)
        self.in_range = bool(np.allclose(weights @ roots, ones, rtol=0, atol=1e-9))
        self.gamma = float(weights @ (signs * weights))
        self._roots, self._weights, self._signs = (a.astype(dtype) for a in (roots, weights, signs))
        self._all_signs = np.repeat(self._signs, self._seeds * self._samples)

    @cached_property
    def _gram(self) -> FloatArray:
        """``Z Z^T / T``, from one layer's Gram matrix after the other."""
        k, n = len(self._signs), self._seeds * self._samples
        require_memory(
            (2 * k**2 + 2) * n**2 * self._roots.itemsize,
            f"a system of size {k * n} and its factor",
            "use fewer samples at once, an approximation that couples fewer layers, or Fisher.solve()",
        )
        total = np.zeros((k, n, k, n), self._roots.dtype)
        for layer, root in zip(self._layers, self._roots.T, strict=True):
            part = gram_matrix(FactoredJacobian((layer,)), 1 / self._samples, executor=self._executor)
            for a in range(k):
                for b in range(k):
                    total[a, :, b] += root[a] * root[b] * part
        require_finite(total, "the Gram matrix of the gradients")
        return total.reshape(k * n, k * n)

    def _inverse(self, damping: float) -> _Map:
        """``(Z Z^T / T + damping s)^-1``, applied to columns."""
        return _inverse(self._gram, damping * self._all_signs, bool((self._signs > 0).all()))

    def _times(self, v: FloatArray) -> FloatArray:
        """Z v, (k R T,)."""
        moved = np.zeros((len(self._layers), self._seeds, self._samples), v.dtype)
        for layer, place, out in zip(self._layers, self._places, moved, strict=True):
            layer.add_product(v[place], out, self._executor)
        return np.asarray((self._roots @ moved.reshape(len(moved), -1)).ravel())

    def _transposed_times(self, c: FloatArray) -> FloatArray:
        """Z^T c of c (k R T,)."""
        out = np.empty(self._places[-1].stop, c.dtype)
        back = self._roots.T @ c.reshape(len(self._signs), -1)
        for layer, place, row in zip(self._layers, self._places, back, strict=True):
            layer.transposed_product(row.reshape(self._seeds, self._samples), out[place], self._executor)
        return out

    def solver(self, damping: float) -> _Map:
        """The damped inverse, applied to the layers' entries of g."""
        inverse, scale = self._inverse(damping), 1 / self._samples
        return _woodbury(damping, scale, inverse, self._times, self._transposed_times)

    def solve_function_space(self, u: FloatArray, damping: float) -> FloatArray:
        """The damped inverse applied to J^T u."""
        return self._transposed_times(self._inverse(damping)(np.kron(self._signs * self._weights, u.ravel())))

    def response(self, damping: float) -> FloatArray:
        """``(1/T) J (damped)^-1 J^T`` of these layers."""
        n = self._seeds * self._samples
        columns = np.kron((self._signs * self._weights)[:, None], np.eye(n, dtype=self._roots.dtype))
        found = self._gram @ self._inverse(damping)(columns)
        return np.asarray(np.einsum("k,kij->ij", self._weights, found.reshape(-1, n, n)))

    def dense(self, damping: float) -> FloatArray:
        """The damped matrix."""
        gradients = [FactoredJacobian((x,)).jacobian().reshape(-1, x.num_parameters) for x in self._layers]
        rows = [
            [gradient.T @ other * (self._sigma[l, m] / self._samples) for m, other in enumerate(gradients)]
            for l, gradient in enumerate(gradients)
        ]
        matrix = np.block(rows).astype(self._roots.dtype, copy=False)
        matrix[np.diag_indices_from(matrix)] += damping
        return matrix


# --- K-FAC ----------------------------------------------------------------------------------------------------


class _Kronecker:
    """``B (x) A`` of one layer, its parameters as a matrix (M_out, M_in), the biases its last column."""

    def __init__(self, layer: LayerFactors, executor: Executor | None) -> None:
        self._executor, self._fan_in = executor, layer.A.shape[1]
        ones = np.ones((len(layer.A), int(layer.bias)), layer.A.dtype)
        self._inputs, self._seeds = np.concatenate([layer.A, ones], axis=1), layer.B
        self._rows = layer.B.reshape(-1, layer.B.shape[2])

    def _sides(self, damping: float) -> tuple[_Side, _Side]:
        """The damped A and B."""
        T = len(self._inputs)
        a, b = (
            float(np.square(x, dtype=np.float64).sum()) / (T * x.shape[1]) for x in (self._inputs, self._rows)
        )  # mean eigenvalues
        pi, root = math.sqrt(a / b) if min(a, b) > 0 else 1.0, math.sqrt(damping)
        A = _Side(self._inputs, 1 / T, pi * root, self._executor)
        return A, _Side(self._rows, 1 / T, root / pi, self._executor)

    def solver(self, damping: float) -> _Map:
        """The damped inverse, applied to the layer's entries of g."""
        A, B = self._sides(damping)
        inner, outer = A.solver(), B.solver()
        return lambda g: self._flat(inner(outer(self._matrix(g)).T).T)

    def _damped_rows(self, damping: float) -> LayerFactors:
        """The gradients, each multiplied by the damped inverse: outer products they remain."""
        A, B = self._sides(damping)
        return LayerFactors(A.damped_rows(), B.damped_rows().reshape(self._seeds.shape), False)

    def solve_function_space(self, u: FloatArray, damping: float) -> FloatArray:
        """The damped inverse applied to J^T u."""
        rows = self._damped_rows(damping)
        out = np.empty(rows.num_parameters, u.dtype)
        rows.transposed_product(u, out, self._executor)
        return self._flat(out.reshape(self._rows.shape[1], -1))

    def response(self, damping: float) -> FloatArray:
        """``(1/T) J (damped)^-1 J^T`` of the layer."""
        damped, count = self._damped_rows(damping), len(self._seeds)
        of_seeds = self._rows @ damped.B.reshape(self._rows.shape).T
        return np.asarray(of_seeds * np.tile(self._inputs @ damped.A.T, (count, count)) / len(self._inputs))

    def dense(self, damping: float) -> FloatArray:
        """The damped matrix."""
        A, B = (side.dense() for side in self._sides(damping))
        order = self._flat(np.arange(len(A) * len(B)).reshape(len(B), len(A)))
        return np.asarray(np.kron(B, A)[np.ix_(order, order)])

    def _matrix(self, g: FloatArray) -> FloatArray:
        rows = self._rows.shape[1]
        cut = rows * self._fan_in
        return np.concatenate([g[:cut].reshape(rows, -1), g[cut:].reshape(rows, -1)], axis=1)

    def _flat(self, matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.concatenate([matrix[:, : self._fan_in].ravel(), matrix[:, self._fan_in :].ravel()])


@dataclass(frozen=True, eq=False)
class _Side:
    """``scale R^T R + damping I`` of rows R (n, m), factorised at the smaller of n and m."""

    rows: FloatArray
    scale: float
    damping: float
    executor: Executor | None

    @property
    def _thin(self) -> bool:
        return len(self.rows) < int(self.rows.shape[1])

    def _inverse(self) -> _Map:
        """Of the smaller of the matrix and its dual."""
        rows = self.rows if self._thin else np.ascontiguousarray(self.rows.T)
        product = symmetric_product(rows, self.scale, self.executor)
        require_finite(product, "a factor of K-FAC")
        return _inverse(product, self.damping, True)

    def solver(self) -> _Map:
        """The inverse, applied to columns (m, k)."""
        R = self.rows
        if not self._thin:
            return self._inverse()
        return _woodbury(self.damping, self.scale, self._inverse(), lambda v: R @ v, lambda c: R.T @ c)

    def damped_rows(self) -> FloatArray:
        """The inverse applied to every row of R, (n, m)."""
        inverse = self._inverse()
        return np.ascontiguousarray(inverse(self.rows) if self._thin else inverse(self.rows.T).T)

    def dense(self) -> FloatArray:
        """The matrix, (m, m)."""
        matrix = symmetric_product(np.ascontiguousarray(self.rows.T), self.scale, self.executor)
        matrix[np.diag_indices_from(matrix)] += self.damping
        return matrix


# --- linear algebra ---------------------------------------------------------------------------------------------


def _inverse(matrix: FloatArray, diagonal: float | FloatArray, definite: bool) -> _Map:
    """The inverse of ``matrix + diagonal``, applied to columns: by Cholesky's factors where it should be definite."""
    damped = matrix.copy()
    damped[np.diag_indices_from(damped)] += diagonal
    try:
        if definite:
            factor = linalg.cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
            return lambda columns: np.asarray(linalg.cho_solve(factor, columns, check_finite=False))
        with warnings.catch_warnings():
            warnings.simplefilter("error", linalg.LinAlgWarning)
            pivots = linalg.lu_factor(damped, overwrite_a=True, check_finite=False)
        return lambda columns: np.asarray(linalg.lu_solve(pivots, columns, check_finite=False))
    except (linalg.LinAlgError, linalg.LinAlgWarning) as error:
        kind = "positive definite" if definite else "invertible"
        raise ValueError(
            f"damping: expected enough to make a matrix of size {len(matrix)} {kind} beside rounding in {matrix.dtype} "
            f"(its largest entry is {float(matrix.diagonal().max()):.1e}), got {np.max(np.abs(diagonal)):g} on its "
            "diagonal; take more" + ", or float64" * (matrix.dtype == np.float32)
        ) from error


def _woodbury(damping: float, scale: float, inverse: _Map, times: _Map, transposed: _Map) -> _Map:
    """``(scale Z^T s Z + damping)^-1`` from the inverse ``(scale Z Z^T + damping s)^-1`` of the dual."""
    return lambda g: np.asarray((g - scale * transposed(inverse(times(g)))) / damping)


def _components(sigma: FloatArray) -> list[npt.NDArray[np.intp]]:
    """The sets of layers that are coupled, at once or through others."""
    reached = (sigma != 0) | np.eye(len(sigma), dtype=bool)
    for _ in range(len(sigma).bit_length()):
        reached = reached @ reached
    return [np.flatnonzero(row) for l, row in enumerate(reached) if row.argmax() == l]


def _slices(sizes: list[int]) -> list[slice]:
    return [slice(begin, end) for begin, end in pairwise([0, *accumulate(sizes)])]


def _union(places: list[slice]) -> Any:
    """One index for several ranges: a range where they follow each other."""
    if all(one.stop == other.start for one, other in pairwise(places)):
        return slice(places[0].start, places[-1].stop)
    return np.concatenate([np.arange(place.start, place.stop) for place in places])
