import gzip
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fisherfield import data


def idx_bytes(images):
    header = b"\x00\x00\x08\x03" + np.array(images.shape, dtype=">u4").tobytes()
    return header + images.tobytes()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, size=(7, 4, 3), dtype=np.uint8)


def test_digits():
    X, description = data.load("digits")
    assert X.shape == (1797, 64)
    assert X.dtype == np.float64
    assert X.max() == 16
    assert "1797" in description


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_from_folder(tmp_path, images, suffix):
    write = gzip.compress if suffix else bytes
    (tmp_path / f"train-images-idx3-ubyte{suffix}").write_bytes(write(idx_bytes(images)))
    X, description = data.load("fashion-mnist", tmp_path)
    np.testing.assert_array_equal(X, images.reshape(7, 12).astype(float))
    assert "7 images of 4 x 3" in description


@pytest.mark.skipif(not data.FASHION_MNIST_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_the_package():
    X, _ = data.load("fashion-mnist")
    assert X.shape == (60000, 784)
    assert X.min() == 0
    assert X.max() == 255


def test_fashion_mnist_missing_says_what_to_install(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"apt-get install dataset-fashion-mnist.*--data-dir"):
        data.load("fashion-mnist", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x00\x00\x08\x01", "IDX file of images"), (b"", "IDX file of images"), (None, "expected 84 pixels")],
)
def test_damaged_idx(tmp_path, images, content, message):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(images)[:-1] if content is None else content)
    with pytest.raises(ValueError, match=message):
        data.load("fashion-mnist", tmp_path)


def test_damaged_gzip(tmp_path, images):
    packed = gzip.compress(idx_bytes(images))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="damaged"):
        data.load("fashion-mnist", tmp_path)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8, bool])
def test_npy(tmp_path, dtype):
    values = np.arange(12).reshape(4, 3).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    X, description = data.load(tmp_path / "x.npy")
    assert X.dtype == np.float64
    np.testing.assert_array_equal(X, values)
    assert description == "x.npy (4 samples)"


def test_npy_of_images_is_flattened(tmp_path, images):
    np.save(tmp_path / "x.npy", images)
    X, _ = data.from_file(tmp_path / "x.npy")
    np.testing.assert_array_equal(X, images.reshape(7, 12))


def test_npz(tmp_path):
    values = np.eye(3)
    np.savez(tmp_path / "one.npz", anything=values)
    np.savez_compressed(tmp_path / "two.npz", X=values, y=np.zeros(3))
    np.savez(tmp_path / "bad.npz", a=values, b=values)
    for name in ("one.npz", "two.npz"):
        np.testing.assert_array_equal(data.load(tmp_path / name)[0], values)
    with pytest.raises(ValueError, match="single array or one called 'X', got a, b"):
        data.load(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "text", ["1,2\n3,4.5\n", "a,b\n1,2\n3,4.5\n", "\ufeff# x, y\n1, 2\n\n3, 4.5", '"1st",second\n1,2\n3,4.5']
)
def test_csv(tmp_path, text):
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(data.load(tmp_path / "x.csv")[0], [[1, 2], [3, 4.5]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one line"),
        ("a,b\n", "at least one line"),
        ("1,2\n3\n", r"line 2: expected 2 numbers like the first, got 1"),
        ("1,2\n3,x\n", r"line 2: expected numbers, got 'x'"),
        ("1,2\n3,\n", r"line 2: expected numbers, got ''"),
        ("1,2\n3,nan\n", "finite"),
        ("1,2\n3,inf\n", "finite"),
    ],
)
def test_bad_csv(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.array([["a"]]), TypeError, "real numbers"),
        (np.ones((2, 2), complex), TypeError, "real numbers"),
        (np.array([{}]), ValueError, "NumPy file of numbers"),
        (np.ones(3), ValueError, "2 dimensions"),
        (np.array(1.0), ValueError, "2 dimensions"),
        (np.ones((0, 3)), ValueError, "at least one entry"),
        (np.ones((2, 0, 3)), ValueError, r"x.npy: expected"),
        (np.array([[1.0, np.nan]]), ValueError, "finite"),
    ],
)
def test_bad_npy(tmp_path, values, error, message):
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    with pytest.raises(error, match=message):
        data.load(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 but no archive", b"\x93NUMPY\x01\x00"])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        data.load(tmp_path / name)


def test_a_csv_file_that_is_not_text(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"x\.csv"):
        data.load(tmp_path / "x.csv")


def test_unknown_sources(tmp_path):
    with pytest.raises(ValueError, match="expected 'digits', 'fashion-mnist' or a file ending in"):
        data.load("mnist")
    with pytest.raises(FileNotFoundError, match="no such file"):
        data.load(tmp_path / "missing.npy")
    with pytest.raises(ValueError, match="only with 'fashion-mnist'"):
        data.load("digits", tmp_path)


def test_digits_without_sklearn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'fisherfield\[data\]'"):
        data.digits()


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, (5, 3), elements=st.floats(-1e6, 1e6)))
def test_standardize(X):
    if np.ptp(X) < 1e-9:
        return
    Z = data.standardize(X)
    np.testing.assert_allclose([Z.mean(), Z.var()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(Z * X.std() + X.mean(), X, atol=1e-9 * np.abs(X).max())


def test_standardize_refuses_constant_data_and_keeps_precision():
    with pytest.raises(ValueError, match="that differ"):
        data.standardize(np.full((3, 2), 0.5))
    assert data.standardize(np.eye(3, dtype=np.float32)).dtype == np.float32


def test_draw_without_replacement():
    X = np.arange(20.0).reshape(10, 2)
    drawn = data.draw(X, 10, seed=1)
    np.testing.assert_array_equal(np.sort(drawn[:, 0]), X[:, 0])
    np.testing.assert_array_equal(drawn, data.draw(X, 10, seed=1))
    assert not np.array_equal(data.draw(X, 5, seed=1), data.draw(X, 5, seed=2))
    with pytest.raises(ValueError, match="at most 10"):
        data.draw(X, 11, seed=1)
    with pytest.raises(ValueError, match="num_samples"):
        data.draw(X, 0, seed=1)
