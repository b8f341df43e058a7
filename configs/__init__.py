"""Configurations of the paper's experiments and of our studies."""
