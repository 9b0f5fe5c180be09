"""The CUDA driver of the stand-in."""


class CUDADriverError(RuntimeError):
    """A launch that the driver refuses."""
