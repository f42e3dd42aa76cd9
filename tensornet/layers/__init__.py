"""Modules that models are built from. Small, no input or output, no mathematics of their own."""

from tensornet.layers.radial import BesselBasis as BesselBasis
from tensornet.layers.radial import GaussianBasis as GaussianBasis
from tensornet.layers.radial import polynomial_envelope as polynomial_envelope
