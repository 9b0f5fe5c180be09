"""Every step on a GPU against the same step on the processor: on a GPU if there is one, else on the host."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fisherfield import activations, devices
from fisherfield.devices import cpu, cuda_kernels
from fisherfield.devices import cuda as gpu

DTYPES = ["float64", "float32"]
WITHIN = {"float64": 1e-13, "float32": 2e-6}
MODES = {
    "float64": 1e-14,
    "float32": 5e-6,
    "tf32": 2e-3,
    "tf32x3": 5e-6,
    "bf16x3": 1e-4,
}  # of the roots of the diagonal

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)


def draw(rng, dtype, *shapes):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def misaligned(cupy, array):
    """A contiguous array that begins one number behind what the memory of the device is aligned to."""
    held = cupy.empty(array.size + 1, array.dtype)
    shifted = held[1:].reshape(array.shape)
    shifted[...] = cupy.asarray(array)
    return shifted


def close(found, expected, dtype):
    scale = max(np.abs(expected).max(initial=0), np.finfo(dtype).tiny)
    np.testing.assert_allclose(found.get() / scale, expected / scale, rtol=0, atol=WITHIN[str(dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", activations.available())
def test_activations_have_the_same_jets(cuda, name, dtype):
    phi = activations.get(name)
    u = np.concatenate([np.linspace(-12, 12, 4001), [0.0, -0.0, 1e7, -1e7, 1e30, np.nan, np.inf, -np.inf]])
    for order in range(3):
        expected = phi.evaluate(u.astype(dtype), order)
        found = phi.evaluate(cuda.asarray(u.astype(dtype)), order)
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f.get(), e, rtol=20 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@given(sizes, sizes, sizes, st.sampled_from(DTYPES), st.tuples(*[st.booleans()] * 5), seeds)
def test_forward(cuda, samples, inputs, outputs, dtype, given, seed):
    with_bias, with_skip, with_pre, with_slope, with_phi = given
    h, W, b, skip = draw(
        np.random.default_rng(seed), dtype, (samples, inputs), (outputs, inputs), outputs, (samples, outputs)
    )
    phi = activations.get("gelu").native if with_phi else None
    out, slope, bend, pre = (np.empty((samples, outputs), dtype) for _ in range(4))
    derivatives = with_slope and with_phi
    arrays = (h, W, b if with_bias else None)
    extra = {"skip": skip if with_skip else None, "pre": pre if with_pre else None}
    cpu.layer_forward(*arrays, phi, out, *((slope, bend) if derivatives else ()), **extra)
    moved = {name: None if array is None else cuda.asarray(array) for name, array in extra.items()}
    found, first, second = (cuda.empty((samples, outputs), dtype) for _ in range(3))
    on_gpu = (None if array is None else cuda.asarray(array) for array in arrays)
    gpu.layer_forward(*on_gpu, phi, found, *((first, second) if derivatives else ()), **moved)
    close(found, out, dtype)
    if derivatives:
        close(first, slope, dtype)
        close(second, bend, dtype)
    if with_pre:
        close(moved["pre"], pre, dtype)


@given(sizes, sizes, sizes, st.sampled_from(DTYPES), st.tuples(*[st.booleans()] * 6), seeds)
def test_tangent(cuda, samples, inputs, outputs, dtype, given, seed):
    along, bias, through, slope, skip, pre = given
    shapes = ((samples, inputs), (outputs, inputs), outputs, (samples, inputs), (outputs, inputs))
    h, dW, db, dh, W = draw(np.random.default_rng(seed), dtype, *shapes)
    s, dskip = draw(np.random.default_rng(seed + 1), dtype, *[(samples, outputs)] * 2)
    arrays = [h if along else None, dW if along else None, db if bias else None, dh if through else None, W]
    arrays += [s if slope else None]
    out, dpre = np.empty((samples, outputs), dtype), np.empty((samples, outputs), dtype) if pre else None
    on_gpu = [None if array is None else cuda.asarray(array) for array in arrays]
    found, found_pre = cuda.empty((samples, outputs), dtype), cuda.empty((samples, outputs), dtype) if pre else None
    cpu.layer_tangent(*arrays, out, dskip if skip else None, dpre)
    gpu.layer_tangent(*on_gpu, found, cuda.asarray(dskip) if skip else None, found_pre)
    close(found, out, dtype)
    if pre:
        close(found_pre, dpre, dtype)


@given(st.integers(1, 5), sizes, sizes, sizes, st.sampled_from(DTYPES), st.booleans(), st.integers(0, 5), seeds)
def test_backward(cuda, num_seeds, samples, outputs, inputs, dtype, skip, num_bent, seed):
    rng = np.random.default_rng(seed)
    inputs = outputs if skip else inputs
    delta, W, slope, bend = draw(
        rng, dtype, (num_seeds, samples, outputs), (outputs, inputs), (samples, inputs), (samples, inputs)
    )
    bent = np.empty((min(num_bent, num_seeds), samples, inputs), dtype) if num_bent else None
    out = np.empty((num_seeds, samples, inputs), dtype)
    cpu.layer_backward(delta, W, slope, out, skip, bend if num_bent else None, bent)
    found, found_bent = cuda.empty(out.shape, dtype), None if bent is None else cuda.empty(bent.shape, dtype)
    gpu.layer_backward(
        *map(cuda.asarray, (delta, W, slope)), found, skip, cuda.asarray(bend) if num_bent else None, found_bent
    )
    close(found, out, dtype)
    if bent is not None:
        close(found_bent, bent, dtype)


@given(st.integers(1, 5), sizes, st.integers(0, 20), sizes, st.sampled_from(DTYPES), st.booleans(), seeds)
def test_factors(cuda, num_seeds, samples, inputs, outputs, dtype, bias, seed):
    bias = bias or inputs == 0
    size, rng = outputs * (inputs + bias), np.random.default_rng(seed)
    A, B, v, u = draw(rng, dtype, (samples, inputs), (num_seeds, samples, outputs), size, (num_seeds, samples))
    weights, start, moved = draw(rng, dtype, (samples, outputs), size, (num_seeds, samples))
    g, steps = [cuda.asarray(array) for array in (A, B)], []
    steps.append(("layer_jacobian", (), np.zeros((samples, num_seeds, size + 3), dtype), (2,)))
    steps.append(("layer_gradient", (num_seeds - 1, 0.5), np.empty(size, dtype), ()))
    steps.append(("layer_product", (v,), moved, ()))
    steps.append(("layer_transposed_product", (u,), np.empty(size, dtype), ()))
    for name, arguments, out, after in steps:
        found = cuda.asarray(out)
        on_gpu = [cuda.asarray(value) if isinstance(value, np.ndarray) else value for value in arguments]
        getattr(gpu, name)(*g, bias, *on_gpu, found, *after)
        getattr(cpu, name)(A, B, bias, *arguments, out, *after)
        close(found, out, dtype)
    squares, found = np.empty((samples, outputs), dtype), cuda.empty((samples, outputs), dtype)
    cpu.sum_of_squares(B, squares)
    gpu.sum_of_squares(g[1], found)
    close(found, squares, dtype)
    for power in (2, 4):
        total, found = start.copy(), cuda.asarray(start)
        cpu.add_power_sum(A, weights, bias, power, total)
        gpu.add_power_sum(g[0], cuda.asarray(weights), bias, power, found)
        close(found, total, dtype)


@given(st.integers(1, 3), st.integers(1, 9), st.lists(st.integers(1, 9), min_size=2, max_size=4), st.booleans(), seeds)
def test_curvature(cuda, num_seeds, samples, widths, skip, seed):
    rng, widths = np.random.default_rng(seed), [widths[0]] * len(widths) if skip else widths
    steps = []
    for below, above in pairwise(widths):
        W, slope, c = draw(rng, "float64", (above, below), (samples, below), (num_seeds, samples, above))
        steps.append((W, slope, c, skip))
    (out,) = draw(rng, "float64", (num_seeds, samples, widths[0]))
    found = cuda.asarray(out)
    cpu.add_upper_curvature(steps, out)
    gpu.add_upper_curvature([(*map(cuda.asarray, step[:3]), skip) for step in steps], found)
    close(found, out, "float64")


# --- the Gram tile ------------------------------------------------------------------------------------------


def layers_of(rng, dtype, num_seeds, samples, widths, biases=True):
    return [(*draw(rng, dtype, (samples, a), (num_seeds, samples, b)), biases) for a, b in pairwise(widths)]


def reference(rows, columns):
    """The Gram matrix in float64, and the roots of the diagonals of rows and of columns."""

    def product(X, Y):
        return sum(
            np.einsum("rsi,qti->rsqt", B.astype(float), D.astype(float))
            * (A.astype(float) @ C.astype(float).T + bias)[None, :, None, :]
            for (A, B, bias), (C, D, _) in zip(X, Y, strict=True)
        )

    gram = product(rows, columns)
    roots = [np.sqrt(np.einsum("rsrs->rs", product(side, side)).ravel()) for side in (rows, columns)]
    return gram.reshape(len(roots[0]), len(roots[1])), roots


def on(cupy, layers):
    return [(cupy.asarray(A), cupy.asarray(B), bias) for A, B, bias in layers]


def options(mode):
    return {} if mode in DTYPES else {"precision": mode}


def error(found, expected, roots):
    return float((np.abs(found.get().astype(float) - expected) / np.outer(*roots)).max())


CASES = [
    (1, 150, (8, 32, 16)),  # aligned rows, two tiles of rows
    (1, 131, (7, 33, 5)),  # rows that no long copy fits
    (3, 50, (9, 16, 4)),
    (5, 27, (3, 2, 1)),  # rows of a tile that belong to several seeds
    (1, 1, (1, 1)),
    (1, 129, (16, 48)),  # an edge of one row
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("num_seeds", "samples", "widths"), CASES)
def test_gram_matrix(cuda, mode, num_seeds, samples, widths):
    rng, dtype = np.random.default_rng(samples), "float64" if mode == "float64" else "float32"
    layers = layers_of(rng, dtype, num_seeds, samples, widths)
    expected, roots = reference(layers, layers)
    size = num_seeds * samples
    out = cuda.full((size, size), np.nan, dtype)
    whole = [((0, samples), (0, samples))]
    gpu.gram_tiles(on(cuda, layers), 2.0, out, whole, **options(mode))
    assert error(out / 2, expected, roots) < MODES[mode]
    np.testing.assert_array_equal(out.get(), out.get().T)


@pytest.mark.parametrize("mode", ["float64", "float32", "tf32"])
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_tiles_do_not_change_a_bit(cuda, mode, num_seeds):
    samples, dtype = 70, "float64" if mode == "float64" else "float32"
    layers = on(cuda, layers_of(np.random.default_rng(0), dtype, num_seeds, samples, (12, 20, 6)))
    size = num_seeds * samples
    whole, tiled = cuda.full((size, size), np.nan, dtype), cuda.full((size, size), np.nan, dtype)
    gpu.gram_tiles(layers, 0.5, whole, [((0, samples), (0, samples))], **options(mode))
    cuts = [(0, 23), (23, 64), (64, 70)]
    pairs = [(rows, columns) for i, rows in enumerate(cuts) for columns in cuts[i:]]
    gpu.gram_tiles(layers, 0.5, tiled, pairs, **options(mode))
    np.testing.assert_array_equal(tiled.get(), whole.get())


@pytest.mark.parametrize("mode", MODES)
def test_between_two_sets_of_factors(cuda, mode):
    rng, dtype = np.random.default_rng(1), "float64" if mode == "float64" else "float32"
    rows, columns = (layers_of(rng, dtype, *size, (10, 17, 3), biases=False) for size in ((2, 90), (3, 25)))
    expected, roots = reference(rows, columns)
    out = cuda.full(expected.shape, np.nan, dtype)
    pairs = [((0, 40), (0, 25)), ((40, 90), (0, 11)), ((40, 90), (11, 25))]
    gpu.kernel_tiles(on(cuda, rows), on(cuda, columns), 1.0, out, pairs, **options(mode))
    assert error(out, expected, roots) < MODES[mode]


@pytest.mark.parametrize("mode", MODES)
def test_factors_need_not_be_aligned(cuda, mode):
    dtype = "float64" if mode == "float64" else "float32"
    layers = layers_of(np.random.default_rng(2), dtype, 1, 40, (16, 32))
    expected, roots = reference(layers, layers)
    out = cuda.empty((40, 40), dtype)
    shifted = [(misaligned(cuda, A), misaligned(cuda, B), bias) for A, B, bias in layers]
    gpu.gram_tiles(shifted, 1.0, out, [((0, 40), (0, 40))], **options(mode))
    assert error(out, expected, roots) < MODES[mode]


@pytest.mark.parametrize("mode", MODES)
def test_layers_without_inputs_and_large_numbers(cuda, mode):
    """A layer whose only input is the constant 1, and factors far from 1: reduced precisions have float32's range."""
    dtype = "float64" if mode == "float64" else "float32"
    (B,) = draw(np.random.default_rng(3), dtype, (1, 30, 19))
    layers = [(np.empty((30, 0), dtype), B * np.asarray(1e12, dtype), True)]
    expected, roots = reference(layers, layers)
    out = cuda.empty((30, 30), dtype)
    gpu.gram_tiles(on(cuda, layers), 1.0, out, [((0, 30), (0, 30))], **options(mode))
    assert error(out, expected, roots) < MODES[mode]


@given(st.integers(1, 3), st.integers(1, 60), st.lists(st.integers(1, 40), min_size=2, max_size=4), seeds)
def test_any_shape(cuda, num_seeds, samples, widths, seed):
    layers = layers_of(np.random.default_rng(seed), "float32", num_seeds, samples, widths)
    expected, roots = reference(layers, layers)
    out = cuda.empty(expected.shape, "float32")
    gpu.gram_tiles(on(cuda, layers), 1.0, out, [((0, samples), (0, samples))])
    assert error(out, expected, roots) < MODES["float32"]


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_the_threads_does_not_matter(cuda, mode):
    """On the host the threads of a block run in ascending or descending order: without a barrier answers differ."""
    if not hasattr(cuda, "simulation"):
        pytest.skip("a GPU chooses the order itself")
    dtype = "float64" if mode == "float64" else "float32"
    layers = on(cuda, layers_of(np.random.default_rng(4), dtype, 2, 40, (40, 50, 5)))
    found = []
    for descending in (False, True):
        cuda.simulation.settings.reversed_order = descending
        try:
            out = cuda.empty((80, 80), dtype)
            gpu.gram_tiles(layers, 1.0, out, [((0, 40), (0, 40))], **options(mode))
        finally:
            cuda.simulation.settings.reversed_order = False
        found.append(out.get())
    np.testing.assert_array_equal(*found)


def test_progress_counts_tiles(cuda):
    layers, seen = on(cuda, layers_of(np.random.default_rng(5), "float64", 1, 20, (3, 4))), []
    pairs = [((0, 10), (0, 10)), ((0, 10), (10, 20)), ((10, 20), (10, 20))]
    gpu.gram_tiles(layers, 1.0, cuda.empty((20, 20)), pairs, progress=lambda *done: seen.append(done))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_old_gpus_are_refused(cuda, monkeypatch):
    if not hasattr(cuda, "simulation"):
        pytest.skip("the GPU is what it is")
    cuda_kernels._module.cache_clear()
    cuda_kernels._kernel.cache_clear()
    monkeypatch.setattr(type(cuda.cuda.Device()), "compute_capability", "75")
    with pytest.raises(RuntimeError, match=r"cuda:0: expected a GPU of compute capability 8.0 .* got 7.5"):
        cuda_kernels.kernel("sum_of_squares", "float64")
    cuda_kernels._module.cache_clear()


def test_compiled_kernels_are_taken_where_they_are(cuda, monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(cuda, "RawModule", lambda **given: asked.update(given))
    cuda_kernels._module.cache_clear()
    cuda_kernels._module(0)
    assert {"code", "options"} == set(asked)
    assert any(option.startswith("-DFISHERFIELD_SOURCES=") for option in asked["options"])
    (tmp_path / "kernels.fatbin").touch()
    monkeypatch.setattr(devices, "__path__", [str(tmp_path)])
    asked.clear()
    cuda_kernels._module.cache_clear()
    cuda_kernels._module(0)
    assert asked == {"path": str(tmp_path / "kernels.fatbin")}
    cuda_kernels._module.cache_clear()


def test_shapes_of_tiles_are_those_of_the_sources():
    """``TILES`` repeats what ``engines.cuh`` says."""
    text = (cuda_kernels.source_folder() / "engines.cuh").read_text()
    for mode, engine in (("float64", "Float64"), ("float32", "Float32")):
        tile = cuda_kernels.TILES[mode]
        shape = f"rows = {tile.rows}, columns = {tile.columns}, threads = {tile.threads}"
        body = text.split(f"struct {engine} {{")[1].split("};")[0]
        assert shape in body
        assert f"stride = {tile.stride}" in body
    for mode, engine in (("tf32", "Tf32"), ("bf16x3", "Bf16Pair")):
        body = text.split(f"struct {engine} {{")[1].split("};")[0]
        assert f"stride = {cuda_kernels.TILES[mode].stride}" in body
