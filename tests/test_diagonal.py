"""Estimators of the diagonal, their exact variances and Hessian diagonals, against sums over all outcomes."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import curves
import fisherfield as ff
import reference
from fisherfield import unitwise
from test_kinds import draw_targets, laws_for, likelihood_of, moderate, noise_of
from tolerances import assert_close

from cases import cases, make_case

SMOOTH = ["tanh", "erf", "sigmoid", "gelu", "silu", "softplus", "elu", "selu", "sin", "cos"]
PIECEWISE_LINEAR = ["linear", "relu", "leaky_relu", "hard_tanh", "shifted_relu", "abs"]


def tolerance_of(case):
    """Second derivatives of the custom activation are differences, good to 1e-10 a layer of terms that may cancel."""
    return 1e-6 if "custom" in case.names else 1e-10


@st.composite
def problems(draw, **options):
    """A small network with inputs, and a law of its outputs."""
    case = draw(cases(max_width=4, max_samples=3, max_outputs=3, **options))
    law = draw(st.sampled_from(laws_for(case.net.num_outputs)))
    return case, law


def usable(case):
    return case.smooth_here and moderate(case.net(case.X))


def column(outputs):
    return outputs[:, None] if outputs.ndim == 1 else outputs


# --- against sums over all outcomes -------------------------------------------------------------------------


@settings(max_examples=60)
@given(problems())
def test_variances(problem):
    case, law = problem
    assume(usable(case))
    expected = curves.moments(case, law, noise_of(law, case.net.num_outputs))
    T, tolerance = len(case.X), tolerance_of(case)
    likelihood = likelihood_of(law, case.net.num_outputs)
    found = ff.diagonal_variance(case.net, case.X, likelihood)
    information = expected.squared_score
    size = max(np.abs(information).max(), 1e-3)  # of a network whose gradients vanish, rounding is all there is
    assert_close(expected.second_derivative, information, tolerance=tolerance, scale=size)  # both are unbiased
    exact = ff.Fisher(case.net, case.X, likelihood=likelihood).diagonal()
    assert_close(exact, information.mean(axis=0), tolerance=tolerance, scale=size)
    assert_close(found.diagonal, information.mean(axis=0), tolerance=tolerance, scale=size)
    for got, variance in ((found.score, expected.score_variance), (found.hessian, expected.hessian_variance)):
        assert_close(got, variance.sum(axis=0) / T**2, tolerance=tolerance, scale=max(variance.max(), size**2 * 1e-3))
    if T > 1:
        inputs = information.var(axis=0, ddof=1) / T
        assert_close(found.inputs, inputs, tolerance=tolerance, scale=size**2)
    else:
        assert np.isnan(found.inputs).all()


@pytest.mark.parametrize("law", ["gaussian", "heteroscedastic", "categorical", "bernoulli", "poisson"])
@pytest.mark.parametrize("residual", [False, True])
def test_variances_of_a_deep_network(law, residual):
    """Four hidden layers: what bends one, two and three layers above each is all there."""
    widths = (2, 3, 3, 3, 3, 2) if residual else (2, 3, 4, 2, 3, 2)
    names = ("sin", "tanh", "silu") if residual else ("sin", "tanh", "silu", "softplus")
    case = make_case(widths, names, 2, seed=4, residual=residual)
    expected = curves.moments(case, law, noise_of(law, 2))
    found = ff.diagonal_variance(case.net, case.X, likelihood_of(law, 2))
    assert_close(found.score, expected.score_variance.sum(axis=0) / 4, tolerance=1e-11)
    assert_close(found.hessian, expected.hessian_variance.sum(axis=0) / 4, tolerance=1e-11)
    bent = found.layers()[: -1 - residual]  # the last block is linear in its weights too
    assert min(layer.hessian_deviation for layer in bent) > 0


@pytest.mark.parametrize("law", ["gaussian", "heteroscedastic", "categorical", "bernoulli", "poisson"])
@pytest.mark.parametrize("name", [*SMOOTH, *PIECEWISE_LINEAR])
def test_every_activation_with_every_law(name, law):
    case = next(
        case for seed in range(99) if (case := make_case((2, 3, 2, 2), (name, name), 2, seed=seed)) and usable(case)
    )
    expected = curves.moments(case, law, noise_of(law, 2))
    found = ff.diagonal_variance(case.net, case.X, likelihood_of(law, 2))
    assert_close(found.diagonal, expected.squared_score.mean(axis=0), tolerance=1e-11)
    assert_close(found.score, expected.score_variance.sum(axis=0) / 4, tolerance=1e-11)
    size = max(expected.hessian_variance.max(), expected.score_variance.max() * 1e-3)
    assert_close(found.hessian, expected.hessian_variance.sum(axis=0) / 4, tolerance=1e-11, scale=size)
    targets = draw_targets(law, case.net(case.X))
    hessian = curves.hessian_diagonal(case, law, targets, noise_of(law, 2))
    assert_close(
        ff.hessian_diagonal(case.net, case.X, likelihood_of(law, 2), targets=targets), hessian, tolerance=1e-11
    )


@settings(max_examples=40)
@given(problems(), st.integers(0, 9))
def test_hessian_diagonal(problem, seed):
    case, law = problem
    assume(usable(case))
    targets = draw_targets(law, case.net(case.X), seed)
    expected = curves.hessian_diagonal(case, law, targets, noise_of(law, case.net.num_outputs))
    found = ff.hessian_diagonal(case.net, case.X, likelihood_of(law, case.net.num_outputs), targets=targets)
    assert_close(found, expected, tolerance=tolerance_of(case), scale=max(np.abs(expected).max(), 1e-3))


@given(problems(dtype="float32"), st.integers(0, 9))
def test_float32(problem, seed):
    case, law = problem
    assume(case.smooth_here and np.abs(case.net(case.X)).max() < 3)
    likelihood = likelihood_of(law, case.net.num_outputs)
    targets = draw_targets(law, case.net(case.X), seed)
    weights = [w.astype("float64") for w in case.net.weights]
    biases = case.net.biases and [b.astype("float64") for b in case.net.biases]
    twin = ff.Network(weights, biases, activation=case.net.activations[: len(case.names)], residual=case.net.residual)
    X = case.X.astype("float64")
    wide = targets.astype("float64") if targets.dtype == np.float32 else targets
    pairs = [
        (ff.hessian_diagonal(n, x, likelihood, targets=y)) for n, x, y in ((case.net, case.X, targets), (twin, X, wide))
    ]
    assert pairs[0].dtype == np.float32
    few, many = (ff.diagonal_variance(n, x, likelihood) for n, x in ((case.net, case.X), (twin, X)))
    size = many.diagonal.max()
    assert_close(pairs[0], pairs[1], tolerance=1e-5, scale=max(np.abs(pairs[1]).max(), size))
    for name, scale in (("diagonal", size), ("score", size**2), ("hessian", size**2)):
        got, expected = getattr(few, name), getattr(many, name)
        assert got.dtype == (np.float32 if name == "diagonal" else np.float64)
        assert_close(got, expected, tolerance=1e-5, scale=max(expected.max(), scale))


@settings(max_examples=25)
@given(cases(max_width=4, max_samples=2, max_outputs=2))
def test_second_derivatives_of_the_outputs(case):
    """D a_j^2 itself, of every output: the loss f_k has them as its Hessian."""
    assume(usable(case))
    expected, found = curves.output_curvatures(case), []
    for k in range(case.net.num_outputs):
        target = np.zeros_like(case.net(case.X))
        target[:, k] = 1
        pull, rest = (
            ff.hessian_diagonal(case.net, case.X, "squared", targets=(case.net(case.X) - s * target))
            for s in (1.0, 0.0)
        )
        found.append(pull - rest)  # the residual f_k - y_k is 1
    scale = max(np.abs(expected).max(), 1.0)
    assert_close(np.array(found), expected.mean(axis=0), tolerance=10 * tolerance_of(case), scale=scale)


@given(problems(), st.integers(0, 9))
def test_loss_gradient(problem, seed):
    case, law = problem
    assume(usable(case))
    outputs = case.net(case.X)
    targets = draw_targets(law, outputs, seed)
    noise = noise_of(law, case.net.num_outputs)
    scores = np.array([reference.score(law, f, y, noise) for f, y in zip(outputs, targets, strict=True)])
    expected = -np.einsum("tc,tcp->p", scores, case.twin.jacobian(case.X)) / len(case.X)
    found = ff.loss_gradient(case.net, case.X, likelihood_of(law, case.net.num_outputs), targets=targets)
    assert_close(found, expected, tolerance=1e-10, scale=max(np.abs(expected).max(), 1e-3))


def test_names_of_losses():
    case = make_case((3, 5, 2), ("tanh",), 4)
    y, classes = np.ones((4, 2)), np.array([0, 1, 1, 0])
    for function in (ff.hessian_diagonal, ff.loss_gradient):
        same = function(case.net, case.X, "squared", targets=y), function(case.net, case.X, "gaussian", targets=y)
        np.testing.assert_array_equal(*same)
        np.testing.assert_array_equal(
            function(case.net, case.X, "cross_entropy", targets=classes),
            function(case.net, case.X, "categorical", targets=classes),
        )


def test_parameters():
    case = make_case((3, 5, 2), ("tanh",), 4)
    flat = case.net.parameters()
    np.testing.assert_array_equal(flat, case.twin.flat_parameters())
    moved = case.net.with_parameters(2 * flat)
    np.testing.assert_array_equal(moved.parameters(), 2 * flat)
    np.testing.assert_array_equal(case.net.parameters(), flat)
    np.testing.assert_array_equal(case.net.with_parameters(flat)(case.X), case.net(case.X))
    bare = make_case((3, 5, 2), ("tanh",), 4, biases=False).net
    assert bare.with_parameters(bare.parameters()).biases is None


# --- what the papers state ----------------------------------------------------------------------------------


def draws(likelihood, outputs=3, activation="tanh", widths=(5, 7, 6)):
    net = ff.MLP((*widths, outputs), activation, weight_var=2.0, bias_var=0.3).sample(seed=2)
    return net, np.random.default_rng(3).standard_normal((6, widths[0])), likelihood


@pytest.mark.parametrize("law", ["gaussian", "categorical", "bernoulli", "poisson"])
def test_the_last_layer_has_no_variance_by_second_derivatives(law):
    """The outputs are linear in its weights (Soen, Sun 2024)."""
    layers = ff.diagonal_variance(*draws(law)).layers()
    assert layers[-1].hessian_deviation == 0
    assert layers[-1].score_deviation > 0
    assert layers[-1].better == "hessian"
    assert layers[-1].ratio == 0
    assert all(layer.hessian_deviation > 0 for layer in layers[:-1])


def test_the_last_layer_of_the_heteroscedastic_law_varies():
    """Its outputs are no natural parameters: the second derivative of log p depends on the target there too."""
    layers = ff.diagonal_variance(*draws("heteroscedastic", outputs=4)).layers()
    assert layers[-1].hessian_deviation > 0


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_piecewise_linear_networks_have_none_in_any_layer(name):
    net, X, _ = draws("categorical", activation=name)
    found = ff.diagonal_variance(net, X, "categorical")
    assert (found.hessian == 0).all()
    assert found.samples_for(1e-6, "hessian") == (1, 1, 1)
    exact = ff.Fisher(net, X, likelihood="categorical").diagonal()
    drawn = ff.estimate_diagonal(net, X, "categorical", method="hessian", samples=2, seed=0)
    np.testing.assert_allclose(drawn.values, exact, rtol=1e-13)
    assert (drawn.standard_errors == 0).all()


def test_regression_in_closed_form():
    """2 |J|^4 and |B|^2 (Soen, Sun 2021, of unit noise)."""
    case = make_case((3, 4, 5, 2), ("tanh", "sin"), 3)
    J, B = case.twin.jacobian(case.X), curves.output_curvatures(case)
    found = ff.diagonal_variance(case.net, case.X)
    assert_close(found.score, 2 * (np.square(J).sum(axis=1) ** 2).sum(axis=0) / 9, tolerance=1e-12)
    assert_close(found.hessian, np.square(B).sum(axis=1).sum(axis=0) / 9, tolerance=1e-12)


def test_neither_estimator_dominates():
    """Squared scores grow with the fourth power of the gradients, second derivatives with the square of theirs."""
    X = np.random.default_rng(0).standard_normal((10, 5))
    ratios = []
    for weight_var in (0.2, 30.0):
        net = ff.MLP((5, 30, 30, 3), "tanh", weight_var=weight_var, bias_var=0.1).sample(seed=0)
        layers = ff.diagonal_variance(net, X).layers()
        ratios.append([layer.ratio for layer in layers[:2]])
        assert [layer.better for layer in layers[:2]] == ["score" if weight_var < 1 else "hessian"] * 2
    small, large = ratios
    assert min(small) > 1.5
    assert max(large) < 0.5


@pytest.mark.parametrize("law", ["gaussian", "heteroscedastic", "categorical", "bernoulli", "poisson"])
@pytest.mark.parametrize("outputs", [2, 4])
def test_bounds(law, outputs):
    net, X, _ = draws(law, outputs)
    likelihood = likelihood_of(law, outputs)
    found = ff.diagonal_variance(net, X, likelihood, bounds=True)
    few = 1 + 1e-12
    assert (found.score <= few * found.score_bound).all()
    lower, upper = found.hessian_bounds
    assert (lower <= few * found.hessian).all()
    assert (found.hessian <= few * upper).all()
    assert (found.score_bound < 100 * found.score.max()).all()
    for layer in found.layers():
        assert layer.score_deviation <= few * layer.score_bound
        assert layer.hessian_bounds[0] <= few * layer.hessian_deviation <= few**2 * layer.hessian_bounds[1]
    without = ff.diagonal_variance(net, X, likelihood)
    np.testing.assert_array_equal(without.score, found.score)
    assert without.score_bound is without.hessian_bounds is without.layers()[0].score_bound is None


def test_bounds_of_regression_are_attained():
    """lambda(I) = 1 and lambda(K - I x I) = 2, the first two entries of the papers' table."""
    found = ff.diagonal_variance(*draws("gaussian"), bounds=True)
    np.testing.assert_allclose(found.score_bound, found.score, rtol=1e-12)
    for bound in found.hessian_bounds:
        np.testing.assert_allclose(bound, found.hessian, rtol=1e-12)


# --- estimates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("law", ["gaussian", "categorical"])
def test_scores_are_those_of_the_monte_carlo_fisher(law, samples):
    net, X, _ = draws(law)
    fim = ff.Fisher(net, X, likelihood=law, kind="monte_carlo", samples=samples, seed=5)
    found = ff.estimate_diagonal(net, X, law, samples=samples, seed=5)
    np.testing.assert_allclose(found.values, fim.diagonal(), rtol=1e-13)
    squares = np.array([samples * fim.jacobian()[:, s] ** 2 for s in range(samples)])  # (S, T, P)
    if samples == 1:
        assert found.standard_errors is None
        return
    expected = np.sqrt((squares.var(axis=0, ddof=1) / samples).sum(axis=0)) / len(X)
    np.testing.assert_allclose(found.standard_errors, expected, rtol=1e-11)


@pytest.mark.parametrize("law", ["gaussian", "heteroscedastic", "categorical", "bernoulli", "poisson"])
def test_second_derivatives_at_drawn_targets(law):
    """The mean over draws of Hessian diagonals of -log p, with the spread between the draws of each sample."""
    net, X, _ = draws(law, outputs=4)
    targets = ff.Fisher(net, X, likelihood=law, kind="monte_carlo", samples=3, seed=5).targets
    drawn = np.array(
        [[ff.hessian_diagonal(net, X[t : t + 1], law, targets=y[t : t + 1]) for t in range(len(X))] for y in targets]
    )
    found = ff.estimate_diagonal(net, X, law, method="hessian", samples=3, seed=5)
    assert_close(found.values, drawn.mean(axis=(0, 1)), tolerance=1e-13)
    errors = np.sqrt((drawn.var(axis=0, ddof=1) / 3).sum(axis=0)) / len(X)
    assert_close(found.standard_errors, errors, tolerance=1e-12)
    assert found.method == "hessian"
    assert (found.samples, found.num_samples) == (3, 6)


BATCHES, DRAWS = 50, 200


@pytest.mark.slow
@pytest.mark.parametrize("method", ["score", "hessian"])
@pytest.mark.parametrize("law", ["gaussian", "heteroscedastic", "categorical", "bernoulli", "poisson"])
def test_sample_variance_over_ten_thousand_repeats(law, method):
    """In 50 batches of 200 draws, whose spread is the error of the sample variance; and both are unbiased."""
    net, X, _ = draws(law, outputs=4, widths=(4, 6, 5))
    exact = ff.diagonal_variance(net, X, law)
    found = [ff.estimate_diagonal(net, X, law, method=method, samples=DRAWS, seed=s) for s in range(BATCHES)]
    variances = np.array([DRAWS * estimate.standard_errors**2 for estimate in found])
    values = np.array([estimate.values for estimate in found])
    expected = exact.variance(method)

    def per_layer(array):
        return np.array([array[..., part].sum(axis=-1) for part in exact.layer_slices]).T

    for sampled, truth in ((variances, expected), (values, exact.diagonal)):
        for got, want in ((sampled, truth), (per_layer(sampled), per_layer(truth))):
            error = got.std(axis=0, ddof=1) / np.sqrt(BATCHES)
            deviation = np.abs(got.mean(axis=0) - want)
            certain = error < 1e-12 * np.abs(want).max()
            assert (deviation[certain] <= 1e-12 * np.abs(want).max()).all()
            z = deviation[~certain] / error[~certain]
            assert (z <= 4).all()
    assert (
        np.abs(per_layer(variances).mean(axis=0) - per_layer(expected))
        <= 4 * per_layer(variances).std(axis=0) / np.sqrt(BATCHES) + 1e-14
    ).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["score", "hessian"])
def test_total_variance_over_inputs(method):
    """Sets of eight inputs drawn anew: estimates spread as the variance says that each set predicts, in the mean."""
    net = ff.MLP((3, 6, 2), "tanh", weight_var=2.0, bias_var=0.3).sample(seed=1)
    rng, repeats = np.random.default_rng(0), 1500
    drawn, predicted = [], []
    for _ in range(repeats):
        X = rng.standard_normal((8, 3))
        drawn.append(ff.estimate_diagonal(net, X, "categorical", method=method, samples=2, seed=rng).values)
        predicted.append(ff.diagonal_variance(net, X, "categorical").variance(method, 2, inputs=True))
    drawn, predicted = np.array(drawn), np.array(predicted)
    deviations = (drawn - drawn.mean(axis=0)) ** 2 - predicted  # zero in the mean
    error = deviations.std(axis=0) / np.sqrt(repeats)
    assert (np.abs(deviations.mean(axis=0)) < 4 * error).all()
    assert (error < 0.2 * predicted.mean(axis=0)).all()


def test_seeds():
    net, X, law = draws("categorical")
    same = [ff.estimate_diagonal(net, X, law, seed=3).values for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert (ff.estimate_diagonal(net, X, law, seed=4).values != same[0]).any()
    generator = np.random.default_rng(3)
    one, two = (ff.estimate_diagonal(net, X, law, seed=generator).values for _ in range(2))
    assert (one != two).any()


# --- the result -------------------------------------------------------------------------------------------


def test_results_add_up():
    net, X, law = draws("categorical")
    found = ff.diagonal_variance(net, X, law)
    np.testing.assert_allclose(found.variance("score", 4), found.score / 4)
    np.testing.assert_allclose(found.variance("hessian", 4, inputs=True), found.hessian / 4 + found.inputs)
    np.testing.assert_allclose(found.standard_deviation("score") ** 2, found.score)
    assert [layer.layer for layer in found.layers()] == [1, 2, 3]
    assert sum(layer.num_parameters for layer in found.layers()) == net.num_parameters
    total = sum(layer.mean * layer.num_parameters for layer in found.layers())
    np.testing.assert_allclose(total, ff.Fisher(net, X, likelihood=law).trace())
    for method in ("score", "hessian"):
        counts = found.samples_for(0.05, method)
        for part, count in zip(found.layer_slices, counts, strict=True):
            size = np.linalg.norm(found.diagonal[part])
            errors = [np.sqrt(found.variance(method, n)[part].sum()) / size for n in (count, max(1, count - 1))]
            assert errors[0] <= 0.05
            assert count == 1 or errors[1] > 0.05


def test_dead_layers():
    net = ff.Network([np.full((3, 2), -1.0), np.ones((1, 3))], [np.full(3, -9.0), np.zeros(1)], activation="relu")
    found = ff.diagonal_variance(net, np.ones((2, 2)))
    dead, last = found.layers()
    assert dead.better == "equal"
    assert np.isnan(dead.ratio)
    assert found.samples_for(0.1, "score")[0] == 1
    assert last.better == "hessian"


def test_no_bit_depends_on_threads_or_parts(monkeypatch):
    for widths, names, residual in (
        ((3, 1, 10), ("tanh",), False),
        ((3, 7, 1, 3), ("tanh", "sin"), False),
        ((5, 33, 17, 40, 3), ("tanh", "sin", "gelu"), False),
        ((5, 20, 20, 20, 20, 3), ("tanh",) * 3, True),
    ):
        for dtype in ("float64", "float32"):
            case = make_case(widths, names, 51, dtype=dtype, residual=residual)
            y = np.arange(51) % 3

            def everything(pool, case=case, y=y):
                variance = ff.diagonal_variance(case.net, case.X, "categorical", bounds=True, executor=pool)
                estimates = [
                    ff.estimate_diagonal(case.net, case.X, law, method=method, samples=20, seed=0, executor=pool)
                    for law in ("categorical", "gaussian")
                    for method in ("score", "hessian")
                ]
                return [
                    variance.diagonal, variance.score, variance.hessian, variance.inputs, variance.score_bound,
                    *(e.values for e in estimates), *(e.standard_errors for e in estimates),
                    ff.hessian_diagonal(case.net, case.X, "cross_entropy", targets=y, executor=pool),
                    ff.loss_gradient(case.net, case.X, "cross_entropy", targets=y, executor=pool),
                    ff.Fisher(case.net, case.X, likelihood="categorical", executor=pool).diagonal(),
                ]  # fmt: skip

            expected = everything(ThreadPoolExecutor(1))
            for threads, rows, batch in ((2, 1024, 2**26), (4, 30, 2**26), (3, 100, 40000), (51, 1024, 2**26)):
                with monkeypatch.context() as patch:
                    patch.setattr(unitwise, "_ROWS", rows)
                    patch.setattr(unitwise, "BATCH_BYTES", batch)
                    for got, want in zip(everything(ThreadPoolExecutor(threads)), expected, strict=True):
                        np.testing.assert_array_equal(got, want)


# --- arguments --------------------------------------------------------------------------------------------


def test_errors():
    net, X, _ = draws("gaussian")
    y = np.zeros((6, 3))

    def refused(error, message, call, *arguments, **options):
        with pytest.raises(error, match=re.escape(message)):
            call(*arguments, **options)

    refused(ValueError, "method: expected one of 'score', 'hessian'", ff.estimate_diagonal, net, X, method="both")
    refused(ValueError, "samples: expected an integer >= 1", ff.estimate_diagonal, net, X, samples=0)
    refused(TypeError, "seed: expected an integer", ff.estimate_diagonal, net, X, seed="now")
    refused(ValueError, "likelihood: expected one of", ff.diagonal_variance, net, X, "normal")
    refused(TypeError, "bounds: expected True or False", ff.diagonal_variance, net, X, bounds=1)
    refused(
        ValueError, "loss: expected one of 'squared', 'cross_entropy'", ff.hessian_diagonal, net, X, "mse", targets=y
    )
    refused(TypeError, "loss: expected", ff.hessian_diagonal, net, X, None, targets=y)
    refused(ValueError, "targets: expected shape (6, 3)", ff.hessian_diagonal, net, X, targets=y[:5])
    refused(ValueError, "targets: expected", ff.loss_gradient, net, X, "cross_entropy", targets=np.full(6, 3))
    refused(TypeError, "X: expected float64", ff.diagonal_variance, net, X.astype("float32"))
    refused(TypeError, "net: expected a fisherfield.Network", ff.loss_gradient, None, X, targets=y)
    refused(ValueError, "parameters: expected shape", net.with_parameters, np.zeros(3))
    refused(TypeError, "parameters: expected float64", net.with_parameters, net.parameters().astype("float32"))
    found = ff.diagonal_variance(net, X)
    refused(ValueError, "method: expected one of", found.variance, "mean")
    refused(ValueError, "samples: expected an integer >= 1", found.variance, "score", 0)
    refused(TypeError, "inputs: expected True or False", found.variance, "score", inputs=2)
    refused(ValueError, "relative_error: expected a number > 0", found.samples_for, 0.0, "score")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_overflow_is_an_error(dtype):
    net = ff.MLP((3, 4, 2), "linear").sample(seed=0, dtype=dtype)
    X = np.full((2, 3), np.finfo(dtype).max ** 0.6, dtype)
    for call in (ff.diagonal_variance, lambda *a: ff.hessian_diagonal(*a, targets=np.zeros((2, 2), dtype))):
        with pytest.raises(ValueError, match="expected finite numbers"):
            call(net, X)
    if dtype == "float64":  # of variances alone: those of float32 networks are float64
        with pytest.raises(ValueError, match=r"diagonal_variance\(\).score: expected finite numbers"):
            ff.diagonal_variance(net, np.full((2, 3), 1e100))


def test_squares_below_the_range_of_float32():
    """Gradients of 1e-12 have variances of 1e-48, which tell the same as those of 1e-2."""
    for scale in (1e-2, 1e-12):
        weights = [np.ones((2, 1), "float32"), np.full((1, 2), scale, "float32")]
        found = ff.diagonal_variance(ff.Network(weights, None, activation="tanh"), np.ones((3, 1), "float32"))
        assert found.samples_for(0.1, "score") == (67, 67)
    drawn = ff.estimate_diagonal(ff.Network(weights, None, activation="tanh"), np.ones((3, 1), "float32"), seed=0)
    assert (drawn.standard_errors > 0).all()


def test_what_no_number_holds():
    net = ff.Network([np.ones((1, 1))], [np.array([-400.0])])
    tiny = ff.diagonal_variance(net, np.ones((2, 1)), "bernoulli")
    with pytest.raises(ValueError, match=r"diagonal: expected entries above 1e-150 in layer 1"):
        tiny.samples_for(0.1, "score")
    usual = ff.diagonal_variance(*draws("gaussian"))
    with pytest.raises(ValueError, match="relative_error: expected a number that"):
        usual.samples_for(1e-170, "score")
    assert usual.samples_for(1e160, "score") == (1, 1, 1)
    wide = ff.Network([np.ones((2, 1)), np.zeros((2, 2))], [np.full(2, -5.0), np.array([0, -400.0])], activation="relu")
    with pytest.raises(ValueError, match="expected finite numbers"):
        ff.diagonal_variance(wide, np.ones((2, 1)), "heteroscedastic", bounds=True)
    big = ff.Network([np.eye(2) * 1e-200, np.eye(2) * 1e200, np.eye(2) * 1e-200], None, activation="relu")
    assert np.isfinite(ff.hessian_diagonal(big, np.ones((3, 2)), targets=np.zeros((3, 2)))).all()
    loud = ff.Network([np.zeros((2, 1), "float32")], [np.array([1.0, -34], "float32")])
    with pytest.raises(ValueError, match=r"outputs: expected noise that float32 can add.*use float64"):
        ff.estimate_diagonal(loud, np.ones((2, 1), "float32"), "heteroscedastic")


class Bare(ff.likelihoods.Likelihood):
    """Waiting times of rate e^f, without second derivatives."""

    def log_density(self, outputs, targets):
        return (outputs - targets * np.exp(outputs)).sum(axis=1)

    def score(self, outputs, targets):
        return (1 - targets * np.exp(outputs)).astype(outputs.dtype)

    def information(self, outputs):
        return np.broadcast_to(np.eye(outputs.shape[1]), (len(outputs), outputs.shape[1], outputs.shape[1]))

    def sample(self, outputs, rng):
        return rng.exponential(np.exp(-outputs))


class Waiting(Bare):
    """The same with them: the natural parameter is -e^f, and 1 - s is exponential with fourth moments by hand."""

    def exponential_connection(self, outputs, b):
        return b**2

    def squared_score_variance(self, outputs, b):
        square = b**2  # central moments of an exponential: 1, 2, 9
        return (9 - 3) * (square**2).sum(axis=0) + 2 * square.sum(axis=0) ** 2


def test_own_likelihoods():
    net, X, _ = draws(None, outputs=2)
    for call in (ff.diagonal_variance, lambda *a: ff.estimate_diagonal(*a, method="hessian")):
        with pytest.raises(NotImplementedError, match="likelihood bare: expected a method"):
            call(net, X, Bare())
    for wrong in (lambda outputs, b: b[:1], lambda outputs, b: None):
        law = Waiting()
        law.exponential_connection = wrong
        for call in (ff.diagonal_variance, lambda *a: ff.estimate_diagonal(*a, method="hessian")):
            with pytest.raises(ValueError, match=r"likelihood waiting: expected exponential_connection\(\) to return"):
                call(net, X, law)
    found = ff.diagonal_variance(net, X, Waiting())
    np.testing.assert_allclose(found.diagonal, ff.Fisher(net, X).diagonal(), rtol=1e-12)
    with pytest.raises(NotImplementedError, match="squared_score_bound"):
        ff.diagonal_variance(net, X, Waiting(), bounds=True)
    y = Waiting().sample(net(X), np.random.default_rng(0))
    gradients = [
        ff.loss_gradient(net.with_parameters(net.parameters() + e), X, Waiting(), targets=y)
        for e in 1e-5 * np.concatenate([np.eye(net.num_parameters), -np.eye(net.num_parameters)])
    ]
    up, down = np.array(gradients).reshape(2, net.num_parameters, -1)
    numerical = np.diagonal(up - down) / 2e-5
    assert_close(ff.hessian_diagonal(net, X, Waiting(), targets=y), numerical, tolerance=1e-8)
    for method in ("score", "hessian"):
        drawn = ff.estimate_diagonal(net, X, Waiting(), method=method, samples=4000, seed=0)
        z = (drawn.values - found.diagonal) / drawn.standard_errors
        assert np.abs(z[drawn.standard_errors > 0]).max() < 5
        ratio = 4000 * (drawn.standard_errors**2).sum() / found.variance(method).sum()
        assert abs(ratio - 1) < 0.2
