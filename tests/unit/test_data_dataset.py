"""Samples, batches, rotations and the order of batches."""

import numpy as np
import pytest
import torch
from toy_data import alloys

from petmad.data import StructureDataset, collate, make_sample
from petmad.data.augmentation import random_rotation
from petmad.data.dataset import rotate
from petmad.data.sampler import ResumableBatchSampler, steps_per_epoch
from petmad.data.structures import LabelKeys, to_structure


CUTOFF = 3.0


@pytest.fixture(scope="module")
def samples():
    structures = [to_structure(atoms, "toy", LabelKeys()) for atoms in alloys(3)]
    return [make_sample(structure, [29, 79], CUTOFF) for structure in structures]


def test_edges_reach_the_neighbors(samples):
    atoms = alloys(3)[0]
    sample = samples[0]
    lengths = sample.edge_vectors.norm(dim=1)
    assert 0 < len(lengths) == len(sample.centers)
    assert float(lengths.max()) <= CUTOFF
    ends = (
        torch.from_numpy(atoms.positions)[sample.centers.long()] + sample.edge_vectors
    )
    moves = ends - torch.from_numpy(atoms.positions)[sample.neighbors.long()]
    shifts = moves @ torch.linalg.inv(torch.from_numpy(atoms.cell[:]))
    torch.testing.assert_close(shifts, shifts.round(), atol=1e-9, rtol=0)
    reverse = sample.reverse_edges.long()
    torch.testing.assert_close(
        sample.edge_vectors[reverse], -sample.edge_vectors, atol=1e-12, rtol=0
    )


def test_species_are_dense(samples):
    expected = [[29, 79].index(z) for z in alloys(3)[0].numbers]
    assert samples[0].species.tolist() == expected


def test_batch_keeps_structures_apart(samples):
    batch = collate(samples)
    graph = batch.graph
    assert batch.n_atoms.tolist() == [4, 4, 4]
    assert graph.structures.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(
        graph.structures[graph.centers], graph.structures[graph.neighbors]
    )
    assert bool((graph.centers.diff() >= 0).all())
    reverse = graph.reverse_edges
    assert torch.equal(graph.centers[reverse], graph.neighbors)
    torch.testing.assert_close(
        graph.edge_vectors[reverse], -graph.edge_vectors, atol=1e-12, rtol=0
    )
    assert batch.energies.tolist() == [float(s.energy) for s in samples]
    assert torch.equal(batch.forces[4:8], samples[1].forces)


def test_rotations_are_orthogonal_and_both_proper_and_improper():
    rotations = torch.stack([random_rotation(0, 0, i) for i in range(400)])
    products = rotations @ rotations.transpose(1, 2)
    identity = torch.eye(3, dtype=torch.float64).expand_as(products)
    torch.testing.assert_close(products, identity, atol=1e-14, rtol=0)
    n_proper = int((torch.linalg.det(rotations) > 0).sum())
    assert 150 < n_proper < 250
    # uniform: every element has mean 0 and mean square 1/3
    assert float(rotations.mean(0).abs().max()) < 4 * (1 / 3 / 400) ** 0.5
    assert float((rotations.square().mean(0) - 1 / 3).abs().max()) < 0.08


def test_rotation_is_a_function_of_seed_epoch_and_index():
    assert torch.equal(random_rotation(1, 2, 3), random_rotation(1, 2, 3))
    others = [random_rotation(*key) for key in [(2, 2, 3), (1, 3, 3), (1, 2, 4)]]
    for other in others:
        assert not torch.allclose(other, random_rotation(1, 2, 3), atol=1e-3)


def test_rotated_sample_is_that_of_the_rotated_structure():
    atoms = alloys(1)[0]
    rotation = random_rotation(0, 0, 0)
    matrix = rotation.numpy()
    before = make_sample(to_structure(atoms, "a", LabelKeys()), [29, 79], CUTOFF)
    results = atoms.calc.results
    turned = atoms.copy()
    turned.set_cell(atoms.cell[:] @ matrix.T)
    turned.positions = atoms.positions @ matrix.T
    turned.calc = atoms.calc
    turned.calc.results = {
        "energy": results["energy"],
        "forces": results["forces"] @ matrix.T,
        "stress": matrix @ atoms.get_stress(voigt=False) @ matrix.T,
    }
    after = make_sample(to_structure(turned, "b", LabelKeys()), [29, 79], CUTOFF)
    for a, b in zip(rotate(before, rotation), after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_dataset_turns_only_with_a_seed(samples):
    still = StructureDataset(samples)
    turning = StructureDataset(samples, rotation_seed=0)
    assert torch.equal(still[(5, 1)].forces, samples[1].forces)
    assert not torch.allclose(turning[(5, 1)].forces, samples[1].forces, atol=1e-3)
    assert torch.equal(turning[(5, 1)].forces, turning[(5, 1)].forces)
    assert not torch.allclose(turning[(5, 1)].forces, turning[(6, 1)].forces, atol=1e-3)


def test_epoch_visits_every_structure_once():
    sampler = ResumableBatchSampler(12, 3, seed=0, current_step=lambda: 0)
    keys = [key for batch in sampler for key in batch]
    assert len(sampler) == 4
    assert sorted(keys) == [(0, i) for i in range(12)]


def test_entering_in_the_middle_gives_the_rest():
    def batches(step):
        return list(ResumableBatchSampler(11, 2, seed=3, current_step=lambda: step))

    assert batches(8) == batches(5)[3:]
    assert {epoch for batch in batches(8) for epoch, _ in batch} == {1}
    assert batches(5) != batches(0)


def test_ranks_share_an_epoch():
    ranks = [
        [k for b in ResumableBatchSampler(12, 2, 0, lambda: 0, rank, 3) for k in b]
        for rank in range(3)
    ]
    assert [len(rank) for rank in ranks] == [4, 4, 4]
    assert sorted(key for rank in ranks for key in rank) == [(0, i) for i in range(12)]


def test_too_few_structures_for_a_batch():
    assert steps_per_epoch(10, 3) == 3
    with pytest.raises(ValueError, match=r"3 training structures .*batch_size` is 4"):
        steps_per_epoch(3, 4)


def test_absent_labels_stay_nan_in_a_batch():
    atoms = alloys(1)[0]
    atoms.calc.results = {"energy": 1.0}
    structure = to_structure(atoms, "toy", LabelKeys(), needs_forces=False)
    batch = collate([make_sample(structure, [29, 79], CUTOFF)])
    assert np.isnan(batch.forces.numpy()).all()
    assert np.isnan(batch.strain_gradients.numpy()).all()
