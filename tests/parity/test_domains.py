"""Domains of one process, joined by threads: their sum is the answer of one domain.

The decompositions are made by hand: atoms are dealt to ranks, every image within reach
becomes a ghost that names its owner. Neither LAMMPS nor MPI takes part.
"""

import functools

import numpy as np
import pytest
import torch
from domains import Structure, assemble, decompose, evaluate_domains, run_ranks

from petmad._engine import Engine
from petmad.export import export_model
from petmad.model import PETConfig, Potential


# Relative to the largest value. float64 sums in another order; measured 1e-14.
TOLERANCE = 1e-10
CUTOFF = 4.0


def assert_same(found, wanted):
    for key, value in found.items():
        scale = np.abs(wanted[key]).max()
        np.testing.assert_allclose(
            value, wanted[key], rtol=0, atol=TOLERANCE * scale, err_msg=key
        )


MODELS = {
    "fixed": {},
    "adaptive_solver": {"num_neighbors_adaptive": 8},
    "adaptive_grid": {"num_neighbors_adaptive": 6, "adaptive_cutoff_method": "grid"},
    "residual": {
        "featurizer_type": "residual",
        "num_neighbors_adaptive": 8,
        "d_node": 16,
        "transformer_type": "PostLN",
        "normalization": "LayerNorm",
        "activation": "SiLU",
    },
}


@pytest.fixture(
    params=["cpu", "emulated", pytest.param("cuda", marks=pytest.mark.cuda)]
)
def new_engine(request):
    """Makes engines on a device; ``emulated``: a GPU's lists and folds on the CPU."""
    return functools.partial(Engine, device=request.param, check_golden=False)


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory):
    torch.manual_seed(7)
    hypers = {
        "cutoff": CUTOFF,
        "d_pet": 16,
        "d_head": 16,
        "d_node": 32,
        "d_feedforward": 16,
        "num_heads": 2,
        "num_attention_layers": 1,
        **MODELS[request.param],
    }
    path = tmp_path_factory.mktemp("models") / f"{request.param}.pt"
    export_model(Potential(PETConfig(**hypers), [1, 8]), path, dtype="float64")
    return str(path)


def water():
    """Eight molecules in a skewed cell between one and two cutoffs wide."""
    rng = np.random.default_rng(3)
    cell = np.array([[6.4, 0.0, 0.0], [0.7, 6.2, 0.0], [-0.4, 0.5, 6.6]])
    grid = np.stack(np.meshgrid(*[[0.1, 0.6]] * 3, indexing="ij"), axis=-1)
    oxygens = grid.reshape(-1, 3) @ cell + 0.2 * rng.standard_normal((8, 3))
    directions = rng.standard_normal((2, 8, 3))
    directions *= 0.97 / np.linalg.norm(directions, axis=-1, keepdims=True)
    positions = np.concatenate(
        [oxygens, oxygens + directions[0], oxygens - directions[1]]
    )
    species = np.repeat(np.array([1, 0, 0], dtype=np.int32), 8)
    return Structure(positions, species, cell, np.ones(3, dtype=bool))


def crystal():
    """Five atoms in a cell smaller than the cutoff: several images of every pair."""
    rng = np.random.default_rng(4)
    cell = np.array([[3.4, 0.0, 0.2], [0.3, 3.7, 0.0], [0.0, -0.4, 4.1]])
    fractions = np.array(
        [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0.6]]
    )
    positions = fractions @ cell + 0.1 * rng.standard_normal((5, 3))
    species = np.array([0, 1, 1, 0, 1], dtype=np.int32)
    return Structure(positions, species, cell, np.ones(3, dtype=bool))


def slab():
    """Water with vacuum along z, periodic in the plane."""
    flat = water()
    cell = flat.cell.copy()
    cell[2] = [0.0, 0.0, 30.0]
    return flat._replace(cell=cell, pbc=np.array([True, True, False]))


STRUCTURES = {"water": water, "crystal": crystal, "slab": slab}


@pytest.fixture(params=STRUCTURES)
def structure(request):
    return STRUCTURES[request.param]()


def evaluate_whole(model, structure):
    """One rank on the CPU."""
    engine = Engine(model, check_golden=False)
    return engine.evaluate(*structure, atomic_virials=True)


def test_a_whole_system_on_a_device(model, structure, new_engine):
    engine = new_engine(model)
    found = engine.evaluate(*structure, atomic_virials=True)
    wanted = evaluate_whole(model, structure)
    keys = ("energy", "virial", "atomic_energies", "forces", "atomic_virials")
    assert_same({key: found[key] for key in keys}, wanted)


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
def test_domains_sum_to_the_whole(model, structure, n_ranks, new_engine):
    n_atoms = len(structure.species)
    rank_of_atom = np.random.default_rng(n_ranks).integers(0, n_ranks, n_atoms)
    if n_ranks == 4:
        rank_of_atom[rank_of_atom == 2] = 1  # rank 2 owns no atoms
    domains = decompose(structure, rank_of_atom, n_ranks, CUTOFF)
    engines = [new_engine(model) for _ in range(n_ranks)]
    results = evaluate_domains(engines, domains)
    total = assemble(domains, results, n_atoms)
    assert_same(total, evaluate_whole(model, structure))
    if n_ranks > 1:
        assert sum(e.statistics.n_crossing_edges for e in engines) > 0
        assert sum(e.statistics.bytes_sent for e in engines) > 0


def test_images_need_no_transport(model, structure, new_engine):
    rank_of_atom = np.zeros(len(structure.species), dtype=int)
    (domain,) = decompose(structure, rank_of_atom, 1, CUTOFF)
    engine = new_engine(model)
    result = engine.evaluate_domain(
        domain.positions,
        domain.species,
        len(domain.owned),
        domain.ghost_ranks,
        domain.ghost_owners,
        atomic_virials=True,
    )
    total = assemble([domain], [result], len(structure.species))
    assert_same(total, evaluate_whole(model, structure))


def test_list_with_skin_is_reused_while_atoms_move(model, structure, new_engine):
    skin = 0.8
    rank_of_atom = np.arange(len(structure.species)) % 2
    domains = decompose(structure, rank_of_atom, 2, CUTOFF + skin)
    engines = [new_engine(model) for _ in range(2)]
    evaluate_domains(engines, domains, skin=skin)
    rng = np.random.default_rng(11)
    steps = rng.uniform(-0.2, 0.2, structure.positions.shape)
    moved = structure._replace(positions=structure.positions + steps)
    moved_domains = [
        d._replace(
            positions=d.positions + steps[np.concatenate([d.owned, d.ghost_atoms])]
        )
        for d in domains
    ]
    results = evaluate_domains(engines, moved_domains, skin=skin, atoms_changed=False)
    assert [e.statistics.n_list_builds for e in engines] == [1, 1]
    total = assemble(domains, results, len(structure.species))
    assert_same(total, evaluate_whole(model, moved))


def test_atoms_without_species_take_no_part(model, structure, new_engine):
    is_in = np.ones(len(structure.species), dtype=bool)
    is_in[::4] = False
    rank_of_atom = np.arange(len(is_in)) % 2
    marked = structure._replace(species=np.where(is_in, structure.species, -1))
    domains = decompose(marked, rank_of_atom, 2, CUTOFF)
    engines = [new_engine(model) for _ in range(2)]
    total = assemble(domains, evaluate_domains(engines, domains), len(is_in))
    only = structure._replace(
        positions=structure.positions[is_in], species=structure.species[is_in]
    )
    wanted = evaluate_whole(model, only)
    assert total["energy"] == pytest.approx(wanted["energy"], rel=TOLERANCE)
    for key in ("atomic_energies", "forces", "atomic_virials"):
        scale = np.abs(wanted[key]).max()
        np.testing.assert_allclose(
            total[key][is_in], wanted[key], rtol=0, atol=TOLERANCE * scale
        )
        assert not total[key][~is_in].any()


def test_all_ranks_exchange_equally_often(model, new_engine):
    structure = crystal()
    rank_of_atom = np.array([0, 0, 0, 2, 2])  # rank 1 is empty
    domains = decompose(structure, rank_of_atom, 3, CUTOFF)
    counts = {}

    def work(rank, transport):
        d = domains[rank]
        new_engine(model).evaluate_domain(
            d.positions,
            d.species,
            len(d.owned),
            d.ghost_ranks,
            d.ghost_owners,
            transport=transport,
        )
        counts[rank] = transport.n_exchanges

    run_ranks(3, work)
    assert counts[0] > 2
    assert counts[0] == counts[1] == counts[2]


def without_a_near_ghost(domain, owner_rank):
    """The domain without the ghost of that rank which is nearest to an owned atom."""
    n_owned = len(domain.owned)
    places = domain.positions[n_owned:]
    distances = np.linalg.norm(
        places[:, None] - domain.positions[None, :n_owned], axis=2
    ).min(axis=1)
    distances[domain.ghost_ranks != owner_rank] = np.inf
    nearest = int(np.argmin(distances))
    keep = np.arange(len(places)) != nearest
    rows = np.concatenate([np.ones(n_owned, dtype=bool), keep])
    return domain._replace(
        positions=domain.positions[rows],
        species=domain.species[rows],
        ghost_ranks=domain.ghost_ranks[keep],
        ghost_owners=domain.ghost_owners[keep],
        ghost_atoms=domain.ghost_atoms[keep],
        ghost_distances=domain.ghost_distances[keep],
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_missing_partner_on_another_rank_is_an_error(model, rank, new_engine):
    domains = decompose(water(), np.arange(24) % 2, 2, CUTOFF)
    domains[rank] = without_a_near_ghost(domains[rank], 1 - rank)
    engines = [new_engine(model) for _ in range(2)]
    with pytest.raises(
        ValueError, match=r"edge without partner: rank \d sees its atom \d+"
    ):
        evaluate_domains(engines, domains)


def test_missing_image_is_an_error(model, new_engine):
    (domain,) = decompose(water(), np.zeros(24, dtype=int), 1, CUTOFF)
    broken = without_a_near_ghost(domain, 0)
    engine = new_engine(model)
    with pytest.raises(
        ValueError, match=r"edge without partner: atom .* sees an image"
    ):
        evaluate_domains([engine], [broken])


def test_wrong_owner_is_an_error(model, new_engine):
    domains = decompose(water(), np.arange(24) % 2, 2, CUTOFF)
    owners = domains[0].ghost_owners.copy()
    owners[domains[0].ghost_ranks == 1] = 99
    domains[0] = domains[0]._replace(ghost_owners=owners)
    engines = [new_engine(model) for _ in range(2)]
    with pytest.raises(
        ValueError, match="holds a ghost of atom 99 of rank 1, which owns 12"
    ):
        evaluate_domains(engines, domains)


def test_ghosts_of_unreachable_ranks_are_an_error(model, new_engine):
    domains = decompose(water(), np.arange(24) % 2, 2, CUTOFF)
    d = domains[0]
    engine = new_engine(model)
    with pytest.raises(ValueError, match="owned by rank 1 but there are 1 ranks"):
        engine.evaluate_domain(
            d.positions, d.species, len(d.owned), d.ghost_ranks, d.ghost_owners
        )


def domain_arguments(domain, **change):
    names = ("positions", "species", "ghost_ranks", "ghost_owners")
    return {name: getattr(domain, name) for name in names} | {
        "n_owned": len(domain.owned),
        **change,
    }


def test_another_mode_skin_or_species_needs_a_new_list(model, new_engine):
    (domain,) = decompose(crystal(), np.zeros(5, dtype=int), 1, CUTOFF)
    depth = {"ghost_distances": domain.ghost_distances, "ghost_depth": 1e6}
    other = 1 - domain.species  # H and O exchanged
    for before, now, message in (
        ({}, depth, "ghosts are to be recomputed, but were exchanged"),
        (depth, {}, "ghosts are to be exchanged, but were recomputed"),
        ({}, {"skin": 0.1}, "`skin` is 0.1 Å, but was 0 Å"),
        (
            {},
            {"species": other},
            r"`species` of atom 0 is \d, but was \d when its list",
        ),
        ({}, {"species": 0 * other - 1}, "0 atoms take part, but .* did"),
    ):
        engine = new_engine(model)
        engine.evaluate_domain(**domain_arguments(domain, **before))
        arguments = domain_arguments(domain, **now, atoms_changed=False)
        with pytest.raises(ValueError, match=f"{message}.*; set `atoms_changed`"):
            engine.evaluate_domain(**arguments)
        engine.evaluate_domain(**domain_arguments(domain, **before))


@pytest.mark.parametrize("wrong", [np.nan, -5.0, np.inf])
def test_distances_of_ghosts_that_are_none(model, wrong, new_engine):
    (domain,) = decompose(crystal(), np.zeros(5, dtype=int), 1, CUTOFF)
    distances = domain.ghost_distances.copy()
    distances[-1] = wrong
    change = {"ghost_distances": distances, "ghost_depth": 1e6}
    with pytest.raises(ValueError, match=r"`ghost_distances` has .* of ghost"):
        new_engine(model).evaluate_domain(**domain_arguments(domain, **change))


def test_a_host_that_loses_messages(model, new_engine):
    domains = decompose(water(), np.arange(24) % 2, 2, CUTOFF)

    class Deaf:
        rank, n_ranks = 0, 2

        def all_to_all(self, messages):
            return messages[:1]

    arguments = domain_arguments(domains[0], transport=Deaf())
    with pytest.raises(ValueError, match="returned 1 messages, expected 2; return one"):
        new_engine(model).evaluate_domain(**arguments)


def test_changed_counts_need_a_new_list(model, new_engine):
    (domain,) = decompose(crystal(), np.zeros(5, dtype=int), 1, CUTOFF)
    engine = new_engine(model)
    evaluate_domains([engine], [domain])
    with pytest.raises(ValueError, match="set `atoms_changed`"):
        engine.evaluate_domain(
            domain.positions[:-1],
            domain.species[:-1],
            len(domain.owned),
            domain.ghost_ranks[:-1],
            domain.ghost_owners[:-1],
            atoms_changed=False,
        )
