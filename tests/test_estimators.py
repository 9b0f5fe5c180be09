"""Trace estimators on explicit matrices: unbiased, with the variance of the formula, and honest about it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from fisherfield.estimators import Estimate, hutch_plus_plus, hutchinson

ESTIMATORS = [hutchinson, hutch_plus_plus]


def rotated(eigenvalues, seed=0, dtype="float64"):
    """A symmetric matrix of these eigenvalues with random eigenvectors."""
    n = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    matrix = (basis * np.asarray(eigenvalues)) @ basis.T
    return ((matrix + matrix.T) / 2).astype(dtype)


DECAY = 1.0 / np.arange(1, 61) ** 2
MATRIX = rotated(DECAY)


def exact(matrix, power):
    return float((matrix * matrix).sum() if power == 2 else np.trace(matrix))


# --- unbiased, with the right spread --------------------------------------------------------------------


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unbiased_over_seeds(estimator, power):
    matrix = rotated(1.0 / np.arange(1, 41))
    estimates = [estimator(matrix, power=power, probes=6, seed=seed) for seed in range(1000)]
    values = np.array([estimate.value for estimate in estimates])
    assert abs(values.mean() - exact(matrix, power)) < 4 * values.std(ddof=1) / np.sqrt(len(values))
    # the standard errors are those of the values, in the mean of squares
    squares = np.mean([estimate.standard_error**2 for estimate in estimates])
    assert squares == pytest.approx(values.var(ddof=1), rel=0.25)


@pytest.mark.parametrize("power", [1, 2])
def test_variance_of_hutchinson_is_that_of_the_formula(power):
    A = MATRIX @ MATRIX if power == 2 else MATRIX
    expected = 2 * ((A**2).sum() - (A.diagonal() ** 2).sum())
    k = 20_000
    estimate = hutchinson(MATRIX, power=power, probes=k, seed=1)
    assert estimate.standard_error**2 * k == pytest.approx(expected, rel=0.1)
    assert abs(estimate.value - exact(MATRIX, power)) < 4 * np.sqrt(expected / k)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_standard_errors_cover(estimator, power):
    seeds = 300
    matrix = rotated(np.linspace(0.1, 1, 80))
    estimates = [estimator(matrix, power=power, probes=30, seed=seed) for seed in range(seeds)]
    deviations = np.abs([(e.value - exact(matrix, power)) / e.standard_error for e in estimates])
    assert deviations.max() < 5
    inside = 0.674  # of Student's distribution with 29 degrees of freedom
    assert abs((deviations < 1).mean() - inside) < 3.5 * np.sqrt(inside * (1 - inside) / seeds)


@pytest.mark.parametrize("power", [1, 2])
def test_an_outlier_that_probes_miss_does_not_deceive(power):
    """Few probes may all have little of one large eigenvalue: neither their mean nor their spread shows it."""
    matrix = rotated(np.append(np.linspace(0.5, 1.5, 99), 30.0))
    estimates = [hutchinson(matrix, power=power, probes=30, seed=seed) for seed in range(300)]
    deviations = np.abs([(e.value - exact(matrix, power)) / e.standard_error for e in estimates])
    assert deviations.max() < 4


@pytest.mark.parametrize("power", [1, 2])
def test_hutch_plus_plus_wins_at_equal_products_where_eigenvalues_decay(power):
    k, factor = 8, power + 2
    errors = {}
    for estimator, probes in ((hutchinson, factor * k), (hutch_plus_plus, k)):
        estimates = [estimator(MATRIX, power=power, probes=probes, seed=seed) for seed in range(100)]
        assert {e.products for e in estimates} == {factor * k}
        errors[estimator] = np.sqrt(np.mean([(e.value - exact(MATRIX, power)) ** 2 for e in estimates]))
    assert 10 * errors[hutch_plus_plus] < errors[hutchinson]


# --- where they are exact -------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(0, 6), st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_hutch_plus_plus_is_exact_for_low_rank(n, rank, seed, power):
    factor = np.random.default_rng(seed).standard_normal((n, rank))
    A = factor @ factor.T
    estimate = hutch_plus_plus(A, power=power, probes=7, seed=seed)
    assert estimate.value == pytest.approx(exact(A, power), rel=1e-10, abs=1e-300)
    assert estimate.standard_error <= 1e-10 * exact(A, power)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_exact_for_diagonal_and_single_entries(estimator):
    diagonal = np.arange(1.0, 6.0)
    assert float(hutchinson(np.diag(diagonal), probes=2, seed=0)) == pytest.approx(15.0)
    assert hutchinson(np.diag(diagonal), probes=2, seed=0).standard_error < 1e-14
    assert float(estimator(np.array([[3.0]]), power=2, probes=2, seed=0)) == pytest.approx(9.0)
    assert float(estimator(np.zeros((4, 4)), probes=2, seed=0)) == 0.0


# --- what they take -------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_kinds_of_operators_and_precisions(estimator):
    dense = float(estimator(MATRIX, probes=5, seed=3))
    native = LinearOperator(MATRIX.shape, matvec=MATRIX.__matmul__, matmat=MATRIX.__matmul__, dtype=MATRIX.dtype)
    for operator in (native, sparse.csr_array(MATRIX)):
        assert float(estimator(operator, probes=5, seed=3)) == pytest.approx(dense, rel=1e-12)
    single = estimator(MATRIX.astype(np.float32), probes=5, seed=3)
    assert single.value == pytest.approx(dense, rel=1e-5)
    assert isinstance(single.value, float)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_seeds_and_blocks(estimator, monkeypatch):
    first = estimator(MATRIX, probes=9, seed=5)
    assert estimator(MATRIX, probes=9, seed=5) == first
    assert estimator(MATRIX, probes=9, seed=6).value != first.value
    generator = np.random.default_rng(5)
    assert estimator(MATRIX, probes=9, seed=generator) != estimator(MATRIX, probes=9, seed=generator)
    monkeypatch.setattr("fisherfield.estimators._BLOCK_BYTES", 2 * 60 * 8)
    blocks = estimator(MATRIX, probes=9, seed=5)
    assert blocks.value == pytest.approx(first.value, rel=1e-12)
    assert blocks.products == first.products


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_products_are_counted_and_reported(estimator, power):
    columns, reports = [], []

    def matmat(x):
        columns.append(x.shape[1])
        return MATRIX @ x

    operator = LinearOperator(MATRIX.shape, matvec=MATRIX.__matmul__, matmat=matmat, dtype=MATRIX.dtype)
    estimate = estimator(
        operator, power=power, probes=6, seed=0, progress=lambda done, total: reports.append((done, total))
    )
    assert estimate.products == sum(columns) == (6 if estimator is hutchinson else (power + 2) * 6)
    assert reports == [(i + 1, estimate.products) for i in range(estimate.products)]
    assert estimate.probes == 6
    assert estimate.method == ("hutchinson" if estimator is hutchinson else "hutch++")


def test_estimates_are_numbers():
    estimate = Estimate(2.0, 0.5, 4, 4, "hutchinson")
    assert float(estimate) == 2.0
    assert estimate.scaled(0.5) == Estimate(1.0, 0.25, 4, 4, "hutchinson")
    with pytest.raises(AttributeError):
        estimate.value = 3.0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_products_of_another_shape_are_refused(estimator):
    operator = LinearOperator((4, 4), matvec=lambda x: x, matmat=lambda x: x[:2], dtype=np.float64)
    with pytest.raises(ValueError, match=r"operator: expected products of shape \(4, \d\), got \(2, \d\)"):
        estimator(operator, probes=3, seed=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("operator", "options", "error", "message"),
    [
        (np.zeros((2, 3)), {}, ValueError, r"operator: expected a square matrix, got shape \(2, 3\)"),
        (np.zeros((2, 2), int), {}, TypeError, r"operator\.dtype: expected 'float32' or 'float64', got 'int64'"),
        ("A", {}, TypeError, "operator: expected a"),
        (MATRIX, {"probes": 1}, ValueError, "probes: expected an integer >= 2, got 1"),
        (MATRIX, {"probes": 2.5}, TypeError, "probes: expected an integer"),
        (MATRIX, {"power": 3}, ValueError, "power: expected 1 or 2, got 3"),
        (MATRIX, {"seed": -1}, ValueError, "seed"),
        (MATRIX, {"progress": 3}, TypeError, "progress"),
        (np.full((3, 3), np.nan), {}, ValueError, "operator: expected finite products, got nan"),
    ],
)
def test_refuses(estimator, operator, options, error, message):
    with pytest.raises(error, match=message):
        estimator(operator, **{"seed": 0} | options)
