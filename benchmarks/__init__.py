"""Benchmarks that print the README's figures; see `python -m benchmarks.kernels --help`."""
