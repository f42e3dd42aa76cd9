"""Series of Chebyshev polynomials at many points."""

from tensornet.kernels.chebyshev.spec import chebyshev_moments as chebyshev_moments
from tensornet.kernels.chebyshev.spec import chebyshev_rows as chebyshev_rows
