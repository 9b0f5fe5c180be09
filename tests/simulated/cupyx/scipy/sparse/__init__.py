"""Sparse matrices: only their linear algebra."""
