"""Points against charges that are closer than a cutoff."""
