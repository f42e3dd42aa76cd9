"""Exchange with other libraries: their signatures and results, run by our kernels."""
