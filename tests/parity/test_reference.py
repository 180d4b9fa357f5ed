"""The packed network = the per-atom definition of ``reference_pet.py``, by variant."""

import numpy as np
import pytest
import torch
from graphs import answer_graph, make_graph
from reference_pet import ReferencePET
from structures import (
    Structure,
    chain,
    crystal,
    ethanol,
    far_pair,
    random_structure,
    slab,
)
from variants import ATOMIC_NUMBERS, COVALENT_RADII, VARIANTS, make_potential


RELATIVE = 1e-11
"""Of the largest number of its kind; rounding is 1e-14, the bisected root 1e-12."""

STRUCTURES = {
    "molecule": ethanol(),
    "chain": chain(),
    "tiny_cell": Structure(
        [14, 8],
        [[0.1, 0.0, 0.0], [1.4, 1.3, 1.2]],
        [[2.9, 0.2, 0.1], [0.4, 3.1, -0.2], [0.3, -0.1, 3.0]],
        [True] * 3,
    ),
    "diamond": crystal(),
    "slab": slab(),
    "far_pair": far_pair(),
    "random_0": random_structure(0, 4),
    "random_1": random_structure(1, 5),
}
SMALL_CUTOFF = {"cutoff": 3.0, "cutoff_width_adaptive": 0.9}
"""Short enough for loops over edges; the tiny cell still sees images of images."""


def assert_same(ours: np.ndarray, reference: np.ndarray, what: str) -> None:
    scale = np.abs(reference).max()
    assert scale > 0, what
    np.testing.assert_allclose(
        ours, reference, rtol=0, atol=RELATIVE * scale, err_msg=what
    )


def compare(variant: str, structure: Structure, **changes) -> np.ndarray:
    """Judge energies and edge gradients; return the reference's energies."""
    model = make_potential(variant, **changes)
    with torch.no_grad():
        model.scales[0].copy_(torch.tensor([[1.3], [1.3], [1.3], [1.3]]))
        model.compositions[0].copy_(torch.tensor([[-0.5], [1.5], [2.5], [-3.5]]))
    graph = make_graph([structure], model.config.cutoff)
    judge = ReferencePET(
        model.config, model.state_dict(), ATOMIC_NUMBERS, COVALENT_RADII
    )
    energies = judge.atomic_energies(graph)
    ours = answer_graph(model, graph)
    assert_same(ours.atomic_energies, energies.detach().numpy(), "atomic energies")
    if len(graph.centers):
        (theirs,) = torch.autograd.grad(energies.sum(), graph.edge_vectors)
        total = model(graph, ["energy"])["energy"].sum()
        (gradients,) = torch.autograd.grad(total, graph.edge_vectors)
        assert_same(gradients.numpy(), theirs.numpy(), "edge gradients")
    return energies.detach().numpy()


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("variant", ["modern", "classic", "adaptive_solver"])
def test_every_boundary_condition(variant, name):
    compare(variant, STRUCTURES[name], **SMALL_CUTOFF)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("heads", "llpr")])
def test_every_variant(variant):
    structure = random_structure(11, 4).changed(charge=1, spin_multiplicity=3)
    energies = compare(variant, structure, **SMALL_CUTOFF)
    assert len(set(energies.round(6))) == len(structure)


def test_one_grid_probe():
    """The grid's own special case: its spread comes from the excess itself."""
    changes = {**SMALL_CUTOFF, "cutoff": 2.0, "cutoff_width_adaptive": 8.0}
    compare("adaptive_grid", random_structure(3, 4), **changes)


def test_full_cutoff_with_many_images():
    compare("adaptive_wide", crystal(), cutoff=5.0)
