"""What tests see and choose of the stand-in: no part of CuPy."""

from ._device import ATTRIBUTES, settings, transfers

__all__ = ["ATTRIBUTES", "settings", "transfers"]
