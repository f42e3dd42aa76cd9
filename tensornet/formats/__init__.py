"""Tensor formats: values that store a tensor by its factors, and how to compute them."""

from tensornet.formats.cp import CP as CP
from tensornet.formats.cp import cp as cp
from tensornet.formats.decomposition import Decomposition as Decomposition
from tensornet.formats.format import Format as Format
from tensornet.formats.format import load as load
