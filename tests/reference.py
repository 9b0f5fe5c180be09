"""The naive twin: the formulas written as plain NumPy loops, one sample and one output at a time, in float64.

Nothing here is shared with the package. Derivatives come twice: from the backward recursion of the paper, and
from complex-step differentiation of the network as a function of its flattened parameters, exact to rounding.
"""

import numpy as np
from scipy import special

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def branch(condition, yes, no):
    """``yes(u)`` where the condition holds on the real part of u, else ``no(u)``."""
    return lambda u: np.where(condition(np.real(u)), yes(u), no(u))


def positive(u):
    return u > 0


# Activations that continue analytically off the real axis (on each side of a kink).
FUNCTIONS = {
    "linear": lambda u: u,
    "relu": branch(positive, lambda u: u, lambda u: 0 * u),
    "leaky_relu": branch(positive, lambda u: u, lambda u: 0.01 * u),
    "erf": special.erf,
    "tanh": np.tanh,
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "hard_tanh": branch(lambda u: abs(u) < 1, lambda u: u, lambda u: 0 * u + np.sign(np.real(u))),
    "shifted_relu": branch(lambda u: u > -0.5, lambda u: u, lambda u: 0 * u - 0.5),
    "gelu": lambda u: u * (1 + special.erf(u / np.sqrt(2))) / 2,
    "silu": lambda u: u / (1 + np.exp(-u)),
    "softplus": lambda u: np.log(1 + np.exp(u)),
    "elu": branch(positive, lambda u: u, lambda u: np.exp(u) - 1),
    "selu": branch(positive, lambda u: SELU_SCALE * u, lambda u: SELU_SCALE * SELU_ALPHA * (np.exp(u) - 1)),
    "sin": np.sin,
    "cos": np.cos,
    "abs": branch(positive, lambda u: u, lambda u: -u),
}
KINKS = {
    "relu": [0],
    "leaky_relu": [0],
    "elu": [0],
    "selu": [0],
    "abs": [0],
    "hard_tanh": [-1, 1],
    "shifted_relu": [-0.5],
}


def derivative(function, u, step=1e-30):
    """phi'(u) by a complex step: no difference is taken, so no digit is lost."""
    return np.imag(function(u + 1j * step)) / step


def as_float64(arrays):
    return None if arrays is None else [np.asarray(a, dtype=np.float64) for a in arrays]


class Twin:
    """A network with activations ``functions`` (one per hidden layer), evaluated sample by sample.

    Of a residual network the functions are those of the blocks, and every block adds to what it is given.
    """

    def __init__(self, weights, biases, functions, *, residual=False):
        self.weights, self.biases, self.residual = as_float64(weights), as_float64(biases), residual
        self.functions = [*functions, FUNCTIONS["linear"]] if residual else functions
        self.depth = len(self.weights)

    def is_block(self, l):
        """Whether the l-th layer (counted from 0) is added to the one before: not the first, not the read-out."""
        return self.residual and l not in (0, self.depth - 1)

    def pre_activations(self, x):
        """u^1, ..., u^L of one input (Karakida, Akaho, Amari 2019, Eq. 5)."""
        h, result = x, []
        for l, W in enumerate(self.weights):
            u = W @ h if self.biases is None else W @ h + self.biases[l]
            if self.is_block(l):
                u = u + result[l - 1]
            result.append(u)
            if l < self.depth - 1:
                h = self.functions[l](u)
        return result

    def outputs(self, X):
        return np.array([self.pre_activations(x)[-1] for x in np.asarray(X, dtype=np.float64)])

    def gradients(self, x):
        """d f_k / d theta for every output k, shape (C, P), by the backward recursion (Eqs. 6-7)."""
        u = self.pre_activations(x)
        h = [x] + [phi(v) for phi, v in zip(self.functions, u[:-1], strict=True)]
        rows = []
        for k in range(len(u[-1])):
            delta = np.zeros(len(u[-1]))
            delta[k] = 1.0
            pieces = []
            for l in reversed(range(self.depth)):
                pieces.insert(0, np.concatenate([np.outer(delta, h[l]).ravel(), *([delta] * self.has_biases)]))
                if l > 0:
                    slope = derivative(self.functions[l - 1], u[l - 1])
                    through = np.array([slope[i] * sum(delta * self.weights[l][:, i]) for i in range(len(slope))])
                    delta = through + delta if self.is_block(l) else through
            rows.append(np.concatenate(pieces))
        return np.array(rows)

    @property
    def has_biases(self):
        return self.biases is not None

    def jacobian(self, X):
        """Shape (T, C, P)."""
        return np.array([self.gradients(x) for x in np.asarray(X, dtype=np.float64)])

    def flat_parameters(self):
        """Layer by layer, W row by row, then b."""
        pieces = []
        for l, W in enumerate(self.weights):
            pieces += [W.ravel()] + ([self.biases[l]] if self.has_biases else [])
        return np.concatenate(pieces)

    def with_parameters(self, theta):
        """The twin whose flattened parameters are ``theta`` (possibly complex)."""
        twin = Twin([], None, self.functions)
        twin.residual = self.residual
        twin.depth, twin.weights, twin.biases = self.depth, [], [] if self.has_biases else None
        offset = 0
        for W in self.weights:
            twin.weights.append(theta[offset : offset + W.size].reshape(W.shape))
            offset += W.size
            if self.has_biases:
                twin.biases.append(theta[offset : offset + len(W)])
                offset += len(W)
        assert offset == len(theta)
        return twin

    def complex_step_jacobian(self, X, step=1e-30):
        """Shape (T, C, P), one parameter at a time and without any backward recursion."""
        theta = self.flat_parameters()
        columns = []
        for p in range(len(theta)):
            moved = theta.astype(complex)
            moved[p] += 1j * step
            columns.append([np.imag(self.with_parameters(moved).pre_activations(x)[-1]) / step for x in X])
        return np.moveaxis(np.array(columns), 0, -1)

    def distance_to_kinks(self, X, kinks):
        """Smallest distance of a hidden pre-activation from a kink (kinks: one list a layer)."""
        gaps = [np.inf]
        for x in np.asarray(X, dtype=np.float64):
            for points, u in zip(kinks, self.pre_activations(x)[:-1], strict=True):
                gaps += [np.abs(u - point).min() for point in points]
        return min(gaps)


def dual(jacobian):
    """Entry ((r, s), (q, t)) of F* at row r*T + s, column q*T + t."""
    samples, outputs, _ = jacobian.shape
    result = np.empty((outputs * samples, outputs * samples))
    for r in range(outputs):
        for s in range(samples):
            for q in range(outputs):
                for t in range(samples):
                    result[r * samples + s, q * samples + t] = jacobian[s, r] @ jacobian[t, q] / samples
    return result


def fisher(jacobian):
    """``F = (1/T) sum_t J_t^T J_t``."""
    return sum(J.T @ J for J in jacobian) / len(jacobian)


def feature_gradients(twin, x, step=1e-30):
    """d f_k / d (inputs of every layer's weights), shape (C, M_0 + ... + M_{L-1}), by complex steps.

    To move input i of a layer's weights, and nothing else, is to move its biases along column i of the weights.
    """
    columns = []
    for l, W in enumerate(twin.weights):
        for column in W.T:
            moved = Twin([], None, twin.functions)
            moved.residual, moved.depth, moved.weights = twin.residual, twin.depth, twin.weights
            moved.biases = list(twin.biases or [np.zeros(len(V)) for V in twin.weights])
            moved.biases[l] = moved.biases[l] + 1j * step * column
            columns.append(np.imag(moved.pre_activations(x)[-1]) / step)
    return np.array(columns).T


# --- output distributions -------------------------------------------------------------------------------

# log p(y | f) up to what does not depend on f, for outputs f that are not independent of one another, along the
# last axis; y broadcasts over the axes before. Every law is a product of such groups of outputs.
LOG_DENSITIES = {
    "gaussian": lambda f, y, variance: -((y - f[..., 0]) ** 2) / (2 * variance),
    "heteroscedastic": lambda f, y, _: -((y - f[..., 0]) ** 2) * np.exp(-f[..., 1]) / 2 - f[..., 1] / 2,
    "categorical": lambda f, y, _: f[..., y] - np.log(np.exp(f).sum(axis=-1)),
    "bernoulli": lambda f, y, _: y * f[..., 0] - np.log(1 + np.exp(f[..., 0])),
    "poisson": lambda f, y, _: y * f[..., 0] - np.exp(f[..., 0]),
}


def groups(law, num_outputs):
    """Outputs that share an outcome."""
    if law == "categorical":
        return [list(range(num_outputs))]
    if law == "heteroscedastic":
        return [[k, k + num_outputs // 2] for k in range(num_outputs // 2)]
    return [[k] for k in range(num_outputs)]


def score_of_group(law, f, y, variance=1.0, step=1e-30):
    """d log p(y | f) / d f by complex steps."""
    moved = f + 1j * step * np.eye(len(f))
    return np.imag(LOG_DENSITIES[law](moved, y, variance)) / step


def outcomes_of_group(law, f, variance):
    """Targets with weights, sums over which are expectations: all that have mass, or Gauss-Hermite nodes."""
    if law in ("gaussian", "heteroscedastic"):
        nodes, weights = np.polynomial.hermite_e.hermegauss(8)
        deviation = np.exp(f[1] / 2) if law == "heteroscedastic" else np.sqrt(variance)
        return f[0] + deviation * nodes, weights / weights.sum()
    if law == "poisson":
        rate = np.exp(f[0])
        counts = np.arange(int(rate + 12 * np.sqrt(rate) + 30))
        return counts, np.exp(counts * f[0] - rate - special.gammaln(counts + 1))
    classes = np.arange(len(f) if law == "categorical" else 2)
    return classes, np.exp([LOG_DENSITIES[law](f, y, variance) for y in classes])


def information(law, f, noise_var=1.0):
    """E[score score^T] of one sample with outputs f (C,), the sum over outcomes; shape (C, C)."""
    variances = np.broadcast_to(noise_var, len(f))
    result, means = np.zeros((len(f), len(f))), np.zeros(len(f))
    members = groups(law, len(f))
    for group in members:
        variance = variances[group[0]]
        targets, weights = outcomes_of_group(law, f[group], variance)
        scores = np.array([score_of_group(law, f[group], y, variance) for y in targets])
        result[np.ix_(group, group)] = np.einsum("n,ni,nj->ij", weights, scores, scores)
        means[group] = weights @ scores
    apart = np.ones_like(result, bool)
    for group in members:
        apart[np.ix_(group, group)] = False
    return np.where(apart, np.outer(means, means), result)


def score(law, f, y, noise_var=1.0):
    """d log p(y | f) / d f of one sample with outputs f (C,), shape (C,)."""
    variances, result = np.broadcast_to(noise_var, len(f)), np.empty(len(f))
    for target, group in zip(np.atleast_1d(y), groups(law, len(f)), strict=True):
        result[group] = score_of_group(law, f[group], target, variances[group[0]])
    return result
