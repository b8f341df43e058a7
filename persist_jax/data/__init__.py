"""Data sets as arrays: train, validation and test."""
