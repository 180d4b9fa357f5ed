"""From files to tensors: structures, samples with their edges, and batches."""

from .dataset import Batch, Sample, StructureDataset, collate, make_sample
from .reading import read_structures
from .structures import Structure


__all__ = [
    "Batch",
    "Sample",
    "Structure",
    "StructureDataset",
    "collate",
    "make_sample",
    "read_structures",
]
