"""The commands: flags turned into one call of the package."""
