"""The CUDA runtime of the stand-in."""

from .. import _device
from .._device import CUDARuntimeError

__all__ = ["CUDARuntimeError", "deviceSynchronize", "getDevice", "getDeviceCount", "getDeviceProperties", "setDevice"]


def getDeviceCount() -> int:
    return _device.count()


def getDevice() -> int:
    return _device.current()


def setDevice(device: int) -> None:
    _device.use(device)


def deviceSynchronize() -> None:
    _device.count()


def memGetInfo() -> tuple[int, int]:
    return _device.settings.memory - _device.used(_device.current()), _device.settings.memory


def runtimeGetVersion() -> int:
    return 13000


def driverGetVersion() -> int:
    return 13000


def getDeviceProperties(device: int) -> dict[str, object]:
    major, minor = (int(digit) for digit in _device.settings.compute_capability)
    return {
        "name": b"Simulated device",
        "major": major,
        "minor": minor,
        "totalGlobalMem": _device.settings.memory,
        "multiProcessorCount": _device.ATTRIBUTES["MultiProcessorCount"],
        "sharedMemPerBlock": _device.ATTRIBUTES["MaxSharedMemoryPerBlock"],
        "sharedMemPerBlockOptin": _device.ATTRIBUTES["MaxSharedMemoryPerBlockOptin"],
        "maxThreadsPerBlock": _device.ATTRIBUTES["MaxThreadsPerBlock"],
        "warpSize": _device.ATTRIBUTES["WarpSize"],
    }
