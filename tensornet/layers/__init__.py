"""Modules that models are built from. Small, no input or output, no mathematics of their own."""

from tensornet.layers.attention import DegreeEmbedding as DegreeEmbedding
from tensornet.layers.attention import Edges as Edges
from tensornet.layers.attention import GraphAttention as GraphAttention
from tensornet.layers.attention import RadialMLP as RadialMLP
from tensornet.layers.attention import smooth_attention as smooth_attention
from tensornet.layers.attention import smooth_leaky_relu as smooth_leaky_relu
from tensornet.layers.attention import sum_to_receivers as sum_to_receivers
from tensornet.layers.contraction import SymmetricContraction as SymmetricContraction
from tensornet.layers.convolution import EdgeConvolution as EdgeConvolution
from tensornet.layers.energy import ZBL as ZBL
from tensornet.layers.energy import BindingShift as BindingShift
from tensornet.layers.energy import ScalarReadout as ScalarReadout
from tensornet.layers.equivariant import EquivariantLinear as EquivariantLinear
from tensornet.layers.equivariant import EquivariantNorm as EquivariantNorm
from tensornet.layers.equivariant import GatedLinear as GatedLinear
from tensornet.layers.factorized import FactorizedLinear as FactorizedLinear
from tensornet.layers.lord import LordModule as LordModule
from tensornet.layers.lord_basis import LordBasis as LordBasis
from tensornet.layers.powers import DensityPowers as DensityPowers
from tensornet.layers.radial import BesselBasis as BesselBasis
from tensornet.layers.radial import GaussianBasis as GaussianBasis
from tensornet.layers.radial import level_out as level_out
from tensornet.layers.radial import polynomial_envelope as polynomial_envelope
from tensornet.layers.spectral import SpectralConvolution as SpectralConvolution
from tensornet.layers.table import RadialTable as RadialTable
from tensornet.layers.table import TableCertificate as TableCertificate
