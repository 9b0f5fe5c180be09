"""The measured Fisher information matrix against the naive twin."""

import numpy as np
import pytest
from hypothesis import assume, given, settings

import fisherfield as ff
import reference
from fisherfield import spectrum
from tolerances import assert_close, tolerance_of

from cases import cases, make_case


def distinct(matrix):
    return np.sort(np.linalg.eigvalsh(matrix))[::-1]


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("widths", [(4, 5, 3, 2), (4, 5, 5, 5, 2)], ids=["plain", "residual"])
@pytest.mark.parametrize("name", sorted(reference.FUNCTIONS))
def test_twin_agrees_with_complex_steps(name, widths, biases):
    case = make_case(widths, (name, name), 3, biases=biases, seed=1, residual=len(widths) == 5)
    assert_close(case.twin.jacobian(case.X), case.twin.complex_step_jacobian(case.X))


@given(cases(max_width=5, max_samples=4))
@settings(max_examples=15)
def test_jacobian_against_complex_steps(case):
    assume(case.smooth_here)
    assert_close(
        ff.Fisher(case.net, case.X).jacobian(),
        case.twin.complex_step_jacobian(case.X),
        tolerance=tolerance_of(case),
    )


@given(cases())
def test_everything_follows_from_the_jacobian(case):
    assume(case.smooth_here)
    fim = ff.Fisher(case.net, case.X)
    J = case.twin.jacobian(case.X)
    F, tolerance = reference.fisher(J), tolerance_of(case)
    assert fim.shape == F.shape
    assert_close(fim.jacobian(), J, tolerance=tolerance)
    assert_close(fim.dual(), reference.dual(J), tolerance=tolerance)
    assert_close(fim.dense(), F, tolerance=tolerance)
    assert_close(fim.diagonal(), np.diag(F), tolerance=tolerance)
    assert_close(fim.trace(), np.trace(F), tolerance=tolerance)
    offset = 0
    for block in fim.layer_blocks():
        end = offset + len(block)
        assert_close(block, F[offset:end, offset:end], tolerance=tolerance, scale=np.abs(F).max())
        offset = end
    assert offset == len(F)


@given(cases(dtype="float32"))
def test_float32(case):
    assume(case.smooth_here)
    fim = ff.Fisher(case.net, case.X)
    J = case.twin.jacobian(case.X)
    F = reference.fisher(J)
    assert fim.dtype == np.float32
    for got, expected in [
        (fim.jacobian(), J),
        (fim.dual(), reference.dual(J)),
        (fim.dense(), F),
        (fim.diagonal(), np.diag(F)),
    ]:
        assert got.dtype == np.float32
        assert_close(got, expected)
    assert fim.trace() == pytest.approx(np.trace(F), rel=1e-5)


@given(cases())
def test_spectrum(case):
    """F and F* share their nonzero eigenvalues; the statistics run over all P eigenvalues of F."""
    assume(case.smooth_here)
    fim, tolerance = ff.Fisher(case.net, case.X), tolerance_of(case)
    all_values = distinct(reference.fisher(case.twin.jacobian(case.X)))
    padded = np.zeros_like(all_values)
    padded[: fim.rank_bound] = fim.eigenvalues()
    assert len(fim.eigenvalues()) == fim.rank_bound == min(fim.num_parameters, fim.dual().shape[0])
    assert (np.diff(fim.eigenvalues()) <= 0).all()
    assert_close(padded, all_values, tolerance=10 * tolerance)
    stats = ff.Fisher(case.net, case.X).statistics()
    assert (stats.num_parameters, stats.num_samples, stats.num_outputs) == (
        len(all_values),
        len(case.X),
        case.net.num_outputs,
    )
    assert stats.mean == pytest.approx(all_values.mean(), rel=10 * tolerance)
    assert stats.second_moment == pytest.approx(np.square(all_values).mean(), rel=10 * tolerance)
    assert stats.maximum == pytest.approx(all_values[0], rel=10 * tolerance)
    assert stats.top_mean == pytest.approx(all_values[: stats.num_outputs].mean(), rel=10 * tolerance)


def test_statistics_do_not_depend_on_what_was_asked_before():
    case = make_case((6, 7, 3), ("tanh",), 8)
    before, after = ff.Fisher(case.net, case.X), ff.Fisher(case.net, case.X)
    after.eigenvalues()
    first, second = before.statistics(), after.statistics()
    for field in ("mean", "second_moment", "maximum", "top_mean"):
        assert getattr(first, field) == pytest.approx(getattr(second, field), rel=1e-13)


@pytest.mark.parametrize("biases", [True, False])
def test_parameter_slices(biases):
    """Each slice holds one weight matrix row by row or one bias: found by moving parameters one at a time."""
    case = make_case((3, 4, 2), ("tanh",), 5, biases=biases)
    fim = ff.Fisher(case.net, case.X)
    names = ["W1", "b1", "W2", "b2"] if biases else ["W1", "W2"]
    assert list(fim.parameter_slices) == names
    J, step = fim.jacobian(), 1e-5
    base_biases = case.net.biases or ()
    for name, where in fim.parameter_slices.items():
        layer = int(name[1:]) - 1
        array = (case.net.weights if name[0] == "W" else base_biases)[layer]
        assert where.stop - where.start == array.size
        for entry in range(array.size):
            difference = 0
            for sign in (1, -1):
                moved = {"W": [w.copy() for w in case.net.weights], "b": [b.copy() for b in base_biases]}
                moved[name[0]][layer].flat[entry] += sign * step
                difference += sign * ff.Network(moved["W"], moved["b"] if biases else None, activation="tanh")(case.X)
            assert_close(J[:, :, where.start + entry], difference / (2 * step), tolerance=1e-7, scale=1.0)
    assert max(where.stop for where in fim.parameter_slices.values()) == fim.num_parameters


def test_dual_is_output_major():
    """Outputs that depend on disjoint halves of the network leave whole blocks of T x T zeros."""
    rng = np.random.default_rng(0)
    W1, W2 = np.zeros((4, 4)), np.zeros((2, 4))
    W1[:2, :2], W1[2:, 2:] = rng.standard_normal((2, 2, 2))
    W2[0, :2], W2[1, 2:] = rng.standard_normal((2, 2))
    X = rng.standard_normal((5, 4))
    X[:, 2:] *= 10
    dual = ff.Fisher(ff.Network([W1, W2], None, activation="linear"), X).dual()
    J = reference.Twin([W1, W2], None, [reference.FUNCTIONS["linear"]]).jacobian(X)
    for r in range(2):
        for t in range(5):
            assert dual[r * 5 + t, r * 5 + t] == pytest.approx(J[t, r] @ J[t, r] / 5, rel=1e-13)
    hidden_overlap = J[:, 0] @ J[:, 1].T
    assert_close(dual[:5, 5:], hidden_overlap / 5)
    assert not hidden_overlap.any()


def test_one_layer_is_linear_regression():
    X = np.random.default_rng(0).standard_normal((7, 3))
    fim = ff.Fisher(ff.Network([np.ones((2, 3))], None), X)
    assert_close(fim.dense(), np.kron(np.eye(2), X.T @ X / 7))
    assert_close(fim.dual(), np.kron(np.eye(2), X @ X.T / 7))
    with_bias = ff.Fisher(ff.Network([np.ones((2, 3))], [np.zeros(2)]), X)
    assert_close(with_bias.dual(), np.kron(np.eye(2), (X @ X.T + 1) / 7))


def test_a_linear_residual_network_in_closed_form():
    """What comes before and after a layer are products of matrices 1 + W."""
    case = make_case((5, 7, 7, 7, 2), ("linear", "linear"), 9, residual=True, biases=False)
    W1, W2, W3, W4 = case.net.weights
    one = np.eye(7)
    blocks = [one + W2, one + W3]
    before = [np.eye(5), W1, blocks[0] @ W1, blocks[1] @ blocks[0] @ W1]
    after = [W4 @ blocks[1] @ blocks[0], W4 @ blocks[1], W4, np.eye(2)]
    inputs = [case.X @ A.T for A in before]
    expected = sum(np.kron(B @ B.T, A @ A.T) for A, B in zip(inputs, after, strict=True)) / 9
    assert_close(ff.Fisher(case.net, case.X).dual(), expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "shape",
    [
        ((1, 1, 1), 1),
        ((300, 1, 2), 3),
        ((1, 300, 1), 5),
        ((2, 3, 40), 2),
        ((270, 260, 3), 30),
        ((3, 530, 2), 9),
        ((1, 1, 1, 1), 1),
        ((2, 260, 260, 40), 2),
        ((3, 530, 530, 2), 9),
    ],
)
def test_block_edges_of_the_kernels(shape, dtype):
    """Widths below one packet or just over one k-block (256 or 512 numbers), and many outputs; with skips too."""
    widths, samples = shape
    case = make_case(widths, ("tanh",), samples, dtype=dtype, residual=len(widths) == 4)
    J = case.twin.jacobian(case.X)
    fim = ff.Fisher(case.net, case.X)
    assert_close(fim.jacobian(), J)
    assert_close(fim.dual(), np.einsum("srp,tqp->rsqt", J, J).reshape(fim.dual().shape) / samples)
    assert_close(fim.diagonal(), np.einsum("trp,trp->p", J, J) / samples)


def test_batches_do_not_change_the_answer(monkeypatch):
    """Sums over samples run batch by batch, with or without kept factors."""
    case = make_case((5, 6, 2), ("erf",), 23)
    whole = ff.Fisher(case.net, case.X)
    expected = {name: getattr(whole, name)() for name in ("diagonal", "dense", "trace")}
    monkeypatch.setattr("fisherfield.network_metric.BATCH_BYTES", 2000)
    for keep in (False, True):
        fim = ff.Fisher(case.net, case.X)
        if keep:
            fim.dual()
        assert len(list(fim._factor_batches())) > 3
        for name, value in expected.items():
            assert_close(np.asarray(getattr(fim, name)()), value, tolerance=1e-14)
        blocks = fim.layer_blocks()
        assert_close(blocks[0], expected["dense"][: len(blocks[0]), : len(blocks[0])], tolerance=1e-14)


def test_kept_factors_give_the_same_bits(monkeypatch):
    monkeypatch.setattr("fisherfield.network_metric.BATCH_BYTES", 5000)
    case = make_case((10, 15, 3), ("tanh",), 40)
    fresh, kept = ff.Fisher(case.net, case.X), ff.Fisher(case.net, case.X)
    kept.dual()
    assert len(list(fresh._factor_batches())) > 3
    np.testing.assert_array_equal(fresh.diagonal(), kept.diagonal())
    np.testing.assert_array_equal(fresh.dense(), kept.dense())
    assert fresh.trace() == kept.trace()


def test_results_are_kept_and_read_only():
    case = make_case((5, 6, 2), ("tanh",), 7)
    fim = ff.Fisher(case.net, case.X)
    assert fim.dual() is fim.dual()
    for array in (fim.dual(), fim.eigenvalues()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    np.testing.assert_array_equal(fim.dual(), fim.dual().T)
    np.testing.assert_array_equal(fim.dense(), fim.dense().T)


def test_lanczos_and_lapack_agree(monkeypatch):
    case = make_case((20, 30, 3), ("tanh",), 60)
    expected = ff.Fisher(case.net, case.X).statistics()
    monkeypatch.setattr("fisherfield.spectrum._DENSE_BELOW", 10)
    lanczos = ff.Fisher(case.net, case.X).statistics()
    assert lanczos.maximum == pytest.approx(expected.maximum, rel=1e-12)
    assert lanczos.top_mean == pytest.approx(expected.top_mean, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("values", "k"),
    [
        (np.repeat(np.linspace(2, 1, 20), 10).tolist(), 10),  # C-fold, as in a network of one layer
        ([5.0, 4.0, 4.0, 4.0, *np.linspace(3.9, 0, 196)], 3),
        ([3.0] + [0.0] * 63, 2),  # rank below k
        ([0.0] * 64, 3),
    ],
)
def test_repeated_eigenvalues(monkeypatch, values, k, dtype):
    monkeypatch.setattr("fisherfield.spectrum._DENSE_BELOW", 10)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((len(values),) * 2))[0]
    matrix = ((basis * values) @ basis.T).astype(dtype)
    got = spectrum.largest_eigenvalues(matrix, k)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, values[:k], atol=20 * np.finfo(dtype).eps * max(values[0], 1))


def test_many_samples_of_a_small_network_need_no_dual(monkeypatch):
    """With P < R T the statistics come from F: the dual of 20000 samples would take 12 GB."""
    case = make_case((3, 4, 2), ("tanh",), 20000)
    monkeypatch.setattr("fisherfield.fisher.Fisher.dual", None)
    fim = ff.Fisher(case.net, case.X)
    values, stats = fim.eigenvalues(), fim.statistics()
    assert len(values) == fim.rank_bound == fim.num_parameters
    assert stats.mean == pytest.approx(values.mean(), rel=1e-11)
    assert stats.second_moment == pytest.approx(np.mean(values**2), rel=1e-11)
    assert stats.maximum == pytest.approx(values[0], rel=1e-12)


def test_progress_is_reported():
    case = make_case((5, 6, 2), ("tanh",), 60)
    calls = []
    ff.Fisher(case.net, case.X).dual(tile=7, progress=lambda done, total: calls.append((done, total)))
    ranges = -(-60 // 7)
    total = ranges * (ranges + 1) // 2
    assert calls == [(done, total) for done in range(1, total + 1)]
