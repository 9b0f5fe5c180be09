"""Output distributions against their definitions: densities, scores, information, seeds, draws."""

import itertools
import math
import re

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fisherfield as ff
from fisherfield import likelihoods
from fisherfield.likelihoods import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Likelihood, Poisson

BUILT_IN = [
    Gaussian(),
    Gaussian(noise_var=0.3),
    Gaussian(noise_var=(0.25, 1.5, 4.0, 0.01)),
    HeteroscedasticGaussian(),
    Categorical(),
    Bernoulli(),
    Poisson(),
]
BY_CLASS = pytest.mark.parametrize("likelihood", BUILT_IN, ids=repr)
C = 4  # outputs of the general tests: the tuple of variances above, and two pairs of mean and log variance
ULP = np.finfo(np.float64).eps


def draw(samples=5, outputs=C, scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).standard_normal((samples, outputs))


def square(seeds):
    return seeds.transpose(1, 2, 0) @ seeds.transpose(1, 0, 2)


def refused(error, message, call, *args, **kwargs):
    with pytest.raises(error, match=re.escape(message)):
        call(*args, **kwargs)


# --- every outcome with its probability -----------------------------------------------------------------


def outcomes(likelihood, f):
    """Targets (N, ...) of one sample with outputs f (C,), and weights: sums over them are expectations.

    Discrete outcomes: all of them (counts up to negligible mass) with weights from :func:`masses`; densities:
    Gauss-Hermite nodes, exact for the polynomials that scores and their squares are.
    """
    if isinstance(likelihood, Categorical):
        return np.arange(len(f)), masses(likelihood, f, [[y] for y in range(len(f))])
    if isinstance(likelihood, Bernoulli):
        grid = list(itertools.product([0, 1], repeat=len(f)))
        return np.array(grid), masses(likelihood, f, grid)
    if isinstance(likelihood, Poisson):
        most = [int(np.exp(x) + 12 * np.exp(x / 2) + 25) for x in f]
        grid = list(itertools.product(*(range(n) for n in most)))
        return np.array(grid), masses(likelihood, f, grid)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    if isinstance(likelihood, HeteroscedasticGaussian):
        mean, deviation = f[: len(f) // 2], np.exp(f[len(f) // 2 :] / 2)
    else:
        mean, deviation = f, np.sqrt(np.broadcast_to(likelihood.noise_var, f.shape))
    z = np.array(list(itertools.product(nodes, repeat=len(mean))))
    w = np.array([math.prod(row) for row in itertools.product(weights, repeat=len(mean))])
    return mean + deviation * z, w


def masses(likelihood, f, grid):
    """Probabilities from the definitions, without the library."""
    if isinstance(likelihood, Categorical):
        total = math.fsum(math.exp(x) for x in f)
        return np.array([math.exp(f[y]) / total for (y,) in grid])
    if isinstance(likelihood, Bernoulli):
        signs = 1 - 2 * np.array(grid)
        return (1 / (1 + np.exp(signs * f))).prod(axis=1)
    tables = [[float(mpmath.exp(y * x - mpmath.exp(x)) / mpmath.factorial(y)) for y in range(200)] for x in f]
    return np.array([math.prod(table[y] for table, y in zip(tables, ys, strict=True)) for ys in grid])


def outputs_of(likelihood):
    """A few samples that leave sums over all outcomes short (two counts a sample, four outputs otherwise)."""
    return draw(3, 2 if isinstance(likelihood, Poisson) else C)


@pytest.mark.parametrize("likelihood", [Categorical(), Bernoulli(), Poisson()], ids=repr)
def test_discrete_densities_are_normalised(likelihood):
    for f in outputs_of(likelihood):
        y, _ = outcomes(likelihood, f)
        total = np.exp(likelihood.log_density(np.tile(f, (len(y), 1)), y)).sum()
        assert total == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize(
    ("likelihood", "f", "deviation"),
    [
        (Gaussian(), [0.4], 1.0),
        (Gaussian(noise_var=0.3), [0.4], 0.3**0.5),
        (Gaussian(noise_var=(7.0,)), [-2.0], 7.0**0.5),
        (HeteroscedasticGaussian(), [0.4, -1.3], np.exp(-0.65)),
    ],
)
def test_gaussian_densities_are_normalised(likelihood, f, deviation):
    """The trapezoidal rule converges faster than any power of the step for a Gaussian."""
    z = np.linspace(-12, 12, 241)
    densities = np.exp(likelihood.log_density(np.tile(f, (len(z), 1)), (f[0] + deviation * z)[:, None]))
    assert densities.sum() * deviation * (z[1] - z[0]) == pytest.approx(1, rel=1e-13)


@BY_CLASS
def test_information_is_the_second_moment_of_the_score(likelihood):
    for f in outputs_of(likelihood):
        y, weights = outcomes(likelihood, f)
        scores = likelihood.score(np.tile(f, (len(y), 1)), y)
        information = likelihood.information(f[None])[0]
        second = np.einsum("n,ni,nj->ij", weights, scores, scores)
        assert np.abs(weights @ scores).max() <= 1e-12 * np.sqrt(np.abs(information).max())
        assert np.abs(second - information).max() <= 1e-12 * np.abs(information).max()
        if isinstance(likelihood, Categorical):
            np.testing.assert_allclose(information, second, rtol=1e-11)


# --- score and density in many digits -------------------------------------------------------------------


def mp_log_density(likelihood, f, y):
    """The definition in mpmath; f a list of mpf, y a target of one sample."""
    if isinstance(likelihood, Categorical):
        return f[int(y)] - mpmath.log(mpmath.fsum(mpmath.exp(x) for x in f))
    if isinstance(likelihood, Bernoulli):
        return mpmath.fsum(int(k) * x - mpmath.log(1 + mpmath.exp(x)) for x, k in zip(f, y, strict=True))
    if isinstance(likelihood, Poisson):
        return mpmath.fsum(int(k) * x - mpmath.exp(x) - mpmath.loggamma(int(k) + 1) for x, k in zip(f, y, strict=True))
    if isinstance(likelihood, HeteroscedasticGaussian):
        mean, variance = f[: len(f) // 2], [mpmath.exp(s) for s in f[len(f) // 2 :]]
    else:
        mean, variance = f, np.broadcast_to(likelihood.noise_var, len(f)).tolist()
    return (
        -mpmath.fsum(
            (mpmath.mpf(float(k)) - m) ** 2 / v + mpmath.log(2 * mpmath.pi * v)
            for m, v, k in zip(mean, variance, y, strict=True)
        )
        / 2
    )


def mp_score(likelihood, f, y):
    """Central differences with a step of 1e-30 in 100 digits."""
    h = mpmath.mpf(10) ** -30
    result = []
    for k in range(len(f)):
        up, down = [list(f) for _ in range(2)]
        up[k] += h
        down[k] -= h
        result.append((mp_log_density(likelihood, up, y) - mp_log_density(likelihood, down, y)) / (2 * h))
    return [float(x) for x in result]


@BY_CLASS
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_density_and_score_in_many_digits(likelihood, scale):
    outputs = draw(scale=scale, seed=1)
    y = likelihood.sample(draw(scale=scale / 2, seed=2), np.random.default_rng(3))
    density, score = likelihood.log_density(outputs, y), likelihood.score(outputs, y)
    with mpmath.workdps(100):
        for t, f in enumerate(outputs):
            digits = [mpmath.mpf(float(x)) for x in f]
            np.testing.assert_allclose(density[t], float(mp_log_density(likelihood, digits, y[t])), rtol=1e-13)
            np.testing.assert_allclose(score[t], mp_score(likelihood, digits, y[t]), rtol=1e-11)


# --- seeds ----------------------------------------------------------------------------------------------


@BY_CLASS
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("samples", [1, 6])
def test_seeds_are_a_square_root_of_the_information(likelihood, dtype, samples):
    outputs = draw(samples).astype(dtype)
    seeds, information = likelihood.seeds(outputs), likelihood.information(outputs)
    rank = likelihood.num_seeds(C)
    assert seeds.dtype == information.dtype == dtype
    assert seeds.shape == (rank, samples, C)
    assert seeds.flags.c_contiguous
    tolerance = {"float64": 1e-13, "float32": 4e-7}[dtype]
    assert np.abs(square(seeds) - information).max() <= tolerance * np.abs(information).max()
    assert (np.linalg.matrix_rank(information.astype(np.float64), rtol=1e-5) == rank).all()


@BY_CLASS
def test_default_seeds_agree_with_closed_forms(likelihood):
    outputs = draw(7)
    default = Likelihood.seeds(likelihood, outputs)
    assert default.shape == (likelihood.num_seeds(C), 7, C)
    assert default.flags.c_contiguous
    information = likelihood.information(outputs)
    assert np.abs(square(default) - information).max() <= 1e-13 * np.abs(information).max()


def test_plain_gaussian_has_unit_seeds():
    seeds = Gaussian().seeds(draw(3, 2))
    assert (seeds == np.broadcast_to(np.eye(2)[:, None, :], (2, 3, 2))).all()


def arrays(magnitude, sizes=range(2, 7)):
    numbers = st.floats(-magnitude, magnitude, allow_subnormal=False)
    return st.tuples(st.integers(1, 4), st.sampled_from(sizes)).flatmap(
        lambda shape: hnp.arrays(np.float64, shape, elements=numbers)
    )


@given(arrays(30))
def test_seeds_square_to_the_dense_reference(outputs):
    g = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    g /= g.sum(axis=1, keepdims=True)
    p = 1 / (1 + np.exp(-outputs))
    diagonal = np.eye(outputs.shape[1])
    for likelihood, dense in [
        (Categorical(), g[:, :, None] * diagonal - g[:, :, None] * g[:, None, :]),
        (Bernoulli(), (p * (1 - p))[:, :, None] * diagonal),
        (Poisson(), np.exp(outputs)[:, :, None] * diagonal),
    ]:
        scale = max(np.abs(dense).max(), 1 if likelihood != Poisson() else 0)  # 1 - p cancels in the reference
        assert np.abs(square(likelihood.seeds(outputs)) - dense).max() <= 1e-13 * scale
        assert np.abs(likelihood.information(outputs) - dense).max() <= 1e-13 * scale


@given(arrays(700, sizes=(2, 4, 6)))
def test_seeds_square_to_the_information_at_any_size(outputs):
    for likelihood in (Gaussian(2.5), HeteroscedasticGaussian(), Categorical(), Bernoulli(), Poisson()):
        seeds, information = likelihood.seeds(outputs), likelihood.information(outputs)
        assert np.isfinite(seeds).all()
        assert np.isfinite(information).all()
        for t, matrix in enumerate(information):  # each on its own scale, which may be e^-700
            assert np.abs(square(seeds[:, t : t + 1])[0] - matrix).max() <= 1e-13 * np.abs(matrix).max() + 1e-307


@given(arrays(700), st.integers(0, 2**32))
def test_classes_and_events_of_any_logits(outputs, seed):
    for likelihood in (Categorical(), Bernoulli()):
        y = likelihood.sample(outputs, np.random.default_rng(seed))
        density, score = likelihood.log_density(outputs, y), likelihood.score(outputs, y)
        assert (density <= 0).all()
        assert (density > -40 * outputs.size).all()  # drawn, hence not impossible
        assert (np.abs(score) <= 1).all()


# --- the softmax where it is saturated ------------------------------------------------------------------


def mp_softmax_root(f):
    """Information and Cholesky factor of one sample in 700 digits, rounded to float64."""
    with mpmath.workdps(700):
        e = [mpmath.exp(mpmath.mpf(float(x))) for x in f]
        g = [x / mpmath.fsum(e) for x in e]
        q = [mpmath.fsum(g[j:]) for j in range(len(g) + 1)]  # q[j + 1] is the tail after j
        Q = [[g[i] * ((i == j) - g[j]) for j in range(len(g))] for i in range(len(g))]
        S = [[mpmath.mpf(0)] * len(g) for _ in range(len(g) - 1)]
        for j, row in enumerate(S):
            row[j] = mpmath.sqrt(g[j] * q[j + 1] / q[j])
            for i in range(j + 1, len(g)):
                row[i] = -g[i] * mpmath.sqrt(g[j] / (q[j] * q[j + 1]))
        return [np.array([[float(x) for x in row] for row in matrix]) for matrix in (Q, S)]


SATURATED = [
    [40.0, 0.0],
    [0.0, 40.0],
    [37.3, -3.1, 12.7],
    [-3.1, 12.7, 37.3],
    [300.1, -299.7, 0.3, 299.9],
    [-299.7, 300.1, 0.3, -0.1],
    [1e6 + 0.1, 1e6, 1e6 - 200.7],
    [0.0, 0.0, 0.0],
    [1e-8, 2e-8],
]


@pytest.mark.parametrize("f", SATURATED, ids=str)
def test_saturated_softmax_keeps_its_digits(f):
    Q, S = mp_softmax_root(f)
    likelihood, outputs = Categorical(), np.array([f])
    np.testing.assert_allclose(likelihood.information(outputs)[0], Q, rtol=8 * ULP, atol=0)
    np.testing.assert_allclose(likelihood.seeds(outputs)[:, 0], S, rtol=8 * ULP, atol=0)
    with mpmath.workdps(700):
        digits = [mpmath.mpf(float(x)) for x in f]
        for y in range(len(f)):
            expected = mp_log_density(likelihood, digits, y)
            at = (outputs, np.array([y]))
            np.testing.assert_allclose(likelihood.log_density(*at)[0], float(expected), rtol=4 * ULP)
            others = mpmath.fsum(mpmath.exp(x) for k, x in enumerate(digits) if k != y)
            assert likelihood.score(*at)[0, y] == pytest.approx(
                float(others / mpmath.fsum(map(mpmath.exp, digits))), rel=8 * ULP, abs=0
            )


@pytest.mark.parametrize(
    "f", [[700.0, -700.0, -700.0], [-700.0, -700.0, 700.0], [-1e308, 1e308], [0.0, -740.0, -900.0]]
)
def test_certain_class(f):
    outputs = np.array([f])
    for result in (Categorical().seeds(outputs), Categorical().information(outputs)):
        assert np.isfinite(result).all()
        assert np.abs(result).max() < 1e-150
    assert Categorical().sample(outputs, np.random.default_rng(0)).tolist() == [int(np.argmax(f))]
    assert abs(Categorical().log_density(outputs, np.array([np.argmax(f)]))) < 1e-300


def test_thousand_classes():
    outputs = draw(2, 1000, scale=3.0)
    seeds = Categorical().seeds(outputs)
    assert seeds.shape == (999, 2, 1000)
    information = Categorical().information(outputs)
    assert np.abs(square(seeds) - information).max() <= 1e-13 * information.max()
    np.testing.assert_allclose(information.sum(axis=2), 0, atol=1e-15)


# --- other extremes -------------------------------------------------------------------------------------


def test_large_logits():
    outputs, y = np.array([[800.0, -800.0, 36.9]]), np.array([[1, 1, 0]])
    assert Bernoulli().log_density(outputs, y)[0] == pytest.approx(-836.9, rel=1e-15)
    np.testing.assert_allclose(Bernoulli().score(outputs, 1 - y), [[-1, 0, 1 / (1 + np.exp(36.9))]], rtol=1e-15)
    roots = [math.exp(-400), math.exp(-400), math.exp(-18.45) / (1 + math.exp(-36.9))]
    np.testing.assert_allclose(Bernoulli().seeds(outputs)[range(3), 0, range(3)], roots, rtol=4 * ULP, atol=0)
    assert Bernoulli().sample(outputs, np.random.default_rng(0)).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(("dtype", "f"), [("float64", 800.0), ("float32", 100.0)])
def test_overflowing_rates(dtype, f):
    outputs = np.array([[0.0, 1.0], [2.0, f]], dtype)
    hint = ", or use float64" if dtype == "float32" else ""
    message = f"outputs: expected rates e^f that {dtype} can hold, got exp({f:g}) at sample 1, output 1; scale"
    calls = [Poisson().information, Poisson().seeds, lambda o: Poisson().sample(o, np.random.default_rng(0))]
    calls += [lambda o, call=call: call(o, np.ones((2, 2), int)) for call in (Poisson().score, Poisson().log_density)]
    for call in calls:
        refused(ValueError, message, call, outputs)
        refused(ValueError, f"scale the weights of the last layer down{hint}", call, outputs)
    precisions = np.array([[0.0, 0.0, 1.0, -f]], dtype)
    message = f"outputs: expected inverse variances e^-s that {dtype} can hold, got exp({f:g}) at sample 0, output 3"
    refused(ValueError, message, HeteroscedasticGaussian().seeds, precisions)


def test_vanishing_rates():
    outputs, y = np.array([[-800.0]]), np.array([[2]])
    assert Poisson().information(outputs) == 0
    assert Poisson().seeds(outputs) == np.exp(-400)
    assert Poisson().log_density(outputs, y) == -1600 - math.log(2)
    assert Poisson().score(outputs, y) == 2
    assert Poisson().sample(outputs, np.random.default_rng(0)) == 0


def test_rates_too_large_to_draw_counts():
    message = (
        "outputs: expected rates e^f of at most about 9.2e18, for which NumPy can draw counts, got exp(50) at sample 1"
    )
    refused(ValueError, message, Poisson().sample, np.array([[1.0], [50.0]]), np.random.default_rng(0))
    large = np.array([[43.5]])
    count = Poisson().sample(large, np.random.default_rng(0))
    assert np.abs(Poisson().score(large, count)) < 10 * np.exp(43.5 / 2)  # and is taken as a target


@pytest.mark.parametrize("likelihood", [Gaussian(), Gaussian(1e-39), HeteroscedasticGaussian()], ids=repr)
def test_results_that_overflow(likelihood):
    outputs = np.zeros((1, 2), np.float32)
    y = np.full(likelihood.sample(outputs, np.random.default_rng(0)).shape, 3e38, np.float32)
    message = "log_density: expected finite numbers, got -inf at index (0,): it overflows float32; scale outputs"
    refused(ValueError, message, likelihood.log_density, outputs, y)
    refused(ValueError, "or use float64", likelihood.log_density, outputs, y)


def test_information_that_overflows():
    message = "information: expected finite numbers, got inf at index (0, 0): it overflows float32"
    refused(ValueError, message, Gaussian(1e-39).information, np.zeros((1, 2), np.float32))


# --- draws ----------------------------------------------------------------------------------------------


@BY_CLASS
def test_draws_have_the_moments_of_the_distribution(likelihood):
    """Scores of draws have mean 0 and second moment the information: 4 standard errors, seed fixed."""
    draws = 20_000
    for f in outputs_of(likelihood)[:2]:
        outputs = np.tile(f, (draws, 1))
        y = likelihood.sample(outputs, np.random.default_rng(5))
        scores = likelihood.score(outputs, y)
        products = np.einsum("ni,nj->nij", scores, scores)
        for values, mean in [(scores, 0), (products, likelihood.information(f[None])[0])]:
            error = values.std(axis=0) / np.sqrt(draws)
            assert (np.abs(values.mean(axis=0) - mean) <= 4 * error + 1e-15).all()


def test_classes_come_with_their_frequencies():
    f, draws = np.array([-1.0, 2.0, 0.0, 1.0]), 100_000
    counts = np.bincount(Categorical().sample(np.tile(f, (draws, 1)), np.random.default_rng(7)), minlength=4)
    g = np.exp(f) / np.exp(f).sum()
    assert (np.abs(counts - draws * g) <= 4 * np.sqrt(draws * g * (1 - g))).all()


@BY_CLASS
def test_one_seed_one_draw_whatever_the_batches(likelihood):
    outputs = draw(9)
    whole = likelihood.sample(outputs, np.random.default_rng(11))
    assert (whole == likelihood.sample(outputs, np.random.default_rng(11))).all()
    rng = np.random.default_rng(11)
    parts = [likelihood.sample(part, rng) for part in np.split(outputs, 3)]
    assert (np.concatenate(parts) == whole).all()
    assert (likelihood.sample(outputs, rng) != whole).any()


# --- precisions and formats -----------------------------------------------------------------------------


@BY_CLASS
def test_float32_is_float64_rounded(likelihood):
    single = draw(6).astype(np.float32)
    double = single.astype(np.float64)
    y = likelihood.sample(single, np.random.default_rng(0))
    wide = y.astype(np.float64) if y.dtype.kind == "f" else y
    assert (y == likelihood.sample(double, np.random.default_rng(0)).astype(y.dtype)).all()
    assert y.dtype == (np.int64 if isinstance(likelihood, (Categorical, Poisson)) else np.float32)
    for got, expected in [
        (likelihood.log_density(single, y), likelihood.log_density(double, wide)),
        (likelihood.score(single, y), likelihood.score(double, wide)),
        (likelihood.information(single), likelihood.information(double)),
        (likelihood.seeds(single), likelihood.seeds(double)),
    ]:
        assert got.dtype == np.float32
        assert (got == expected.astype(np.float32)).all()


@BY_CLASS
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_draws_are_targets(likelihood, dtype):
    outputs = draw().astype(dtype)
    y = likelihood.sample(outputs, np.random.default_rng(0))
    again = likelihood.as_targets(y, num_samples=5, num_outputs=C, dtype=np.dtype(dtype))
    assert again.dtype == y.dtype
    assert (again == y).all()


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64"])
def test_formats_of_counts_and_events(dtype):
    y = np.array([[0, 1], [1, 0]], dtype)
    format_ = {"num_samples": 2, "num_outputs": 2, "dtype": np.dtype("float32")}
    events = Bernoulli().as_targets(y, **format_)
    assert events.dtype == np.float32
    assert (events == y).all()
    if dtype != "bool":
        counts = Poisson().as_targets(y, **format_)
        assert counts.dtype == np.int64
        assert (counts == y).all()
    if np.dtype(dtype).kind in "iu":
        assert Categorical().as_targets(y[0], **format_).tolist() == [0, 1]


def test_lists_are_taken_as_float64():
    assert Gaussian().log_density([[0.0]], [[0.0]])[0] == pytest.approx(-0.5 * math.log(2 * math.pi))
    assert Categorical().score([[0, 0]], [1]).tolist() == [[-0.5, 0.5]]


# --- the likelihood of a user ---------------------------------------------------------------------------


class Laplace(Likelihood):
    """Four methods and nothing else; outputs are means and log scales (m, b), one target."""

    def log_density(self, outputs, targets):
        m, b = outputs.T
        return -np.abs(targets[:, 0] - m) * np.exp(-b) - b - math.log(2)

    def score(self, outputs, targets):
        m, b = outputs.T
        z = (targets[:, 0] - m) * np.exp(-b)
        return np.stack([np.sign(z) * np.exp(-b), np.abs(z) - 1], axis=1)

    def information(self, outputs):
        return np.array([np.diag([np.exp(-2 * b), 1.0]) for b in outputs[:, 1]])

    def sample(self, outputs, rng):
        return rng.laplace(outputs[:, :1], np.exp(outputs[:, 1:]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_own_likelihood(dtype):
    laplace, outputs = Laplace(), draw(6, 2).astype(dtype)
    assert laplace.name == "laplace"
    assert laplace.num_seeds(2) == 2
    assert likelihoods.get(laplace) is laplace
    laplace.check_outputs(1)
    seeds = laplace.seeds(outputs)
    assert seeds.dtype == dtype
    assert seeds.flags.c_contiguous
    np.testing.assert_allclose(square(seeds), laplace.information(outputs), rtol=1e-6 if dtype == "float32" else 1e-13)
    y = laplace.sample(np.tile(outputs[:1], (20_000, 1)), np.random.default_rng(0))
    scores = laplace.score(outputs[:1], y)
    assert (np.abs(scores.mean(axis=0)) < 4 * scores.std(axis=0) / 20_000**0.5).all()


def test_own_likelihood_in_the_fisher_information():
    net = ff.MLP(widths=(3, 5, 2), activation="tanh", weight_var=1.0, bias_var=0.1).sample(seed=0)
    X = draw(4, 3)
    J = ff.Fisher(net, X).jacobian()
    information = Laplace().information(net(X))
    expected = np.einsum("tcp,tcd,tdq->pq", J, information, J) / len(X)
    got = ff.Fisher(net, X, likelihood=Laplace()).dense()
    assert np.abs(got - expected).max() <= 1e-13 * np.abs(expected).max()


def with_information(information, rank=None):
    class Broken(Laplace):
        def information(self, outputs):
            return information(outputs)

        def num_seeds(self, num_outputs):
            return num_outputs if rank is None else rank

    return Broken()


@pytest.mark.parametrize(
    ("error", "message", "information", "rank"),
    [
        (ValueError, "information: expected shape (3, 2, 2), got (2, 2, 2)", lambda f: np.ones((2, 2, 2)), None),
        (ValueError, "information: expected 3 dimensions, got shape (2, 2)", lambda f: np.eye(2), None),
        (TypeError, "information: expected a float32 or float64 array", lambda f: np.ones((3, 2, 2), int), None),
        (ValueError, "information: expected finite numbers, got nan", lambda f: np.full((3, 2, 2), np.nan), None),
        (
            ValueError,
            "information: expected a symmetric matrix, got another at sample 1",
            lambda f: np.array([np.eye(2), [[1, 0.5], [0.4, 1]], np.eye(2)]),
            None,
        ),
        (
            ValueError,
            "information: expected no negative eigenvalue, got one at sample 2",
            lambda f: np.array([np.eye(2), np.eye(2), np.diag([1, -1e-6])]),
            None,
        ),
        (
            ValueError,
            "information: expected rank num_seeds = 1 or less, got a higher one at sample 0",
            lambda f: np.array([np.eye(2)] * 3),
            1,
        ),
        (ValueError, "num_seeds: expected at most C = 2, got 3", lambda f: np.array([np.eye(2)] * 3), 3),
        (ValueError, "num_seeds: expected an integer >= 1, got 0", lambda f: np.array([np.eye(2)] * 3), 0),
    ],
)
def test_wrong_information_of_an_own_likelihood(error, message, information, rank):
    refused(error, message, with_information(information, rank).seeds, np.zeros((3, 2)))


def test_own_information_of_lower_rank():
    seeds = with_information(lambda f: np.array([np.diag([0.0, 4.0])] * 3), rank=1).seeds(np.zeros((3, 2)))
    np.testing.assert_allclose(np.abs(seeds), [[[0, 2]] * 3], atol=1e-15)


def test_methods_that_are_missing():
    class Half(Likelihood):
        def score(self, outputs, targets):
            return outputs

    with pytest.raises(TypeError, match="abstract"):
        Half()


# --- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gaussian", Gaussian),
        ("heteroscedastic", HeteroscedasticGaussian),
        ("categorical", Categorical),
        ("softmax", Categorical),
        ("bernoulli", Bernoulli),
        ("poisson", Poisson),
    ],
)
def test_names(name, kind):
    likelihood = likelihoods.get(name)
    assert type(likelihood) is kind
    assert likelihood == kind()
    assert hash(likelihood) == hash(kind())
    assert likelihoods.get(likelihood.name) == likelihood
    assert likelihood.name == name or name == "softmax"
    assert likelihoods.get(likelihood) is likelihood


def test_unknown_likelihoods():
    names = "'gaussian', 'heteroscedastic', 'categorical', 'softmax', 'bernoulli', 'poisson'"
    refused(ValueError, f"likelihood: expected one of {names}, got 'normal'", likelihoods.get, "normal")
    message = f"likelihood: expected one of {names}, or an instance of a subclass of Likelihood, got "
    refused(TypeError, message + "None", likelihoods.get, None)
    refused(TypeError, message + "3", likelihoods.get, 3)
    refused(TypeError, message + "the class Gaussian; call it: Gaussian()", likelihoods.get, Gaussian)
    refused(TypeError, message, likelihoods.get, type("Other", (), {"seeds": None, "num_seeds": None})())


# --- bad input ------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("error", "message", "outputs"),
    [
        (ValueError, "outputs: expected 2 dimensions, got shape (4,)", np.zeros(4)),
        (TypeError, "outputs: expected a float32 or float64 array, got dtype int64", np.zeros((3, 4), np.int64)),
        (
            ValueError,
            "outputs: expected finite numbers, got nan at index (1, 2)",
            np.where(np.arange(12) == 6, np.nan, 0.0),
        ),
        (ValueError, "outputs: expected finite numbers, got inf at index (0, 0)", np.full(12, np.inf)),
        (ValueError, "outputs: expected at least one entry along every axis", np.zeros((0, 4))),
    ],
)
@BY_CLASS
def test_wrong_outputs(likelihood, error, message, outputs):
    outputs = outputs.reshape(3, 4) if outputs.size == 12 else outputs
    y = likelihood.sample(np.zeros((3, 4)), RNG)
    for call in (likelihood.seeds, likelihood.information):
        refused(error, message, call, outputs)
    for call in (likelihood.score, likelihood.log_density):
        refused(error, message, call, outputs, y)
    refused(error, message, likelihood.sample, outputs, RNG)


@BY_CLASS
def test_wrong_generator(likelihood):
    refused(TypeError, "rng: expected an integer, got 'seed'", likelihood.sample, np.zeros((3, 4)), "seed")


FLOATS, HALF = np.zeros((3, 4)), np.zeros((3, 2))
EVENTS = np.zeros((3, 4), int)


def replaced(array, value):
    array = array.copy()
    array.flat[-1] = value
    return array


@pytest.mark.parametrize(
    ("likelihood", "error", "message", "targets"),
    [
        (Gaussian(), ValueError, "targets: expected shape (3, 4), got (2, 4)", FLOATS[:2]),
        (Gaussian(), ValueError, "targets: expected 2 dimensions, got shape (3,)", FLOATS[:, 0]),
        (Gaussian(), TypeError, "targets: expected float64 like the outputs, got float32", FLOATS.astype("float32")),
        (Gaussian(), TypeError, "targets: expected a float32 or float64 array, got dtype int64", EVENTS),
        (Gaussian(), ValueError, "targets: expected finite numbers, got nan at index (2, 3)", replaced(FLOATS, np.nan)),
        (HeteroscedasticGaussian(), ValueError, "targets: expected shape (3, 2), got (3, 4)", FLOATS),
        (HeteroscedasticGaussian(), ValueError, "targets: expected finite numbers, got inf", replaced(HALF, np.inf)),
        (Categorical(), ValueError, "targets: expected class indices from 0 to 3, got 4 at index (2,)", [0, 1, 4]),
        (Categorical(), ValueError, "targets: expected class indices from 0 to 3, got -1 at index (0,)", [-1, 1, 3]),
        (Categorical(), TypeError, "targets: expected class indices from 0 to 3, got dtype float64", FLOATS[:, 0]),
        (Categorical(), TypeError, "targets: expected class indices from 0 to 3, got dtype bool", [True, False, True]),
        (Categorical(), ValueError, "shape (3,), got shape (2,)", [0, 1]),
        (Categorical(), ValueError, "got shape (3, 4); for rows of probabilities 0 and 1 give targets.argmax", EVENTS),
        (Categorical(), ValueError, "got masked entries; fill or remove", np.ma.array([0, 1, 2], mask=[0, 1, 0])),
        (Bernoulli(), ValueError, "targets: expected 0 or 1, got 2 at index (2, 3)", replaced(EVENTS, 2)),
        (Bernoulli(), ValueError, "targets: expected 0 or 1, got 0.5 at index (2, 3)", replaced(FLOATS, 0.5)),
        (Bernoulli(), ValueError, "targets: expected 0 or 1, got nan at index (2, 3)", replaced(FLOATS, np.nan)),
        (Bernoulli(), TypeError, "targets: expected 0 or 1, got dtype complex128", FLOATS + 0j),
        (Bernoulli(), ValueError, "targets: expected 0 or 1, shape (3, 4), got shape (3,)", EVENTS[:, 0]),
        (Bernoulli(), ValueError, "targets: expected shape (3, 4), got rows of different lengths", [[0], [0, 1]]),
        (Poisson(), ValueError, "targets: expected counts 0, 1, 2, ..., got -1 at index (2, 3)", replaced(EVENTS, -1)),
        (Poisson(), ValueError, "targets: expected counts 0, 1, 2, ..., got 1.5 at index", replaced(FLOATS, 1.5)),
        (Poisson(), ValueError, "targets: expected counts 0, 1, 2, ..., got inf at index", replaced(FLOATS, np.inf)),
        (Poisson(), ValueError, "targets: expected counts 0, 1, 2, ..., got 9.22", replaced(FLOATS, 2.0**63)),
        (Poisson(), ValueError, "got 18446744073709551615", replaced(EVENTS.astype(np.uint64), 2**64 - 1)),
        (Poisson(), TypeError, "targets: expected counts 0, 1, 2, ..., got dtype bool", EVENTS > 0),
    ],
)
def test_wrong_targets(likelihood, error, message, targets):
    for call in (likelihood.score, likelihood.log_density):
        refused(error, message, call, FLOATS, targets)
    refused(error, message, likelihood.as_targets, targets, num_samples=3, num_outputs=4, dtype=np.dtype("float64"))


def test_wrong_numbers_of_outputs():
    odd = "outputs: expected an even number for the heteroscedastic likelihood, got 3"
    one = "outputs: expected at least 2 for the categorical likelihood, got 1: with one output the class is certain"
    pair = "noise_var: expected one number, or one for each of 3 outputs, got 2"
    for likelihood, outputs, message in [
        (HeteroscedasticGaussian(), 3, odd),
        (Categorical(), 1, one),
        (Gaussian((1.0, 2.0)), 3, pair),
    ]:
        refused(ValueError, message, likelihood.check_outputs, outputs)
        refused(ValueError, message, likelihood.seeds, np.zeros((2, outputs)))
        likelihood.check_outputs(2)
    refused(ValueError, "for two classes with one logit use 'bernoulli'", Categorical().check_outputs, 1)


@pytest.mark.parametrize(
    ("error", "message", "noise_var"),
    [
        (ValueError, "noise_var: expected a number > 0, got -1.0", -1),
        (ValueError, "noise_var: expected a number > 0, got 0.0", 0.0),
        (ValueError, "noise_var: expected a finite number, got nan", np.nan),
        (TypeError, "noise_var: expected a number, got 'one'", "one"),
        (TypeError, "noise_var: expected a number, got None", None),
        (ValueError, "noise_var[1]: expected a number > 0, got -2.0", [1.0, -2.0]),
        (ValueError, "noise_var[0]: expected a finite number, got inf", np.array([np.inf])),
        (ValueError, "noise_var: expected a number, or one for each output, got an empty sequence", ()),
    ],
)
def test_wrong_variances(error, message, noise_var):
    refused(error, message, Gaussian, noise_var=noise_var)


def test_variances_in_any_sequence():
    for values in ([1, 2.5], (1.0, 2.5), np.array([1, 2.5])):
        assert Gaussian(noise_var=values) == Gaussian(noise_var=(1.0, 2.5))
    assert Gaussian(np.float32(2)) == Gaussian(2) == Gaussian(np.array(2.0))
