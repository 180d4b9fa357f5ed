"""Names of labels in the options: misspelt ones are told, not passed over."""

import pytest
import torch
from toy_data import alloys, options, write

from petmad.data import make_sample
from petmad.data.structures import LabelKeys, to_structure
from petmad.training.known import count_labels
from petmad.training.options import parse_options
from petmad.training.splits import load_splits, load_structures
from petmad.training.trainer import make_initial, summary


LEVELS = {"scan": {"energy_key": "tight"}}


@pytest.fixture
def values(tmp_path):
    values = options(tmp_path, n_frames=4)
    frames = alloys(4)
    for atoms in frames:
        del atoms.calc.results["stress"]
        atoms.info["tight"] = 1.0
    frames[0].info["vir"] = [1.0] * 9
    values["data"]["train"] = [values["data"]["train"], write(tmp_path / "b", frames)]
    return values


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"stress_key": "strss"}, r"has `strss`, named by `data.stress_key`; .*'stres"),
        ({"virial_key": "strss"}, r"has `strss`, named by `data.virial_key`"),
        ({"forces_key": "f", "require_forces": False}, "by `data.forces_key`; .*'forc"),
        (
            {"levels": {"scan": {"energy_key": "tight", "virial_key": "v"}}},
            "`v`, named by `data.levels.scan.virial_key`",
        ),
    ],
)
def test_names_that_no_frame_has_are_refused(values, data, message):
    values["data"].update(data)
    with pytest.raises(ValueError, match=message):
        load_structures(parse_options(values))


def test_names_that_some_frames_have_are_admitted(values):
    values["data"].update(virial_key="vir", stress_key="stress")
    train, _ = load_structures(parse_options(values))
    assert len(train) == 8
    assert any(structure.stress is None for structure in train)


def test_messages_name_the_level(values):
    levels = {"scan": {"train": values["data"]["valid"], "energy_key": "tight"}}
    values["data"]["levels"] = levels
    with pytest.raises(ValueError, match=r"`tight`.*with `data.levels.scan.energy_key"):
        load_structures(parse_options(values))
    levels["scan"] = {"train": values["data"]["train"][1], "energy_key": "tight"}
    bare = alloys(2)
    for atoms in bare:
        atoms.info["tight"] = 1.0
        del atoms.calc.results["forces"]
    write(values["data"]["train"][1], bare)
    values["data"]["train"] = values["data"]["train"][0]
    with pytest.raises(ValueError, match=r"`data.levels.scan.require_forces: false`"):
        load_structures(parse_options(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"finetune": {"inherit": {"scan": "energy"}}},
            "`finetune.inherit` names 'scan', .* they have energy, energy/scan",
        ),
        (
            {"data": {"energy": {"key": "tight"}, "energy_key": "energy"}},
            r"`energy_key` and `energy: {key: ...}` are two spellings .* keep one",
        ),
        (
            {"data": {"forces_unit": "eV/Å", "forces": {"unit": "Ha/Bohr"}}},
            r"`forces_unit` and `forces: {unit: ...}` are two",
        ),
    ],
)
def test_options_that_would_be_passed_over(change, message):
    values = {"data": {"train": "a.xyz", "levels": LEVELS, **change.get("data", {})}}
    values["finetune"] = change.get("finetune", {"inherit": {"energy/scan": "energy"}})
    with pytest.raises(ValueError, match=message):
        parse_options(values)
    values = {"data": {"train": "a.xyz", "levels": LEVELS}}
    parse_options({**values, "finetune": {"inherit": {"energy/scan": "energy"}}})


def test_the_summary_counts_labels():
    frames = alloys(3)
    del frames[0].calc.results["stress"]
    structures = [to_structure(a, "toy, frame 0", LabelKeys()) for a in frames]
    samples = [make_sample(s, [29, 79], 3.0) for s in structures]
    dipoles = [torch.ones(1, 3), torch.full((1, 3), torch.nan), torch.ones(1, 3)]
    samples = [
        s._replace(tensors={"dipole": d}) for s, d in zip(samples, dipoles, strict=True)
    ]
    assert count_labels(samples) == (
        "labels: energy 3, forces 3, stress 2, dipole 2 of 3 training structures"
    )
    bare = [s._replace(energy=torch.tensor(torch.nan)) for s in samples]
    assert count_labels(bare) == "labels: dipole 2 of 3 training structures"


def test_a_training_tells_which_labels_it_has(values):
    chosen = parse_options(values)
    splits = load_splits(chosen)
    lines = summary(chosen, make_initial(splits, chosen), splits, 1).splitlines()
    assert "labels: energy 8, forces 8, stress 4 of 8 training structures" in lines
