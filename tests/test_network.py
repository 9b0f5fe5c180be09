"""Forward pass and bookkeeping of finite networks."""

import numpy as np
from hypothesis import assume, given

import fisherfield as ff
import reference
from tolerances import assert_close

from cases import cases, make_case


@given(cases())
def test_forward(case):
    assert_close(case.net(case.X), case.twin.outputs(case.X), tolerance=1e-13)


@given(cases(dtype="float32"))
def test_forward_float32(case):
    assert case.net(case.X).dtype == np.float32
    assert_close(case.net(case.X), case.twin.outputs(case.X))


@given(cases(max_width=6, max_samples=4))
def test_hidden_layers_give_values_and_derivatives(case):
    assume(case.smooth_here)
    layers, bare = (list(case.net.hidden_layers(case.X, order=order)) for order in (2, 0))
    assert len(layers) == len(bare) == case.net.depth - 1
    expected = zip(*(case.twin.pre_activations(x) for x in case.X), strict=True)
    functions = zip(case.twin.functions, case.net.activations, strict=True)
    for (phi, activation), (value, slope, bend), (same,), u in zip(functions, layers, bare, expected, strict=False):
        np.testing.assert_array_equal(value, same)
        assert_close(value, phi(np.array(u)), tolerance=1e-12, scale=1.0 + np.abs(u).max())
        assert_close(slope, reference.derivative(phi, np.array(u)), tolerance=1e-9, scale=1.0)
        assert_close(bend, activation.evaluate(np.array(u), order=2)[2], tolerance=1e-7, scale=1.0)


@given(cases())
def test_bookkeeping(case):
    net = case.net
    assert net.depth == len(net.weights) == len(net.widths) - 1
    assert net.widths[-1] == net.num_outputs
    assert net.num_parameters == len(case.twin.flat_parameters())
    assert net.has_biases == (net.biases is not None)
    assert len(net.activations) == net.depth - 1
    assert str(net.widths) in repr(net)
    assert net.residual == ("residual=True" in repr(net))
    assert sum(net.skips) == (net.depth - 2 if net.residual else 0)


def test_one_sample_and_more_outputs_than_inputs():
    case = make_case((2, 3, 50), ("relu",), 1)
    assert_close(case.net(case.X), case.twin.outputs(case.X))
    assert case.net(case.X).shape == (1, 50)


def test_memory_layout_of_the_arguments_does_not_matter():
    case = make_case((20, 30, 3), ("tanh",), 11)
    weights, biases = case.net.weights, case.net.biases
    expected = case.net(case.X)
    assert case.net.weights[0] is ff.Network(weights, biases).weights[0]  # C-contiguous: not copied

    def strided(array):
        wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        return view

    def frozen(array):
        copy = array.copy()
        copy.flags.writeable = False
        return copy

    def reversed_twice(array):
        return array[::-1].copy()[::-1]

    for layout in (np.asfortranarray, strided, frozen, reversed_twice, lambda a: a.tolist()):
        net = ff.Network([layout(w) for w in weights], [layout(b) for b in biases], activation="tanh")
        np.testing.assert_array_equal(net(layout(case.X)), expected)
        np.testing.assert_array_equal(ff.Fisher(net, layout(case.X)).dual(), ff.Fisher(case.net, case.X).dual())


def test_inputs_are_left_alone():
    case = make_case((5, 6, 2), ("tanh",), 7)
    originals = [a.copy() for a in (case.X, *case.net.weights, *case.net.biases)]
    fim = ff.Fisher(case.net, case.X)
    fim.statistics(), fim.diagonal(), fim.dense(), fim.layer_blocks(), fim.jacobian()
    for before, after in zip(originals, (case.X, *case.net.weights, *case.net.biases), strict=True):
        np.testing.assert_array_equal(before, after)


def test_different_activations_in_different_layers():
    case = make_case((4, 5, 6, 3), ("relu", "erf"), 5)
    assert [phi.name for phi in case.net.activations] == ["relu", "erf"]
    assert_close(case.net(case.X), case.twin.outputs(case.X))
    swapped = ff.Network(case.net.weights, case.net.biases, activation=["erf", "relu"])
    assert np.abs(swapped(case.X) - case.net(case.X)).max() > 1e-3


def test_a_linear_residual_network_is_a_product_of_matrices():
    case = make_case((5, 7, 7, 7, 2), ("linear", "linear"), 9, residual=True)
    (W1, W2, W3, W4), (b1, b2, b3, b4) = case.net.weights, case.net.biases
    one = np.eye(7)
    u = (one + W3) @ ((one + W2) @ (W1 @ case.X.T + b1[:, None]) + b2[:, None]) + b3[:, None]
    assert_close(case.net(case.X), (W4 @ u + b4[:, None]).T)


def test_blocks_without_weights_pass_on_what_they_are_given():
    X, W = np.random.default_rng(0).standard_normal((2, 6, 6))
    nothing = np.zeros((6, 6))
    for activation in ("relu", "cos", lambda u: u):
        net = ff.Network([W, nothing, nothing, np.eye(6)], None, activation=activation, residual=True)
        np.testing.assert_array_equal(net(X), ff.Network([W], None)(X))


def test_infinite_outputs_are_returned_by_the_forward_pass():
    """Overflow is an answer of the network; only its Fisher information matrix refuses it."""
    net = ff.Network([np.full((1, 1), 1e200), np.full((1, 1), 1e200)], None, activation="linear")
    assert np.isinf(net(np.full((1, 1), 1.0)))
