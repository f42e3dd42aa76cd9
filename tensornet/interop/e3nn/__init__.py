"""e3nn's products: its signatures, normalisations, weight order and results, by our kernels."""

from tensornet.interop.e3nn.convolution import TensorProductConv as TensorProductConv
from tensornet.interop.e3nn.product import TensorProduct as TensorProduct
