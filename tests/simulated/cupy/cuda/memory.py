"""The memory pool of the stand-in: it keeps nothing that is not used."""

from .. import _device
from .._device import OutOfMemoryError

__all__ = ["MemoryPool", "OutOfMemoryError"]


class MemoryPool:
    """What the current device's arrays take."""

    def used_bytes(self) -> int:
        return _device.used(_device.current())

    def total_bytes(self) -> int:
        return self.used_bytes()

    def free_bytes(self) -> int:
        return 0

    def n_free_blocks(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        """Nothing is kept."""
