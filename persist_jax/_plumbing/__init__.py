"""Private helpers of the other packages: checks of fields and files, registries, checksums."""
