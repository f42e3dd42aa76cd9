"""Equivariant bilinear maps of features: one third-order tensor, the coupling, in several formats.

Read `base` first: what every product is called with, what it certifies and what it costs. Then
`coupling`: the dense tensors that products are held to. Each product has a file of its own, those
on the sphere share `gaunt_transform`, and `select` times the products that compute the same map.
"""

from tensornet.products.aligned import AlignedProduct as AlignedProduct
from tensornet.products.base import Certificate as Certificate
from tensornet.products.base import Cost as Cost
from tensornet.products.base import Product as Product
from tensornet.products.clebsch_gordan import ClebschGordanProduct as ClebschGordanProduct
from tensornet.products.coupling import coupling as coupling
from tensornet.products.coupling import paths as paths
from tensornet.products.cp import CPProduct as CPProduct
from tensornet.products.edge import EdgeProduct as EdgeProduct
from tensornet.products.gaunt import GauntProduct as GauntProduct
from tensornet.products.gaunt_polynomial import gaunt_polynomials as gaunt_polynomials
from tensornet.products.gaunt_power import GauntPower as GauntPower
from tensornet.products.matrix import MatrixProduct as MatrixProduct
from tensornet.products.path_rank import PathRankProduct as PathRankProduct
from tensornet.products.path_rank import path_scales as path_scales
from tensornet.products.select import Selection as Selection
from tensornet.products.select import select as select
