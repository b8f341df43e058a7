"""What the sweeps of the paper and of our studies are."""
