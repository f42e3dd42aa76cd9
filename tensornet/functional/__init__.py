"""Functions in tensor format: charges, fields and Gaussian processes without grids of all points."""
