"""Inputs from real data: loaders, standardisation, and drawing of samples.

Every loader returns ``(X, description)``: X of shape (N, M_0), float64, one sample a row, values as stored.
"""

from __future__ import annotations

import gzip
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ._validate import FloatArray, as_float_array, as_generator, positive_int, require_cpu

__all__ = ["digits", "draw", "fashion_mnist", "from_file", "labels", "load", "standardize"]

PathLike = str | os.PathLike[str]

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package puts it
_TRAINING_IMAGES = "train-images-idx3-ubyte"
_TRAINING_LABELS = "train-labels-idx1-ubyte"


def load(source: PathLike, folder: PathLike | None = None) -> tuple[FloatArray, str]:
    """Load a data set by name, or from a file.

    Parameters
    ----------
    source : str or path
        ``"digits"``, ``"fashion-mnist"``, or a file that :func:`from_file` reads.
    folder : str or path, optional
        Folder of the IDX files, for ``"fashion-mnist"`` only.

    Returns
    -------
    X : ndarray, shape (N, M_0), float64
    description : str

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        If the source is unknown, unreadable or not numeric, or needs a package that is not installed.

    Examples
    --------
    >>> from fisherfield import data
    >>> X, description = data.load("digits")
    >>> X.shape
    (1797, 64)
    """
    if source == "fashion-mnist":
        return fashion_mnist(folder)
    if folder is not None:
        raise ValueError(f"folder: expected only with 'fashion-mnist', got {os.fspath(folder)!r} with {source!r}")
    if source == "digits":
        return digits()
    if Path(source).suffix.lower() not in _READERS:
        raise ValueError(
            f"data: expected 'digits', 'fashion-mnist' or a file ending in {', '.join(_READERS)}, "
            f"got {os.fspath(source)!r}"
        )
    return from_file(source)


def labels(source: PathLike, folder: PathLike | None = None) -> npt.NDArray[np.int64]:
    """Return the classes of the images of ``"digits"`` or ``"fashion-mnist"``, in the order of :func:`load`.

    Parameters
    ----------
    source : {"digits", "fashion-mnist"}
    folder : str or path, optional
        Folder of the IDX files, for ``"fashion-mnist"`` only. Default: as of :func:`fashion_mnist`.

    Returns
    -------
    ndarray, shape (N,), int64
        Classes from 0 to 9.

    Raises
    ------
    ValueError
        For another source, a folder with ``"digits"``, or a damaged file.
    FileNotFoundError
        If the file is not there.
    ImportError
        For ``"digits"`` without scikit-learn.

    Examples
    --------
    >>> from fisherfield import data
    >>> data.labels("digits")[:4]
    array([0, 1, 2, 3])
    """
    if source == "digits":
        if folder is not None:
            raise ValueError(f"folder: expected only with 'fashion-mnist', got {os.fspath(folder)!r} with 'digits'")
        return np.asarray(_load_digits().target, np.int64)
    if source == "fashion-mnist":
        root = FASHION_MNIST_FOLDER if folder is None else Path(folder)
        return np.asarray(_read_idx(_idx_file(root, _TRAINING_LABELS), axes=1), np.int64)
    raise ValueError(f"data: expected 'digits' or 'fashion-mnist', which have classes, got {source!r}")


def digits() -> tuple[FloatArray, str]:
    """Return the 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries."""
    X = as_float_array(_load_digits().data, "digits", ndim=2)
    return X, f"digits ({len(X)} images of 8 x 8 pixels)"


def _load_digits() -> Any:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits data set needs scikit-learn: pip install 'fisherfield[data]'") from error
    return load_digits()


def fashion_mnist(folder: PathLike | None = None) -> tuple[FloatArray, str]:
    """Return the 60000 training images of Fashion-MNIST (or of MNIST, whose files have the same names).

    Parameters
    ----------
    folder : str or path, optional
        Where ``train-images-idx3-ubyte`` lies, compressed (``.gz``) or not. Default: the folder of Debian's
        package ``dataset-fashion-mnist``.

    Returns
    -------
    X : ndarray, shape (60000, 784), float64
        Pixels from 0 to 255, an image a row.
    description : str

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    ValueError
        If it is damaged or no IDX file of images.
    """
    root = FASHION_MNIST_FOLDER if folder is None else Path(folder)
    path = _idx_file(root, _TRAINING_IMAGES)
    images = _read_idx(path, axes=3)
    rows, columns = images.shape[1:]
    label = "Fashion-MNIST" if folder is None else path.name
    return _flatten(images, path), f"{label} ({len(images)} images of {rows} x {columns} pixels)"


def _idx_file(root: Path, name: str) -> Path:
    """The file of that name, compressed or not."""
    for path in (root / f"{name}.gz", root / name):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"fashion-mnist: expected {name}.gz (or the same without .gz) in {root}; install "
        "Debian's package (apt-get install dataset-fashion-mnist), or name the folder (--data-dir, folder=)"
    )


def from_file(path: PathLike) -> tuple[FloatArray, str]:
    """Read samples from a ``.npy``, ``.npz`` or ``.csv`` file.

    Real, integer and boolean entries become float64. An array of more than two dimensions is read as N
    samples that are flattened. An ``.npz`` file must hold a single array or one called ``X``; a ``.csv``
    file has comma-separated numbers, one sample a line, optionally below one line of names.

    Parameters
    ----------
    path : str or path
        The file; its ending says the format.

    Returns
    -------
    X : ndarray, shape (N, M_0), float64
    description : str
        Name of the file and N.

    Raises
    ------
    ValueError, TypeError
        For another ending, a file that cannot be read so, entries that are not real numbers, NaN or infinity.
    FileNotFoundError
        If there is no such file.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"data: expected a file ending in {', '.join(_READERS)}, got {file.name!r}")
    if not file.is_file():
        raise FileNotFoundError(f"data: no such file: {file}")
    X = _flatten(reader(file), file)
    return X, f"{file.name} ({len(X)} samples)"


def standardize(X: FloatArray) -> FloatArray:
    """Shift and scale all entries by one mean and one standard deviation, to mean 0 and variance 1.

    The theory's unit inputs have ``|x|^2 / M_0 = 1``; this gives that value on average over the samples and
    keeps the geometry of the data, constant columns (image borders) included.

    Parameters
    ----------
    X : ndarray, shape (N, M_0), float32 or float64
        Not changed.

    Returns
    -------
    ndarray, shape (N, M_0)
        In the precision of X.

    Raises
    ------
    ValueError
        If all entries are equal.
    TypeError
        For an array on a GPU.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield import data
    >>> X = data.standardize(np.array([[1.0, 2.0], [3.0, 6.0]]))
    >>> float(abs(X.mean())) < 1e-15, round(float(X.var()), 12)
    (True, 1.0)
    """
    require_cpu(X, "X", "data are scaled")
    centred = X - np.mean(X, dtype=np.float64)
    scale = math.sqrt(float(np.vdot(centred, centred)) / centred.size)
    if scale == 0:
        raise ValueError(
            f"X: expected entries that differ, to scale them to variance 1, got {X.size} times {X.flat[0]}"
        )
    centred /= scale
    return np.asarray(centred, dtype=X.dtype)


def draw(X: npt.NDArray[Any], num_samples: int, seed: int | np.random.Generator | None = None) -> npt.NDArray[Any]:
    """Draw rows of X without replacement.

    Parameters
    ----------
    X : array, shape (N, M_0)
    num_samples : int
        T, at most N.
    seed : int, numpy.random.Generator or None
        None draws anew each time.

    Returns
    -------
    array, shape (T, M_0)

    Raises
    ------
    ValueError, TypeError
        If ``num_samples`` is not an integer from 1 to N, or the seed none of these.
    """
    count = positive_int(num_samples, "num_samples")
    if count > len(X):
        raise ValueError(f"num_samples: expected at most {len(X)}, the samples in the data, got {count}; ask for fewer")
    return X[as_generator(seed).choice(len(X), count, replace=False)]


# --- file formats -------------------------------------------------------------------------------------------


def _read_numpy(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else loaded[_only_name(loaded.files)]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path.name}: cannot be read as a NumPy file of numbers: {error}") from error


def _only_name(names: list[str]) -> str:
    if "X" in names:
        return "X"
    if len(names) != 1:
        raise ValueError(f"expected a single array or one called 'X', got {', '.join(names) or 'none'}")
    return names[0]


def _read_csv(path: Path) -> FloatArray:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: expected text, got bytes that are not UTF-8: {error}") from error
    rows = [(number, line.split(",")) for number, line in enumerate(lines, 1) if line.strip()]
    if rows and not any(map(_is_number, rows[0][1])):
        rows = rows[1:]  # column names
    if not rows:
        raise ValueError(f"{path.name}: expected at least one line of comma-separated numbers, got none")
    columns = len(rows[0][1])
    X = np.empty((len(rows), columns))
    for sample, (number, fields) in enumerate(rows):
        if len(fields) != columns:
            raise ValueError(
                f"{path.name}, line {number}: expected {columns} numbers like the first, got {len(fields)}"
            )
        try:
            X[sample] = fields
        except ValueError as error:
            bad = next(field for field in fields if not _is_number(field))
            raise ValueError(f"{path.name}, line {number}: expected numbers, got {bad.strip()!r}") from error
    return X


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_idx(path: Path, axes: int) -> Any:
    """Read unsigned bytes: two zero bytes, type 8, the number of axes, their big-endian sizes, the entries."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            content = stream.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path.name}: a damaged gzip file: {error}") from error
    if content[:4] != bytes((0, 0, 8, axes)):
        what = "images" if axes == 3 else "labels"
        raise ValueError(f"{path.name}: expected an IDX file of {what}, got one that starts with {content[:4]!r}")
    shape = np.frombuffer(content, dtype=">u4", count=axes, offset=4).astype(int)
    entries = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes)
    if entries.size != math.prod(shape):
        what = "pixels" if axes == 3 else "labels"
        raise ValueError(f"{path.name}: expected {math.prod(shape)} {what}, shape {shape.tolist()}, got {entries.size}")
    return entries.reshape(shape)


_READERS: dict[str, Callable[[Path], Any]] = {".npy": _read_numpy, ".npz": _read_numpy, ".csv": _read_csv}


def _flatten(array: Any, path: Path) -> FloatArray:
    """Return samples as float64 rows, checked for shape and finiteness."""
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{path.name}: expected real numbers, got dtype {array.dtype}")
    rows = array.reshape(len(array), -1) if array.ndim > 2 and array.size else array
    return as_float_array(rows.astype(np.float64), path.name, ndim=2)
