"""Regularise a network by its most correlated neurons, through 0-dimensional persistence."""
