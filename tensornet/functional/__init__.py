"""Functions in tensor format: charges, fields and Gaussian processes, without a grid of points."""

from tensornet.functional.picking import Picking as Picking
from tensornet.functional.picking import integral as integral
from tensornet.functional.picking import pick as pick
