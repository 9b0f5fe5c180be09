"""Architectures and the networks drawn from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fisherfield as ff


@given(st.lists(st.integers(1, 20), min_size=2, max_size=5), st.sampled_from([None, 0.0, 0.5]))
def test_parameter_count_and_shapes(widths, bias_var):
    arch = ff.MLP(widths=widths, bias_var=bias_var)
    net = arch.sample(seed=0)
    assert net.widths == arch.widths == tuple(widths)
    assert arch.num_parameters == net.num_parameters
    assert arch.num_parameters == sum(w.size for w in net.weights) + sum(b.size for b in net.biases or ())
    assert arch.has_biases == net.has_biases == (bias_var is not None)
    assert arch.depth == net.depth == len(widths) - 1
    assert arch.num_outputs == net.num_outputs == widths[-1]


def test_seeds():
    arch = ff.MLP(widths=(4, 5, 2), bias_var=0.3)
    for other, same in [(7, True), (8, False), (np.random.default_rng(7), False)]:
        pairs = zip(arch.sample(seed=7).weights, arch.sample(seed=other).weights, strict=True)
        assert all((a == b).all() for a, b in pairs) == same
    assert (arch.sample().weights[0] != arch.sample().weights[0]).any()
    generator = np.random.default_rng(0)
    assert (arch.sample(seed=generator).weights[0] != arch.sample(seed=generator).weights[0]).any()


def test_float32_network_is_the_float64_one_rounded():
    arch = ff.MLP(widths=(4, 5, 2), bias_var=0.3)
    for a, b in zip(arch.sample(seed=1).weights, arch.sample(seed=1, dtype="float32").weights, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(a.astype(np.float32), b)


@pytest.mark.parametrize("init", ["gaussian", "orthogonal"])
def test_variances_per_layer(init):
    """Variances of n entries lie within 5 sqrt(2/n) of the law's (of Haar matrices, closer)."""
    arch = ff.MLP(widths=(300, 200, 400, 100), weight_var=(1.0, 2.0, 3.0), bias_var=(0.1, 0.0, 0.5), init=init)
    net = arch.sample(seed=3)
    for l, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        expected = arch.weight_vars[l] / W.shape[1]
        assert np.mean(W**2) == pytest.approx(expected, rel=5 * np.sqrt(2 / W.size))
        assert abs(W.mean()) < 5 * np.sqrt(expected / W.size)
        if arch.bias_vars[l] == 0:
            assert not b.any()
        else:
            assert np.mean(b**2) == pytest.approx(arch.bias_vars[l], rel=5 * np.sqrt(2 / b.size))


@pytest.mark.parametrize(("rows", "columns"), [(30, 30), (50, 20), (20, 50)])
def test_orthogonal_weights(rows, columns):
    W = ff.MLP(widths=(columns, rows), weight_var=2.0, init="orthogonal").sample(seed=0).weights[0]
    gram = W.T @ W if rows >= columns else W @ W.T
    scale = 2.0 * max(rows, columns) / columns
    np.testing.assert_allclose(gram, scale * np.eye(len(gram)), atol=1e-13 * scale)


def test_haar_law():
    """Without the sign correction of QR the diagonal of Q would be negative in the mean."""
    arch = ff.MLP(widths=(2, 2), init="orthogonal")
    draws = np.array([arch.sample(seed=seed).weights[0] for seed in range(2000)])
    assert np.abs(draws.mean(axis=0)).max() < 5 * np.sqrt(0.5 / 2000)
    determinants = np.linalg.det(draws) / np.linalg.norm(draws[0], 2) ** 2
    assert abs(np.mean(determinants)) < 5 / np.sqrt(2000)


def test_defaults_and_equality():
    arch = ff.MLP(widths=(3, 4, 1))
    assert arch == ff.MLP(widths=[3, 4, 1], activation="tanh", weight_var=1.0, bias_var=0.0, init="gaussian")
    assert arch != ff.MLP(widths=(3, 4, 2))
    assert hash(arch) == hash(ff.MLP(widths=np.array([3, 4, 1])))
    assert arch.has_biases
    with pytest.raises(AttributeError):
        arch.widths = (1, 2)


def test_residual_architecture():
    arch = ff.ResidualMLP((3, 5, 5, 5, 2), ["relu", "tanh"], weight_var=0.8, bias_var=[0.1, 0.2, 0.3, 0.4])
    assert isinstance(arch, ff.MLP)
    assert (arch.depth, arch.skips) == (4, (False, True, True, False))
    assert [phi.name for phi in arch.activations] == ["relu", "tanh", "linear"]
    assert arch.num_parameters == ff.MLP(arch.widths).num_parameters
    assert arch == ff.ResidualMLP((3, 5, 5, 5, 2), ["relu", "tanh"], weight_var=0.8, bias_var=[0.1, 0.2, 0.3, 0.4])
    plain = ff.MLP(arch.widths, ["relu", "tanh", "linear"], weight_var=0.8, bias_var=arch.bias_vars)
    assert arch != plain
    assert plain.skips == (False,) * 4
    net = arch.sample(seed=3, dtype="float32")
    assert net.residual
    assert net.skips == arch.skips
    assert net.activations == arch.activations
    for a, b in zip(net.weights, plain.sample(seed=3, dtype="float32").weights, strict=True):
        np.testing.assert_array_equal(a, b)
    X = np.ones((1, 3), np.float32)
    assert (net(X) != plain.sample(seed=3, dtype="float32")(X)).all()
    for activation in ("cos", np.cos):  # one for every block
        assert len(ff.ResidualMLP((3, 5, 5, 5, 2), activation).activations) == 3


def test_activation_per_layer():
    arch = ff.MLP(widths=(3, 4, 5, 1), activation=["relu", np.sin])
    assert [phi.name for phi in arch.activations] == ["relu", "sin"]
    assert arch.activations[1].native is None
    assert ff.MLP(widths=(3, 1), activation=[]).activations == ()


def test_a_network_is_independent_of_inputs_drawn_from_the_same_integer():
    """The first rows of W_1 would otherwise repeat the inputs, and the outputs would be of order sqrt(M)."""
    net = ff.MLP((200, 300, 1)).sample(seed=7)
    X = np.random.default_rng(7).standard_normal((50, 200))
    cosines = (X @ net.weights[0].T) / np.outer(*(np.linalg.norm(a, axis=1) for a in (X, net.weights[0])))
    assert np.abs(cosines).max() < 0.5
