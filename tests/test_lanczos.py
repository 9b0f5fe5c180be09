"""Lanczos and its quadrature on explicit matrices of known spectrum: exact where they must be, honest elsewhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator

from fisherfield.estimators import Estimate
from fisherfield.lanczos import Tridiagonals, spectral_density, tridiagonalize
from test_estimators import rotated

BULK = np.linspace(0.5, 1.5, 300)
OUTLIERS = np.append(BULK, [50.0, 60.0])


@st.composite
def spectra(draw, *, max_size=25):
    """Eigenvalues >= 0 of very different sizes, some repeated, some zero, not all of them."""
    n = draw(st.integers(1, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = 10.0 ** rng.uniform(-draw(st.integers(0, 3)), 1, n)
    if draw(st.booleans()):
        values = values[rng.integers(0, n, n)]
    zeros = draw(st.integers(0, n))
    values[:zeros] = 0
    return values


def counting(matrix, columns):
    def matmat(x):
        columns.append(x.shape[1])
        return matrix @ x

    return LinearOperator(matrix.shape, matvec=matrix.__matmul__, matmat=matmat, dtype=matrix.dtype)


# --- tridiagonals ---------------------------------------------------------------------------------------


@given(spectra(), st.integers(1, 4), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_quadrature_has_the_moments_of_the_start_vectors(eigenvalues, k, steps, seed):
    n = len(eigenvalues)
    A = rotated(eigenvalues, seed)
    start = np.random.default_rng(seed).standard_normal((n, k))
    lanczos = tridiagonalize(A, start, steps)
    scale = max(eigenvalues.max(), 1e-300)
    assert lanczos.diagonal.shape == lanczos.off_diagonal.shape == (k, min(n, steps))
    np.testing.assert_allclose(lanczos.squared_norms, (start**2).sum(axis=0), rtol=1e-13)
    for i in range(k):
        nodes, weights = lanczos.quadrature(i)
        assert len(nodes) == lanczos.steps[i] <= min(n, steps)
        vector = start[:, i].copy()
        exhausted = lanczos.off_diagonal[i, lanczos.steps[i] - 1] == 0
        for power in range(2 * n if exhausted else 2 * lanczos.steps[i]):
            expected = start[:, i] @ vector
            assert abs(weights @ (nodes / scale) ** power - expected) < 1e-10 * lanczos.squared_norms[i], power
            vector = A @ vector / scale


@given(spectra())
def test_weights_are_multiplicities(eigenvalues):
    """Steps beyond the number of different eigenvalues change nothing."""
    nodes, weights = tridiagonalize(np.diag(eigenvalues), np.ones((len(eigenvalues), 1)), 100).quadrature(0)
    assert weights.sum() == pytest.approx(len(eigenvalues))
    edges = np.convolve(np.unique(eigenvalues), [0.5, 0.5], "valid")
    wide = np.diff(np.unique(eigenvalues)) > 1e-6 * eigenvalues.max()  # others may merge
    for edge in edges[wide]:
        assert weights[nodes < edge].sum() == pytest.approx((eigenvalues < edge).sum(), rel=1e-7)


def test_spaces_end_one_by_one():
    A = np.diag([1.0, 2.0, 3.0, 4.0, 5.0])
    start = np.eye(5)[:, :4].copy()
    start[1:3, 1] = 1.0
    start[:, 2] = 1.0
    start[:, 3] = 0.0
    columns = []
    lanczos = tridiagonalize(counting(A, columns), start, 7)
    assert lanczos.steps.tolist() == [1, 2, 5, 0]
    assert columns == [3, 2, 1, 1, 1]
    assert not lanczos.off_diagonal[[0, 1, 2], lanczos.steps[:3] - 1].any()
    np.testing.assert_allclose(lanczos.matrix(1), [[2.5, 0.5], [0.5, 2.5]], atol=1e-14)
    assert lanczos.matrix(3).shape == (0, 0)
    assert [len(part) for part in lanczos.quadrature(3)] == [0, 0]


def test_single_precision_keeps_its_place():
    A = rotated(OUTLIERS)
    start = np.random.default_rng(0).standard_normal((len(A), 3))
    expected = tridiagonalize(A, start, 20)
    seen = []

    def matmat(x):
        seen.append(x.dtype)
        return A.astype(np.float32) @ x

    operator = LinearOperator(A.shape, matvec=matmat, matmat=matmat, dtype=np.float32)
    lanczos = tridiagonalize(operator, start.astype(np.float32), 20)
    assert set(seen) == {np.dtype(np.float32)}
    assert lanczos.diagonal.dtype == lanczos.off_diagonal.dtype == np.float64
    for i in range(3):
        nodes, weights = lanczos.quadrature(i)
        exact_nodes, exact_weights = expected.quadrature(i)
        for power in range(4):
            got, want = weights @ nodes**power, exact_weights @ exact_nodes**power
            assert got == pytest.approx(want, rel=1e-5)
        np.testing.assert_allclose(nodes[-2:], exact_nodes[-2:], rtol=1e-5)


def test_many_steps_stay_orthogonal():
    """Without reorthogonalisation copies of the outliers would come back as new nodes."""
    A = rotated(np.append(np.linspace(0, 1, 200), [1e3, 1e5]))
    lanczos = tridiagonalize(A, np.random.default_rng(0).standard_normal((len(A), 2)), 202)
    for i in range(2):
        np.testing.assert_allclose(lanczos.quadrature(i)[0], np.linalg.eigvalsh(A), atol=1e-7)


def test_scales_of_vectors_and_matrices_cancel():
    A, start = rotated(BULK[:20]), np.random.default_rng(0).standard_normal((20, 1))
    plain = tridiagonalize(A, start, 8)
    scaled = tridiagonalize(1e-200 * A, 1e-140 * start, 8)
    np.testing.assert_allclose(scaled.diagonal, 1e-200 * plain.diagonal, rtol=1e-12)
    np.testing.assert_allclose(scaled.squared_norms, 1e-280 * plain.squared_norms, rtol=1e-12)


def test_progress_of_steps():
    reports = []
    tridiagonalize(np.eye(5), np.ones((5, 1)), 4, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("operator", "start", "steps", "error", "message"),
    [
        (np.eye(3), np.ones((3, 1)), 0, ValueError, "steps: expected an integer >= 1, got 0"),
        (np.eye(3), np.ones((3, 1)), -2, ValueError, "steps: expected an integer >= 1, got -2"),
        (np.eye(3), np.ones((3, 1)), 1.5, TypeError, "steps"),
        (np.eye(3), np.ones((4, 1)), 2, ValueError, r"start: expected shape \(3, any\), got \(4, 1\)"),
        (np.eye(3), np.ones(3), 2, ValueError, "start: expected 2 dimensions"),
        (np.eye(3), np.full((3, 1), np.nan), 2, ValueError, "start: expected finite"),
        (np.eye(3), np.ones((3, 1), np.float32), 2, TypeError, "start: expected float64 like the operator"),
        (np.ones((2, 3)), np.ones((3, 1)), 2, ValueError, "operator: expected a square matrix"),
        (np.diag([1.0, np.nan]), np.ones((2, 1)), 2, ValueError, "operator: expected finite products, got nan in row"),
        (np.diag([1.0, np.inf]), np.ones((2, 1)), 2, ValueError, "operator: expected finite products"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_tridiagonalize_refuses(operator, start, steps, error, message):
    with pytest.raises(error, match=message):
        tridiagonalize(operator, start, steps)


def test_memory_is_told(monkeypatch):
    monkeypatch.setattr("fisherfield._memory.available_bytes", lambda: 1000)
    with pytest.raises(MemoryError, match=r"Krylov bases of 2 vectors of length 50 and 5 steps needs 3\.906 KiB"):
        tridiagonalize(np.eye(50), np.ones((50, 2)), 5)
    with pytest.raises(MemoryError, match="lower memory"):
        spectral_density(np.eye(50), probes=2, steps=5)


# --- densities: exact where the quadrature is -----------------------------------------------------------


@given(spectra(), st.integers(0, 3), st.integers(1, 4), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_masses_are_exact_for_every_probe(eigenvalues, deflate, probes, more, seed):
    n = len(eigenvalues)
    density = spectral_density(
        rotated(eigenvalues, seed), probes=probes, steps=12, deflate=deflate, dimension=n + more, seed=seed
    )
    assert density.probes == probes == len(density.nodes) == len(density.weights)
    for weights in density.weights:
        assert weights.sum() + len(density.known) == pytest.approx(n)
    top = eigenvalues.max()
    distances = np.abs(density.known[:, None] - eigenvalues)  # a copy of a repeated one may stay with the rest
    assert (distances.min(axis=1) < 1e-6 * density.known).all()
    assert (np.diff(density.known) <= 0).all()
    counts = density.cumulative([-1.0, 2 * top + 1])
    np.testing.assert_allclose(counts.value, [0, n + more])
    np.testing.assert_allclose(counts.standard_error, 0, atol=1e-5 * n)
    assert density.count_above(0.0) == Estimate(n + more, 0.0, probes, density.products, "lanczos")
    assert density.count_above(2 * top + 1).value == pytest.approx(0, abs=1e-9)
    assert density.maximum <= top * (1 + 1e-12)


def test_all_known():
    density = spectral_density(np.diag([3.0, 2.0, 0.0]), deflate=2, dimension=7, seed=0)
    np.testing.assert_allclose(density.known, [3.0, 2.0])
    assert (density.num_zero.value, density.num_zero.standard_error) == (pytest.approx(5), 0)
    assert density.mean.value == pytest.approx(5 / 7)
    assert density.second_moment.value == pytest.approx(13 / 7)
    assert density.second_moment.standard_error == pytest.approx(0)
    whole = spectral_density(np.diag([3.0, 2.0]), deflate=(np.array([2.0, 3.0]), np.eye(2)[::-1].copy()), seed=0)
    np.testing.assert_array_equal(whole.known, [3.0, 2.0])
    assert whole.count_above(2.5).value == 1
    assert whole.mean == Estimate(2.5, 0.0, 10, 2, "lanczos")


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("deflate", [0, 1])
def test_zero_matrix(n, deflate):
    density = spectral_density(np.zeros((n, n)), deflate=deflate, dimension=9, seed=0)
    assert density.num_zero == Estimate(9.0, 0.0, 10, density.products, "lanczos")
    assert density.mean.value == density.maximum == density.count_above(1e-300).value == 0
    with pytest.raises(ValueError, match="zero matrix"):
        density.grid()


def test_one_eigenvalue():
    density = spectral_density(np.array([[2.0]]), dimension=5, seed=0)
    assert density.mean == Estimate(0.4, 0.0, 10, 10, "lanczos")
    assert density.count_above(1.0).value == 1
    assert density.num_zero.value == 4
    x = np.geomspace(1, 4, 500)
    assert np.trapezoid(density.density(x).value, np.log10(x)) == pytest.approx(1)


def test_repeated_eigenvalues_are_counted_by_their_weights():
    eigenvalues = np.repeat([1.0, 2.0, 8.0], [60, 30, 10])
    density = spectral_density(rotated(eigenvalues), probes=200, seed=0)
    for threshold, count in ((0.5, 100), (1.5, 40), (4.0, 10)):
        estimate = density.count_above(threshold)
        assert abs(estimate.value - count) <= 4 * estimate.standard_error + 1e-10
        assert estimate.standard_error == pytest.approx(
            np.sqrt(2 * count * (100 - count) / 102 / 200), rel=0.1, abs=1e-6
        )


def test_zeros_are_an_atom():
    X = np.random.default_rng(0).standard_normal((300, 100))
    density = spectral_density(X @ X.T / 300, dimension=1000, probes=20, seed=0)
    zeros = density.num_zero
    assert abs(zeros.value - 900) < 4 * zeros.standard_error < 20
    assert density.cumulative(density.floor).value == zeros.value
    assert density.grid()[0] > density.floor
    x = density.grid(500)
    assert np.trapezoid(density.density(x).value, np.log10(x)) == pytest.approx(1000 - zeros.value, rel=0.02)


def test_what_is_not_resolved_is_not_claimed():
    """Eigenvalues over ten decades: few steps cannot see the small ones, and the errors say so."""
    eigenvalues = np.logspace(-10, 0, 300)
    density = spectral_density(rotated(eigenvalues), steps=30, seed=0)
    x = np.logspace(-11, -1, 30)
    count = density.cumulative(x)
    exact = np.searchsorted(eigenvalues, x, "right")
    assert (np.abs(count.value - exact) < 3 * count.standard_error).all()
    assert count.standard_error[0] > 50
    zeros = density.num_zero
    assert zeros.value == 0
    assert zeros.standard_error > 50


# --- densities: error bars ------------------------------------------------------------------------------

SEEDS = 400


INSIDE = 0.683  # a normal's share within one standard deviation


def covered(deviations):
    """Whether deviations, in standard errors and over seeds, are those of a normal, within the binomial error."""
    deviations = np.abs(deviations)
    assert deviations.max() < 4.5
    allowed = 3.5 * np.sqrt(INSIDE * (1 - INSIDE) / len(deviations))
    return np.abs((deviations < 1).mean(axis=0) - INSIDE) < allowed


@pytest.fixture(scope="module")
def many():
    """Densities over seeds, of a matrix whose threshold 1.0 lies in a gap (resolved) between halves of the bulk."""
    eigenvalues = np.concatenate([np.linspace(0.5, 0.8, 60), np.linspace(1.2, 1.5, 40), [50.0, 60.0]])
    A = rotated(eigenvalues)
    return eigenvalues, [spectral_density(A, probes=4, steps=24, deflate=2, seed=seed) for seed in range(SEEDS)]


def deviations(estimates, exact):
    return np.array([(e.value - exact) / e.standard_error for e in estimates])


@pytest.mark.parametrize("quantity", ["count", "mean", "second_moment"])
def test_standard_errors_cover(many, quantity):
    eigenvalues, densities = many
    exact = {"count": 42, "mean": eigenvalues.mean(), "second_moment": (eigenvalues**2).mean()}[quantity]
    estimates = [d.count_above(1.0) if quantity == "count" else getattr(d, quantity) for d in densities]
    values = np.array([e.value for e in estimates])
    errors = np.array([e.standard_error for e in estimates])
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(SEEDS)
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.12)
    assert covered(deviations(estimates, exact))


def test_density_covers_the_smoothed_one(many):
    eigenvalues, densities = many
    x, width = np.array([0.4, 0.65, 1.0, 1.3, 55.0]), 0.1
    kernel = np.exp(-0.5 * (np.log10(x[:, None] / eigenvalues) / width) ** 2) / np.sqrt(2 * np.pi) / width
    bands = [d.density(x, width=width) for d in densities]
    assert bands[0].value.shape == bands[0].standard_error.shape == x.shape
    assert covered(np.array([(b.value - kernel.sum(axis=1)) / b.standard_error for b in bands])[:, :4]).all()
    np.testing.assert_allclose([b.value[4] for b in bands], kernel.sum(axis=1)[4], rtol=1e-6)


def test_counts_inside_the_bulk_keep_their_bounds():
    A = rotated(OUTLIERS)
    x = np.linspace(0.45, 1.55, 12)
    exact = (OUTLIERS[:, None] <= x).sum(axis=0)
    for steps in (5, 15, 40):
        bands = [spectral_density(A, probes=3, steps=steps, deflate=2, seed=seed).cumulative(x) for seed in range(20)]
        errors = np.array([band.value - exact for band in bands])
        bars = np.array([band.standard_error for band in bands])
        assert (np.abs(errors) <= 4 * bars + 1e-6).all()
        assert (np.abs(errors) <= bars + 1e-6).mean() > 0.64
        assert (np.diff([band.value for band in bands], axis=1) >= -1e-9).all()


def test_single_outliers_have_error_bars_from_one_probe():
    """One eigenvalue's weight in a probe is chi-squared of one degree of freedom: it may nearly vanish."""
    A = rotated(OUTLIERS)
    estimates = [spectral_density(A, probes=1, steps=20, seed=seed).count_above(55.0) for seed in range(300)]
    assert min(e.standard_error for e in estimates) > 1.3
    assert abs(np.mean([e.value for e in estimates]) - 1) < 4 * np.sqrt(2 / 300)


def test_deflation_takes_the_variance_of_outliers():
    A = rotated(OUTLIERS)
    plain, deflated = (spectral_density(A, deflate=k, seed=0) for k in (0, 2))
    assert 10 * deflated.mean.standard_error < plain.mean.standard_error
    assert deflated.maximum == pytest.approx(60, rel=1e-12)
    assert plain.maximum == pytest.approx(60, rel=1e-12)
    values, vectors = np.linalg.eigh(A)
    given_pairs = spectral_density(A, deflate=(values[-2:], vectors[:, -2:]), seed=0)
    np.testing.assert_allclose(given_pairs.known, [60, 50])
    assert given_pairs.products == 2 + 640
    assert 640 + 2 < deflated.products < 640 + 20
    assert abs(given_pairs.mean.value - OUTLIERS.mean()) < 4 * given_pairs.mean.standard_error


def test_unresolved_outliers_stay_with_the_rest():
    density = spectral_density(rotated(BULK), steps=6, deflate=20, seed=0)
    assert len(density.known) == 0
    assert sum(density.weights[0]) == pytest.approx(300)


def test_single_precision_density():
    A = rotated(OUTLIERS)
    double = spectral_density(A, deflate=2, seed=0)
    single = spectral_density(A.astype(np.float32), deflate=2, seed=0)
    assert single.known.dtype == np.float64
    np.testing.assert_allclose(single.known, [60, 50], rtol=1e-5)
    for threshold in (0.7, 1.0, 10.0):
        want = double.count_above(threshold)
        assert abs(single.count_above(threshold).value - want.value) < 0.01 + 0.2 * want.standard_error
    assert single.mean.value == pytest.approx(double.mean.value, rel=1e-5)


def test_probes_depend_on_the_seed_alone():
    A = rotated(OUTLIERS)
    one = spectral_density(A, probes=5, steps=10, seed=3)
    columns = []
    two = spectral_density(counting(A, columns), probes=5, steps=10, seed=3, memory=2 * 10 * 302 * 8)
    assert columns == [2] * 20 + [1] * 10
    np.testing.assert_allclose(one.lanczos.diagonal, two.lanczos.diagonal, rtol=1e-12)
    np.testing.assert_array_equal(
        one.lanczos.diagonal, spectral_density(A, probes=5, steps=10, seed=3).lanczos.diagonal
    )
    assert one.mean != spectral_density(A, probes=5, steps=10, seed=4).mean


def test_progress_of_densities():
    reports = []
    spectral_density(
        rotated(OUTLIERS), probes=4, steps=10, deflate=1, memory=2 * 10 * 302 * 8, seed=0,
        progress=lambda done, total: reports.append((done, total)),
    )  # fmt: skip
    assert reports == [(i + 1, 30) for i in range(30)]


def test_interrupts_come_through_between_products():
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    columns = []
    with pytest.raises(KeyboardInterrupt):
        spectral_density(counting(rotated(BULK), columns), probes=4, steps=10, seed=0, progress=stop)
    assert columns == [4, 4, 4]


def test_shapes_of_answers():
    density = spectral_density(rotated(OUTLIERS), probes=2, steps=10, seed=0)
    assert isinstance(density.lanczos, Tridiagonals)
    for band in (density.cumulative(1.0), density.density(1.0)):
        assert band.value.shape == band.standard_error.shape == ()
    assert density.cumulative(np.ones((2, 3))).value.shape == (2, 3)
    grid = density.grid(50)
    assert len(grid) == 50
    assert grid[0] < 0.5
    assert grid[-1] > 60
    np.testing.assert_allclose(np.diff(np.log(grid)), np.log(grid[1] / grid[0]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probes": 0}, ValueError, "probes: expected an integer >= 1, got 0"),
        ({"steps": -1}, ValueError, "steps: expected an integer >= 1, got -1"),
        ({"deflate": -1}, ValueError, "deflate: expected an integer >= 0, got -1"),
        ({"deflate": (np.ones(1),)}, ValueError, "deflate: expected a pair"),
        ({"deflate": (np.ones(1), np.ones((3, 1)))}, ValueError, r"deflate\[1\]: expected shape \(4, 1\)"),
        ({"deflate": (np.ones(1), np.ones((4, 1)))}, ValueError, r"deflate\[1\]: expected orthonormal"),
        ({"deflate": (np.ones(1), np.eye(4, 1))}, ValueError, "deflate: expected eigenpairs"),
        ({"deflate": (np.ones(1), np.eye(4, 1, dtype="f4"))}, TypeError, r"deflate\[1\]: expected float64"),
        ({"dimension": 3}, ValueError, "dimension: expected at least the operator's size 4, got 3"),
        ({"seed": "a"}, TypeError, "seed"),
        ({"memory": 10}, MemoryError, "memory=10"),
        ({"progress": 1}, TypeError, "progress"),
    ],
)
def test_spectral_density_refuses(options, error, message):
    with pytest.raises(error, match=message):
        spectral_density(np.diag([4.0, 3.0, 2.0, 1.5]), **options)


def test_negative_eigenvalues_are_seen():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((30, 30))
    for dtype in ("float32", "float64"):
        with pytest.raises(ValueError, match="operator: expected a positive semi-definite matrix"):
            spectral_density((matrix + matrix.T).astype(dtype), seed=0)
        with pytest.raises(ValueError, match="positive semi-definite"):
            spectral_density(-np.eye(5, dtype=dtype), seed=0)


def test_answers_refuse():
    density = spectral_density(np.eye(3), seed=0)
    with pytest.raises(ValueError, match=r"x: expected numbers > 0, got 0\.0"):
        density.density([1.0, 0.0])
    with pytest.raises(ValueError, match="x: expected finite numbers, got nan"):
        density.cumulative([np.nan])
    with pytest.raises(ValueError, match="width: expected a number > 0"):
        density.density(1.0, width=0.0)
    with pytest.raises(ValueError, match="threshold: expected a finite number"):
        density.count_above(np.inf)
    with pytest.raises(ValueError, match="num: expected an integer >= 2"):
        density.grid(1)
