"""What a kept network must learn of new elements: their rows of its embeddings.

A table W is computed as W + U in the rows of new elements, and U alone is trained:
the others stay as they are, to the last bit, whatever the optimizer does. As low-rank
updates are, U is a parametrization, merged into the tables of every checkpoint's model.
"""

from collections.abc import Collection

import torch
from ase.data import atomic_numbers as numbers_of_symbols
from torch import nn
from torch.nn.utils import parametrize

from petmad.model import Potential


class NewRows(nn.Module):
    """W → W + U, in some of the rows.

    Args:
        weight: [n_species, width] to be updated, for shape, dtype and device.
        rows: indices of the rows.
    """

    def __init__(self, weight: torch.Tensor, rows: list[int]) -> None:
        super().__init__()
        index = torch.tensor(rows, device=weight.device)
        self.register_buffer("rows", index, persistent=False)
        self.update = nn.Parameter(weight.new_zeros(len(rows), weight.shape[1]))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """[n_species, width] in and out."""
        return weight.index_add(0, self.rows, self.update)


def add_new_rows(potential: Potential, new_species: Collection[str]) -> None:
    """Put updates on the rows of new elements, in place.

    Args:
        potential: a model that has these elements already.
        new_species: their symbols.
    """
    if not new_species:
        return
    numbers = potential.atomic_numbers
    rows = [numbers.index(numbers_of_symbols[symbol]) for symbol in new_species]
    for table in tables_of_elements(potential):
        table.weight.requires_grad_(False)
        update = NewRows(table.weight, rows)
        parametrize.register_parametrization(table, "weight", update)


def tables_of_elements(potential: Potential) -> list[nn.Embedding]:
    """Embeddings of the network with a row per element; not of charges and spins."""
    network = potential.network
    layers = [layer.neighbor_embedder for layer in network.gnn_layers]
    tables = [network.edge_embedder, *network.node_embedders, *layers]
    return [table for table in tables if table is not None]
