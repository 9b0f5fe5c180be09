"""Gram matrices in files: filled tile by tile, in any order, by one process at a time that may be killed at any moment.

``PATH.part`` is the matrix while tiles are missing, an .npy file of its full size; ``PATH`` is the same file once it is
complete. ``PATH.index`` says what is computed, in JSON, and which tiles are there: a record of 8 bytes each, zero until
the tile is on the disk. A tile is brought to the disk before it is recorded, so that neither a killed process nor a
power failure leaves a record without its tile.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _native, devices
from ._config import version
from ._executor import Progress, reporter
from ._memory import human
from ._validate import FloatArray, require_finite
from .factors import require_finite_outputs
from .gram import Range, sample_ranges
from .panels import Pair, panel_pairs

if TYPE_CHECKING:
    from .network_metric import NetworkMetric

__all__ = ["GramFile", "as_path", "digest", "identity_of"]

Fields = dict[str, Any]
Work = Callable[[list[Pair]], Generator[tuple[Pair, FloatArray]]]

_RECORD = 8  # bytes a tile
_WAITING = 2**25  # bytes of computed tiles, beyond which the disk is waited for
_ANEW = "resume=False starts anew and overwrites it"

_locked: set[int] = set()  # descriptors of locked files


def _close_in_child() -> None:
    for descriptor in _locked:
        os.close(descriptor)
    _locked.clear()


os.register_at_fork(after_in_child=_close_in_child)  # a lock lasts as long as any process has the file open


def as_path(out: Any) -> Path:
    """Return ``out`` as a path in a folder that exists, or raise."""
    if not isinstance(out, (str, os.PathLike)) or isinstance(os.fspath(out), bytes):
        raise TypeError(f"out: expected a path or None, got {out!r}")
    path = Path(out)
    if path.is_dir():
        raise IsADirectoryError(f"out: expected a path of a file, got the folder {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"out: expected a path in a folder that exists, got {str(path)!r}; create the folder")
    return path


def digest(arrays: Iterable[np.ndarray[Any, Any]]) -> str:
    """SHA-256 of shapes, dtypes and bytes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(devices.on_host(array)).data if array.size else b"")
    return found.hexdigest()


def identity_of(metric: NetworkMetric) -> Fields:
    """All on which the bits of a dual depend, readable where it is short; functions by values of theirs."""
    net, targets = metric.net, metric.targets
    some = slice(0, max(1, min(32, 10**6 // (metric.num_seeds * net.num_outputs))))
    outputs = net(metric.X[some])
    require_finite_outputs(outputs)
    points = np.concatenate([np.linspace(-4, 4, 33), [-30, -10, 10, 30]])
    with np.errstate(all="ignore"):
        activations = [phi.evaluate(devices.as_like(points, metric.X, net.dtype)) for phi in net.activations]
    return {
        "fisherfield": version(),
        "kernels": _kernels(metric.X),
        "numpy": np.__version__,
        "class": type(metric).__name__,
        **metric._options,
        "samples": metric.num_samples,
        "seeds": metric.num_seeds,
        "dtype": str(metric.dtype),
        "scale": metric._scale,
        "widths": net.widths,
        "residual": net.residual,
        "activation": [phi.name for phi in net.activations],
        "likelihood": metric.likelihood.name,
        "kind": metric.kind,
        "weights": digest(net.weights),
        "biases": None if net.biases is None else digest(net.biases),
        "values of the activations": digest(values for pair in activations for values in pair),
        "X": digest([metric.X]),
        "values of the likelihood": digest(
            [metric._seeds(outputs, targets and tuple(drawn[some] for drawn in targets))]
        ),
        "targets": targets and digest(targets),
    }


def _kernels(X: Any) -> str:
    """What computes: the instruction set of the processor, or the kind of the GPU and whose products it takes."""
    if not devices.is_cuda(X):
        return _native.level
    return f"cuda {X.device.compute_capability}, cupy {devices.import_cupy().__version__}"


class GramFile:
    """A matrix of gradients' products in a file.

    Parameters
    ----------
    path : Path
        Of the finished matrix.
    identity : dict
        What the matrix is made of, in terms of JSON: a file of another identity is refused.
    num_seeds, num_samples : int
        R and T: the matrix is (R*T, R*T).
    dtype : dtype
    """

    def __init__(self, path: Path, identity: Fields, num_seeds: int, num_samples: int, dtype: np.dtype[Any]) -> None:
        self.path, self.identity = path, json.loads(json.dumps(identity))
        self.part, self.index = (path.with_name(path.name + suffix) for suffix in (".part", ".index"))
        self.num_seeds, self.num_samples, self.dtype = num_seeds, num_samples, dtype
        self._size = num_seeds * num_samples
        self._head = _npy_head(self._size, dtype)

    @property
    def num_bytes(self) -> int:
        """Of the whole file."""
        return len(self._head) + self._size**2 * self.dtype.itemsize

    def _finished(self) -> FloatArray | None:
        """Open the matrix, read-only, if it is complete; it may lie where nothing can be written."""
        if self.part.exists() or not self.path.exists():
            return None
        index = _Index.parse(self.index.read_bytes(), self.index)
        self._require_same(index)
        if not all(index.done):
            raise ValueError(
                f"out: expected a finished matrix in {str(self.path)!r}, got one of which tiles are missing, according "
                f"to {self.index.name}; {_ANEW}"
            )
        self._require_data(self.path)
        return self._opened()

    def fill(
        self,
        tile: int | None,
        choose_tile: Callable[[], int],
        work: Callable[[int], Work],
        progress: Progress,
        resume: bool,
    ) -> FloatArray:
        """Compute the tiles that are missing, and return the finished matrix.

        Parameters
        ----------
        tile : int or None
            Samples a tile; None: those of the run to resume, or of ``choose_tile``.
        choose_tile : callable
            Asked only when a file is begun.
        work : callable
            For a tile size, a function that yields the tiles of given pairs of panels in any order.
        progress : Progress
        resume : bool
            Whether to go on with what is there.
        """
        if resume:
            self._refuse_without_index()
            if (matrix := self._finished()) is not None:
                return matrix
        with self._lock() as descriptor:
            if resume and (matrix := self._finished()) is not None:  # by another process, just now
                return matrix
            index = self._resumed(descriptor, tile) if resume else None
            if index is None:
                index = self._begin(descriptor, choose_tile() if tile is None else tile)
            if not all(index.done):
                try:
                    self._fill(descriptor, index, work(index.tile), progress)
                except BaseException as error:
                    error.add_note(
                        f"{sum(index.done)} of {len(index.done)} tiles are kept in {str(self.part)!r}: call again, "
                        "with resume=True, to go on from there."
                    )
                    raise
            os.fsync(descriptor)
            os.replace(self.part, self.path)
            _sync_folder(self.path.parent)
        return self._opened()

    def _opened(self) -> FloatArray:
        matrix: FloatArray = np.load(self.path, mmap_mode="r")
        return matrix

    # --- beginning and resuming -----------------------------------------------------------------------------

    @contextmanager
    def _lock(self) -> Iterator[int]:
        """The index, opened by this process alone."""
        try:
            descriptor = os.open(self.index, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"out: expected a folder in which files can be written, got {error.strerror}",
                str(self.index),
            ) from error
        _locked.add(descriptor)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(
                    errno.EWOULDBLOCK,
                    "out: expected a file that no other process writes, got one that is being written; wait for that "
                    "process, or take another path",
                    str(self.path),
                ) from error
            try:
                yield descriptor
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where a child that was just forked still has it open
        finally:
            _locked.discard(descriptor)
            os.close(descriptor)

    def _refuse_without_index(self) -> None:
        """Refuse files that are in the way."""
        for file in (self.path, self.part):
            if file.exists() and not self.index.exists():
                raise ValueError(f"out: expected no file, or one beside its index, got {str(file)!r} alone; {_ANEW}")

    def _resumed(self, descriptor: int, tile: int | None) -> _Index | None:
        """The index of a run to go on with; None if there is nothing to lose."""
        if not self.part.exists():
            return None
        if self.path.exists():
            raise ValueError(f"out: expected {str(self.path)!r} or {self.part.name!r}, got both; {_ANEW}")
        index = _Index.parse(_read(descriptor), self.index)
        self._require_same(index)
        if tile is not None and tile != index.tile:
            raise ValueError(f"tile: expected {index.tile} or None, to resume {str(self.part)!r}, got {tile}; {_ANEW}")
        if not any(index.done):
            return None
        self._require_data(self.part)
        return index

    def _require_same(self, index: _Index) -> None:
        fields = [*self.identity, *(index.fields.keys() - self.identity.keys())]
        for name in fields:
            here, there = self.identity.get(name), index.fields.get(name)
            if here != there:
                raise ValueError(
                    f"out: expected {str(self.path)!r} to hold this computation, got one in which {name} differs "
                    f"({_short(there)}, here {_short(here)}); {_ANEW}"
                )

    def _require_data(self, file: Path) -> None:
        size = file.stat().st_size
        if size != self.num_bytes:
            raise ValueError(f"out: expected {self.num_bytes} bytes in {str(file)!r}, got {size}; {_ANEW}")
        with file.open("rb") as opened:
            if opened.read(len(self._head)) != self._head:
                raise ValueError(f"out: expected a {self._size} x {self._size} .npy in {str(file)!r}; {_ANEW}")

    def _begin(self, descriptor: int, tile: int) -> _Index:
        """Start anew: an index without tiles, then the matrix in its full size."""
        for file in (self.path, self.part):
            file.unlink(missing_ok=True)
        index = _Index.new(self.identity, tile, len(panel_pairs(len(sample_ranges(self.num_samples, tile)))))
        os.ftruncate(descriptor, 0)
        _write(descriptor, index.head + bytes(_RECORD * len(index.done)), 0)
        os.fsync(descriptor)
        data = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(data, 0, self.num_bytes)
            else:  # macOS: a full disk shows when tiles are written
                os.ftruncate(data, self.num_bytes)
            _write(data, self._head, 0)
            os.fsync(data)
        except OSError as error:
            self.part.unlink()
            raise OSError(
                error.errno,
                f"out: expected room for {self.num_bytes} bytes ({human(self.num_bytes)}), got {error.strerror} with "
                f"{human(_free_bytes(self.path.parent))} free; use fewer samples, float32 or another folder",
                str(self.path),
            ) from error
        finally:
            os.close(data)
        _sync_folder(self.path.parent)
        return index

    # --- tiles ----------------------------------------------------------------------------------------------

    def _fill(self, descriptor: int, index: _Index, work: Work, progress: Progress) -> None:
        """Compute and write at the same time: a thread of its own writes tiles while others are computed.

        What is computed while the disk synchronises is brought to it together: small tiles do not wait one by one.
        """
        pairs = panel_pairs(len(sample_ranges(self.num_samples, index.tile)))
        number_of = {pair: number for number, pair in enumerate(pairs)}
        missing = [pair for pair, done in zip(pairs, index.done, strict=True) if not done]
        reported = sum(index.done)
        report, close = reporter(progress, len(pairs), "dual", initial=reported)
        data = os.open(self.part, os.O_RDWR | os.O_CLOEXEC)
        storing: Future[int] | None = None
        batch: list[tuple[Pair, FloatArray]] = []

        def store(batch: list[tuple[Pair, FloatArray]]) -> int:
            for pair, block in batch:
                self._write_tile(data, index.tile, pair, block)
            os.fdatasync(data)
            for pair, _ in batch:
                number = number_of[pair]
                _write(descriptor, index.record(number), len(index.head) + _RECORD * number)
                index.done[number] = True
            return len(batch)

        def settle(stored: Future[int]) -> None:
            nonlocal reported
            for _ in range(stored.result()):
                reported += 1
                report(reported, len(pairs))

        try:
            with closing(work(missing)) as results, ThreadPoolExecutor(1, "fisherfield-writer") as writer:
                for pair, block in results:
                    batch.append((pair, block))
                    waiting = sum(block.nbytes for _, block in batch)
                    if storing is not None and (storing.done() or waiting >= _WAITING):
                        settle(storing)
                        storing = None
                    if storing is None:
                        storing, batch = writer.submit(store, batch), []
                if storing is not None:
                    settle(storing)
                if batch:
                    settle(writer.submit(store, batch))
        finally:
            os.close(data)
            close()

    def _write_tile(self, data: int, tile: int, pair: Pair, block: FloatArray) -> None:
        ranges = sample_ranges(self.num_samples, tile)
        rows, columns = ranges[pair[0]], ranges[pair[1]]
        if rows == columns:
            require_finite(block.diagonal(), "dual()")  # bounds every entry, by Cauchy-Schwarz
        self._write_block(data, rows, columns, block)
        if rows != columns:
            self._write_block(data, columns, rows, np.ascontiguousarray(block.T))

    def _write_block(self, data: int, rows: Range, columns: Range, block: FloatArray) -> None:
        """With pwrite, not through a mapping: a full disk is an error, not a signal, and pages are not resident."""
        R, T, itemsize = self.num_seeds, self.num_samples, self.dtype.itemsize
        parts = block.reshape(R, rows[1] - rows[0], R, columns[1] - columns[0])
        for r in range(R):
            for s in range(rows[0], rows[1]):
                begin = len(self._head) + ((r * T + s) * self._size + columns[0]) * itemsize
                for q in range(R):
                    _write(data, parts[r, s - rows[0], q].data, begin + q * T * itemsize)


class _Index:
    """Which tiles of what are there."""

    def __init__(self, fields: Fields, head: bytes, done: list[bool]) -> None:
        self.tile = int(fields["tile"])
        self.fields = {name: value for name, value in fields.items() if name != "tile"}
        self.head, self.done = head, done
        self._key = hashlib.sha256(head).digest()

    @classmethod
    def new(cls, identity: Fields, tile: int, num_tiles: int) -> _Index:
        fields = identity | {"tile": tile}
        text = json.dumps(fields, indent=1).encode() + b"\n"
        checksum = hashlib.sha256(text).hexdigest()
        return cls(
            fields, f"fisherfield dual, tiles {num_tiles}, sha256 {checksum}\n".encode() + text, [False] * num_tiles
        )

    @classmethod
    def parse(cls, content: bytes, file: Path) -> _Index:
        """Read an index, or refuse it: what is damaged is not trusted."""
        found = re.match(rb"fisherfield dual, tiles (\d+), sha256 ([0-9a-f]{64})\n", content)
        if found is not None:
            num_tiles = int(found[1])
            end = len(content) - _RECORD * num_tiles
            text, records = content[found.end() : end], content[end:]
            if end > found.end() and hashlib.sha256(text).hexdigest().encode() == found[2]:
                index = cls(json.loads(text), content[:end], [False] * num_tiles)
                if index._read_records(records):
                    return index
        raise ValueError(f"out: expected an index of finished tiles in {str(file)!r}, got a damaged file; {_ANEW}")

    def _read_records(self, records: bytes) -> bool:
        for number in range(len(self.done)):
            record = records[_RECORD * number : _RECORD * (number + 1)]
            self.done[number] = record == self.record(number)
            if not self.done[number] and any(record):
                return False
        return True

    def record(self, number: int) -> bytes:
        """What says that a tile is there: no other file's and no other tile's record does."""
        return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=_RECORD, key=self._key).digest()


def _npy_head(size: int, dtype: np.dtype[Any]) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype.str, "fortran_order": False, "shape": (size, size)})
    return head.getvalue()


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _write(descriptor: int, content: bytes | memoryview, position: int) -> None:
    rest = memoryview(content).cast("B")
    while rest:
        written = os.pwrite(descriptor, rest, position)
        rest, position = rest[written:], position + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:16] + "..."
