"""The compiler of the stand-in."""


class CompileException(Exception):
    """Kernels that do not compile."""
