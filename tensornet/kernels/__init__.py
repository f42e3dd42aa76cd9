"""Kernels: one signature, several implementations (torch reference, Numba CPU, Numba CUDA)."""
