"""e3nn's products: its signatures, normalisations, weight order and results, by our kernels.

Read `product` first, with `instructions` (what e3nn's arguments mean) and `paths` (what kernels
make of them). `convolution` sums products over the edges of a graph. `accelerate` puts all of this
into a model that is already there; the files named ``accelerate_*`` say which modules it knows.
"""

from tensornet.interop.e3nn.accelerate import accelerate as accelerate
from tensornet.interop.e3nn.accelerate import acceleration as acceleration
from tensornet.interop.e3nn.accelerate import restore as restore
from tensornet.interop.e3nn.contraction import FastSymmetricContraction as FastSymmetricContraction
from tensornet.interop.e3nn.contraction import (
    fast_symmetric_contraction as fast_symmetric_contraction,
)
from tensornet.interop.e3nn.convolution import TensorProductConv as TensorProductConv
from tensornet.interop.e3nn.harmonics import SphericalHarmonics as SphericalHarmonics
from tensornet.interop.e3nn.harmonics import spherical_harmonics as spherical_harmonics
from tensornet.interop.e3nn.layout import from_e3nn as from_e3nn
from tensornet.interop.e3nn.layout import to_e3nn as to_e3nn
from tensornet.interop.e3nn.product import TensorProduct as TensorProduct
from tensornet.interop.e3nn.special import ElementwiseTensorProduct as ElementwiseTensorProduct
from tensornet.interop.e3nn.special import FullTensorProduct as FullTensorProduct
from tensornet.interop.e3nn.special import (
    FullyConnectedTensorProduct as FullyConnectedTensorProduct,
)
from tensornet.interop.e3nn.special import TensorSquare as TensorSquare
