"""Measurements on a GPU beside the processor's: on a GPU if there is one, else on the stand-in."""

import numpy as np
import pytest

import fisherfield as ff

ARCH = ff.MLP((4, 6, 5, 3), "tanh", weight_var=1.5, bias_var=0.2)
X = np.random.default_rng(0).standard_normal((7, 4))


@pytest.fixture
def fim(cuda):
    return ff.Fisher(ARCH.sample(seed=0).to("cuda"), cuda.asarray(X))


# --- targets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_counts_may_be_of_any_integers(cuda, dtype):
    """The largest count that there may be is beyond most of them."""
    net, counts = ARCH.sample(seed=0), np.random.default_rng(1).poisson(2.0, (7, 3)).astype(dtype)
    expected = ff.loss_gradient(net, X, "poisson", targets=counts)
    found = ff.loss_gradient(net.to("cuda"), cuda.asarray(X), "poisson", targets=cuda.asarray(counts))
    np.testing.assert_allclose(found.get(), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_more_classes_than_their_integers_can_count(cuda):
    net = ff.MLP((4, 5, 300), "tanh").sample(seed=0)
    classes = (np.arange(7) * 18).astype("int8")
    expected = ff.loss_value(net, X, "cross_entropy", targets=classes)
    found = ff.loss_value(net.to("cuda"), cuda.asarray(X), "cross_entropy", targets=cuda.asarray(classes))
    assert found == pytest.approx(expected, rel=1e-13)
    with pytest.raises(ValueError, match="got -1 at index"):
        ff.loss_value(net.to("cuda"), cuda.asarray(X), "cross_entropy", targets=cuda.asarray(classes - np.int8(1)))


@pytest.mark.parametrize("dtype", ["uint64", "float64"])
def test_counts_beyond_int64_are_refused(cuda, dtype):
    counts = np.full((7, 3), 2**63, dtype)
    with pytest.raises(ValueError, match="targets: expected counts"):
        ff.loss_value(ARCH.sample(seed=0).to("cuda"), cuda.asarray(X), "poisson", targets=cuda.asarray(counts))


# --- the current GPU ----------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(cuda):
    if cuda.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    return cuda.cuda.Device(1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda fim: fim.dual(),
        lambda fim: fim.dual(tile=3),
        lambda fim: fim.trace(),
        lambda fim: fim.diagonal(),
        lambda fim: fim.jacobian(),
        lambda fim: fim.mean_gradients(),
        lambda fim: fim.statistics(),
        lambda fim: fim.centered().dual(),
        lambda fim: fim.layer(2).dense(),
        lambda fim: fim.spectral_density(probes=2, steps=2),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_work_on_another_gpu_than_the_current_one_is_refused(fim, elsewhere, ask, kept):
    """Before a kernel reads addresses that are not its own."""
    if kept:
        assert fim.factors.num_samples == 7  # nothing has to pass through the network any more
    with elsewhere, pytest.raises(ValueError, match=r"current GPU, cuda:1, got one on cuda:0.*cuda\.Device\(0\)"):
        ask(fim)
    ask(fim)


# --- layouts ------------------------------------------------------------------------------------------------


def test_kernels_are_given_arrays_in_the_order_of_c(cuda):
    if not hasattr(cuda, "simulation"):
        pytest.skip("CuPy hands on any array")
    from fisherfield.devices import cuda as steps

    seeds, out = cuda.ones((3, 5, 7)), cuda.empty((5, 7))
    steps.sum_of_squares(seeds, out)
    np.testing.assert_array_equal(out.get(), np.full((5, 7), 3.0))
    with pytest.raises(ValueError, match="order of C"):
        steps.sum_of_squares(cuda.ones((5, 3, 7)).transpose(1, 0, 2), out)


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical", "bernoulli", "heteroscedastic"])
@pytest.mark.parametrize("kind", ["exact", "monte_carlo"])
def test_products_whatever_the_layout_of_what_einsum_returns(cuda, likelihood, kind):
    """CuPy's is not in the order of C."""
    arch = ff.ResidualMLP((4, 6, 6, 6, 4), "gelu", weight_var=1.2, bias_var=0.1)
    net, options = arch.sample(seed=1), {"likelihood": likelihood, "kind": kind}
    if kind == "monte_carlo":
        options |= {"samples": 3, "seed": 0}
    expected = ff.Fisher(net, X, **options)
    found = ff.Fisher(net.to("cuda"), cuda.asarray(X), **options)
    V = np.random.default_rng(2).standard_normal((expected.num_parameters, 2))
    for f, e in [
        (found @ cuda.asarray(V), expected @ V),
        (found.centered() @ cuda.asarray(V), expected.centered() @ V),
        (found.centered().dual(), expected.centered().dual()),
        (found.solve(cuda.asarray(V), 0.1), expected.solve(V, 0.1)),
    ]:
        np.testing.assert_allclose(f.get(), e, rtol=0, atol=1e-11 * np.abs(e).max())
