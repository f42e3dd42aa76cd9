"""Modules that models are built from: small, and without reading or writing of files.

For potentials read `equivariant` first: linear maps, norms and gates of features
``(..., (l_max + 1)², channels)``; then `convolution` and `attention` (messages along edges),
`contraction` and `powers` (products at an atom), `radial`, `table` and `energy`. For operators on
grids and compressed layers begin with `factorized`, `spectral` and `lord`.
"""

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
