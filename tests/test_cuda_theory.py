"""Mean-field theory of data on a GPU against that on the processor: on a GPU if there is one, else on the host."""

import numpy as np
import pytest
from scipy import special

import fisherfield as ff
from fisherfield import activations
from fisherfield.devices import pairs
from fisherfield.theory import blocks

ACTIVATIONS = activations.available()
ORDER = ("q", "q_st", "qhat", "qhat_st", "qtilde", "qtilde_st")
WITHIN = 1e-12  # beside the root of the product of the diagonal entries; the series leave out no more than this


def plain(activation, outputs=1, **variances):
    variances = {"weight_var": 1.7, "bias_var": 0.3} | variances
    return ff.MLP((13, 20, 30, 20, outputs), activation, **variances)


def residual(activation):
    return ff.ResidualMLP((13, 20, 20, 20, 1), activation, weight_var=0.9, bias_var=0.1)


def data(T=75, close=1e-2):
    """Samples with copies, close ones, opposite ones, multiples and a zero."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((T, 13))
    X[3], X[5], X[12], X[20] = X[70], -X[6], 0, 3 * X[21]
    X[10] = X[11] + close * rng.standard_normal(13)
    X[30] = close * rng.standard_normal(13) - X[31]
    return X


def assert_same(found, expected, within=WITHIN):
    """Of matrices beside the roots of the product of their diagonal entries."""
    root = np.sqrt(expected.diagonal())
    np.testing.assert_allclose(found.get() / root / root[:, None], expected / root / root[:, None], rtol=0, atol=within)


def assert_same_order(found, expected):
    for name in ORDER:
        f, e = (getattr(order, name) for order in (found, expected))
        assert isinstance(f, np.ndarray)
        np.testing.assert_allclose(f, e, rtol=0, atol=1e-13 * np.abs(e).max(), err_msg=name)


def both(cuda, arch, X, **options):
    return ff.mean_field(arch, cuda.asarray(X), **options), ff.mean_field(arch, X, **options)


# --- every activation, and every way in which pairs lie to each other ---------------------------------------


@pytest.mark.parametrize("network", [plain, residual])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_dual_and_the_order_parameters(cuda, name, network):
    found, expected = both(cuda, network(name), data())
    dual = found.dual(refined=True)
    assert isinstance(dual, cuda.ndarray)
    assert dual.dtype == np.float64
    assert_same(dual, expected.dual(refined=True))
    assert (dual == dual.T).all()
    assert_same_order(found.order_parameters, expected.order_parameters)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nearly_identical_inputs(cuda, name):
    """Rounding of the overlaps, eps beside 1 - rho = O(close^2), is eps / close in E phi'phi' across kinks."""
    close = 1e-5
    found, expected = both(cuda, plain(name), data(close=close))
    within = 10 * np.finfo(float).eps / close if activations.get(name).kinks else WITHIN
    assert_same(found.dual(), expected.dual(), within)


def test_copies_keep_the_diagonal_exactly(cuda):
    X = data(T=140)
    X[139] = X[3]  # in another tile of the overlaps
    for name in ("relu", "tanh", "elu"):
        dual = ff.mean_field(plain(name), cuda.asarray(X)).dual().get()
        for s, t in ((3, 70), (3, 139), (70, 139)):
            assert dual[s, s] == dual[t, t]
            assert abs(dual[s, t] - dual[s, s]) <= 4 * np.finfo(float).eps * dual[s, s]


def test_pairs_beyond_the_series_are_integrated(cuda, monkeypatch):
    integrated = []
    monkeypatch.setattr(
        pairs, "run", lambda task, items, executor: integrated.extend(items) or [task(i) for i in items]
    )
    X = np.concatenate([data(), data() + 1e-2])
    found, expected = both(cuda, plain("elu"), X)
    dual = found.dual()
    assert len(integrated) > 4
    assert_same(dual, expected.dual())


def test_a_tighter_tolerance(cuda):
    for name in ("tanh", "gelu", "softplus"):
        found, expected = both(cuda, plain(name), data(), tol=1e-14)
        assert_same(found.dual(), expected.dual(), within=5e-14)


# --- shapes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "silu"])
def test_tiles(cuda, name, monkeypatch):
    """Of any size; sums over pairs are added up in another order."""
    arch, X = plain(name), cuda.asarray(data())
    whole = ff.mean_field(arch, X)
    dual, order = whole.dual(), whole.order_parameters
    for side in (19, 40):
        monkeypatch.setattr(pairs, "_TILE_BYTES", 16 * arch.depth * side**2)
        cut = ff.mean_field(arch, X)
        assert (cut.dual() == dual).all()
        assert_same_order(cut.order_parameters, order)


@pytest.mark.parametrize("T", [1, 2, 3])
def test_few_samples(cuda, T):
    found, expected = both(cuda, plain("tanh"), data()[:T])
    assert_same(found.dual(), expected.dual())
    for name in ORDER:
        np.testing.assert_allclose(
            getattr(found.order_parameters, name), getattr(expected.order_parameters, name), rtol=1e-13
        )


@pytest.mark.parametrize("name", ["relu", "erf", "tanh"])
def test_zero_data(cuda, name):
    found, expected = both(cuda, plain(name, bias_var=0), np.zeros((4, 13)))
    np.testing.assert_array_equal(found.dual().get(), expected.dual())


def test_one_hidden_layer(cuda):
    found, expected = both(cuda, ff.MLP((13, 20, 1), "tanh", weight_var=2.0, bias_var=0.1), data())
    assert_same(found.dual(), expected.dual())
    assert_same_order(found.order_parameters, expected.order_parameters)


def test_layers_of_their_own(cuda):
    arch = ff.MLP((13, 20, 20, 20, 1), ("relu", "tanh", "cos"), weight_var=(1, 2, 3, 0.5), bias_var=(0, 0.1, 0.2, 0.3))
    found, expected = both(cuda, arch, data())
    assert_same(found.dual(refined=True), expected.dual(refined=True))
    assert_same_order(found.order_parameters, expected.order_parameters)


def test_a_custom_activation(cuda):
    phi = activations.custom(
        lambda u: u * special.expit(2 * u),
        lambda u: special.expit(2 * u) * (1 + 2 * u * special.expit(-2 * u)),
    )
    found, expected = both(cuda, plain(phi), data())
    assert_same(found.dual(), expected.dual())


def test_float32_data_are_computed_in_float64(cuda):
    X = data().astype(np.float32)
    found = ff.mean_field(plain("tanh"), cuda.asarray(X)).dual()
    assert_same(found, ff.mean_field(plain("tanh"), X.astype(np.float64)).dual())


def test_the_order_of_threads_does_not_matter(cuda):
    if not hasattr(cuda, "simulation"):
        pytest.skip("threads of a GPU have no order")
    X = cuda.asarray(data())
    ascending = [ff.mean_field(plain(name), X).dual() for name in ("relu", "elu")]
    cuda.simulation.settings.reversed_order = True
    try:
        descending = [ff.mean_field(plain(name), X).dual() for name in ("relu", "elu")]
    finally:
        cuda.simulation.settings.reversed_order = False
    assert all((a == d).all() for a, d in zip(ascending, descending, strict=True))


# --- what follows from the dual -----------------------------------------------------------------------------


@pytest.mark.parametrize("network", [plain, residual])
def test_statistics(cuda, network):
    found, expected = both(cuda, network("tanh"), data())
    for name in ("kappa1", "kappa2", "fisher_rao_norm", "is_centered"):
        assert isinstance(getattr(found, name), (float, bool))
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12)
    for metric in ("parameters", "centered", "ntk", "feature_metric"):
        for statistics in ("statistics", "refined_statistics"):
            f, e = (vars(getattr(getattr(mf, metric)(), statistics)) for mf in (found, expected))
            assert all(type(f[key]) is type(e[key]) for key in e)
            assert f == pytest.approx(e, rel=1e-10)
    assert_same(found.nngp(), expected.nngp())
    assert_same(found.layer(2).dual(), expected.layer(2).dual())


def test_eigenvalues(cuda):
    found, expected = both(cuda, plain("tanh", outputs=3), data())
    for name in ("eigenvalues", "outliers"):
        f, e = (getattr(mf, name)() for mf in (found, expected))
        assert isinstance(f, cuda.ndarray)
        np.testing.assert_allclose(f.get(), e, rtol=0, atol=1e-12 * e[0])


@pytest.mark.parametrize("kind", ["exact", "monte_carlo", "empirical"])
def test_a_likelihood_with_outputs_of_its_own(cuda, kind):
    """At given outputs the same numbers; outputs that are drawn have the same law, not the same values."""
    rng = np.random.default_rng(1)
    X, outputs = rng.standard_normal((30, 13)), rng.standard_normal((2, 30, 4))
    options = {"likelihood": "categorical", "kind": kind}
    drawn, on_host = both(cuda, plain("tanh", outputs=4), X, **options)
    assert isinstance(drawn.outputs, cuda.ndarray)
    assert drawn.outputs.shape == on_host.outputs.shape
    assert drawn.statistics.mean == pytest.approx(on_host.statistics.mean, rel=0.2)
    if kind == "empirical":
        return
    found = ff.mean_field(plain("tanh", outputs=4), cuda.asarray(X), outputs=cuda.asarray(outputs), **options)
    expected = ff.mean_field(plain("tanh", outputs=4), X, outputs=outputs, **options)
    assert vars(found.statistics) == pytest.approx(vars(expected.statistics), rel=1e-11)
    assert vars(found.betas) == pytest.approx(vars(expected.betas), rel=1e-12)
    np.testing.assert_allclose(found.outliers().get(), expected.outliers(), rtol=1e-11)


def test_draws_have_the_covariance(cuda):
    block = blocks.DenseBlock(ff.mean_field(plain("relu"), cuda.asarray(data())).nngp())
    root = block.root_product(np.eye(block.size))
    assert_same(root @ root.T, block.matrix.get())


def test_a_dual_that_is_only_multiplied(cuda):
    rng = np.random.default_rng(1)
    X, outputs = rng.standard_normal((150, 13)), rng.standard_normal((150, 4))  # 600 rows
    arch = plain("relu", outputs=4)
    found = ff.mean_field(arch, cuda.asarray(X), likelihood="categorical", outputs=cuda.asarray(outputs))
    expected = ff.mean_field(arch, X, likelihood="categorical", outputs=outputs)
    np.testing.assert_allclose(found.outliers().get(), expected.outliers(), rtol=1e-10)


def test_pairs_stay_on_the_device(cuda):
    if not hasattr(cuda, "simulation"):
        pytest.skip("copies of a GPU are not counted")
    X = cuda.asarray(data(T=150))
    for name in ("relu", "tanh"):
        cuda.simulation.transfers.clear()
        ff.mean_field(plain(name), X).dual()
        assert max(cuda.simulation.transfers.to_host) <= 8 * len(X)
        coefficients = 8 * 160 * 512  # at most, of one parity
        assert max(cuda.simulation.transfers.to_device) <= coefficients


def test_input_statistics(cuda):
    X = data()
    found, expected = ff.InputStatistics.from_data(cuda.asarray(X)), ff.InputStatistics.from_data(X)
    assert (found.T, type(found.qhat0)) == (expected.T, float)
    assert (found.qhat0, found.qhat_st0) == pytest.approx((expected.qhat0, expected.qhat_st0), rel=1e-13)


# --- errors -------------------------------------------------------------------------------------------------


def test_outputs_on_another_device(cuda):
    X, outputs, arch = data(), np.zeros((75, 3)), plain("tanh", outputs=3)
    with pytest.raises(TypeError, match="outputs: expected an array on cpu like inputs, got one on cuda:0; move it"):
        ff.mean_field(arch, X, likelihood="categorical", outputs=cuda.asarray(outputs))
    with pytest.raises(TypeError, match="outputs: expected an array on cpu like inputs, got one on cuda:0; move it"):
        ff.mean_field(arch, 75, likelihood="categorical", outputs=cuda.asarray(outputs))
    with pytest.raises(TypeError, match="output_seeds: expected an array on cuda:0 like inputs, got one on cpu; move"):
        ff.mean_field(arch, cuda.asarray(X), likelihood="categorical", output_seeds=np.zeros((2, 75, 3)))


def test_bad_data(cuda):
    X = cuda.asarray(data())
    with pytest.raises(ValueError, match=r"inputs: expected shape \(any, 13\), got \(75, 12\)"):
        ff.mean_field(plain("tanh"), X[:, :12])
    X[4, 2] = np.nan
    with pytest.raises(ValueError, match=r"inputs: expected finite numbers, got nan at index \(4, 2\)"):
        ff.mean_field(plain("tanh"), X)
    with pytest.raises(ValueError, match="the order parameter q is not a finite number at index 0 for some input"):
        ff.mean_field(plain("tanh"), cuda.asarray(1e200 * data())).dual()


def test_a_gpu_that_is_not_the_current_one(cuda):
    if cuda.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    with cuda.cuda.Device(1):
        X = cuda.asarray(data())
    with pytest.raises(ValueError, match="inputs: expected an array on CuPy's current GPU, cuda:0"):
        ff.mean_field(plain("tanh"), X)


def test_a_dual_that_cannot_fit(cuda):
    if not hasattr(cuda, "simulation"):
        pytest.skip("needs a small GPU")
    X, memory = cuda.asarray(data()), cuda.simulation.settings.memory
    mf = ff.mean_field(plain("tanh"), X)
    try:
        cuda.simulation.settings.memory = X.nbytes * 3
        with pytest.raises(MemoryError, match=r"the predicted dual of 75 samples needs .* on cuda:0"):
            mf.dual()
    finally:
        cuda.simulation.settings.memory = memory
