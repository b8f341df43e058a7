"""What is read out of a sweep's folder afterwards: selection, statistics, pictures, the report."""
