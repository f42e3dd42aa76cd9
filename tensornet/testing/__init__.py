"""Assertions that formats, products, potentials and discretised problems must pass.

The library holds its own to them; use them in the tests of yours. `closeness.py` has what the
others are made of: equality up to rounding, and derivatives against finite differences. `formats`,
`products`, `potentials` and `problems` hold one contract each. `pressure.py` and `cavity.py` are
test cases: pressure equations, and published velocities of a lid-driven cavity.

Every assertion raises `AssertionError` with what is needed to see the failure again: the seed, the
transformation, the largest error and where it is. Random numbers come from an argument `seed` and
leave torch's global generator alone.
"""

from tensornet.testing.closeness import SEED as SEED
from tensornet.testing.closeness import TOLERANCE as TOLERANCE
from tensornet.testing.closeness import assert_close as assert_close
from tensornet.testing.closeness import assert_gradients as assert_gradients
from tensornet.testing.formats import assert_format_contract as assert_format_contract
from tensornet.testing.potentials import assert_potential_contract as assert_potential_contract
from tensornet.testing.problems import assert_operator_contract as assert_operator_contract
from tensornet.testing.problems import assert_problem_contract as assert_problem_contract
from tensornet.testing.products import assert_equivariant as assert_equivariant
from tensornet.testing.products import assert_product_contract as assert_product_contract
