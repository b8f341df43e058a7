"""Training: a pure step, an epoch as one scan, lanes over devices, checkpoints, a group of runs."""
