"""Devices, streams and memory of the stand-in."""

from .. import _device
from . import compiler, driver, memory, runtime
from .runtime import CUDARuntimeError

__all__ = [
    "CUDARuntimeError",
    "Device",
    "Stream",
    "compiler",
    "driver",
    "get_current_stream",
    "get_device_id",
    "is_available",
    "memory",
    "runtime",
]


class Device:
    """A device; as a context it is the current one."""

    def __init__(self, device: "int | Device | None" = None) -> None:
        self.id = _device.current() if device is None else int(device)
        self._before: list[int] = []

    def use(self) -> None:
        _device.use(self.id)

    def __enter__(self) -> "Device":
        self._before.append(_device.current())
        self.use()
        return self

    def __exit__(self, *args: object) -> None:
        _device.use(self._before.pop())

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def synchronize(self) -> None:
        """All kernels have ended already."""

    @property
    def mem_info(self) -> tuple[int, int]:
        return _device.settings.memory - _device.used(self.id), _device.settings.memory

    @property
    def compute_capability(self) -> str:
        return _device.settings.compute_capability

    @property
    def attributes(self) -> dict[str, int]:
        return dict(_device.ATTRIBUTES)

    @property
    def pci_bus_id(self) -> str:
        return f"0000:{self.id:02X}:00.0"


class Stream:
    """A stream; everything on it has ended already."""

    ptr = 0

    def synchronize(self) -> None:
        """All kernels have ended already."""


Stream.null = Stream()


def get_current_stream() -> Stream:
    return Stream.null


def get_device_id() -> int:
    return _device.current()


def is_available() -> bool:
    return _device.settings.devices > 0
