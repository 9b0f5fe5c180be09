"""Critical learning rates, the spread of the outliers, the Fisher-Rao norm, and the map of training."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield import cli, data, plot
from fisherfield.experiments import training_map
from fisherfield.theory import OrderParameters, goe_maximum, outlier_spread
from fisherfield.theory.outliers import _slope_products

# --- the spread of the outliers -------------------------------------------------------------------------


def order(qhat, qhat_st, q, q_st, qtilde, qtilde_st):
    return OrderParameters(*(np.array(x, float) for x in (q, q_st, qhat, qhat_st, qtilde, qtilde_st)))


@pytest.mark.parametrize("T", [1, 2, 7, 1000])
def test_spread_of_a_linear_network(T):
    """One hidden layer: the entries are sums over its units of products of two read-out weights."""
    arch = ff.MLP((30, 50, 4), "linear", weight_var=1.7, bias_var=0.2)
    mean_overlap = 30 * (0.9 / T + (T - 1) / T * 0.4) + 1
    found = outlier_spread(arch, order([0.9, 1], [0.4, 0.5], [1, 1], [0.5, 0.5], [1.7, 1], [1.7, 1]), T)
    assert found == pytest.approx(mean_overlap * 1.7 / math.sqrt(50), rel=1e-10)


def test_spread_given_one_input():
    """A single input of a ReLU network: half of the units are on."""
    arch = ff.MLP((30, 50, 4), "relu", weight_var=2.0, bias_var=None)
    found = outlier_spread(arch, order([1, 1], [0, 0], [2, 1], [0, 0], [1, 1], [0, 1]), 1)
    assert found == pytest.approx(30 * 2.0 * math.sqrt(0.5 / 50), rel=1e-8)


@pytest.mark.parametrize("name", ["tanh", "erf", "sigmoid", "gelu"])
def test_products_of_slopes_by_four_dimensional_quadrature(name):
    phi, q, q_st = ff.activations.get(name), 1.7, 0.6
    x, w = ff.theory.gauss_hermite(40)
    z = np.sqrt(q - q_st) * x

    def mean(sizes):
        total = 0.0
        for common, weight in zip(np.sqrt(q_st) * x, w, strict=True):
            slope = phi.evaluate(common + z)[1]
            total += weight * math.prod(float(w @ slope**n) for n in sizes)
        return total

    for sizes, found in _slope_products(phi, q, q_st).items():
        assert found == pytest.approx(mean(sizes), rel=2e-4)


@given(q=st.floats(0.1, 10), share=st.floats(0, 0.9998))
@settings(max_examples=30, deadline=None)
def test_products_of_relu_slopes_are_probabilities(q, share):
    """Pairs have Sheppard's formula; the same sample four times is on half of the time."""
    found = _slope_products(ff.activations.get("relu"), q, share * q)
    pair = 0.25 + math.asin(share) / (2 * math.pi)
    assert found[4,] == pytest.approx(0.5, abs=1e-12)
    assert found[2, 2] == pytest.approx(pair, abs=1e-10)
    assert found[1, 3] == pytest.approx(pair, abs=1e-10)


def test_products_of_slopes_of_nearly_the_same_sample():
    phi = ff.activations.get("tanh")
    just, beyond = (_slope_products(phi, 2.0, 2.0 * (1 - share)) for share in (1.1e-4, 0.9e-4))
    for sizes, found in just.items():
        assert found == pytest.approx(beyond[sizes], rel=1e-3)
    assert beyond[1, 1, 2] == beyond[4,]


@pytest.mark.parametrize("size", [1, 2, 5, 60])
def test_largest_eigenvalue_of_the_orthogonal_ensemble(size):
    draws = 2000
    rng = np.random.default_rng(17)
    A = rng.standard_normal((draws, size, size))
    top = np.linalg.eigvalsh((A + A.transpose(0, 2, 1)) / math.sqrt(2))[:, -1]
    error = top.std() * math.sqrt(1 / draws + 1 / 4000) if size > 1 else 1.0
    assert abs(goe_maximum(size) - (top.mean() if size > 1 else 0.0)) < (4 * error if size > 1 else 1e-15)
    if size == 2:
        assert abs(goe_maximum(2) - math.sqrt(math.pi / 2)) < 4 * 0.94 / math.sqrt(20000)


@pytest.mark.parametrize(
    ("activation", "weight_var", "bias_var", "depth", "T"),
    [("tanh", 3.0, 0.64, 3, 100), ("tanh", 3.0, 0.64, 4, 20), ("relu", 2.0, 0.1, 4, 100), ("erf", 3.0, 0.64, 3, 3)],
)
def test_spread_of_the_gram_matrix_of_mean_gradients(activation, weight_var, bias_var, depth, T):
    """Root mean square of its entries off the diagonal, over 24 networks; 4 standard errors and O(1 / M)."""
    M, C = 200, 10
    arch = ff.MLP((M,) * depth + (C,), activation, weight_var=weight_var, bias_var=bias_var)
    squares, diagonals = [], []
    for seed in range(24):
        fim = ff.Fisher(arch.sample(seed), np.random.default_rng(seed).standard_normal((T, M)))
        gradients = fim.mean_gradients()
        gram = gradients @ gradients.T
        squares.append(np.mean(gram[np.triu_indices(C, 1)] ** 2))
        diagonals.append(np.var(np.diag(gram), ddof=1))
    predicted = outlier_spread(arch, ff.mean_field(arch, T).order_parameters, T)
    error = np.std(squares, ddof=1) / math.sqrt(24)
    assert abs(np.mean(squares) - predicted**2) < 4 * error + 0.1 * predicted**2
    error = np.std(diagonals, ddof=1) / math.sqrt(24)
    assert abs(np.mean(diagonals) - 2 * predicted**2) < 4 * error + 0.2 * predicted**2


@pytest.mark.parametrize(("activation", "weight_var", "bias_var"), [("tanh", 3.0, 0.64), ("relu", 2.0, 0.1)])
def test_largest_outlier_is_what_networks_have(activation, weight_var, bias_var):
    """It makes up for at least 70 % of what the leading order, 15 to 25 % below, is short of."""
    arch = ff.MLP((150, 150, 150, 150, 10), activation, weight_var=weight_var, bias_var=bias_var)
    mf = ff.mean_field(arch, 100)
    tops = []
    for seed in range(20):
        X = np.random.default_rng(seed).standard_normal((100, 150))
        tops.append(ff.Fisher(arch.sample(seed), X).top_eigenpairs(1, 1e-4).values[0])
    missing = np.mean(tops) - mf.statistics.maximum
    assert missing > 0.13 * np.mean(tops)
    assert abs(np.mean(tops) - mf.largest_outlier) < 0.3 * missing


def test_many_outputs_take_the_limiting_law():
    drawn, limit = goe_maximum(100), goe_maximum(101)
    assert 0 < limit - drawn < 0.2  # the law's mean grows by 0.1; draws and the finite size leave the rest
    assert goe_maximum(10**6) == pytest.approx(2000, rel=1e-3)
    with pytest.raises(ValueError, match="size: expected an integer >= 1, got 0"):
        goe_maximum(0)
    with pytest.raises(ValueError, match="num_samples: expected an integer >= 1, got 0"):
        outlier_spread(ARCH, ff.mean_field(ARCH, 5).order_parameters, 0)
    with pytest.raises(ValueError, match="arch: expected Gaussian weights and no skips, got residual network"):
        outlier_spread(ff.ResidualMLP((3, 4, 4, 2)), ff.mean_field(ff.ResidualMLP((3, 4, 4, 2)), 5).order_parameters, 5)


def test_where_there_is_no_estimate():
    widths = (20, 30, 30, 3)
    mf = ff.mean_field(ff.MLP(widths, "tanh", weight_var=2.0, bias_var=None), 10)
    assert mf.largest_outlier == mf.refined_statistics.maximum  # centred
    one = ff.mean_field(ff.MLP((20, 30, 1), "relu"), 10)
    assert one.largest_outlier == one.refined_statistics.maximum
    for arch, message in [
        (ff.MLP((20, 30, 30, 3), init="orthogonal"), "expected Gaussian weights and no skips, got orthogonal"),
        (ff.ResidualMLP((20, 30, 30, 3)), "expected Gaussian weights and no skips, got residual"),
    ]:
        with pytest.raises(ValueError, match=message):
            ff.mean_field(arch, 10).largest_outlier  # noqa: B018
    with pytest.raises(ValueError, match="likelihood: expected the unit Gaussian one"):
        ff.mean_field(ff.MLP(widths), 10, likelihood="categorical").largest_outlier  # noqa: B018


# --- critical learning rates ----------------------------------------------------------------------------

ARCH = ff.MLP((40, 60, 60, 4), "tanh", weight_var=3.0, bias_var=0.64)
X = np.random.default_rng(5).standard_normal((30, 40))


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical", "bernoulli"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_measured_rate(likelihood, momentum):
    net = ARCH.sample(seed=2)
    found = ff.critical_learning_rate(net, X, momentum, likelihood, tol=1e-8)
    top = ff.Fisher(net, X, likelihood=likelihood).eigenvalues()[0]
    assert found.measured == pytest.approx(2 * (1 + momentum) / top, rel=1e-7)
    assert found.uncertainty <= 1e-8
    assert found.best == found.measured
    outputs = None if likelihood == "gaussian" else net(X)
    mf = ff.mean_field(ARCH, X, likelihood=likelihood, outputs=outputs)
    assert found.theory == mf.critical_learning_rate(momentum)
    assert found.refined == pytest.approx(2 * (1 + momentum) / mf.refined_statistics.maximum)
    if likelihood == "gaussian":
        assert found.corrected == pytest.approx(2 * (1 + momentum) / mf.largest_outlier)
        online = ff.conditional_spectrum(ARCH, float(mf.order_parameters.qhat[0]))
        assert found.online == online.critical_learning_rate(momentum)
    else:
        assert found.corrected is found.online is None


def test_an_architecture_gives_theory_alone():
    found = ff.critical_learning_rate(ARCH, 100, batch_size=10)
    assert found.measured is found.uncertainty is None
    assert found.corrected < found.refined < found.theory
    assert found.best == found.corrected
    assert found.batch == pytest.approx(2 / ff.mean_field(ARCH, 10).largest_outlier)
    assert found.batch < found.corrected
    statistics = ff.InputStatistics(T=100, qhat0=1.3, qhat_st0=0.2)
    assert (
        ff.critical_learning_rate(ARCH, statistics).theory == ff.mean_field(ARCH, statistics).critical_learning_rate()
    )


def test_a_network_of_ones_own_gives_the_measurement_alone():
    net = ARCH.sample(seed=2)
    own = ff.Network(net.weights, net.biases, activation="tanh")
    found = ff.critical_learning_rate(own, X, 0.5, batch_size=3)
    assert found.theory is found.refined is found.corrected is found.online is found.batch is None
    assert found.measured == pytest.approx(ff.critical_learning_rate(net, X, 0.5).measured, rel=1e-7)


def test_parameters_of_ones_own_have_no_ensemble():
    net = ARCH.sample(seed=2)
    assert ff.critical_learning_rate(net.with_parameters(3 * net.parameters()), X).theory is None


def test_many_inputs_are_described_by_their_mean_overlap():
    """For inputs of equal norm and overlap the pairwise theory and that of the means agree."""
    rng = np.random.default_rng(0)
    many = rng.standard_normal((2001, 40)) + 0.5
    found = ff.critical_learning_rate(ARCH, many)
    gram = many @ many.T / 40
    off = (gram.sum() - np.trace(gram)) / (2001 * 2000)
    wanted = ff.mean_field(ARCH, ff.InputStatistics(2001, np.trace(gram) / 2001, off))
    assert found.theory == pytest.approx(wanted.critical_learning_rate(), rel=1e-10)
    assert ff.critical_learning_rate(ARCH, many[:2000]).theory == pytest.approx(found.theory, rel=0.1)


def test_gaussian_inputs_are_drawn_from_the_seed():
    net = ARCH.sample(seed=0, dtype="float32")
    rates = [ff.critical_learning_rate(net, 50, seed=seed).measured for seed in (1, 1, 2)]
    assert rates[0] == rates[1] != rates[2]


def test_without_a_gradient_the_rate_is_infinite():
    net = ff.Network([np.full((2, 3), -1.0), np.zeros((1, 2))], activation="relu")
    assert ff.critical_learning_rate(net, np.ones((4, 3))).measured == math.inf


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (3, (10,), TypeError, "model: expected an MLP or a Network, got int"),
        (ARCH, (0,), ValueError, "data: expected an integer >= 1, got 0"),
        (ARCH, (X[:, :3],), ValueError, r"data: expected shape \(any, 40\), got \(30, 3\)"),
        (ARCH, (10, 1.0), ValueError, "momentum: expected 0 <= momentum < 1, got 1"),
        (ARCH, (10, 0.0, "normal"), ValueError, "likelihood: expected one of"),
        (ff.MLP((3, 2)), (10,), ValueError, "model: expected at least one hidden layer"),
        (ARCH.sample(0), (ff.InputStatistics(10),), TypeError, "data: expected inputs .* got InputStatistics"),
        (ARCH.sample(0), (X.astype("f4"),), TypeError, "expected float64 like"),
    ],
)
def test_bad_input_of_rates(model, arguments, error, message):
    with pytest.raises(error, match=message):
        ff.critical_learning_rate(model, *arguments)


def test_bad_batch_size():
    with pytest.raises(ValueError, match="batch_size: expected an integer >= 1, got 0"):
        ff.critical_learning_rate(ARCH, 10, batch_size=0)
    with pytest.raises(ValueError, match="batch_size: expected at most 10, the number of samples, got 11"):
        ff.critical_learning_rate(ARCH, 10, batch_size=11)


def test_losses_name_their_likelihoods():
    net = ARCH.sample(0)
    for loss, law in (("squared", "gaussian"), ("cross_entropy", "categorical")):
        assert ff.critical_learning_rate(net, X, 0.0, loss) == ff.critical_learning_rate(net, X, 0.0, law)
        assert ff.likelihoods.get(loss) == ff.likelihoods.get(law)


# --- Fisher-Rao norm ------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical", "poisson"])
@pytest.mark.parametrize("biases", [True, False])
def test_fisher_rao_norm_by_the_dense_matrix(likelihood, biases):
    arch = ff.MLP((5, 8, 7, 3), "tanh", weight_var=1.0, bias_var=0.1 if biases else None)
    net, inputs = arch.sample(seed=0), np.random.default_rng(0).standard_normal((6, 5))
    fim = ff.Fisher(net, inputs, likelihood=likelihood)
    theta = net.parameters()
    for name, part in fim.parameter_slices.items():
        theta[part] *= name.startswith("W")
    assert fim.fisher_rao_norm() == pytest.approx(theta @ fim.dense() @ theta, rel=1e-12)
    block = fim.layer(2)
    weights = np.concatenate([net.weights[1].ravel(), np.zeros(7 * biases)])
    assert block.fisher_rao_norm() == pytest.approx(weights @ block.dense() @ weights, rel=1e-12)


@pytest.mark.parametrize(
    ("activation", "weight_var", "bias_var", "exact", "published"),
    [("linear", 1.0, None, 9.0, 3.0), ("relu", 2.0, None, 18.0, 6.0), ("tanh", 3.0, 0.64, 3.950, 5.733)],
)
def test_fisher_rao_norm_of_wide_networks(activation, weight_var, bias_var, exact, published):
    """Per output, over 10 networks of 30 outputs: within 4 standard errors of the wide limit, far from Theorem 5."""
    arch = ff.MLP((300, 300, 300, 30), activation, weight_var=weight_var, bias_var=bias_var)
    found = [
        ff.Fisher(arch.sample(seed), np.random.default_rng(seed).standard_normal((50, 300))).fisher_rao_norm() / 30
        for seed in range(10)
    ]
    mean, error = np.mean(found), np.std(found, ddof=1) / math.sqrt(10)
    mf = ff.mean_field(arch, 50)
    assert mf.fisher_rao_norm / 30 == pytest.approx(exact, rel=1e-3)
    assert mf.fisher_rao_bound / 30 == pytest.approx(published, rel=1e-3)
    assert abs(mean - exact) < 4 * error
    assert abs(mean - published) > 10 * error


# --- the map of training --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_map():
    return training_map((100, 200), 12, inputs=100, steps=100)


def test_losses_separate_along_the_critical_rate(small_map):
    """Figure 2 of Karakida, Akaho, Amari (2019), small: below the line all converge, above it (nearly) all explode."""
    above, below = small_map.fractions("theory")
    assert below == 1.0
    assert above >= 0.9
    assert small_map.fractions("measured")[1] == 1.0
    ratio = small_map.boundary / small_map.theory
    assert ((ratio > 0.7) & (ratio < 1.5)).all()
    assert small_map.boundary[0] > 1.2 * small_map.boundary[1]  # it falls with the width
    step = small_map.rates[1] / small_map.rates[0]
    assert small_map.rates[0] == pytest.approx(small_map.theory.min() / 4)
    np.testing.assert_allclose(small_map.rates[1:] / small_map.rates[:-1], step)


def test_cells_are_runs_of_train(small_map):
    i, j = 1, 3
    arch = ff.MLP((200, 200, 200, 200, 10), "tanh", weight_var=3.0, bias_var=0.64)
    inputs = np.random.default_rng(0).standard_normal((100, 200))
    run = ff.train(
        arch.sample(0), inputs, targets=arch.sample(1)(inputs), learning_rate=float(small_map.rates[j]), momentum=0.9
    )
    assert small_map.initial_loss[i] == pytest.approx(run.losses[0], rel=1e-14)
    assert small_map.final_loss[i, j] == run.final_loss
    rates = ff.critical_learning_rate(arch.sample(0), inputs, 0.9)
    assert (small_map.theory[i], small_map.corrected[i]) == (rates.theory, rates.corrected)
    assert small_map.measured[i] == pytest.approx(rates.measured, rel=1e-6)


def test_no_cell_depends_on_threads():
    found = []
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as pool:
            seen = []
            found.append(
                training_map(
                    (20, 10), [0.3, 0.01], depth=3, num_outputs=2, inputs=20, steps=15, executor=pool,
                    progress=lambda done, total, seen=seen: seen.append((done, total)),
                )
            )  # fmt: skip
            assert sorted(seen) == [(1, 4), (2, 4), (3, 4), (4, 4)]
    np.testing.assert_array_equal(found[0].final_loss, found[1].final_loss)
    assert found[0].widths.tolist() == [10, 20]
    assert found[0].rates.tolist() == [0.01, 0.3]


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_map_of_digits(loss):
    inputs, classes = data.standardize(data.digits()[0])[:300], data.labels("digits")[:300]
    found = training_map(
        (30, 60), 6, depth=3, inputs=inputs, targets=classes, loss=loss, steps=40, batch_size=100, dtype="float32"
    )
    assert found.num_samples == 300
    assert found.fractions("measured")[1] == 1.0
    assert np.isnan(found.corrected).all() == (loss == "cross_entropy")
    if loss == "squared":
        assert found.fractions("theory")[0] == 1.0
        assert found.initial_loss[0] > found.final_loss[0].min()


def test_initial_loss_is_that_of_all_samples():
    options = {"widths": (12, 20), "rates": 4, "inputs": 20, "steps": 3, "depth": 3, "num_outputs": 3}
    whole, part = training_map(**options), training_map(**options, batch_size=3)
    np.testing.assert_array_equal(whole.initial_loss, part.initial_loss)


def test_fractions_and_boundary_by_hand():
    import dataclasses

    small = training_map((10, 20, 30), [0.1, 0.2, 0.4, 0.8], inputs=5, steps=1, num_outputs=1)
    found = dataclasses.replace(
        small,
        initial_loss=np.ones(3),
        final_loss=np.array([[0.5, 0.5, np.inf, np.inf], [2.0, 0.5, 3.0, np.inf], [0.1, 0.1, 0.1, 0.1]]),
        theory=np.array([0.3, 0.3, 0.3]),
        corrected=np.array([np.nan, np.nan, np.nan]),
    )
    assert found.fractions("theory") == (4 / 6, 5 / 6)
    assert all(map(math.isnan, found.fractions("corrected")))
    np.testing.assert_allclose(found.boundary, [math.sqrt(0.08), 0.0, np.inf])
    with pytest.raises(ValueError, match="line: expected one of"):
        found.fractions("nothing")


GAUSSIAN = {"widths": (10,), "rates": 3, "inputs": 5}
DATA = {"inputs": np.ones((4, 3)), "targets": np.zeros(4, int), "widths": (5,), "num_outputs": 2}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"widths": ()}, ValueError, "widths: expected at least one width, got none"),
        ({"widths": (0,)}, ValueError, "widths: expected an integer >= 1, got 0"),
        ({"rates": 1}, ValueError, "rates: expected an integer >= 2, got 1"),
        ({"rates": 10**9}, ValueError, "rates: expected at most 10000 rates, got 1000000000"),
        ({"rates": []}, ValueError, "rates: expected at least one rate, got none"),
        ({"rates": [0.1, -1.0]}, ValueError, "rates: expected a number > 0, got -1.0"),
        ({"depth": 1}, ValueError, "depth: expected an integer >= 2, got 1"),
        ({"targets": np.zeros(5, int)}, ValueError, "targets: expected together with data"),
        ({"loss": "cross_entropy"}, ValueError, "loss: expected 'squared' with Gaussian inputs"),
        ({**DATA, "targets": None}, ValueError, "targets: expected together with data"),
        ({**DATA, "targets": np.full(4, 2)}, ValueError, "targets: expected classes from 0 to 1, got 2 to 2"),
        ({**DATA, "batch_size": 5}, ValueError, "batch_size: expected at most 4"),
        ({"dtype": "int8"}, TypeError, "dtype: expected"),
        ({"seed": -1}, ValueError, "seed: expected an integer >= 0, got -1"),
        ({"progress": 3}, TypeError, "progress: expected"),
    ],
)
def test_bad_input_of_the_map(options, error, message):
    with pytest.raises(error, match=message):
        training_map(**{**GAUSSIAN, **options})


# --- command line and picture ---------------------------------------------------------------------------


@pytest.fixture
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    plt.close("all")


def run(capsys, *arguments):
    code = cli.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


SMALL = (
    "train-map",
    "--widths",
    "20,30",
    "--rates",
    "5",
    "--outputs",
    "3",
    "--depth",
    "3",
    "--steps",
    "20",
    "-T",
    "25",
)


@pytest.mark.usefixtures("in_an_empty_folder")
def test_train_map_prints_what_the_library_finds(capsys, tmp_path):
    code, out, err = run(capsys, *SMALL)
    assert (code, err) == (0, "")
    found = training_map((20, 30), 5, num_outputs=3, depth=3, steps=20, inputs=25)
    rows = [line.split() for line in out.splitlines() if line.startswith(("20 ", "30 "))]
    for row, theory, corrected, measured, best in zip(
        rows, found.theory, found.corrected, found.measured, found.final_loss.min(axis=1), strict=True
    ):
        assert row[1:4] == [f"{x:.4g}" for x in (theory, corrected, measured)]
        assert row[-1] == f"{best:.4g}"
    assert (tmp_path / "fisherfield-train-map.png").stat().st_size > 5000
    record = json.loads(run(capsys, *SMALL, "--no-picture", "--json")[1])
    assert record["rates"] == found.rates.tolist()
    assert record["converged"] == found.converged.tolist()
    assert record["fractions"]["theory"] == list(found.fractions())
    assert record["picture"] is None


@pytest.mark.usefixtures("in_an_empty_folder")
def test_train_map_of_digits(capsys):
    options = ("--data", "digits", "--loss", "cross_entropy", "--outputs", "10", "--batch-size", "10", "-T", "40")
    code, out, err = run(capsys, *SMALL, *options, "--rates", "0.01,0.5", "--no-picture", "--dtype", "float32")
    assert (code, err) == (0, "")
    assert "40 of digits (1797 images of 8 x 8 pixels)" in out
    assert "20 steps of 10 samples, momentum 0.9, 2 rates from 0.01 to 0.5, cross_entropy loss" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "iris"), "data: expected 'digits' or 'fashion-mnist', which have classes, got 'iris'"),
        (("--data-dir", "x"), "--data-dir: expected together with --data fashion-mnist"),
        (("--steps", "0"), "--steps: expected an integer >= 1, got 0"),
        (("--rates", "1"), "--rates: expected an integer >= 2, got 1"),
        (("--output", "map.txt"), "--output: expected a file ending in"),
    ],
)
@pytest.mark.usefixtures("in_an_empty_folder")
def test_train_map_refuses(capsys, options, message):
    code, _, err = run(capsys, *SMALL, *options)
    assert code == 2
    assert message in err


def test_learning_rate_command_has_the_corrected_rate(capsys):
    arguments = ["learning-rate", "--widths", "40,60,60,4", "-T", "30", "--seeds", "2", "--momentum", "0.9"]
    code, out, err = run(capsys, *arguments, "--batch-size", "8")
    assert (code, err) == (0, "")
    found = ff.critical_learning_rate(ARCH, 30, 0.9, batch_size=8)
    for name, rate in [("finite width", found.corrected), ("online", found.online), ("mini-batches", found.batch)]:
        (line,) = [line for line in out.splitlines() if line.startswith(name)]
        assert line.split()[-1] == f"{rate:.4g}"
    record = json.loads(run(capsys, *arguments, "--json")[1])
    assert (record["corrected"], record["online"], record["batch"]) == (found.corrected, found.online, None)
    assert "finite width" not in run(capsys, *arguments[:5], "--likelihood", "categorical", "--seeds", "1")[1]


@pytest.mark.usefixtures("in_an_empty_folder")
def test_picture_of_the_map(small_map):
    ax = plot.training_map(small_map, title="a title")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == 3
    np.testing.assert_allclose(ax.get_lines()[0].get_xydata(), np.column_stack([small_map.widths, small_map.theory]))
    mesh = ax.collections[0].get_array()
    assert mesh.shape == (12, 2)
    assert (mesh[~small_map.converged.T] == 1).all()
    assert plot.save_training_map("map.svg", small_map).stat().st_size > 5000
    assert plot.training_map(training_map((10,), [0.1], inputs=5, steps=1)).get_yscale() == "log"
    with pytest.raises(TypeError, match="found: expected a TrainingMap, got int"):
        plot.training_map(3)


def test_labels_belong_to_the_images():
    classes = data.labels("digits")
    assert classes.dtype == np.int64
    assert classes.shape == (len(data.digits()[0]),)
    assert sorted(set(classes.tolist())) == list(range(10))
    with pytest.raises(ValueError, match="data: expected 'digits' or 'fashion-mnist'"):
        data.labels("x.csv")


def test_idx_labels(tmp_path):
    header = bytes((0, 0, 8, 1)) + (3).to_bytes(4, "big")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(header + bytes((7, 0, 9)))
    assert data.labels("fashion-mnist", tmp_path).tolist() == [7, 0, 9]
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(header + bytes((7, 0)))
    with pytest.raises(ValueError, match="expected 3 labels"):
        data.labels("fashion-mnist", tmp_path)
    with pytest.raises(FileNotFoundError, match="train-labels"):
        data.labels("fashion-mnist", tmp_path / "nowhere")


def test_patterns_of_four_samples_are_all_of_them():
    from fisherfield.theory.outliers import _patterns

    for T in (1, 2, 3, 5):
        counts = {}
        for drawn in product(range(T), repeat=4):
            firsts = list(dict.fromkeys(drawn))
            key = tuple(firsts.index(sample) for sample in drawn)
            counts[key] = counts.get(key, 0) + 1
        found = {labels: weight * T**4 for weight, labels in _patterns(T) if weight}
        assert found == pytest.approx(counts)


MONITOR = (
    "monitor",
    "--width",
    "20",
    "--depth",
    "3",
    "--outputs",
    "3",
    "--steps",
    "12",
    "-T",
    "30",
    "--batch-size",
    "10",
)


@pytest.mark.usefixtures("in_an_empty_folder")
@pytest.mark.parametrize("digits", [False, True])
def test_monitor_command_is_a_monitored_run(capsys, tmp_path, digits):
    source = ("--data", "digits", "--loss", "cross_entropy", "--outputs", "10") if digits else ()
    code, out, err = run(capsys, *MONITOR, *source, "--rates", "0.01,0.05", "--every", "4", "--seed", "2")
    assert (code, err) == (0, "")
    assert (tmp_path / "fisherfield-monitor.png").stat().st_size > 5000
    outputs, dimension = (10, 64) if digits else (3, 20)
    arch = ff.MLP((dimension, 20, 20, outputs), "tanh", weight_var=3.0, bias_var=0.64)
    if digits:
        rows = data.draw(np.arange(1797), 30, 2)
        inputs, targets = data.standardize(data.digits()[0])[rows], data.labels("digits")[rows]
    else:
        inputs = np.random.default_rng(2).standard_normal((30, 20))
        targets = arch.sample(3)(inputs)
    loss = "cross_entropy" if digits else "squared"
    record = json.loads(
        run(capsys, *MONITOR, *source, "--rates", "0.01,0.05", "--every", "4", "--seed", "2", "--json")[1]
    )
    rows = [line.split() for line in out.splitlines() if line.startswith(("0.01 ", "0.05 "))]
    for rate, row, found in zip((0.01, 0.05), rows, record["runs"], strict=True):
        monitor = ff.TrainingMonitor(every=4)
        trained = ff.train(
            arch.sample(2), inputs, loss, targets=targets, learning_rate=rate, steps=12, batch_size=10, seed=2,
            callback=monitor,
        )  # fmt: skip
        assert found["records"] == monitor.as_dict()["records"]
        assert found["final_loss"] == trained.final_loss
        assert row[1:3] == [f"{monitor.records[-1].mean_condition:.4g}", f"{monitor.records[-1].total_energy:.4g}"]
        assert row[-1] == f"{trained.final_loss:.4g}"


@pytest.mark.usefixtures("in_an_empty_folder")
def test_monitor_command_tells_of_divergence_and_refuses_nonsense(capsys):
    out = run(capsys, *MONITOR, "--rates", "1e200", "--no-picture")[1]
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("1e+200")] == ["diverged"]
    for options, message in [
        (("--every", "0"), "--every: expected an integer >= 1, got 0"),
        (("--batch-size", "31"), "--batch-size: expected at most 30, the number of samples, got 31"),
        (("--width", "0"), "--width: expected an integer >= 1, got 0"),
        (("--rates", "-1"), "--rates: expected a number > 0, got -1"),
        (("--loss", "cross_entropy"), "--loss: expected squared with gaussian samples"),
        (("--data", "digits", "--outputs", "3"), "targets: expected classes from 0 to 2"),
    ]:
        code, _, err = run(capsys, *MONITOR, *options)
        assert code == 2
        assert message in err
