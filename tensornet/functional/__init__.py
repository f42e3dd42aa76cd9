"""Functions in tensor format: charges, fields and Gaussian processes, without a grid of points."""
