"""The product of matrices that represent features, with the conversions there and back."""

from tensornet.kernels.fuzzy.spec import fuzzy_product as fuzzy_product
