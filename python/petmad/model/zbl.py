"""ZBL screened nuclear repulsion, switched off smoothly at the sum of covalent radii.

Source: Ziegler, Biersack, Littmark (1985); the switching polynomial is that of LAMMPS's
``pair_style zbl``, from zero distance on. Upstream computes screening
lengths and prefactors in float32, and so does this.
"""

import torch
from torch import nn

from . import constants
from .graph import EdgeGraph


SCREENING = (
    (0.02817, 0.20162),
    (0.28022, 0.40290),
    (0.50986, 0.94229),
    (0.18175, 3.19980),
)


class ZBL(nn.Module):
    """Pair repulsion as a per-atom energy.

    Args:
        atomic_numbers: of each species, in order.
        covalent_radii: of each species [Å]; a pair is cut off at the sum of its two.
    """

    def __init__(self, atomic_numbers: list[int], covalent_radii: list[float]) -> None:
        super().__init__()
        numbers = torch.tensor(atomic_numbers, dtype=torch.float32)
        prefactors = constants.COULOMB * numbers[:, None] * numbers[None, :]
        self.register_buffer("prefactors", prefactors.to(torch.float64))
        powers = numbers**0.23
        lengths = constants.ZBL_SCREENING_LENGTH / (powers[:, None] + powers[None, :])
        self.register_buffer("lengths", lengths.to(torch.float64))
        radii = torch.tensor(covalent_radii, dtype=torch.float32).to(torch.float64)
        self.register_buffer("radii", radii)
        self.register_buffer(
            "amplitudes", torch.tensor([c for c, _ in SCREENING], dtype=torch.float64)
        )
        self.register_buffer(
            "decays", torch.tensor([d for _, d in SCREENING], dtype=torch.float64)
        )

    def forward(self, graph: EdgeGraph) -> torch.Tensor:
        """Energy of each owned atom, [n_owned] float64 eV: half of all its pairs."""
        n_owned = graph.structures.shape[0]
        distances = torch.linalg.vector_norm(graph.edge_vectors, dim=1)
        distances = distances + constants.DISTANCE_EPSILON
        center_species = graph.species[graph.centers]
        neighbor_species = graph.species[graph.neighbors]
        cutoffs = self.radii[center_species] + self.radii[neighbor_species]
        is_owned = graph.centers < n_owned
        inside = torch.nonzero(is_owned & (distances < cutoffs)).squeeze(1)
        r, rc = distances[inside], cutoffs[inside]
        zi, zj = center_species[inside], neighbor_species[inside]
        length = self.lengths[zi, zj]
        prefactor = self.prefactors[zi, zj]
        decays = self.decays[None, :] / length[:, None]

        # E(r) = K/r · φ(r), and its first two derivatives at the cutoff
        screened = (self.amplitudes * torch.exp(-decays * r[:, None])).sum(dim=1)
        terms = self.amplitudes * torch.exp(-decays * rc[:, None])
        phi = terms.sum(dim=1)
        phi1 = -(decays * terms).sum(dim=1)
        phi2 = (decays**2 * terms).sum(dim=1)
        e0 = prefactor * phi / rc
        e1 = prefactor * (phi1 / rc - phi / rc**2)
        e2 = prefactor * (phi2 / rc - 2.0 * phi1 / rc**2 + 2.0 * phi / rc**3)
        a = (-3.0 * e1 + rc * e2) / rc**2
        b = (2.0 * e1 - rc * e2) / rc**3
        c = -e0 + rc * e1 / 2.0 - rc**2 * e2 / 12.0
        pair = prefactor * screened / r + a * r**3 / 3.0 + b * r**4 / 4.0 + c
        return torch.zeros(n_owned, dtype=pair.dtype, device=pair.device).index_add(
            0, graph.centers[inside], 0.5 * pair
        )
