"""Checks of fields and files, registries, checksums: for every other package, not for users."""
