"""Layer-wise approximations against dense matrices, and natural gradient descent against the laws it should follow."""

import dataclasses
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield.learning.approximations import APPROXIMATIONS, approximate_fisher
from fisherfield.learning.natural_gradient import NaturalGradient
from fisherfield.plot import natural
from test_kinds import draw_targets, laws_for, likelihood_of, moderate
from tolerances import assert_close

from cases import cases, make_case

LAWS = ["gaussian", "heteroscedastic", "categorical", "bernoulli", "poisson"]


def plain(*arguments, **options):
    """Natural gradient descent as the equation has it: unit steps, fixed damping."""
    return NaturalGradient(*arguments, **{"learning_rate": 1.0, "adapt_damping": False, **options})


def tri_diagonal(L):
    return np.eye(L) + np.eye(L, k=1) + np.eye(L, k=-1)


def allowed(depth):
    return [name for name in APPROXIMATIONS if name != "tri_diagonal" or depth % 3 != 2]


def sigma_of(name, depth):
    if not isinstance(name, str):
        return name
    return {"exact": np.ones((depth, depth)), "block_diagonal": np.eye(depth), "tri_diagonal": tri_diagonal(depth)}[
        name
    ]


def dense_of(fim, approximation, damping):
    """The damped matrix, entry by entry from the Jacobian, or for K-FAC from sums of outer products."""
    T, sizes = fim.num_samples, [layer.num_parameters for layer in fim.factors]
    layer_of = np.repeat(np.arange(len(sizes)), sizes)
    if not (isinstance(approximation, str) and approximation == "kfac"):
        J = fim.jacobian().reshape(-1, fim.shape[0])
        sigma = sigma_of(approximation, len(sizes))
        return sigma[np.ix_(layer_of, layer_of)] * (J.T @ J) / T + damping * np.eye(len(layer_of))
    G = np.zeros(fim.shape)
    for l, layer in enumerate(fim.factors):
        a = np.column_stack([layer.A, np.ones((T, int(layer.bias)))])
        A = sum(np.outer(x, x) for x in a) / T
        B = sum(np.outer(x, x) for x in layer.B.reshape(-1, layer.B.shape[2])) / T
        balance = np.sqrt(np.trace(A) / len(A) / (np.trace(B) / len(B))) if np.trace(A) * np.trace(B) > 0 else 1.0
        A += balance * np.sqrt(damping) * np.eye(len(A))
        B += np.sqrt(damping) / balance * np.eye(len(B))
        outputs, inputs = B.shape[0], layer.A.shape[1]
        places = [(i, j) for i in range(outputs) for j in range(inputs)]
        places += [(i, inputs) for i in range(outputs)] * layer.bias
        i, j = np.array(places).T
        G[np.ix_(layer_of == l, layer_of == l)] = B[np.ix_(i, i)] * A[np.ix_(j, j)]
    return G


@st.composite
def problems(draw, **options):
    """A network with inputs, a law, and an approximation; half of the matrices Sigma are not definite."""
    case = draw(cases(max_width=6, max_samples=6, max_outputs=3, **options))
    assume(case.smooth_here and moderate(case.net(case.X)))
    law = draw(st.sampled_from(laws_for(case.net.num_outputs)))
    depth = case.net.depth
    name = draw(st.sampled_from([*allowed(depth), "Sigma"]))
    if name == "Sigma":
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        half = rng.standard_normal((depth, depth)) * (rng.random((depth, depth)) < 0.5) + np.eye(depth)
        name = half @ half.T if draw(st.booleans()) else half + half.T
        assume(name.any(axis=1).all())
    likelihood = likelihood_of(law, case.net.num_outputs)
    return (
        ff.Fisher(case.net, case.X, likelihood=likelihood),
        name,
        approximate_fisher(case.net, case.X, name, likelihood=likelihood),
    )


# --- the approximations against dense matrices ----------------------------------------------------------------


@settings(max_examples=80)
@given(problems(), st.sampled_from([1e-3, 0.1, 10.0]), st.integers(1, 2))
def test_solve(problem, damping, count):
    fim, name, found = problem
    matrix = dense_of(fim, name, damping)
    assert_close(found.dense(damping), matrix, tolerance=1e-12)
    assume(np.linalg.cond(matrix) < 1e5)
    g = np.random.default_rng(0).standard_normal((fim.shape[0], count))
    x = found.solve(g, damping)
    assert_close(x, np.linalg.solve(matrix, g), tolerance=1e-9)
    assert_close(found.solve(g[:, 0], damping), x[:, 0], tolerance=1e-9)
    if isinstance(name, str) and name != "tri_diagonal":
        assert (np.einsum("pk,pk->k", g, x) > 0).all()  # a direction of descent


@settings(max_examples=60)
@given(problems(), st.sampled_from([1e-3, 0.1, 10.0]))
def test_function_space(problem, damping):
    fim, name, found = problem
    matrix = dense_of(fim, name, damping)
    assume(np.linalg.cond(matrix) < 1e5)
    assume(isinstance(name, str) or found.gamma is not None)
    u = np.random.default_rng(0).standard_normal((fim.num_seeds, fim.num_samples))
    gradients = fim.jacobian().transpose(1, 0, 2).reshape(-1, fim.shape[0])
    expected = np.linalg.solve(matrix, gradients.T @ u.ravel())
    scale = max(np.abs(expected).max(), 1e-3)
    assert_close(found.solve_function_space(u, damping), expected, tolerance=1e-9, scale=scale)
    response = gradients @ np.linalg.solve(matrix, gradients.T) / fim.num_samples
    mean = np.trace(response) / len(response)
    assume(abs(mean) > 1e-3)
    isotropy = found.isotropy(damping)
    deviation = np.linalg.norm((response + response.T) / 2 - mean * np.eye(len(response)), 2) / abs(mean)
    assert isotropy.gamma == pytest.approx(mean, rel=1e-8)
    assert isotropy.deviation == pytest.approx(deviation, rel=1e-7, abs=1e-7)
    assert isotropy.damping == damping


@settings(max_examples=25)
@given(problems())
def test_much_damping_leaves_the_gradient(problem):
    fim, name, found = problem
    g, damping = np.random.default_rng(0).standard_normal(fim.shape[0]), 1e14
    top = max(np.linalg.norm(dense_of(fim, name, 0.0), 2), 1e-3)
    allowed_error = 4 * np.sqrt(top / damping) + top / damping if isinstance(name, str) else 1e6 / damping
    assert_close(damping * found.solve(g, damping), g, tolerance=max(10 * allowed_error, 1e-12))


def test_exact_is_the_fisher_information_matrix():
    case = make_case((4, 6, 5, 3), ("tanh", "sin"), 5)
    for law in ("gaussian", "categorical"):
        fim, found = (
            ff.Fisher(case.net, case.X, likelihood=law),
            approximate_fisher(case.net, case.X, "exact", likelihood=law),
        )
        assert_close(found.dense(), fim.dense(), tolerance=1e-13)
        g = np.random.default_rng(0).standard_normal(fim.shape[0])
        assert_close(found.solve(g, 0.01), fim.solve(g, 0.01), tolerance=1e-11)
        blocks = approximate_fisher(case.net, case.X, likelihood=law).dense()
        for l, part in enumerate(found.fisher.parameter_slices.values()):
            if l % 2 == 0:  # W; the layer's block has b too
                assert_close(blocks[part, part], fim.dense()[part, part], tolerance=1e-13)


def test_kfac_is_exact_for_one_sample():
    """The mean of a Kronecker product over one sample is the product of the means."""
    case = make_case((4, 6, 1), ("tanh",), 1)
    kfac, blocks = (approximate_fisher(case.net, case.X, name) for name in ("kfac", "block_diagonal"))
    assert_close(kfac.dense(), blocks.dense(), tolerance=1e-13)


def test_damping_of_kfac_follows_no_factor_moved_between_its_sides():
    """Twice the read-out and half the last inputs leave all blocks but the last as they are, up to factors."""
    rng = np.random.default_rng(0)
    W1, W2, X = rng.standard_normal((6, 4)), rng.standard_normal((1, 6)), rng.standard_normal((5, 4))
    plain, scaled = (
        approximate_fisher(ff.Network([W1, c * W2], activation="linear"), X / c, "kfac") for c in (1.0, 8.0)
    )
    g, first = rng.standard_normal(30), slice(0, 24)
    assert_close(plain.solve(g, 0.1)[first], scaled.solve(g, 0.1)[first], tolerance=1e-12)


# --- isotropy -------------------------------------------------------------------------------------------------


def wide(depth, width=300, samples=12, outputs=1, seed=0, **options):
    net = ff.MLP((width,) * depth + (outputs,), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=seed, **options)
    return net, np.random.default_rng(seed).standard_normal((samples, width)).astype(net.dtype)


@pytest.mark.parametrize(("depth", "gamma"), [(3, 1), (4, 2), (6, 2), (7, 3), (9, 3)])
def test_gamma(depth, gamma):
    """1^T Sigma^-1 1 (Karakida, Osawa 2020), and the response it should describe."""
    net, X = wide(depth)
    for name, expected in (("exact", 1), ("block_diagonal", depth), ("tri_diagonal", gamma)):
        found = approximate_fisher(net, X, name)
        assert found.gamma == pytest.approx(expected, rel=1e-12)
        isotropy = found.isotropy(1e-7)
        assert isotropy.gamma == pytest.approx(expected, rel=1e-7)
        assert isotropy.deviation < 1e-7


@pytest.mark.parametrize("outputs", [1, 2])
def test_gamma_of_kfac(outputs):
    """T for every hidden layer; 1 for the last one, whose seeds are the same at every sample."""
    net, X = wide(4, samples=12, outputs=outputs)
    found = approximate_fisher(net, X, "kfac")
    assert found.gamma is None
    assert found.isotropy(0.0).gamma == pytest.approx(3 * 12 + 1, rel=1e-9)
    damped = found.isotropy(1e-12)
    assert damped.gamma == pytest.approx(37, rel=1e-4)
    assert damped.deviation < 1e-4
    hidden = sum(np.trace(part.response(1e-12)) / (12 * outputs) for _, part in found._parts[:3])
    assert hidden == pytest.approx(36, rel=1e-4)


def test_more_damping_is_less_isotropic():
    net, X = wide(3, width=60)
    for name in ("exact", "block_diagonal", "kfac"):
        found = approximate_fisher(net, X, name)
        gammas, deviations = zip(*((i.gamma, i.deviation) for i in map(found.isotropy, (1e-6, 1e-2, 1.0))), strict=True)
        assert sorted(gammas, reverse=True) == list(gammas)
        assert sorted(deviations) == list(deviations)


@pytest.mark.parametrize("depth", [2, 5, 8])
def test_singular_tri_diagonal(depth):
    net, X = wide(depth, width=60, samples=6)
    with pytest.raises(ValueError, match=rf"approximation: 'tri_diagonal' is singular for L = 2, 5, 8.*L = {depth}"):
        approximate_fisher(net, X, "tri_diagonal")
    with pytest.raises(ValueError, match="metric: 'tri_diagonal' is singular"):
        plain(net, X, targets=net(X), metric="tri_diagonal")
    found = approximate_fisher(net, X, tri_diagonal(depth))  # (1, ..., 1) is an image all the same
    assert found.gamma == pytest.approx((depth + 1) / 3, rel=1e-12)
    assert found.isotropy(1e-8).gamma == pytest.approx((depth + 1) / 3, rel=1e-6)
    assert found.isotropy(1e-8).deviation < 1e-6


def test_sigma_without_the_ones():
    net, X = wide(2, width=60, samples=6)
    found = approximate_fisher(net, X, [[1.0, 2.0], [2.0, 4.0]])
    assert found.gamma is None
    for ask in (found.isotropy, lambda: found.solve_function_space(np.ones((1, 6)))):
        with pytest.raises(ValueError, match=r"Sigma: expected an invertible matrix, or one with \(1, ..., 1\)"):
            ask()
    g = np.ones(net.num_parameters)
    left = g - 0.1 * found.solve(g, 0.1) - found.dense() @ found.solve(g, 0.1)
    assert np.abs(left).max() < 1e-10


def test_tri_diagonal_is_not_definite():
    """Between the smallest eigenvalues and the lowest one of G, damping may point the step uphill."""
    net, X = wide(3, width=20, samples=6)
    found = approximate_fisher(net, X, "tri_diagonal")
    values, vectors = np.linalg.eigh(found.dense())
    assert values[0] < -0.1
    lowest = vectors[:, 0]
    assert lowest @ found.solve(lowest, -values[0] / 2) < 0
    assert lowest @ found.solve(lowest, -values[0] * 2) > 0
    milder = approximate_fisher(net, X, (np.eye(3) + tri_diagonal(3)) / 2)  # off-diagonals 1/2
    assert np.linalg.eigvalsh(milder.dense())[0] > -1e-12


# --- laws of the descent --------------------------------------------------------------------------------------


def teacher_problem(width, samples=12, seed=0):
    net = ff.MLP((20, width, width, 1), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=seed)
    X = np.random.default_rng(seed + 10).standard_normal((samples, 20))
    return net, X, ff.MLP((20, 50, 50, 1), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=seed + 20)(X)


def law_deviation(net, X, y, metric, eta=0.3, steps=8):
    """Largest distance of the residuals from (1 - eta)^t times the first ones, relative to these, in per cent or so."""
    gamma = approximate_fisher(net, X, metric).isotropy(1e-12).gamma
    opt = plain(net, X, targets=y, metric=metric, damping=1e-12, learning_rate=eta / gamma)
    first, found = net(X) - y, 0.0
    for t in range(1, steps + 1):
        opt.step()
        expected = (1 - eta) ** t * first
        found = max(found, np.linalg.norm(opt.network(X) - y - expected) / np.linalg.norm(expected))
    return found


@pytest.mark.parametrize(
    ("metric", "limit"), [("exact", 3e-3), ("block_diagonal", 3e-3), ("tri_diagonal", 3e-3), ("kfac", 8e-3)]
)
def test_residual_law(metric, limit):
    """(1 - gamma eta)^t in the limit of infinite width; what is left falls with the width."""
    narrow, wider = (
        np.mean([law_deviation(*teacher_problem(width, seed=seed), metric) for seed in range(3)])
        for width in (100, 800)
    )
    assert wider < limit
    assert wider < narrow / 4


def near_solution(metric="exact", **options):
    """Targets so close that the network is linear on the way to them."""
    net, X, _ = teacher_problem(60, samples=8)
    y = net(X) + 1e-5 * np.random.default_rng(0).standard_normal((8, 1))
    opt = plain(net, X, targets=y, metric=metric, damping=0.0, **options)
    return opt, lambda: opt.network(X) - y


@pytest.mark.parametrize("metric", ["exact", "block_diagonal", "tri_diagonal"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("part", [0.5, 0.98, 1.02])
def test_critical_learning_rate(metric, momentum, part):
    """Residuals follow r_t+1 = (1 + mu - eta gamma) r_t - mu r_t-1, and grow beyond eta gamma = 2 (1 + mu)."""
    gamma = {"exact": 1, "block_diagonal": 3, "tri_diagonal": 1}[metric]
    eta = part * 2 * (1 + momentum)
    opt, residuals = near_solution(metric, learning_rate=eta / gamma, momentum=momentum)
    before, now = residuals(), residuals()
    first = np.linalg.norm(now)
    for _ in range(30):
        opt.step()
        before, now = now, (1 + momentum - eta) * now - momentum * before
        assert_close(residuals(), now, tolerance=1e-2, scale=np.abs(now).max() + 1e-4 * first)
    if part != 0.5:
        assert (np.linalg.norm(residuals()) > 2 * first) == (part > 1)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("metric", [*APPROXIMATIONS, "Sigma"])
def test_a_step_is_a_damped_solve(law, metric):
    for residual in (False, True):
        case = make_case((3, 5, 5, 2), ("tanh",) * (2 - residual), 6, seed=3, residual=residual)
        likelihood = likelihood_of(law, 2)
        y = draw_targets(law, case.net(case.X))
        chosen = np.diag([1.0, 2.0, 3.0]) + 0.5 if metric == "Sigma" else metric
        gradient = ff.loss_gradient(case.net, case.X, likelihood, targets=y)
        matrix = dense_of(ff.Fisher(case.net, case.X, likelihood=likelihood), chosen, 0.3)
        opt = plain(case.net, case.X, likelihood, targets=y, metric=chosen, damping=0.3, learning_rate=0.05)
        done = opt.step()
        moved = opt.network.parameters() - case.net.parameters()
        assert_close(moved, -0.05 * np.linalg.solve(matrix, gradient), tolerance=1e-7 if metric == "exact" else 1e-9)
        assert (done.index, done.learning_rate, done.damping, done.ratio, done.evaluations) == (0, 0.05, 0.3, None, 1)
        density = ff.likelihoods.get(likelihood).log_density
        drop = np.mean(density(opt.network(case.X), y) - density(case.net(case.X), y))
        assert done.loss_before - done.loss_after == pytest.approx(drop, rel=1e-9)
        assert done.loss_after == opt.loss()


def test_squared_loss_has_no_constant():
    case = make_case((3, 5, 2), ("tanh",), 6)
    y = np.ones((6, 2))
    found = plain(case.net, case.X, targets=y).loss()
    assert found == pytest.approx(np.square(case.net(case.X) - y).sum() / 12, rel=1e-14)


def test_heavy_ball():
    case = make_case((3, 5, 2), ("tanh",), 6)
    y = np.zeros((6, 2))
    opt = plain(case.net, case.X, targets=y, damping=1.0, learning_rate=0.2, momentum=0.6)
    theta, velocity = case.net.parameters(), 0.0
    for _ in range(4):
        net = case.net.with_parameters(theta)
        natural = ff.Fisher(net, case.X).solve(ff.loss_gradient(net, case.X, targets=y), 1.0)
        velocity = 0.6 * velocity - 0.2 * natural
        theta = theta + velocity
        opt.step()
    assert_close(opt.network.parameters(), theta, tolerance=1e-11)


# --- step sizes and damping -----------------------------------------------------------------------------------


def digits(samples=40):
    from sklearn.datasets import load_digits

    images, y = load_digits(return_X_y=True)
    net = ff.MLP((64, 20, 20, 10), "tanh").sample(seed=0)
    return net, (images[:samples] - images.mean()) / images.std(), "cross_entropy", y[:samples]


def optimiser(**options):
    net, X, loss, y = digits()
    return plain(net, X, loss, targets=y, **options)


@pytest.mark.parametrize("metric", ["exact", "block_diagonal", "kfac"])
def test_line_search_lowers_the_loss(metric):
    run = optimiser(metric=metric, damping=1e-3, line_search=True, momentum=0.5).run(15)
    assert run.status == "finished"
    assert (np.diff(run.losses) < 0).all()
    assert run.losses[-1] < 0.01 * run.losses[0]
    halved = [done for done in run.steps if done.learning_rate < 1]
    assert halved
    for done in run.steps:
        assert done.learning_rate == 0.5 ** (done.evaluations - 1)


@pytest.mark.parametrize("metric", ["exact", "block_diagonal", "kfac"])
def test_adapted_damping(metric):
    run = optimiser(metric=metric, damping=1e-3, adapt_damping=True, learning_rate=None).run(20)
    assert run.status == "finished"
    assert (np.diff(run.losses) < 0).all()
    assert run.losses[-1] < 1e-3 * run.losses[0]
    refused = 0
    for before, after in zip(run.steps, run.steps[1:], strict=False):
        factor = 4 if before.ratio < 0.25 else 0.5 if before.ratio > 0.75 else 1
        refused += after.evaluations > 1
        assert after.damping == pytest.approx(before.damping * factor * 4 ** (after.evaluations - 1))
    assert refused or run.steps[0].evaluations > 1 or metric == "kfac"


@settings(max_examples=40)
@given(cases(max_width=6, max_samples=6, max_outputs=3), st.data(), st.sampled_from([1e-2, 1.0]))
def test_a_searched_step_never_raises_the_loss(case, data, damping):
    assume(case.smooth_here and moderate(case.net(case.X)))
    law = data.draw(st.sampled_from(laws_for(case.net.num_outputs)))
    y = draw_targets(law, case.net(case.X), data.draw(st.integers(0, 9)))
    metric = data.draw(st.sampled_from(["exact", "block_diagonal", "kfac"]))
    loss = likelihood_of(law, case.net.num_outputs)
    gradient = ff.loss_gradient(case.net, case.X, loss, targets=y)
    opt = plain(case.net, case.X, loss, targets=y, metric=metric, damping=damping, line_search=True)
    done = opt.step()
    if np.linalg.norm(gradient) > 1e-6:
        assert done.loss_after < done.loss_before
        assert done.learning_rate == 0.5 ** (done.evaluations - 1)
    assert done.loss_after <= done.loss_before
    assert opt.loss() == done.loss_after


def test_ratio():
    """Near a solution the quadratic model is right; its decrease comes from the Fisher information matrix."""
    net, X, _ = teacher_problem(40, samples=8)
    y = net(X) + 1e-4
    for metric in ("exact", "block_diagonal", "kfac"):
        opt = plain(net, X, targets=y, metric=metric, damping=1e-4, learning_rate=None)
        done = opt.step()
        assert done.ratio == pytest.approx(1, rel=1e-2)
        gradient, fim = ff.loss_gradient(net, X, targets=y), ff.Fisher(net, X)
        move = opt.network.parameters() - net.parameters()
        promised = -gradient @ move - move @ (fim @ move) / 2
        assert done.ratio == pytest.approx((done.loss_before - done.loss_after) / promised, rel=1e-6)
        natural = -move / done.learning_rate
        best = gradient @ natural / (natural @ (fim @ natural) + 1e-4 * natural @ natural)
        assert done.learning_rate == pytest.approx(best, rel=1e-6)
        assert done.learning_rate == pytest.approx(1, rel=1e-6) or metric != "exact"


def test_divergence_is_told():
    case = make_case((3, 20, 1), ("relu",), 6)
    opt = plain(case.net, case.X, targets=np.ones((6, 1)), learning_rate=50.0)
    run = opt.run(100)
    assert run.diverged
    assert run.status == "diverged"
    assert len(run.steps) < 100
    assert not run.losses[-1] <= 1000 * run.losses[0]
    assert np.isfinite(run.network.parameters()).all()
    assert opt.loss() == pytest.approx(run.losses[-2])  # before the step that diverged
    with pytest.raises(RuntimeError, match="loss grew out of bounds"):
        opt.step()


@pytest.mark.parametrize("rate", [1e200, 1e308])
@pytest.mark.parametrize("loss", ["squared", "poisson"])
def test_overflow_is_divergence(rate, loss):
    case = make_case((3, 20, 1), ("relu",), 6)
    run = plain(case.net, case.X, loss, targets=np.ones((6, 1)), learning_rate=rate).run(3)
    assert run.diverged
    assert run.losses[-1] == np.inf


def test_what_does_not_move_has_stalled():
    net, X, _ = teacher_problem(20, samples=5)
    for options in ({"line_search": True}, {"adapt_damping": True}):
        opt = plain(net, X, targets=net(X), **options)
        run = opt.run(5)
        assert run.status == "stalled"
        assert len(run.steps) == 1
        assert run.steps[0].learning_rate == 0
        assert run.losses.tolist() == [0.0, 0.0]
        assert opt.damping == 1e-3
        np.testing.assert_array_equal(opt.network.parameters(), net.parameters())


def test_adapted_damping_recovers_from_a_singular_matrix():
    """Two equal inputs and no damping to speak of."""
    net, X, y = teacher_problem(20, samples=5)
    X, y = np.concatenate([X, X]), np.concatenate([y, y])
    with pytest.raises(ValueError, match="damping: expected enough to make a matrix of size 10 positive definite"):
        plain(net, X, targets=y, damping=1e-300).step()
    run = plain(net, X, targets=y, damping=1e-18, adapt_damping=True).run(3)
    assert run.steps[0].damping > 1e-18
    assert run.losses[-1] < run.losses[0]


def test_run():
    seen = []
    opt = optimiser(damping=0.1)
    run = opt.run(50, until=0.1, progress=lambda *counts: seen.append(counts))
    assert run.status == "reached"
    assert seen == [(k, 50) for k in range(1, len(run.steps) + 1)]
    assert run.losses[-1] <= 0.1 < run.losses[-2]
    assert run.steps_to(0.1) == len(run.steps) < 50
    assert run.steps_to(-1.0) is None
    assert run.steps_to(1e9) == 0
    assert run.network is opt.network
    further = opt.run(2)
    assert [done.index for done in further.steps] == [len(run.steps), len(run.steps) + 1]
    assert further.losses[0] == run.losses[-1]
    assert repr(further) == f"NaturalGradientRun(finished after 2 steps, loss {further.losses[-1]:.4g})"
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.steps[0].index = 1


# --- mini-batches, threads, precision, memory -----------------------------------------------------------------


def test_mini_batches():
    net, X, loss, y = digits()
    runs = [plain(net, X, loss, targets=y, damping=0.1, batch_size=15, seed=seed).run(6) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0].losses, runs[1].losses)
    assert (runs[0].losses != runs[2].losses).any()
    opt = plain(net, X, loss, targets=y, damping=0.1, batch_size=15, seed=0)
    assert opt.loss() > plain(runs[0].network, X, loss, targets=y).loss()
    whole, batch = (plain(net, X, loss, targets=y, damping=0.1, batch_size=n).run(3) for n in (None, 40))
    np.testing.assert_array_equal(whole.losses, batch.losses)


def test_batches_use_every_sample_once():
    """With one layer and one sample a step, each step moves along its own input."""
    net, X = ff.Network([np.zeros((1, 6))]), np.eye(6)
    opt = plain(net, X, targets=np.ones((6, 1)), damping=0.0, batch_size=1, seed=0)
    for t in range(6):
        opt.step()
        assert np.isclose(opt.network.weights[0], 1).sum() == t + 1


@pytest.mark.parametrize("metric", ["exact", "block_diagonal", "tri_diagonal", "kfac"])
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_no_bit_depends_on_threads(metric, loss):
    case = make_case((30, 97, 60, 3), ("tanh", "gelu"), 40)
    y = np.ones((40, 3)) if loss == "squared" else np.arange(40) % 3
    found = []
    for count in (1, 2, 4):
        with ThreadPoolExecutor(count) as pool:
            opt = plain(
                case.net, case.X, loss, targets=y, metric=metric, damping=0.1, learning_rate=None, executor=pool
            )
            opt.run(2)
            found.append(opt.network.parameters())
            approximation = approximate_fisher(case.net, case.X, metric, executor=pool)
            found[-1] = np.append(found[-1], approximation.isotropy(0.1).gamma)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("metric", ["exact", "block_diagonal", "tri_diagonal", "kfac"])
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_float32(metric, loss):
    case = make_case((6, 12, 10, 3), ("tanh", "sin"), 7, dtype="float32")
    twin = make_case((6, 12, 10, 3), ("tanh", "sin"), 7)
    y = np.ones((7, 3)) if loss == "squared" else np.arange(7) % 3
    moves = []
    for c in (case, twin):
        targets = y.astype(c.net.dtype) if loss == "squared" else y
        opt = plain(c.net, c.X, loss, targets=targets, metric=metric, damping=0.1, learning_rate=None)
        opt.step()
        moves.append(opt.network.parameters() - c.net.parameters())
        assert opt.network.dtype == c.net.dtype
    assert_close(moves[0], moves[1], tolerance=1e-4)
    found = approximate_fisher(case.net, case.X, metric)
    g = np.ones(found.shape[0], "float32")
    assert found.solve(g, 0.1).dtype == found.dense().dtype == found.dtype == np.float32
    assert found.solve_function_space(np.ones((3, 7), "float32"), 0.1).dtype == np.float32


@pytest.mark.parametrize("metric", ["exact", "block_diagonal", "kfac"])
def test_no_jacobian_is_formed(metric):
    """It would take 1.2 GB, and a block of the metric 8 TB."""
    case = make_case((50, 1000, 300, 10), ("tanh", "tanh"), 40)
    opt = plain(case.net, case.X, targets=np.ones((40, 10)), metric=metric)
    tracemalloc.start()
    try:
        opt.step()
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


# --- pictures -------------------------------------------------------------------------------------------------


def test_picture(tmp_path):
    matplotlib.use("Agg")
    run = optimiser(damping=0.1).run(3)
    ax = natural.descents({"exact": run, "ends": [1.0, 1e-3, 1e-20, 1e-30], "breaks": [2.0, np.inf]}, title="a title")
    lines = {line.get_label(): line.get_data() for line in ax.lines}
    np.testing.assert_array_equal(lines["exact"], (range(4), run.losses))
    assert lines["ends"][1].tolist() == [1.0, 1e-3, 5e-13]
    assert lines["breaks"][1].tolist() == [2.0]
    assert ax.get_ylim()[0] == 1e-12
    assert (ax.get_xscale(), ax.get_yscale()) == ("symlog", "log")
    assert ax.get_title(loc="left") == "a title"
    plt.close(ax.figure)
    path = natural.save_descents(tmp_path / "picture.png", {"exact": run}, floor=1e-3)
    assert path.stat().st_size > 1000
    assert plt.get_fignums() == []
    for runs, error, message in (
        ([1.0], TypeError, "runs: expected a mapping from labels to losses"),
        ({}, TypeError, "runs: expected a mapping from labels to losses, at least one"),
        ({"a": "b"}, ValueError, "runs['a']: expected losses, the first one finite and above 1e-12, got 'b'"),
        ({"a": [np.inf, 1.0]}, ValueError, "runs['a']: expected losses"),
        ({"a": [0.0]}, ValueError, "runs['a']: expected losses"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            natural.descents(runs)
    with pytest.raises(ValueError, match="floor: expected a number > 0, got 0"):
        natural.descents({"a": [1.0]}, floor=0)


# --- bad input ------------------------------------------------------------------------------------------------


def test_bad_approximations():
    case = make_case((3, 5, 4, 2), ("tanh", "tanh"), 6)
    for sigma, error, message in (
        ("diagonal", ValueError, "approximation: expected one of 'exact', 'block_diagonal', 'tri_diagonal', 'kfac'"),
        (np.eye(2), ValueError, "approximation: expected shape (3, 3), got (2, 2)"),
        (np.triu(np.ones((3, 3))), ValueError, "approximation: expected a symmetric matrix"),
        (np.diag([1.0, 0.0, 1.0]), ValueError, "approximation: expected no row of zeros, got one for layer 2"),
        (np.full((3, 3), np.nan), ValueError, "approximation: expected finite numbers"),
        (None, TypeError, "approximation: expected a float32 or float64 array"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            approximate_fisher(case.net, case.X, sigma)
    with pytest.raises(ValueError, match="likelihood: expected one of"):
        approximate_fisher(case.net, case.X, likelihood="cauchy")
    with pytest.raises(TypeError, match=r"net: expected a fisherfield\.Network"):
        approximate_fisher(3, case.X)


def test_bad_systems():
    case = make_case((3, 5, 4, 2), ("tanh", "tanh"), 6)
    g, u = np.ones(case.net.num_parameters), np.ones((2, 6))
    for name in APPROXIMATIONS:
        found = approximate_fisher(case.net, case.X, name)
        for call, error, message in (
            (lambda f: f.solve(g, 0), ValueError, "damping: expected a number > 0, got 0"),
            (lambda f: f.solve(g, "1"), TypeError, "damping: expected a number, got '1'"),
            (lambda f: f.solve(g[1:]), ValueError, "g: expected shape"),
            (lambda f: f.solve(g.astype("float32")), TypeError, "g: expected float64 like the metric"),
            (lambda f: f.solve(np.full_like(g, np.inf)), ValueError, "g: expected finite"),
            (lambda f: f.solve_function_space(u.T), ValueError, "u: expected shape (2, 6), got (6, 2)"),
            (lambda f: f.solve_function_space(u.astype("float32")), TypeError, "u: expected float64 like"),
            (lambda f: f.solve_function_space(u, -1), ValueError, "damping: expected a number >= 0, got -1"),
            (lambda f: f.isotropy(-1), ValueError, "damping: expected a number >= 0, got -1"),
            (lambda f: f.dense(-1), ValueError, "damping: expected a number >= 0, got -1"),
        ):
            with pytest.raises(error, match=re.escape(message)):
                call(found)
    twice = np.concatenate([case.X, case.X])
    with pytest.raises(ValueError, match=r"damping: .*positive definite beside rounding in float64.*take more"):
        approximate_fisher(case.net, twice).isotropy(0.0)
    dead = ff.Network([np.full((3, 2), -1.0), np.ones((2, 3)), np.ones((1, 2))], activation="relu")
    with pytest.raises(ValueError, match="damping: expected enough to make a matrix of size 6 invertible"):
        approximate_fisher(dead, np.ones((2, 2)), "tri_diagonal").isotropy(0.0)


def test_memory_is_told(monkeypatch):
    case = make_case((3, 5, 4, 2), ("tanh", "tanh"), 6)
    found = approximate_fisher(case.net, case.X)
    monkeypatch.setattr("fisherfield._memory.available_bytes", lambda: 1000)
    with pytest.raises(MemoryError, match="a system of size 12 and its factor needs"):
        found.solve(np.ones(found.shape[0]))
    with pytest.raises(MemoryError, match=r"the matrix of shape .* solve\(\) does without it"):
        found.dense()


def test_bad_optimisers():
    net, X, loss, y = digits(10)
    good = {"net": net, "X": X, "loss": loss, "targets": y}
    for change, error, message in (
        ({"net": 1}, TypeError, "net: expected a fisherfield.Network"),
        ({"X": X[:, 1:]}, ValueError, "X: expected shape"),
        ({"targets": y[1:]}, ValueError, "targets"),
        ({"targets": None}, ValueError, "targets: expected the observed targets, got None"),
        ({"loss": "hinge"}, ValueError, "loss: expected one of 'squared', 'cross_entropy'"),
        ({"metric": "adam"}, ValueError, "metric: expected one of 'exact', 'block_diagonal'"),
        ({"metric": np.eye(2)}, ValueError, "metric: expected shape (3, 3)"),
        ({"damping": -1}, ValueError, "damping: expected a number >= 0, got -1"),
        ({"damping": 0}, ValueError, "damping: expected a number > 0 with the loss of likelihood categorical, got 0"),
        ({"learning_rate": 0}, ValueError, "learning_rate: expected a number > 0, got 0"),
        ({"learning_rate": "auto"}, TypeError, "learning_rate: expected a number, got 'auto'"),
        ({"momentum": 1}, ValueError, "momentum: expected 0 <= momentum < 1, got 1"),
        ({"line_search": 1}, TypeError, "line_search: expected True or False, got 1"),
        ({"adapt_damping": 1}, TypeError, "adapt_damping: expected True or False, got 1"),
        ({"batch_size": 11}, ValueError, "batch_size: expected at most 10, the number of samples, got 11"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer >= 1, got 0"),
        ({"seed": -1}, ValueError, "seed: expected an integer >= 0, got -1"),
        ({"executor": 3}, TypeError, "executor: expected"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            plain(**{**good, **change})
    with pytest.raises(ValueError, match="damping: expected a number > 0 with adapt_damping, got 0"):
        plain(net, X, targets=net(X), damping=0, adapt_damping=True)
    opt = plain(**good)
    for change, error, message in (
        ({"steps": 0}, ValueError, "steps: expected an integer >= 1, got 0"),
        ({"until": "low"}, TypeError, "until: expected a number, got 'low'"),
        ({"progress": 3}, TypeError, "progress: expected None, True or a callable"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            opt.run(**change)


@pytest.mark.parametrize("metric", ["exact", "block_diagonal", "kfac"])
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_without_options_the_loss_falls_at_every_step(metric, loss):
    arch = ff.MLP((12, 30, 30, 4), "tanh", weight_var=2.0, bias_var=0.1)
    X = np.random.default_rng(0).standard_normal((40, 12))
    y = arch.sample(seed=1)(X) if loss == "squared" else np.random.default_rng(1).integers(0, 4, 40)
    opt = NaturalGradient(arch.sample(seed=0), X, loss, targets=y, metric=metric)
    assert repr(opt).startswith("NaturalGradient(0 steps, loss ")
    run = opt.run(steps=12)
    assert not run.diverged
    assert (np.diff(run.losses) < 0).all()
    assert run.losses[-1] < 1e-2 * run.losses[0]


@pytest.mark.parametrize("approximation", ["exact", "block_diagonal", "kfac"])
@pytest.mark.parametrize(("scale", "dtype"), [(1e160, "float64"), (1e20, "float32")])
def test_overflowing_gram_matrices_are_refused(approximation, scale, dtype):
    net = ff.MLP((4, 6, 2), "relu", bias_var=None).sample(0, dtype)
    X = (np.random.default_rng(0).standard_normal((5, 4)) * scale).astype(dtype)
    G = approximate_fisher(net, X, approximation)
    for call in (
        lambda: G.solve(np.ones(36, dtype)),
        lambda: G.solve_function_space(np.ones((2, 5), dtype), 1e-3),
        lambda: G.isotropy(1e-3),
        G.dense,
    ):
        with pytest.raises(ValueError, match="expected finite numbers"):
            call()


def test_isotropy_without_gradients():
    net = ff.Network([np.zeros((6, 4)), np.zeros((2, 6))], None, activation="relu")
    found = approximate_fisher(net, np.ones((5, 4)), "block_diagonal").isotropy(1e-3)
    assert found.gamma == 0
    assert np.isnan(found.deviation)
