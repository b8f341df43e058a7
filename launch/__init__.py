"""The commands: each parses its flags and calls the package."""
