"""Data sets: reading and generating structures with labels, and serving them as graphs.

Read first `read.py`, from files to structures with labels, and `labels.py`, where labels are found.
`graphs.py` keeps graphs in memory, `shards.py` on disk.
"""

from tensornet.datasets.graphs import GraphDataset as GraphDataset
from tensornet.datasets.labels import LabelError as LabelError
from tensornet.datasets.labels import LabelKeys as LabelKeys
from tensornet.datasets.labels import Labels as Labels
from tensornet.datasets.read import Frames as Frames
from tensornet.datasets.read import Reader as Reader
from tensornet.datasets.read import read as read
from tensornet.datasets.references import ReferenceEnergies as ReferenceEnergies
from tensornet.datasets.references import reference_energies as reference_energies
from tensornet.datasets.samples import sample as sample
from tensornet.datasets.samples import samples as samples
from tensornet.datasets.shards import ShardDataset as ShardDataset
from tensornet.datasets.split import duplicates as duplicates
from tensornet.datasets.split import split as split
from tensornet.datasets.writer import ShardWriter as ShardWriter
