"""Samples (a structure with its edges, as tensors) and batches of them.

The network is a function of edge vectors, and rotating a structure keeps its neighbors:
so the list of each structure is built once, and augmentation turns vectors and targets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from petmad.model import EdgeGraph, TargetSpec
from petmad.neighbors import edge_vectors, neighbor_list

from .augmentation import random_rotation
from .structures import Structure
from .tensors import rotate_components


class Sample(NamedTuple):
    """One structure as tensors; indices are int32 to halve the memory of a data set.

    Attributes:
        edge_vectors: [n_edges, 3] float64 Å.
        centers, neighbors, reverse_edges: [n_edges] int32.
        species: [n_atoms] int32, dense index.
        energy: float64 eV, 0-d.
        forces: [n_atoms, 3] float64 eV/Å, NaN where unknown.
        strain_gradients: [3, 3] float64 eV, stress times volume, NaN where unknown.
        charge: int64, 0-d.
        spin_multiplicity: int64, 0-d.
        tensors: [1 or n_atoms, n_components] float64 by target, NaN where unknown.
        level: int64, 0-d, level of theory of the energy and its gradients.
    """

    edge_vectors: torch.Tensor
    centers: torch.Tensor
    neighbors: torch.Tensor
    reverse_edges: torch.Tensor
    species: torch.Tensor
    energy: torch.Tensor
    forces: torch.Tensor
    strain_gradients: torch.Tensor
    charge: torch.Tensor
    spin_multiplicity: torch.Tensor
    tensors: dict[str, torch.Tensor]
    level: torch.Tensor


class Batch(NamedTuple):
    """Several structures as one graph, with their targets.

    Attributes:
        graph: input of the network.
        n_atoms: [n_structures] int64.
        energies: [n_structures] float64 eV.
        forces: [n_atoms_total, 3] float64 eV/Å, NaN where unknown.
        strain_gradients: [n_structures, 3, 3] float64 eV, NaN where unknown.
        tensors: [n_structures or n_atoms_total, n_components] float64 by target, NaN
            where unknown.
        levels: [n_structures] int64, level of theory of energies and gradients.
    """

    graph: EdgeGraph
    n_atoms: torch.Tensor
    energies: torch.Tensor
    forces: torch.Tensor
    strain_gradients: torch.Tensor
    tensors: dict[str, torch.Tensor]
    levels: torch.Tensor


def make_sample(
    structure: Structure, atomic_numbers: list[int], cutoff: float | None
) -> Sample:
    """Tensors of a structure, its neighbor list included.

    Args:
        structure: its elements must be among ``atomic_numbers``.
        atomic_numbers: species of the model, ascending.
        cutoff: radius of the list [Å]; None makes a sample without edges.
    """
    positions = torch.from_numpy(structure.positions)
    cell = torch.from_numpy(structure.cell)
    if cutoff is None:
        vectors, none = positions[:0], torch.empty(0, dtype=torch.int32)
        centers, neighbors, reverse_edges = none, none, none
    else:
        edges = neighbor_list(positions, cell, torch.from_numpy(structure.pbc), cutoff)
        vectors = edge_vectors(positions, cell, edges)
        centers, neighbors = edges.centers, edges.neighbors
        reverse_edges = edges.reverse_edges
    energy, forces, strain_gradients = structure.labels()
    return Sample(
        edge_vectors=vectors,
        centers=centers.to(torch.int32),
        neighbors=neighbors.to(torch.int32),
        reverse_edges=reverse_edges.to(torch.int32),
        species=torch.from_numpy(
            np.searchsorted(atomic_numbers, structure.atomic_numbers).astype(np.int32)
        ),
        energy=torch.tensor(energy, dtype=torch.float64),
        forces=torch.from_numpy(forces),
        strain_gradients=torch.from_numpy(strain_gradients),
        charge=torch.tensor(structure.charge),
        spin_multiplicity=torch.tensor(structure.spin_multiplicity),
        tensors={
            name: torch.from_numpy(value) for name, value in structure.tensors.items()
        },
        level=torch.tensor(structure.level),
    )


def rotate(
    sample: Sample, rotation: torch.Tensor, targets: Sequence[TargetSpec] = ()
) -> Sample:
    """A sample turned by ``rotation`` [3, 3], proper or not: x → R x.

    Of its tensors those of ``targets`` are kept.
    """
    return sample._replace(
        edge_vectors=sample.edge_vectors @ rotation.T,
        forces=sample.forces @ rotation.T,
        strain_gradients=rotation @ sample.strain_gradients @ rotation.T,
        tensors={
            spec.name: rotate_components(spec, sample.tensors[spec.name], rotation)
            for spec in targets
        },
    )


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples into one graph; atoms and edges keep their order."""
    n_atoms = torch.tensor([len(sample.species) for sample in samples])
    n_edges = torch.tensor([len(sample.centers) for sample in samples])
    first_atom = torch.cumsum(n_atoms, 0) - n_atoms
    first_edge = torch.cumsum(n_edges, 0) - n_edges
    atom_offsets = torch.repeat_interleave(first_atom, n_edges)
    edge_offsets = torch.repeat_interleave(first_edge, n_edges)
    graph = EdgeGraph(
        edge_vectors=torch.cat([sample.edge_vectors for sample in samples]),
        centers=torch.cat([sample.centers for sample in samples]) + atom_offsets,
        neighbors=torch.cat([sample.neighbors for sample in samples]) + atom_offsets,
        reverse_edges=torch.cat([sample.reverse_edges for sample in samples])
        + edge_offsets,
        species=torch.cat([sample.species for sample in samples]).to(torch.int64),
        structures=torch.repeat_interleave(torch.arange(len(samples)), n_atoms),
        charges=torch.stack([sample.charge for sample in samples]),
        spin_multiplicities=torch.stack(
            [sample.spin_multiplicity for sample in samples]
        ),
        halo=0,
    )
    return Batch(
        graph=graph,
        n_atoms=n_atoms,
        energies=torch.stack([sample.energy for sample in samples]),
        forces=torch.cat([sample.forces for sample in samples]),
        strain_gradients=torch.stack([sample.strain_gradients for sample in samples]),
        tensors={
            name: torch.cat([sample.tensors[name] for sample in samples])
            for name in samples[0].tensors
        },
        levels=torch.stack([sample.level for sample in samples]),
    )


class StructureDataset(Dataset):
    """Samples by ``(epoch, index)``; with a seed, turned at random in each epoch.

    The rotation is a function of seed, epoch and index alone, so any step of a training
    can be reproduced without those before it.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        rotation_seed: int | None = None,
        targets: Sequence[TargetSpec] = (),
    ) -> None:
        self.samples = samples
        self.targets = targets
        self.rotation_seed = rotation_seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        sample = self.samples[index]
        if self.rotation_seed is None:
            return sample
        return rotate(
            sample, random_rotation(self.rotation_seed, epoch, index), self.targets
        )
