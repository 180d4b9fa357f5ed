"""From options to splits: formats, levels of theory, groups, batches by atoms."""

import gzip
import logging
import pathlib

import ase.build
import ase.db
import ase.units
import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from toy_data import alloys, write
from toy_data import options as toy_options

from petmad.data import collate, read_structures
from petmad.data.convert import convert
from petmad.data.sampler import AtomPacking, ResumableBatchSampler
from petmad.data.structures import LabelKeys, to_structure
from petmad.training import checkpoint
from petmad.training.loss import Levels, predict, predict_with
from petmad.training.options import parse_options
from petmad.training.splits import load_splits, load_structures
from petmad.training.trainer import train


def relabel(frames, shift=0.0, keeps=True):
    """Frames with a second energy, per atom shifted, under names of its own."""
    for atoms in frames:
        results = atoms.calc.results
        atoms.info["scan_energy"] = (results["energy"] + shift * 4) / ase.units.Ha
        if not keeps:
            atoms.arrays["F"] = results.pop("forces")
            results.clear()
    return frames


def test_gz_and_database_equal_plain(tmp_path):
    plain = write(tmp_path / "a.xyz", alloys(3))
    with gzip.open(tmp_path / "a.xyz.gz", "wb") as file:
        file.write(pathlib.Path(plain).read_bytes())
    with ase.db.connect(tmp_path / "a.db") as database:
        for atoms in alloys(3):
            database.write(atoms, key_value_pairs={"parent": "p"}, data={"x": [1.0]})
    expected = read_structures(plain)
    packed = read_structures(tmp_path / "a.xyz.gz")
    stored = read_structures(tmp_path / "a.db", LabelKeys(group="parent"))
    for a, b, c in zip(expected, packed, stored, strict=True):
        np.testing.assert_array_equal(a.forces, b.forces)
        np.testing.assert_allclose(a.forces, c.forces, atol=1e-7)
        np.testing.assert_allclose(a.stress, c.stress, atol=1e-7)
        assert a.energy == pytest.approx(c.energy, abs=1e-7)
        assert c.group == "p"
    (tmp_path / "b.db").write_text("no database")
    with pytest.raises(ValueError, match="cannot be read as an ASE database"):
        read_structures(tmp_path / "b.db")


def test_virial_stands_for_a_stress():
    atoms = alloys(1)[0]
    expected = to_structure(atoms, "toy", LabelKeys()).labels()[2]
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    del atoms.calc.results["stress"]
    atoms.info["W"] = virial / ase.units.Ha
    keys = LabelKeys(virial="W", virial_unit="Ha")
    found = to_structure(atoms, "toy", keys).labels()[2]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_stress_of_a_slab_is_unknown():
    atoms = alloys(1)[0]
    atoms.pbc = [True, True, False]
    assert np.isnan(to_structure(atoms, "toy", LabelKeys()).labels()[2]).all()


def test_labels_as_sections(tmp_path):
    values = toy_options(tmp_path)
    values["data"]["energy"] = {"key": "dft_energy", "unit": "Ha"}
    data = parse_options(values).data
    assert (data.energy_key, data.energy_unit) == ("dft_energy", "Ha")
    values["data"]["energy"] = {"kee": "dft_energy"}
    with pytest.raises(ValueError, match=r"unknown option `data.energy_kee`"):
        parse_options(values)
    values["data"]["energy"] = {"unit": "Ha/Bohr"}
    with pytest.raises(ValueError, match=r"unit of energy must be an energy"):
        parse_options(values)


def test_groups_stay_together(tmp_path):
    frames = alloys(12)
    for i, atoms in enumerate(frames):
        atoms.info["parent"] = f"p{i % 4}"
    values = toy_options(tmp_path)
    values["data"] = {
        "train": write(tmp_path / "a.xyz", frames),
        "group_key": "parent",
        "valid_fraction": 0.25,
    }
    train_set, valid = load_structures(parse_options(values))
    assert len(train_set) == 9
    assert {s.group for s in valid}.isdisjoint(s.group for s in train_set)
    del frames[2].info["parent"]
    write(tmp_path / "a.xyz", frames)
    with pytest.raises(ValueError, match=r"frame 2 has no `parent`.*group_key"):
        load_structures(parse_options(values))


def test_strong_forces_are_left_out(tmp_path):
    values = toy_options(tmp_path, n_frames=6)
    values["data"]["max_force"] = 1e-3
    with pytest.raises(ValueError, match=r"all 6 training .* 0.001 eV/Å; raise it"):
        load_splits(parse_options(values))
    structures = read_structures(values["data"]["train"])
    strongest = sorted(np.linalg.norm(s.forces, axis=1).max() for s in structures)
    values["data"]["max_force"] = float(strongest[3]) + 1e-9
    assert len(load_splits(parse_options(values)).train) == 4


@pytest.fixture
def two_levels(tmp_path):
    """A second energy in the same frames, of some, and of another file, with forces."""
    values = toy_options(tmp_path, epochs=2, dtype="float64")
    frames = alloys(9, seed=1)
    write(tmp_path / "train.xyz", relabel(frames[:6], 3.0) + frames[6:])
    other = write(tmp_path / "other.xyz", relabel(alloys(4, seed=7), 5.0, keeps=False))
    write(tmp_path / "valid.xyz", relabel(alloys(2, seed=2), 3.0))
    label = {"key": "scan_energy", "unit": "Ha"}
    values["data"]["levels"] = {
        "scan": {"energy": label},
        "other": {
            "train": other,
            "energy": label,
            "forces": {"key": "F"},
            "valid": other,
        },
    }
    return values


def test_levels_of_theory(two_levels):
    options = parse_options(two_levels)
    splits = load_splits(options)
    assert [int(s.level) for s in splits.train] == [0] * 9 + [1] * 6 + [2] * 4
    assert [int(s.level) for s in splits.valid] == [0, 0, 1, 1, 2, 2, 2, 2]
    best = train(options)
    potential, provenance = checkpoint.load_potential(best)
    assert potential.target_names == ["energy", "energy/scan", "energy/other"]
    found = provenance["validation"]
    for level in potential.target_names:
        assert found[f"{level}:energy_mae"] > 0
    assert set(provenance["data_sha256"]) == {
        *(two_levels["data"][part] for part in ("train", "valid")),
        two_levels["data"]["levels"]["other"]["train"],
    }
    composition = [c[:, 0] for c in potential.compositions]
    shift = composition[2] - composition[0]
    torch.testing.assert_close(shift, torch.full_like(shift, 5), atol=0.5, rtol=0)


def test_one_gradient_serves_all_levels(two_levels):
    """The batch of mixed levels against each structure alone, on its own energy."""
    splits = load_splits(parse_options(two_levels))
    chosen = [splits.train[i] for i in (0, 10, 16)]
    potential, _ = checkpoint.load_potential(train(parse_options(two_levels)))
    names = potential.target_names
    batch = collate(chosen)
    found, _ = predict_with(
        potential, batch.graph, [], levels=Levels(names, batch.levels)
    )
    start = 0
    for i, sample in enumerate(chosen):
        index = torch.tensor([int(sample.level)])
        alone, _ = predict_with(
            potential, collate([sample]).graph, [], levels=Levels(names, index)
        )
        stop = start + len(sample.species)
        torch.testing.assert_close(found.energies[i], alone.energies[0])
        torch.testing.assert_close(found.forces[start:stop], alone.forces)
        start = stop
    first = predict(potential, collate(chosen[1:2]).graph).energies
    assert not torch.allclose(first, found.energies[1:2], atol=1e-3)


def test_level_with_files_of_its_own_is_validated(two_levels):
    """On a part of them, unless it has a file for that."""
    del two_levels["data"]["levels"]["other"]["valid"]
    two_levels["data"]["valid_fraction"] = 0.25
    train_set, valid = load_structures(parse_options(two_levels))
    assert [s.level for s in train_set] == [0] * 9 + [1] * 6 + [2] * 3
    assert [s.level for s in valid] == [0, 0, 1, 1, 2]
    others = [s.source for s in (*train_set, *valid) if s.level == 2]
    assert len(set(others)) == 4
    two_levels["data"]["valid_fraction"] = 0.1
    message = r"of 4 structures leaves 4 .* name a file with `data.levels.other.valid`"
    with pytest.raises(ValueError, match=message):
        load_structures(parse_options(two_levels))


def test_level_with_its_own_two_files_is_not_split(two_levels):
    del two_levels["data"]["valid"]
    two_levels["data"]["valid_fraction"] = 0.25
    train_set, valid = load_structures(parse_options(two_levels))
    assert [s.level for s in train_set if s.level == 2] == [2] * 4
    assert [s.level for s in valid if s.level == 2] == [2] * 4
    apart = {s.source for s in valid if s.level == 0}
    assert len(apart) == 2
    assert apart.isdisjoint(s.source for s in train_set)


def test_gradients_of_shared_files_are_those_of_one_energy(two_levels, caplog):
    """Without a name, a level does not take the forces and stress of the main one."""
    options = parse_options(two_levels)
    for again in (options, parse_options(options.to_dict())):
        caplog.clear()
        with caplog.at_level(logging.INFO, "petmad"):
            read, _ = load_structures(again)
        first, second = read[0], read[9]
        assert (first.source, first.level, second.level) == (second.source, 0, 1)
        assert first.forces is not None
        assert second.forces is None
        assert second.stress is None
        assert "data.levels.scan: energies alone are learned" in caplog.text
        assert "data.levels.other" not in caplog.text
    two_levels["data"]["levels"]["scan"]["forces"] = {"key": "forces"}
    second = load_structures(parse_options(two_levels))[0][9]
    assert np.array_equal(second.forces, first.forces)


def test_oddities_of_both_sets_are_told(tmp_path, caplog):
    values = toy_options(tmp_path)
    frames = alloys(4, seed=2)
    frames[3].calc.results["forces"][0] = [60.0, 0, 0]
    values["data"]["valid"] = write(tmp_path / "valid.xyz", frames)
    load_splits(parse_options(values))
    assert "validation data: 1 of 4 structures have forces beyond 50" in caplog.text
    assert "training data: " not in caplog.text


@pytest.mark.parametrize("packed", [False, True])
def test_charges_are_checked_before_training(tmp_path, caplog, packed):
    """In all structures, those of validation too, whether the model reads them."""
    values = toy_options(tmp_path)
    frames = alloys(4, seed=2)
    frames[2].info.update(charge=-11, spin=2)
    values["data"]["valid"] = write(tmp_path / "valid.xyz", frames)
    if packed:
        packed_file = tmp_path / "valid.aselmdb"
        convert([values["data"]["valid"]], packed_file, LabelKeys(section=""))
        values["data"]["valid"] = str(packed_file)
    load_splits(parse_options(values))
    assert "such as charge -11 and multiplicity 2, which the model" in caplog.text
    values["model"] = {**values["model"], "system_conditioning": True}
    with pytest.raises(ValueError, match=r"frame 2 has charge -11 and multiplicity 2"):
        load_splits(parse_options(values))
    values["model"]["max_charge"] = 11
    caplog.clear()
    load_splits(parse_options(values))
    assert "charge" not in caplog.text


def test_level_without_labels(two_levels):
    two_levels["data"]["levels"]["scan"]["energy"] = {"key": "nowhere"}
    with pytest.raises(ValueError, match=r"train.xyz has no `nowhere`, needed"):
        load_structures(parse_options(two_levels))
    two_levels["data"]["energy_key"] = None
    with pytest.raises(ValueError, match=r"`data.energy_key` is null; give the main"):
        parse_options(two_levels)


def test_files_of_two_units_stop_a_training(tmp_path):
    values = toy_options(tmp_path)
    frames = [*alloys(8, seed=1), *alloys(5, seed=4)]
    for atoms in frames:
        atoms.calc.results["energy"] += 4 * 500.0
    for atoms in frames[8:]:
        atoms.calc.results["energy"] /= ase.units.Ha
    values["data"]["train"] = [
        write(tmp_path / "a.xyz", frames[:8]),
        write(tmp_path / "b.xyz", frames[8:]),
    ]
    del values["data"]["valid"]
    with pytest.raises(ValueError, match=r"b.xyz do not continue those of .*a.xyz"):
        train(parse_options(values))


def test_packing_by_atoms():
    """Against the obvious loop; every batch fits, and none could take one more."""
    sizes = np.random.default_rng(0).integers(2, 30, 40)
    packing = AtomPacking(sizes, 64, seed=3, n_epochs=4)
    fewest = []
    for epoch in range(4):
        order = np.random.default_rng([3, epoch]).permutation(40)
        batches, size = [[]], 0
        for i in order:
            if size + sizes[i] > 64:
                batches.append([])
                size = 0
            batches[-1].append((epoch, int(i)))
            size += sizes[i]
        fewest.append(len(batches))
        step = epoch * packing.n_batches
        sampler = ResumableBatchSampler(40, 1, 3, lambda s=step: s, packing=packing)
        found = list(sampler)
        assert found == batches[: packing.n_batches]
        late = ResumableBatchSampler(40, 1, 3, lambda s=step: s + 2, packing=packing)
        assert list(late) == found[2:]
    assert packing.n_batches == min(fewest)
    with pytest.raises(ValueError, match=r"has 29 atoms, more .*training.batch_atoms"):
        AtomPacking(sizes, 20, 0, 1)
    with pytest.raises(ValueError, match=r"fill 1 batches .* fewer than 2 devices"):
        AtomPacking([4, 4], 64, 0, 1, n_ranks=2)


def test_training_with_batches_by_atoms(tmp_path):
    values = toy_options(tmp_path, batch_atoms=12, epochs=1)
    frames = alloys(6, seed=1)
    for k in (1, 2):
        frames[k] = frames[k].repeat((2, 1, 1))
        frames[k].calc = None
    for atoms in frames[1:3]:
        atoms.calc = EMT()
        labels = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=labels[0], forces=labels[1])
    values["data"]["train"] = write(tmp_path / "train.xyz", frames)
    _, provenance = checkpoint.load_potential(train(parse_options(values)))
    assert 2 <= provenance["step"] <= 4  # 32 atoms in batches of 12, in any order
