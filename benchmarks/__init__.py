"""What the README's figures come from; see `python -m benchmarks.kernels --help`."""
