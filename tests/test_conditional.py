"""The Fisher information matrix given one input, against Jacobians of the naive twin and against closed forms."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield import conditional
from tolerances import RELATIVE, assert_close, tolerance_of

from cases import cases, make_case

ONE, TWO, FOUR = (ThreadPoolExecutor(n) for n in (1, 2, 4))
# Square, narrow and wide outputs; more than one k-block, and more than one tile.
SHAPES = [(6, 7, 5, 3), (4, 3), (5, 9, 1), (3, 4, 60), (40, 40, 40, 40), (20, 30, 700), (9, 300, 270, 290)]


def duals_of(J):
    """J J^T of every input, from Jacobians (N, C, P)."""
    return np.einsum("ncp,nkp->nck", J, J)


# --- the dual -------------------------------------------------------------------------------------------


@given(cases(max_outputs=7))
def test_dual_against_the_twin(case):
    assume(case.smooth_here)
    expected = duals_of(case.twin.jacobian(case.X))
    several = ff.conditional_fisher(case.net, case.X)
    assert_close(several.dual(), expected, tolerance=tolerance_of(case))
    for x, K in zip(case.X, several.dual(), strict=True):
        np.testing.assert_array_equal(ff.conditional_fisher(case.net, x).dual(), K)
        np.testing.assert_array_equal(K, K.T)
        assert_close(ff.Fisher(case.net, x[None]).dual(), K, tolerance=tolerance_of(case))


@given(cases(dtype="float32", max_outputs=7))
def test_float32(case):
    assume(case.smooth_here)
    found = ff.conditional_fisher(case.net, case.X)
    assert found.dtype == found.dual().dtype == found.eigenvalues().dtype == np.float32
    assert_close(found.dual(), duals_of(case.twin.jacobian(case.X)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("widths", SHAPES, ids=str)
def test_dual_against_fisher(widths, biases, dtype):
    for residual in {False, len(widths) > 3 and len(set(widths[1:-1])) == 1}:
        names = ("tanh",) * (len(widths) - 2 - residual)
        case = make_case(widths, names, 3, biases=biases, dtype=dtype, residual=residual)
        found = ff.conditional_fisher(case.net, case.X).dual()
        for x, K in zip(case.X, found, strict=True):
            fim = ff.Fisher(case.net, x[None])
            assert_close(K, fim.dual())
            if dtype == "float64":
                J = fim.jacobian()[0]
                assert_close(K, J @ J.T)


@pytest.mark.parametrize("biases", [True, False])
def test_recursion_of_square_networks(biases):
    """H_{l+1} = (|h^l|^2 + bias) / M + W_{l+1} D_l H_l D_l W_{l+1}^T, FORMULAS 3.1."""
    M = 30
    case = make_case((M,) * 6, ("tanh", "erf", "relu", "hard_tanh"), 1, biases=biases)
    found = ff.conditional_fisher(case.net, case.X[0])
    norms, slopes = found.squared_norms, found.slopes
    H = norms[0] / M * np.eye(M)
    for W, slope, norm in zip(case.net.weights[1:], slopes, norms[1:], strict=True):
        H = norm / M * np.eye(M) + (W * slope) @ H @ (W * slope).T
    assert_close(found.dual(), M * H)


def test_largest_eigenvalue_of_an_orthogonal_network_in_closed_form():
    """Where every activation passes or stops its input, the subspace that all layers pass has one eigenvalue."""
    M, L, gain = 120, 5, 1.05
    arch = ff.MLP((M,) * (L + 1), "hard_tanh", weight_var=gain**2, bias_var=0.0, init="orthogonal")
    x = 0.5 * np.random.default_rng(0).standard_normal(M)
    found = ff.conditional_fisher(arch.sample(seed=0), x)
    top = sum(norm * gain ** (2 * (L - 1 - l)) for l, norm in enumerate(found.squared_norms - 1))
    top += sum(gain ** (2 * (L - 1 - l)) for l in range(L))  # the biases
    stopped = int(sum((slope == 0).sum() for slope in found.slopes))
    assert 0 < stopped < M
    np.testing.assert_allclose(found.eigenvalues()[: M - stopped], top, rtol=1e-12)
    assert found.maximum == pytest.approx(top, rel=1e-12)
    assert found.critical_learning_rate() == pytest.approx(2 / top, rel=1e-12)


# --- spectrum, norms, slopes ----------------------------------------------------------------------------


@given(cases(max_outputs=7))
def test_spectrum_and_moments(case):
    values = ff.conditional_fisher(case.net, case.X).eigenvalues()
    found = ff.conditional_fisher(case.net, case.X)
    tolerance = 10 * RELATIVE[case.net.dtype]
    scale = max(values.max(), 1e-300)
    assert values.shape == (len(case.X), case.net.num_outputs)
    assert (np.diff(values, axis=1) <= 0).all()
    for K, of_one in zip(ff.conditional_fisher(case.net, case.X).dual(), values, strict=True):
        assert_close(np.sort(np.linalg.eigvalsh(K))[::-1], of_one, tolerance=tolerance, scale=scale)
    assert_close(found.mean, values.mean(axis=1), tolerance=tolerance, scale=scale)
    assert_close(found.variance, values.var(axis=1), tolerance=tolerance, scale=scale**2)
    np.testing.assert_array_equal(found.maximum, values[:, 0])
    np.testing.assert_array_equal(found.critical_learning_rate(), 2 / values[:, 0])
    assert {getattr(found, name).dtype for name in ("mean", "variance", "maximum")} == {np.dtype(np.float64)}


@given(cases())
def test_norms_and_slopes(case):
    found = ff.conditional_fisher(case.net, case.X)
    assert_close(found.squared_norms, squared_norms(case))
    assert [slope.shape for slope in found.slopes] == [(len(case.X), width) for width in case.net.widths[1:-1]]
    one = ff.conditional_fisher(case.net, case.X[-1])
    np.testing.assert_array_equal(one.squared_norms, found.squared_norms[-1])
    for slope, several in zip(one.slopes, found.slopes, strict=True):
        np.testing.assert_array_equal(slope, several[-1])


def squared_norms(case):
    A = [layer.A for layer in ff.Fisher(case.net, case.X).factors]
    return np.stack([np.square(a).sum(axis=1) + case.net.has_biases for a in A], axis=1)


def test_slopes_of_tanh():
    case = make_case((5, 6, 4, 2), ("tanh", "tanh"), 3)
    h = case.X
    for W, b, slope in zip(
        case.net.weights, case.net.biases, ff.conditional_fisher(case.net, case.X).slopes, strict=False
    ):
        h = np.tanh(h @ W.T + b)
        assert_close(slope, 1 - h**2)


def test_answers_for_one_input_are_numbers():
    case = make_case((5, 6, 4), ("tanh",), 1)
    one = ff.conditional_fisher(case.net, case.X[0])
    several = ff.conditional_fisher(case.net, case.X)
    for name in ("mean", "variance", "maximum"):
        assert type(getattr(one, name)) is float
        assert getattr(several, name).tolist() == [getattr(one, name)]
    assert several.critical_learning_rate().tolist() == [one.critical_learning_rate()]
    assert (one.dual().shape, one.eigenvalues().shape, one.squared_norms.shape) == ((4, 4), (4,), (2,))
    assert (several.dual().shape, several.eigenvalues().shape, several.squared_norms.shape) == (
        (1, 4, 4),
        (1, 4),
        (1, 2),
    )


def test_a_single_output_has_no_variance():
    case = make_case((5, 6, 1), ("tanh",), 4)
    found = ff.conditional_fisher(case.net, case.X)
    assert (found.variance == 0).all()
    np.testing.assert_array_equal(found.mean, found.dual()[:, 0, 0])


def test_variance_of_a_spectrum_without_any_is_not_lost_to_cancellation():
    """One layer: K = (|x|^2 + 1) 1."""
    found = ff.conditional_fisher(ff.Network([np.ones((2000, 3))], [np.zeros(2000)]), np.array([1e3, 0.1, 0.2]))
    assert found.mean == pytest.approx(1e6 + 1.05, rel=1e-15)
    assert found.variance < (1e-15 * found.mean) ** 2


def test_no_gradient_bounds_no_learning_rate():
    found = ff.conditional_fisher(ff.Network([np.ones((2, 3))], None), np.zeros(3))
    assert (found.maximum, found.critical_learning_rate()) == (0.0, np.inf)


@pytest.mark.parametrize(("factor", "settles"), [(0.99, True), (1.01, False)])
def test_the_learning_rate_is_the_boundary_of_online_training(factor, settles):
    """A tiny error along the first eigenvector shrinks below the critical rate in one step, and grows beyond it."""
    case = make_case((6, 8, 8, 4), ("tanh", "tanh"), 1)
    found = ff.conditional_fisher(case.net, case.X[0])
    fim = ff.Fisher(case.net, case.X)
    error = 1e-6 * np.linalg.eigh(found.dual())[1][:, -1]
    step = -factor * found.critical_learning_rate() * fim.jacobian()[0].T @ error
    weights, biases = [], []
    for l, (W, b) in enumerate(zip(case.net.weights, case.net.biases, strict=True), 1):
        weights.append(W + step[fim.parameter_slices[f"W{l}"]].reshape(W.shape))
        biases.append(b + step[fim.parameter_slices[f"b{l}"]])
    moved = ff.Network(weights, biases, activation="tanh")(case.X)[0] - case.net(case.X)[0]
    assert (np.linalg.norm(error + moved) < np.linalg.norm(error)) == settles


# --- threads, batches, memory ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("widths", [*SHAPES, (300, 530, 530, 530, 97)], ids=str)
def test_bits_do_not_depend_on_threads(widths, dtype):
    residual = len(widths) == 5
    case = make_case(widths, ("tanh",) * (len(widths) - 2 - residual), 4, dtype=dtype, residual=residual)
    expected = ff.conditional_fisher(case.net, case.X, executor=ONE)
    for pool in (TWO, FOUR, None):
        found = ff.conditional_fisher(case.net, case.X, executor=pool)
        np.testing.assert_array_equal(found.dual(), expected.dual())
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.variance, expected.variance)
        np.testing.assert_array_equal(found.squared_norms, expected.squared_norms)


@given(cases(max_width=40, max_samples=20, max_outputs=40), st.sampled_from(["float64", "float32"]))
@settings(max_examples=30)
def test_bits_do_not_depend_on_batches(case, dtype):
    case = make_case(case.net.widths, case.names, len(case.X), dtype=dtype, residual=case.net.residual)
    expected = ff.conditional_fisher(case.net, case.X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditional, "BATCH_BYTES", 3000)
        found = ff.conditional_fisher(case.net, case.X, executor=FOUR)
        np.testing.assert_array_equal(found.dual(), expected.dual())
        np.testing.assert_array_equal(found.squared_norms, expected.squared_norms)
        for slope, whole in zip(found.slopes, expected.slopes, strict=True):
            np.testing.assert_array_equal(slope, whole)


def test_groups_of_layers_change_rounding_alone(monkeypatch):
    case = make_case((9,) * 8, ("tanh",) * 6, 5)
    expected = ff.conditional_fisher(case.net, case.X).dual()
    for layers in (1, 2, 4):
        monkeypatch.setattr(conditional, "GROUP_BYTES", layers * 5 * 9 * 9 * 8)
        found = ff.conditional_fisher(case.net, case.X)
        assert found._group_size == layers
        assert_close(found.dual(), expected, tolerance=1e-14)


def test_eigenvalues_hold_no_duals_of_several_inputs(monkeypatch):
    monkeypatch.setattr(conditional, "BATCH_BYTES", 10**5)
    case = make_case((5, 20, 20), ("tanh",), 200)
    expected = ff.conditional_fisher(case.net, case.X)
    expected.dual()
    found = ff.conditional_fisher(case.net, case.X)
    assert max(part.nbytes for _, part in found._batches(None)) <= 10**5
    np.testing.assert_array_equal(found.eigenvalues(), expected.eigenvalues())
    assert "_dual" not in found.__dict__
    calls = []
    monkeypatch.setattr(found, "_batches", calls.append)
    np.testing.assert_array_equal(found.variance, expected.variance)  # found on the way to the eigenvalues
    assert calls == []


def test_results_are_kept_and_read_only():
    case = make_case((5, 6, 3), ("tanh",), 2)
    for x in (case.X, case.X[0]):
        found = ff.conditional_fisher(case.net, x)
        for array in (found.dual(), found.eigenvalues(), found.squared_norms):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
        assert np.shares_memory(found.dual(), found.dual())
        assert np.shares_memory(found.eigenvalues(), found.eigenvalues())


def test_progress_over_layers_and_batches(monkeypatch):
    case = make_case((5, 6, 4, 2), ("tanh", "tanh"), 7)
    for answer in ("dual", "eigenvalues"):
        for size, batches in ((2**20, 1), (1, 7)):
            monkeypatch.setattr(conditional, "BATCH_BYTES", size)
            calls = []
            found = ff.conditional_fisher(case.net, case.X)
            getattr(found, answer)(progress=lambda done, total, calls=calls: calls.append((done, total)))
            assert calls == [(done, 3 * batches) for done in range(1, 3 * batches + 1)]


def test_what_cannot_fit_is_refused(monkeypatch):
    monkeypatch.setattr("fisherfield._memory.available_bytes", lambda: 10**6)
    case = make_case((5, 40, 40), ("tanh",), 200)
    found = ff.conditional_fisher(case.net, case.X)
    with pytest.raises(MemoryError, match=r"the 40 x 40 dual matrix of each of 200 inputs needs .*; eigenvalues\(\)"):
        found.dual()
    with pytest.raises(MemoryError, match="the 400 x 400 dual matrix of one input needs"):
        ff.conditional_fisher(make_case((5, 400), (), 1).net, np.ones(5)).dual()
    monkeypatch.setattr(conditional, "BATCH_BYTES", 10**5)
    assert found.eigenvalues().shape == (200, 40)


# --- bad input ------------------------------------------------------------------------------------------

NET = make_case((3, 4, 2), ("tanh",), 1).net


@pytest.mark.parametrize(
    ("error", "message", "x"),
    [
        (ValueError, r"x: expected shape \(3\), got \(4,\)", np.ones(4)),
        (ValueError, r"x: expected shape \(any, 3\), got \(5, 4\)", np.ones((5, 4))),
        (ValueError, r"x: expected .* dimensions, got shape \(1, 5, 3\)", np.ones((1, 5, 3))),
        (ValueError, r"x: expected .* dimensions, got shape \(\)", 1.0),
        (ValueError, "x: expected at least one entry", np.ones((0, 3))),
        (ValueError, "x: expected finite numbers, got nan at index", np.array([1, np.nan, 2])),
        (ValueError, "x: expected finite numbers, got inf at index", np.array([[1, np.inf, 2]])),
        (ValueError, "x: .* rows of different lengths", [[1.0, 2.0, 3.0], [4.0]]),
        (ValueError, "x: .* masked", np.ma.masked_equal(np.arange(3.0), 1)),
        (TypeError, r"x: expected float64 like weights\[0\], got float32", np.ones(3, "float32")),
        (TypeError, r"x: expected float64 like weights\[0\], got float32", np.ones((2, 3), "float32")),
        (TypeError, "x: expected a float32 or float64 array, got dtype int64", np.ones(3, "int64")),
        (TypeError, "x: expected a float32 or float64 array, got dtype object", None),
    ],
)
def test_bad_inputs(error, message, x):
    with pytest.raises(error, match=message):
        ff.conditional_fisher(NET, x)


def test_bad_networks_executors_and_progress():
    with pytest.raises(TypeError, match=r"net: expected a fisherfield.Network .*, got ndarray"):
        ff.conditional_fisher(np.ones(3), np.ones(3))
    with pytest.raises(TypeError, match="executor: expected"):
        ff.conditional_fisher(NET, np.ones(3), executor=4)
    for call in ("dual", "eigenvalues"):
        with pytest.raises(TypeError, match="progress: expected"):
            getattr(ff.conditional_fisher(NET, np.ones(3)), call)(progress=3)


@pytest.mark.parametrize(
    ("entry", "x", "answer", "message"),
    [
        (1e200, 1.0, "dual", r"net\(X\): expected finite outputs"),
        (1e90, 1e90, "dual", r"dual\(\): expected finite numbers, got inf"),
        (1e100, 1.0, "variance", "variance: expected finite numbers, got inf"),
        (1e-9, 1e160, "squared_norms", "squared_norms: expected finite numbers, got inf"),
    ],
)
def test_overflow_is_refused(entry, x, answer, message):
    net = ff.Network([np.full((2, 2), entry), np.full((2, 2), entry)], None, activation="linear")
    found = ff.conditional_fisher(net, np.full(2, x))
    with pytest.raises(ValueError, match=message):
        found.dual() if answer == "dual" else getattr(found, answer)
