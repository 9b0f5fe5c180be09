"""Gram tiles: which tiles are made, and the products they hold."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fisherfield import gram
from fisherfield.factors import FactoredJacobian, LayerFactors
from tolerances import assert_close

ONE, FOUR = ThreadPoolExecutor(1), ThreadPoolExecutor(4)


def random_factors(seeds, samples, shapes, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return FactoredJacobian(
        tuple(
            LayerFactors(
                rng.standard_normal((samples, inputs)).astype(dtype),
                rng.standard_normal((seeds, samples, outputs)).astype(dtype),
                bool(bias),
            )
            for inputs, outputs, bias in shapes
        )
    )


def naive_gram(factors):
    size = factors.num_seeds * factors.num_samples
    total = np.zeros((size, size))
    for layer in factors:
        A, B = layer.A.astype(np.float64), layer.B.astype(np.float64).reshape(size, -1)
        overlaps = A @ A.T + layer.bias
        total += (B @ B.T) * np.tile(overlaps, (factors.num_seeds, factors.num_seeds))
    return total


@given(st.integers(1, 200), st.integers(1, 250))
def test_tiles_cover_the_upper_triangle_once(samples, tile):
    count = np.zeros((samples, samples), int)
    for (i0, i1), (j0, j1) in gram.tiles(samples, tile):
        assert 0 < i1 - i0 <= tile + (tile - 1) // 2
        assert 0 < j1 - j0 <= tile + (tile - 1) // 2
        assert (i0, i1) == (j0, j1) or i1 <= j0
        count[i0:i1, j0:j1] += 1
    assert (count[np.triu_indices(samples)] == 1).all()


layer_shapes = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.booleans()), min_size=1, max_size=4)


@given(
    st.integers(1, 5),
    st.integers(1, 60),
    layer_shapes,
    st.integers(1, 70),
    st.sampled_from(["float64", "float32"]),
)
def test_gram_matrix(seeds, samples, shapes, tile, dtype):
    factors = random_factors(seeds, samples, shapes, dtype)
    result = gram.gram_matrix(factors, 0.25, tile=tile)
    assert result.dtype == dtype
    assert_close(result, 0.25 * naive_gram(factors))
    np.testing.assert_array_equal(result, result.T)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_blocks(dtype):
    """More samples than a column block, more rows over seeds than a row block, more inputs than a k-block."""
    factors = random_factors(3, 470, [(515, 3, True), (3, 515, False)], dtype)
    expected = naive_gram(factors)
    for tile in (None, 100, 470):
        assert_close(gram.gram_matrix(factors, 1.0, tile=tile), expected)
    many_seeds = random_factors(600, 2, [(2, 3, True)], dtype)
    assert_close(gram.gram_matrix(many_seeds, 1.0), naive_gram(many_seeds))


def naive_kernel(rows, columns):
    total = 0
    for x, y in zip(rows, columns, strict=True):
        products = np.einsum("rsi,qti->rsqt", x.B.astype(np.float64), y.B.astype(np.float64))
        total = total + products * (x.A.astype(np.float64) @ y.A.T + x.bias)[:, None]
    return total.reshape(rows.num_seeds * rows.num_samples, -1)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 60)),
    st.tuples(st.integers(1, 5), st.integers(1, 60)),
    layer_shapes,
    st.integers(1, 70),
    st.sampled_from(["float64", "float32"]),
)
def test_kernel_matrix(of_rows, of_columns, shapes, tile, dtype):
    """Between two sets of samples and seeds; its bits follow neither the tile nor the threads."""
    rows, columns = random_factors(*of_rows, shapes, dtype), random_factors(*of_columns, shapes, dtype, seed=1)
    result = gram.kernel_matrix(rows, columns, executor=ONE)
    assert result.dtype == dtype
    expected = naive_kernel(rows, columns)
    gradients = [np.sqrt(naive_gram(factors).diagonal().max()) for factors in (rows, columns)]
    assert_close(result, expected, scale=gradients[0] * gradients[1])
    for pool in (ONE, FOUR):
        np.testing.assert_array_equal(gram.kernel_matrix(rows, columns, tile=tile, executor=pool), result)
    np.testing.assert_array_equal(gram.kernel_matrix(columns, rows, tile=tile), result.T)
    np.testing.assert_array_equal(gram.kernel_matrix(rows, rows, tile=tile), gram.gram_matrix(rows, 1.0))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_blocks_between_two_sets(dtype):
    """More samples than a block on either side, many seeds on either side, more inputs than a k-block."""
    shapes = [(515, 3, True), (3, 515, False)]
    few, many = random_factors(3, 20, shapes, dtype), random_factors(2, 970, shapes, dtype, seed=1)
    for rows, columns in ((few, many), (many, few)):
        expected = naive_kernel(rows, columns)
        for tile in (None, 100, 970):
            assert_close(gram.kernel_matrix(rows, columns, tile=tile), expected)
    few, many = random_factors(2, 5, [(2, 3, True)], dtype), random_factors(1000, 2, [(2, 3, True)], dtype)
    for rows, columns in ((few, many), (many, few)):
        assert_close(gram.kernel_matrix(rows, columns), naive_kernel(rows, columns))


@given(st.integers(1, 80), st.integers(1, 80))
def test_symmetric_product(rows, columns):
    matrix = np.random.default_rng(0).standard_normal((rows, columns))
    assert_close(gram.symmetric_product(matrix, 3.0), 3.0 * matrix @ matrix.T)


@given(st.integers(1, 5000), st.integers(1, 20), st.integers(1, 64))
def test_default_tile(samples, seeds, threads):
    factors = FactoredJacobian((LayerFactors(np.empty((samples, 3)), np.empty((seeds, samples, 2)), True),))
    with ThreadPoolExecutor(threads) as pool:
        tile = gram.default_tile(factors, pool)
    assert 0 < tile <= 512
    assert tile % 24 == 0
