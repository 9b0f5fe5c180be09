"""The simulated devices: which one is current, what memory is taken, and what was copied to and from them."""

import os
import threading
from dataclasses import dataclass, field

import numpy as np

ATTRIBUTES = {
    "ConcurrentKernels": 1,
    "MaxBlockDimX": 1024,
    "MaxGridDimX": 2**31 - 1,
    "MaxGridDimY": 65535,
    "MaxGridDimZ": 65535,
    "MaxSharedMemoryPerBlock": 48 * 1024,
    "MaxSharedMemoryPerBlockOptin": 227 * 1024,
    "MaxSharedMemoryPerMultiprocessor": 228 * 1024,
    "MaxThreadsPerBlock": 1024,
    "MaxThreadsPerMultiProcessor": 2048,
    "MultiProcessorCount": 132,
    "WarpSize": 32,
}


@dataclass
class Settings:
    """What tests choose: devices there are, their memory, their generation, and the order in which blocks run."""

    devices: int = int(os.environ.get("FISHERFIELD_SIMULATED_DEVICES", "2"))
    memory: int = 16 * 2**30  # bytes of every device
    compute_capability: str = "90"
    reversed_order: bool = False  # blocks and threads of kernels from last to first


@dataclass
class Transfers:
    """Bytes of every copy between host and devices since the last ``clear()``."""

    to_device: list[int] = field(default_factory=list)
    to_host: list[int] = field(default_factory=list)
    between_devices: list[int] = field(default_factory=list)

    def clear(self) -> None:
        for copies in (self.to_device, self.to_host, self.between_devices):
            copies.clear()


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime."""


class OutOfMemoryError(MemoryError):
    """No room on the device."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes, "
            f"limit set to: {limit:,} bytes)."
        )


settings = Settings()
transfers = Transfers()
_current = threading.local()
_used: dict[int, int] = {}
_lock = threading.Lock()


def count() -> int:
    if settings.devices == 0:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return settings.devices


def current() -> int:
    count()
    return getattr(_current, "id", 0)


def use(device: int) -> None:
    if not 0 <= device < count():
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    _current.id = device


def used(device: int) -> int:
    return _used.get(device, 0)


class Memory:
    """A piece of a device's memory, held by a NumPy array; it counts as used until nothing refers to it."""

    def __init__(self, host: np.ndarray, device: int, owned: bool = True) -> None:
        self.host, self.device, self.size = host, device, 0
        size = host.nbytes if owned else 0
        with _lock:
            if used(device) + size > settings.memory:
                raise OutOfMemoryError(size, used(device), settings.memory)
            _used[device] = used(device) + size
        self.size = size

    def __del__(self) -> None:
        with _lock:
            _used[self.device] = used(self.device) - self.size
