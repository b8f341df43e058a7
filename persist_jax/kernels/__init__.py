"""Pure array functions: distances, minimum spanning trees, deaths."""
