"""What every room needs and no user: checks of fields and files, registries, checksums."""
