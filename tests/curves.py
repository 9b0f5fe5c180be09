"""Brute force for second derivatives and estimators: log p along every single parameter, in 50 digits.

A network and the density of every outcome are evaluated at three values of one parameter; differences a step of 1e-20
apart give first and second derivatives that are exact to double precision. Nothing of the package is used, no chain
rule, no score and no information.
"""

from dataclasses import dataclass

import mpmath
import numpy as np

import reference

DIGITS = 70
STEP = mpmath.mpf(10) ** -20


def branch(condition, yes, no):
    return lambda u: yes(u) if condition(u) else no(u)


FUNCTIONS = {
    "linear": lambda u: u,
    "relu": branch(lambda u: u > 0, lambda u: u, lambda u: u * 0),
    "leaky_relu": branch(lambda u: u > 0, lambda u: u, lambda u: mpmath.mpf(0.01) * u),
    "erf": mpmath.erf,
    "tanh": mpmath.tanh,
    "sigmoid": lambda u: 1 / (1 + mpmath.exp(-u)),
    "hard_tanh": branch(lambda u: abs(u) < 1, lambda u: u, mpmath.sign),
    "shifted_relu": branch(lambda u: u > -0.5, lambda u: u, lambda u: mpmath.mpf(-0.5)),
    "gelu": lambda u: u * mpmath.ncdf(u),
    "silu": lambda u: u / (1 + mpmath.exp(-u)),
    "softplus": lambda u: mpmath.log(1 + mpmath.exp(u)),
    "elu": branch(lambda u: u > 0, lambda u: u, mpmath.expm1),
    "selu": branch(
        lambda u: u > 0,
        lambda u: reference.SELU_SCALE * u,
        lambda u: mpmath.mpf(reference.SELU_SCALE) * reference.SELU_ALPHA * mpmath.expm1(u),
    ),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "abs": abs,
    "custom": lambda u: u / (1 + mpmath.exp(-mpmath.mpf(1.5) * u)) + mpmath.mpf(0.1) * u,
}

# log p of one group of outputs f and one outcome y, as in reference.LOG_DENSITIES.
LOG_DENSITIES = {
    "gaussian": lambda f, y, variance: -((y - f[0]) ** 2) / (2 * mpmath.mpf(variance)),
    "heteroscedastic": lambda f, y, _: -((y - f[0]) ** 2) * mpmath.exp(-f[1]) / 2 - f[1] / 2,
    "categorical": lambda f, y, _: f[y] - mpmath.log(sum(mpmath.exp(v) for v in f)),
    "bernoulli": lambda f, y, _: y * f[0] - mpmath.log(1 + mpmath.exp(f[0])),
    "poisson": lambda f, y, _: y * f[0] - mpmath.exp(f[0]),
}


def outputs_of(case, theta, x):
    """f(x) of the network with flattened parameters theta, a list of mpf."""
    depth, names = len(case.net.weights), [*case.names, *["linear"] * case.net.residual]
    h, below, at = [mpmath.mpf(float(v)) for v in x], None, 0
    for l, W in enumerate(case.net.weights):
        rows, columns = W.shape
        u = [mpmath.fdot(zip(theta[at + i * columns : at + (i + 1) * columns], h, strict=True)) for i in range(rows)]
        at += W.size
        if case.net.has_biases:
            u = [a + b for a, b in zip(u, theta[at : at + rows], strict=True)]
            at += rows
        if case.net.residual and l not in (0, depth - 1):
            u = [a + b for a, b in zip(u, below, strict=True)]
        if l < depth - 1:
            h, below = [FUNCTIONS[names[l]](v) for v in u], u
    return u


def along_parameters(case, x):
    """Outputs at parameter p less, equal and plus a step, for every p: P lists of three lists of C numbers."""
    theta = [mpmath.mpf(float(v)) for v in case.net.parameters()]
    middle = outputs_of(case, theta, x)
    curves = []
    for p, value in enumerate(theta):
        ends = [outputs_of(case, [*theta[:p], value + s, *theta[p + 1 :]], x) for s in (-STEP, STEP)]
        curves.append((ends[0], middle, ends[1]))
    return curves


def differences(values):
    """First and second derivative from three values a step apart."""
    before, here, after = values
    return float((after - before) / (2 * STEP)), float((after - 2 * here + before) / STEP**2)


def log_density_derivatives(law, curves, group, y, variance):
    """First and second derivatives of log p(y | f) of one group of outputs along every parameter, (P, 2)."""
    density = LOG_DENSITIES[law]
    y = int(y) if law == "categorical" else mpmath.mpf(float(y))
    return np.array([differences([density([f[k] for k in group], y, variance) for f in curve]) for curve in curves])


@dataclass
class Moments:
    """Of the estimators at single inputs, (T, P) each: means by both definitions, and variances over the targets."""

    squared_score: np.ndarray
    second_derivative: np.ndarray
    score_variance: np.ndarray
    hessian_variance: np.ndarray


def moments(case, law, noise_var=1.0):
    """Sums over all outcomes of all outputs together (or nodes that integrate the polynomials exactly)."""
    with mpmath.workdps(DIGITS):
        rows = [_moments_at(case, law, noise_var, x) for x in case.X]
    return Moments(*np.moveaxis(np.array(rows), 1, 0))


def _moments_at(case, law, noise_var, x):
    curves = along_parameters(case, x)
    f = np.array([float(v) for v in curves[0][1]])
    variances = np.broadcast_to(noise_var, len(f))
    score, weight = np.zeros((1, len(curves))), np.ones(1)  # of all outcomes of the groups so far
    mean_second, variance_second = np.zeros(len(curves)), np.zeros(len(curves))
    for group in reference.groups(law, len(f)):
        targets, weights = reference.outcomes_of_group(law, f[group], variances[group[0]])
        found = np.array([log_density_derivatives(law, curves, group, y, variances[group[0]]) for y in targets])
        first, second = found[..., 0], -found[..., 1]
        mean = weights @ second
        mean_second += mean
        variance_second += weights @ (second - mean) ** 2  # groups are independent
        score = (score[:, None] + first).reshape(-1, len(curves))
        weight = (weight[:, None] * weights).ravel()
    squares = score**2
    mean = weight @ squares
    return mean, mean_second, weight @ (squares - mean) ** 2, variance_second


def hessian_diagonal(case, law, targets, noise_var=1.0):
    """Diagonal of the Hessian of -log p at observed targets, averaged over the samples, (P,)."""
    total = 0
    with mpmath.workdps(DIGITS):
        for x, y in zip(case.X, targets, strict=True):
            curves = along_parameters(case, x)
            groups = reference.groups(law, case.net.num_outputs)
            variances = np.broadcast_to(noise_var, case.net.num_outputs)
            for group, target in zip(groups, np.atleast_1d(y), strict=True):
                total -= log_density_derivatives(law, curves, group, target, variances[group[0]])[:, 1]
    return total / len(case.X)


def output_curvatures(case):
    """d^2 f_k / d theta_p^2, (T, C, P)."""
    with mpmath.workdps(DIGITS):
        return np.array(
            [
                [
                    [differences([f[k] for f in curve])[1] for curve in along_parameters(case, x)]
                    for k in range(case.net.num_outputs)
                ]
                for x in case.X
            ]
        )
