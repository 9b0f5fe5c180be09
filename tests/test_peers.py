"""Every Fisher matrix against other libraries, with the factor that turns theirs into ours (docs/which-fisher.md).

All of them form the same matrices and differ in scale alone. The scale follows from what they do with the loss of
PyTorch, which is ``unit / divisor`` times a negative log likelihood (``Problem``): the exact Fisher is linear in the
loss, the empirical one quadratic in its gradient.
"""

import numpy as np
import pytest

import fisherfield as ff
from tolerances import assert_close
from torch_twin import Problem, jacobian, torch_model

from cases import make_case

pytestmark = [
    # linear_operator, which curvlinops imports, compiles functions at import in a way that PyTorch deprecates.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

T = 11
TOLERANCE = 1e-12
EACH_LIKELIHOOD = [("gaussian", 3), ("categorical", 3), ("bernoulli", 3)]
ONE_BERNOULLI_OUTPUT = [("gaussian", 3), ("categorical", 3), ("bernoulli", 1)]  # all that BackPACK knows
every_reduction = pytest.mark.parametrize("reduction", ["mean", "sum"])


def library(name, package):
    return pytest.importorskip(name, reason=f"{package} is not installed (extra 'peers')")


@pytest.fixture(scope="module")
def torch():
    return library("torch", "torch")


@pytest.fixture(scope="module")
def curvlinops(torch):
    return library("curvlinops", "curvlinops-for-pytorch")


@pytest.fixture
def nngeometry(torch):
    """nngeometry makes some of its constants in the default precision."""
    module = library("nngeometry", "nngeometry")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield module
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def backpack(torch):
    return library("backpack", "backpack-for-pytorch")


def draw_targets(likelihood, shape, rng):
    if likelihood == "gaussian":
        return rng.standard_normal(shape)
    if likelihood == "categorical":
        return rng.integers(0, shape[1], shape[0])
    return rng.integers(0, 2, shape).astype(float)


def make_problem(likelihood, outputs, reduction="mean", hidden=(7, 6)):
    case = make_case((5, *hidden, outputs), ("tanh",) * len(hidden), T, seed=2)
    targets = draw_targets(likelihood, (T, outputs), np.random.default_rng(1))
    return Problem(case.net, case.X, targets, likelihood, reduction)


def fisher(problem, kind="exact", **options):
    return ff.Fisher(problem.net, problem.X, likelihood=problem.likelihood, kind=kind, **options)


def empirical(problem):
    return fisher(problem, "empirical", targets=problem.targets)


def assert_within_band(draws, expected):
    """The mean of independent estimates lies within 5 standard errors, small ones, of what they should tend to."""
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(expected)
    assert np.abs((np.mean(draws, axis=0) - expected) / error).max() < 5


# --- PyTorch --------------------------------------------------------------------------------------------


def test_parameters_and_outputs_have_the_order_of_pytorch(torch):
    problem = make_problem("gaussian", 3)
    expected = jacobian(problem.model, problem.inputs)
    assert_close(problem.net(problem.X), problem.model(problem.inputs).detach().numpy())
    assert_close(ff.Fisher(problem.net, problem.X).jacobian(), expected, tolerance=TOLERANCE)


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
@every_reduction
def test_hessian_of_the_loss_of_a_linear_model(torch, likelihood, outputs, reduction):
    """Where f is linear in the parameters, the Hessian that autograd gives is the generalized Gauss-Newton matrix."""
    problem = make_problem(likelihood, outputs, reduction, hidden=())
    X, y, sizes = problem.inputs, problem.tensor(problem.targets), [5 * outputs, outputs]

    def loss(theta):
        W, b = theta.split(sizes)
        return problem.loss(X @ W.view(outputs, -1).T + b, y)

    theta = torch.nn.utils.parameters_to_vector(problem.model.parameters()).detach()
    hessian = torch.func.hessian(loss)(theta).numpy()
    factor = problem.divisor / (problem.unit * T)  # F is a mean over samples of -log p, not over outputs
    assert_close(factor * hessian, fisher(problem).dense(), tolerance=TOLERANCE)


@pytest.mark.parametrize("same", [True, False])
def test_ntk(torch, same):
    problem = make_problem("gaussian", 3)
    X1 = problem.X
    X2 = X1 if same else X1[:4] + 0.5
    J1, J2 = (jacobian(problem.model, torch.tensor(X)) for X in (X1, X2))
    factor = 1  # neither is divided by T
    kernel = factor * np.einsum("skp,tqp->stkq", J1, J2)
    inputs = (X1,) if same else (X1, X2)
    assert_close(kernel, ff.ntk(problem.net, *inputs), tolerance=TOLERANCE)
    assert_close(np.einsum("stkk->st", kernel), ff.ntk(problem.net, *inputs, trace=True), tolerance=TOLERANCE)


def test_ntk_is_the_gaussian_dual_times_the_samples():
    problem = make_problem("gaussian", 3)
    kernel = ff.ntk(problem.net, problem.X).transpose(2, 0, 3, 1).reshape(3 * T, 3 * T)
    factor = 1 / T  # the dual of a mean over samples
    assert_close(factor * kernel, fisher(problem).dual(), tolerance=TOLERANCE)


# --- curvlinops -----------------------------------------------------------------------------------------


def curvlinops_matrix(problem, operator, targets=None, **options):
    """Product of one of its operators with the identity."""
    import torch

    y = problem.tensor(problem.targets if targets is None else targets)
    # Its check that the loss is deterministic multiplies with random vectors: only the cost is of interest here.
    arguments = (problem.model, problem.loss, list(problem.model.parameters()), [(problem.inputs, y)])
    matrix = operator(*arguments, check_deterministic=False, **options)
    return (matrix @ torch.eye(problem.net.num_parameters, dtype=torch.float64)).detach().numpy()


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
@every_reduction
def test_curvlinops_exact(curvlinops, likelihood, outputs, reduction):
    problem = make_problem(likelihood, outputs, reduction)
    factor = problem.divisor / (problem.unit * T)  # GGNLinearOperator keeps the scale of the loss
    theirs = curvlinops_matrix(problem, curvlinops.GGNLinearOperator)
    assert_close(factor * theirs, fisher(problem).dense(), tolerance=TOLERANCE)


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
@every_reduction
def test_curvlinops_empirical(curvlinops, likelihood, outputs, reduction):
    problem = make_problem(likelihood, outputs, reduction)
    factor = problem.divisor / (problem.unit**2 * T)  # EFLinearOperator squares the gradient, then divides once
    theirs = curvlinops_matrix(problem, curvlinops.EFLinearOperator)
    assert_close(factor * theirs, empirical(problem).dense(), tolerance=TOLERANCE)


def test_noise_of_variance_one_half_is_the_law_of_the_squared_loss(curvlinops):
    problem = make_problem("gaussian", 3, "sum")
    half = ff.likelihoods.Gaussian(noise_var=0.5)
    exact = ff.Fisher(problem.net, problem.X, likelihood=half)
    at_targets = ff.Fisher(problem.net, problem.X, likelihood=half, kind="empirical", targets=problem.targets)
    factor = 1 / T  # a mean instead of a sum: nothing is left of the square without 1/2
    for ours, operator in [(exact, curvlinops.GGNLinearOperator), (at_targets, curvlinops.EFLinearOperator)]:
        assert_close(factor * curvlinops_matrix(problem, operator), ours.dense(), tolerance=TOLERANCE)


def test_the_empirical_one_vanishes_where_the_targets_are_fitted(curvlinops):
    problem = make_problem("gaussian", 3)
    problem.targets = problem.net(problem.X)
    exact = fisher(problem).trace()
    for trace in (empirical(problem).trace(), np.trace(curvlinops_matrix(problem, curvlinops.EFLinearOperator))):
        assert 0 <= trace < 1e-25 * exact


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
@every_reduction
def test_curvlinops_monte_carlo(curvlinops, likelihood, outputs, reduction):
    problem = make_problem(likelihood, outputs, reduction)
    factor = problem.divisor / (problem.unit * T)  # it draws from the law whose -log p is the loss: as the exact one
    draws = [
        factor * np.diag(curvlinops_matrix(problem, curvlinops.FisherMCLinearOperator, mc_samples=20, seed=seed))
        for seed in range(40)
    ]
    assert_within_band(draws, fisher(problem).diagonal())


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
def test_monte_carlo_with_the_same_targets(curvlinops, likelihood, outputs):
    """Ours is the mean, over the sets of targets drawn, of their empirical Fisher."""
    problem = make_problem(likelihood, outputs)
    ours = fisher(problem, "monte_carlo", samples=3, seed=0)
    factor = problem.divisor / (problem.unit**2 * T)  # that of EFLinearOperator
    theirs = [curvlinops_matrix(problem, curvlinops.EFLinearOperator, targets) for targets in ours.targets]
    assert len(theirs) == 3
    assert_close(factor * np.mean(theirs, axis=0), ours.dense(), tolerance=TOLERANCE)


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
def test_monte_carlo_tends_to_their_exact_one(curvlinops, likelihood, outputs):
    problem = make_problem(likelihood, outputs)
    factor = problem.divisor / (problem.unit * T)  # that of GGNLinearOperator
    draws = [fisher(problem, "monte_carlo", samples=20, seed=seed).diagonal() for seed in range(40)]
    assert_within_band(draws, factor * np.diag(curvlinops_matrix(problem, curvlinops.GGNLinearOperator)))


# --- BackPACK -------------------------------------------------------------------------------------------


def backpack_quantities(problem, extension, seed=0):
    """What one of its extensions leaves in the parameters, side by side: shape (..., P)."""
    import torch
    from backpack import backpack, extend

    torch.manual_seed(seed)
    model, loss = extend(torch_model(problem.net)), extend(problem.loss)
    X = problem.inputs.requires_grad_()  # without it PyTorch warns of BackPACK's hooks
    value = loss(model(X), problem.tensor(problem.targets))
    with backpack(extension):
        value.backward()
    found = [(getattr(p, extension.savefield), p.ndim) for p in model.parameters()]
    flat = [q.reshape(*q.shape[: q.ndim - ndim], -1) for q, ndim in found]
    return torch.cat(flat, dim=-1).detach().numpy()


def backpack_root(problem):
    """Its square root of the GGN, shape (C T, P), output-major."""
    from backpack.extensions import SqrtGGNExact

    return np.concatenate(backpack_quantities(problem, SqrtGGNExact()))


@pytest.mark.parametrize(("likelihood", "outputs"), ONE_BERNOULLI_OUTPUT)
@every_reduction
def test_backpack_exact(backpack, likelihood, outputs, reduction):
    from backpack.extensions import DiagGGNExact

    problem = make_problem(likelihood, outputs, reduction)
    ours = fisher(problem)
    factor = problem.divisor / (problem.unit * T)  # the GGN keeps the scale of the loss
    root = backpack_root(problem)
    assert_close(factor * root.T @ root, ours.dense(), tolerance=TOLERANCE)
    assert_close(factor * backpack_quantities(problem, DiagGGNExact()), ours.diagonal(), tolerance=TOLERANCE)
    values = np.linalg.eigvalsh(root @ root.T)[::-1]
    assert_close(factor * values[: ours.rank_bound], ours.eigenvalues(), tolerance=TOLERANCE)


@pytest.mark.parametrize(("likelihood", "outputs"), ONE_BERNOULLI_OUTPUT)
@every_reduction
def test_backpack_hessian(backpack, likelihood, outputs, reduction):
    """Of the loss at the targets; it carries square roots of full Hessians where we follow tangents."""
    from backpack.extensions import DiagHessian

    problem = make_problem(likelihood, outputs, reduction)
    factor = problem.divisor / (problem.unit * T)  # the Hessian keeps the scale of the loss
    ours = ff.hessian_diagonal(problem.net, problem.X, likelihood, targets=problem.targets)
    assert_close(factor * backpack_quantities(problem, DiagHessian()), ours, tolerance=TOLERANCE)


@pytest.mark.parametrize(("likelihood", "outputs"), ONE_BERNOULLI_OUTPUT)
@every_reduction
def test_backpack_gradient(backpack, likelihood, outputs, reduction):
    from backpack.extensions import BatchGrad

    problem = make_problem(likelihood, outputs, reduction)
    ours = ff.loss_gradient(problem.net, problem.X, likelihood, targets=problem.targets)
    gradients = backpack_quantities(problem, BatchGrad())  # each over the divisor
    assert_close(problem.divisor / (problem.unit * T) * gradients.sum(axis=0), ours, tolerance=TOLERANCE)


@every_reduction
def test_backpack_dual(backpack, reduction):
    """Rows of their square root have the order of ours."""
    problem = make_problem("gaussian", 3, reduction)
    factor = problem.divisor / (problem.unit * T)  # the GGN keeps the scale of the loss
    root = backpack_root(problem)
    assert_close(factor * root @ root.T, fisher(problem).dual(), tolerance=TOLERANCE)


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
@every_reduction
def test_backpack_empirical(backpack, likelihood, outputs, reduction):
    from backpack.extensions import BatchGrad, SumGradSquared

    problem = make_problem(likelihood, outputs, reduction)
    factor = problem.divisor**2 / (problem.unit**2 * T)  # individual gradients keep the divisor, which is then squared
    gradients = backpack_quantities(problem, BatchGrad())
    assert_close(factor * gradients.T @ gradients, empirical(problem).dense(), tolerance=TOLERANCE)
    squares = backpack_quantities(problem, SumGradSquared())
    assert_close(factor * squares, empirical(problem).diagonal(), tolerance=TOLERANCE)


@pytest.mark.parametrize(("likelihood", "outputs"), ONE_BERNOULLI_OUTPUT)
@every_reduction
def test_backpack_monte_carlo(backpack, likelihood, outputs, reduction):
    from backpack.extensions import DiagGGNMC

    problem = make_problem(likelihood, outputs, reduction)
    factor = problem.divisor / (problem.unit * T)  # it draws from the law whose -log p is the loss: as the exact one
    draws = [factor * backpack_quantities(problem, DiagGGNMC(mc_samples=20), seed) for seed in range(40)]
    assert_within_band(draws, fisher(problem).diagonal())


# --- nngeometry -----------------------------------------------------------------------------------------

VARIANTS = {"gaussian": "regression", "categorical": "classif_logits", "bernoulli": "classif_binary_logits"}


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
def test_nngeometry_exact(nngeometry, likelihood, outputs):
    from nngeometry.object import PMatDense, PMatDiag

    problem = make_problem(likelihood, outputs)
    factor = 1  # it takes no loss: a mean over samples, a sum over outputs, a Gaussian of unit variance
    examples, variant = (problem.inputs,), VARIANTS[likelihood]
    dense = nngeometry.FIM(problem.model, examples, PMatDense, variant=variant).to_torch()
    diagonal = nngeometry.FIM(problem.model, examples, PMatDiag, variant=variant).get_diag()
    assert_close(factor * dense.detach().numpy(), fisher(problem).dense(), tolerance=TOLERANCE)
    assert_close(factor * diagonal.detach().numpy(), fisher(problem).diagonal(), tolerance=TOLERANCE)


@pytest.mark.parametrize(("likelihood", "outputs"), EACH_LIKELIHOOD)
def test_nngeometry_empirical(nngeometry, torch, likelihood, outputs):
    """No function of its own: the covariance of the gradients of a scalar, here the loss of each sample."""
    from nngeometry.object import PMatDense

    problem = make_problem(likelihood, outputs)
    each = type(problem.loss)(reduction="none")

    def losses(X, y):
        return each(problem.model(X), y).view(len(X), -1).sum(dim=1, keepdim=True)

    examples = (problem.inputs, problem.tensor(problem.targets))
    theirs = nngeometry.FIM(problem.model, examples, PMatDense, variant="regression", function=losses).to_torch()
    factor = 1 / problem.unit**2  # the gradient of the loss is squared; the mean over samples is ours
    assert_close(factor * theirs.detach().numpy(), empirical(problem).dense(), tolerance=TOLERANCE)


def test_nngeometry_centered(nngeometry):
    """The covariance of the gradients of the outputs: their mean over samples is taken away."""
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.object import PMatDense

    problem = make_problem("gaussian", 3)
    factor = 1  # a mean over samples, a sum over outputs
    theirs = PMatDense(TorchHooksJacobianBackend(problem.model, centering=True), examples=(problem.inputs,)).to_torch()
    assert_close(factor * theirs.detach().numpy(), fisher(problem).centered().dense(), tolerance=TOLERANCE)


def test_nngeometry_monte_carlo(nngeometry, torch):
    """For a softmax alone."""
    from nngeometry.object import PMatDiag

    problem = make_problem("categorical", 3)
    factor = 1  # a mean over samples and trials
    draws = []
    for seed in range(40):
        torch.manual_seed(seed)
        matrix = nngeometry.FIM_MonteCarlo(problem.model, (problem.inputs,), PMatDiag, trials=20)
        draws.append(factor * matrix.get_diag().detach().numpy())
    assert_within_band(draws, fisher(problem).diagonal())


def test_nngeometry_ntk(nngeometry):
    problem = make_problem("gaussian", 3)
    factor = 1  # neither is divided by T
    gram = nngeometry.GramMatrix(problem.model, (problem.inputs,)).to_torch().detach().numpy()  # (C, T, C, T)
    assert_close(factor * gram.transpose(1, 3, 0, 2), ff.ntk(problem.net, problem.X), tolerance=TOLERANCE)
    dual = gram.reshape(3 * T, 3 * T) / T  # ours divides by T, in the same order of rows
    assert_close(dual, fisher(problem).dual(), tolerance=TOLERANCE)
