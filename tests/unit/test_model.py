"""Parts of the network on tiny inputs with answers worked out by hand."""

import math
import re

import numpy as np
import pytest
import torch
from graphs import make_graph
from structures import Structure, ethanol, random_structure, triclinic
from variants import ATOMIC_NUMBERS, COVALENT_RADII, make_potential

from petmad.model import EdgeGraph, PETConfig, Potential, TargetSpec
from petmad.model.folds import (
    fold_atomic_virials,
    fold_forces,
    fold_strain_gradients,
    fold_virial,
)
from petmad.model.halo import LocalHalo
from petmad.model.transformer import Attention, FeedForward, make_norm, token_layout
from petmad.model.zbl import ZBL


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Token layout: centers first, then edges, of three atoms with 2, 0 and 1 edges.


def test_token_layout_by_hand():
    layout = token_layout(torch.tensor([0, 0, 2]), tensor(1.0, 0.5, 0.0), 3)
    assert layout.rows.tolist() == [[0, 3, 4], [1, 0, 0], [2, 5, 0]]
    assert layout.slots.tolist() == [0, 3, 6, 1, 2, 7]
    floor = math.log(1e-15)
    expected = [[0.0, 0.0, math.log(0.5)], [0.0, floor, floor], [0.0, floor, floor]]
    np.testing.assert_allclose(layout.bias[:, 0, 0], expected, rtol=1e-15)


def test_token_layout_takes_every_row_home():
    centers = torch.tensor([0, 0, 0, 1, 3, 3])
    layout = token_layout(centers, torch.ones(6), 5)
    assert layout.rows.flatten()[layout.slots].tolist() == list(range(11))


def test_token_layout_without_edges():
    layout = token_layout(torch.zeros(0).long(), torch.zeros(0), 2)
    assert layout.rows.tolist() == [[0], [1]]
    assert layout.bias.flatten().tolist() == [0.0, 0.0]


# Attention, MLP and norms.


def identity_attention() -> Attention:
    """Queries and keys zero, values the tokens themselves."""
    attention = Attention(2, 1, 1.0).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.zero_()
        attention.input_linear.weight[4:] = torch.eye(2)
        attention.output_linear.weight.copy_(torch.eye(2))
    return attention


def test_attention_weighs_keys_by_their_cutoff_factor():
    """Equal scores: each token gets the mean weighted by 1 and the edges' factors."""
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 8.0]], dtype=torch.float64)
    layout = token_layout(torch.tensor([0, 0]), tensor(1.0, 0.5), 1)
    mixed = identity_attention()(rows, layout)
    np.testing.assert_allclose(mixed.detach(), [[1.2, 2.0]] * 3, rtol=1e-14)


def test_attention_stays_within_an_atom():
    rows = torch.tensor([[1.0, 0], [0, 1], [2, 2], [4, 8]], dtype=torch.float64)
    layout = token_layout(torch.tensor([0, 0]), tensor(1.0, 1.0), 2)
    mixed = identity_attention()(rows, layout).detach()
    np.testing.assert_allclose(mixed[1], [0.0, 1.0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(mixed[0], [7 / 3, 10 / 3], rtol=1e-14)


def test_swiglu_has_its_value_first_and_a_plain_sigmoid_gate():
    mlp = FeedForward(1, 1, "SwiGLU").double()
    with torch.no_grad():
        mlp.w_in.weight.copy_(torch.tensor([[2.0], [1.0]]))
        mlp.w_in.bias.zero_()
        mlp.w_out.weight.fill_(1.0)
        mlp.w_out.bias.zero_()
    expected = 2.0 * 3.0 / (1.0 + math.exp(-3.0))
    assert mlp(tensor(3.0)[None]).item() == pytest.approx(expected, rel=1e-14)


def test_rms_norm_takes_its_epsilon_from_the_dtype():
    """Tiny rows tell the epsilons apart: 1.2e-7 in float32, 2.2e-16 in float64."""
    norm, x = make_norm("RMSNorm", 2), torch.tensor([[1e-6, -1e-6]])
    double = norm.double()(x.double())[0, 0].item()
    assert double == pytest.approx(1e-6 / math.sqrt(1e-12 + 2.0**-52), rel=1e-6)
    single = norm.float()(x)[0, 0].item()
    assert single == pytest.approx(1e-6 / math.sqrt(1e-12 + 2.0**-23), rel=1e-6)


def test_layer_norm_by_hand():
    values = make_norm("LayerNorm", 2).double()(tensor(1.0, 3.0)[None])
    expected = 1.0 / math.sqrt(1.0 + 1e-5)
    np.testing.assert_allclose(values.detach(), [[-expected, expected]], rtol=1e-14)


# Edges kept from both ends.


def test_an_edge_is_live_only_when_both_ends_keep_it():
    reverse = torch.tensor([3, 2, 1, 0, -1])
    keep = torch.tensor([True, True, False, True, True])
    kept, reverse_kept = LocalHalo().live_edges(keep, reverse, 0)
    assert kept.tolist() == [0, 3]
    assert reverse_kept.tolist() == [1, 0]


# Folds of one edge gradient. Edge 0 -> 1 along x with gradient (2, 3, 0).

VECTORS = torch.tensor([[1.5, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
GRADIENTS = torch.tensor([[2.0, 3.0, 0.0], [0.0, 0.0, 5.0]], dtype=torch.float64)
CENTERS, NEIGHBORS = torch.tensor([0, 2]), torch.tensor([1, 2])


def test_fold_forces_by_hand():
    """A self-image (edge 2 -> 2) exerts no force."""
    forces = fold_forces(GRADIENTS, CENTERS, NEIGHBORS, 3)
    assert forces.tolist() == [[2.0, 3.0, 0.0], [-2.0, -3.0, 0.0], [0.0, 0.0, 0.0]]


def test_fold_virial_by_hand():
    """-Σ r ⊗ g, symmetrised: xx -1.5·2, xy -1.5·3/2, yz -2·5/2."""
    virial = fold_virial(GRADIENTS, VECTORS)
    expected = [[-3.0, -2.25, 0.0], [-2.25, 0.0, -5.0], [0.0, -5.0, 0.0]]
    assert virial.tolist() == expected


def test_fold_atomic_virials_by_hand():
    virials = fold_atomic_virials(GRADIENTS, VECTORS, CENTERS, NEIGHBORS, 3)
    half = [[-1.5, -2.25, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    image = [[0.0, 0.0, 0.0], [0.0, 0.0, -10.0], [0.0, 0.0, 0.0]]
    assert virials.tolist() == [half, half, image]


def test_atomic_virials_sum_to_the_virial():
    total = fold_atomic_virials(GRADIENTS, VECTORS, CENTERS, NEIGHBORS, 3).sum(dim=0)
    symmetric = 0.5 * (total + total.T)
    np.testing.assert_allclose(symmetric, fold_virial(GRADIENTS, VECTORS), rtol=1e-15)


def test_strain_gradients_are_told_apart_by_structure():
    """Virial = minus the symmetric part, of both structures together."""
    strain = fold_strain_gradients(GRADIENTS, VECTORS, torch.tensor([1, 0]), 2)
    assert strain[0].tolist() == [[0, 0, 0], [0, 0, 10.0], [0, 0, 0]]
    assert strain[1].tolist() == [[3.0, 4.5, 0], [0, 0, 0], [0, 0, 0]]


# ZBL.


def zbl_energy(numbers: list[int], radii: list[float], r: float) -> torch.Tensor:
    pair = Structure([1, 1], [[0.0, 0, 0], [r, 0, 0]])
    graph = make_graph([pair], 10.0)._replace(species=torch.tensor([0, 1]))
    return ZBL(numbers, radii)(graph)


@pytest.mark.parametrize(
    ("numbers", "radii", "r", "energy"),
    [
        ([1, 6], [0.31, 0.76], 0.25, 103.420954296),
        ([1, 6], [0.31, 0.76], 0.5, 16.5500110942),
        ([1, 6], [0.31, 0.76], 1.0, 0.0186873038805),
        ([8, 14], [0.66, 1.11], 1.0, 21.6677366869),
    ],
)
def test_zbl_against_multiprecision(numbers, radii, r, energy):
    """Numbers of the formula in 30 digits; float32 prefactors leave six or seven."""
    energies = zbl_energy(numbers, radii, r)
    assert energies[0] == energies[1]
    assert energies.sum().item() == pytest.approx(energy, rel=1e-6)


def test_zbl_and_its_force_vanish_at_the_sum_of_radii():
    near, inside = 1e-4, zbl_energy([1, 6], [0.31, 0.76], 1.07 - 1e-4).sum().item()
    assert 0.0 <= inside < 1e3 * near**3  # third order: no jump of the curvature either
    assert zbl_energy([1, 6], [0.31, 0.76], 1.0701).sum().item() == 0.0


def test_zbl_is_added_in_full_and_not_scaled():
    model = make_potential("zbl")
    graph = make_graph([random_structure(11, 5)], model.config.cutoff)
    with torch.no_grad():
        model.scales[0].fill_(3.0)
    bare = model(graph, ["energy"], raw=True)["energy"][:, 0]
    whole = model(graph, ["energy"])["energy"][:, 0]
    repulsion = ZBL(ATOMIC_NUMBERS, COVALENT_RADII)(graph)
    assert repulsion.min() > 0.1
    torch.testing.assert_close(whole, 3.0 * bare + repulsion, rtol=1e-13, atol=1e-13)


# Outputs.


def test_scale_and_composition():
    model = make_potential("modern")
    graph = make_graph([ethanol()], model.config.cutoff)
    composition = tensor(-0.5, 1.5, 2.5, 9.0)
    with torch.no_grad():
        model.scales[0].fill_(2.0)
        model.compositions[0].copy_(composition[:, None])
    raw = model(graph, ["energy"], raw=True)["energy"]
    whole = model(graph, ["energy"])["energy"]
    expected = 2.0 * raw + composition[graph.species][:, None]
    torch.testing.assert_close(whole, expected, rtol=1e-14, atol=1e-14)


def test_sums_with_composition_are_float64_in_a_float32_network():
    """A thousand eV per atom would cost a float32 sum a tenth of a meV."""
    model = make_potential("modern").to_dtype(torch.float32)
    graph = make_graph([ethanol()], model.config.cutoff)
    raw = model(graph, ["energy"], raw=True)["energy"]
    with torch.no_grad():
        model.compositions[0].fill_(-1036.0)
    whole = model(graph, ["energy"])["energy"]
    assert raw.dtype == torch.float32
    assert whole.dtype == torch.float64
    torch.testing.assert_close(whole + 1036.0, raw.double(), rtol=0, atol=1e-12)


def test_unknown_output_lists_the_known():
    model = make_potential("heads")
    graph = make_graph([ethanol()], model.config.cutoff)
    message = "unknown output 'energies'; this model has ['energy', 'energy/pbe0',"
    with pytest.raises(ValueError, match=re.escape(message)):
        model(graph, ["energy", "energies"])
    with pytest.raises(torch.jit.Error, match="unknown output 'energies'"):
        torch.jit.script(model)(graph, ["energies"])


def test_only_what_is_asked_for_is_returned():
    model = make_potential("heads")
    graph = make_graph([ethanol()], model.config.cutoff)
    assert set(model(graph, ["mtt::dos"])) == {"mtt::dos"}
    assert set(model(graph, ["energy", "features"])) == {"energy", "features"}


def test_shapes_of_outputs():
    model = make_potential("heads")
    graph = make_graph([ethanol(), triclinic()], model.config.cutoff)
    widths = {
        "energy": 1,
        "non_conservative_force": 3,
        "non_conservative_stress": 9,
        "mtt::dos": 5,
        "features": 64 + 16,
        "last_layer_features/energy/pbe0": 2 * 16,
        "cutoff_stats": 2,
    }
    outputs = model(graph, list(widths))
    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        k: (14, n) for k, n in widths.items()
    }


def test_direct_stress_is_symmetric():
    model = make_potential("heads")
    graph = make_graph([triclinic()], model.config.cutoff)
    stress = model(graph, ["non_conservative_stress"])["non_conservative_stress"]
    square = stress.detach().reshape(-1, 3, 3)
    assert square.abs().max() > 1e-3
    assert torch.equal(square, square.transpose(1, 2))


def test_kept_neighbors_of_a_fixed_cutoff_are_all_raw_ones():
    model = make_potential("modern")
    graph = make_graph([triclinic()], model.config.cutoff)
    stats = model(graph, ["cutoff_stats"])["cutoff_stats"]
    assert stats[:, 0].tolist() == [5.0] * 5
    assert stats[:, 1].tolist() == torch.bincount(graph.centers).tolist()


@pytest.mark.parametrize(
    ("charge", "spin", "message"),
    [
        (11, 1, "`charge` must be within ±10 for this model, got"),
        (-11, 1, "`charge` must be within ±10"),
        (0, 0, r"`spin` \(2S \+ 1\) must be 1 to 10 for this model, got"),
        (0, 11, "must be 1 to 10"),
    ],
)
def test_charge_and_spin_out_of_range(charge, spin, message):
    model = make_potential("conditioned")
    molecule = ethanol().changed(charge=charge, spin_multiplicity=spin)
    with pytest.raises(ValueError, match=message):
        model(make_graph([molecule], model.config.cutoff), ["energy"])


def test_conditioning_starts_without_effect():
    """Its last layer starts at zero: a fresh model ignores charge and spin."""
    torch.manual_seed(0)
    config = PETConfig(d_pet=16, d_node=32, num_heads=4, system_conditioning=True)
    model = Potential(config, ATOMIC_NUMBERS).double()
    charged = ethanol().changed(charge=3, spin_multiplicity=4)
    energies = [
        model(make_graph([s], config.cutoff), ["energy"])["energy"]
        for s in (ethanol(), charged)
    ]
    assert torch.equal(*energies)


def test_fresh_model_is_scriptable_with_several_targets():
    targets = [TargetSpec(), TargetSpec("dipole", "generic", 3, True, "eA")]
    config = PETConfig(d_pet=16, d_node=32, num_heads=4, num_neighbors_adaptive=8)
    model = Potential(config, ATOMIC_NUMBERS, targets).double()
    graph = make_graph([triclinic()], config.cutoff)
    eager = model(graph, ["energy", "dipole"])
    scripted = torch.jit.script(model)(EdgeGraph(*graph), ["energy", "dipole"])
    for name in eager:
        torch.testing.assert_close(scripted[name], eager[name], rtol=1e-12, atol=1e-12)
