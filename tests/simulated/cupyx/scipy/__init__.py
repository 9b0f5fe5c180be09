"""SciPy's functions for CuPy's arrays."""
