"""What a checkpoint may hold beside the network, and what is refused."""

import dataclasses

import pytest
import torch
from test_versions import check_same, make_model
from upstream_files import aged, newest, save, serialized_map, wrapped
from variants import ATOMIC_NUMBERS, COVALENT_RADII, TINY, hypers, make_potential

from petmad.cli import main
from petmad.conversion.convert import convert
from petmad.conversion.tensormap import read_map
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.training.checkpoint import load_potential


@pytest.fixture
def model():
    return make_model(TINY)


def convert_dict(tmp_path, checkpoint, *arguments, **options):
    save(checkpoint, tmp_path / "a.ckpt")
    return convert(tmp_path / "a.ckpt", *arguments, **options)


def state_of(checkpoint):
    """The one state dict, which both names of a new checkpoint share."""
    assert checkpoint["model_state_dict"] is checkpoint["best_model_state_dict"]
    return checkpoint["model_state_dict"]


def test_direct_heads_with_their_scales(tmp_path):
    model = make_potential("heads").to_dtype(torch.float32)
    names = model.target_names
    torch.manual_seed(0)
    for spec, scale, composition in zip(
        model.targets, model.scales, model.compositions, strict=True
    ):
        if spec.per_atom:  # one scale per species, equal for all components
            scale.copy_(torch.rand(4, 1).expand_as(scale))
        elif spec.kind == "generic":  # one per property
            scale.copy_(torch.rand(1, 5).expand_as(scale))
        else:
            scale.fill_(torch.rand(1).item())
        if spec.kind in ("energy", "generic"):
            composition.copy_(torch.randn_like(composition))
    converted, report = convert_dict(tmp_path, newest(model))
    check_same(converted, model)
    assert converted.targets == model.targets
    assert report.found == report.sources == report.kept == names


@pytest.mark.parametrize("target", ["energy", "energy/pbe0"])
def test_chosen_energy_becomes_the_energy(tmp_path, model, target):
    converted, report = convert_dict(tmp_path, newest(model), target, keep=[])
    assert converted.target_names == ["energy"]
    i = model.target_names.index(target)
    for name, tensor in converted.state_dict().items():
        original = name.replace("readouts.0", f"readouts.{i}")
        original = original.replace("scales.0", f"scales.{i}")
        original = original.replace("compositions.0", f"compositions.{i}")
        assert torch.equal(tensor, model.state_dict()[original]), name
    assert report.sources == [target]
    assert f"energy:       {target}" in report.format()


def test_only_energy_needs_no_choice(tmp_path):
    config = PETConfig.from_dict(TINY)
    only = Potential(config, ATOMIC_NUMBERS, [TargetSpec("energy/a.b::c")])
    converted, report = convert_dict(tmp_path, newest(only))
    assert converted.target_names == ["energy"]
    assert report.sources == ["energy/a.b::c"]


def test_plural_forces_become_singular(tmp_path, model):
    converted, report = convert_dict(
        tmp_path, newest(model), keep=["non_conservative_force"]
    )
    assert converted.target_names == ["energy", "non_conservative_force"]
    assert report.sources == ["energy", "non_conservative_forces"]
    assert "dropped:      energy/pbe0" in report.format()


def test_all_that_can_be_evaluated_is_kept(tmp_path, model):
    checkpoint = newest(model)
    for part in ("weight", "bias"):
        name = "backend.edge_last_layers.non_conservative_forces.0"
        first = state_of(checkpoint)[f"{name}.non_conservative_forces___0.{part}"]
        state_of(checkpoint)[f"{name}.non_conservative_forces___1.{part}"] = first
    converted, report = convert_dict(tmp_path, checkpoint, "energy/pbe0")
    assert converted.target_names == ["energy"]
    assert "`energy` is left out, since energy/pbe0 takes its name" in report.format()
    assert "`non_conservative_forces` is left out: it is neither" in report.format()


def test_unknown_targets(tmp_path, model):
    with pytest.raises(ValueError, match=r"got 'energy/b3lyp', .* energy, energy/pbe0"):
        convert_dict(tmp_path, newest(model), "energy/b3lyp")
    with pytest.raises(ValueError, match="cannot keep 'dipole' beside the energy"):
        convert_dict(tmp_path, newest(model), keep=["dipole"])
    with pytest.raises(ValueError, match="takes the name 'energy'"):
        convert_dict(tmp_path, newest(model), "energy/pbe0", keep=["energy"])


def with_lora(model, alpha, rank=2):
    """Two checkpoints: with updates of every attention matrix, and with their sums."""
    checkpoint, merged = newest(model), newest(model)
    state = state_of(checkpoint)
    for key in [k for k in state if ".attention." in k and k.endswith(".weight")]:
        layer, weight = key.removesuffix(".weight"), state.pop(key)
        down, up = torch.randn(rank, weight.shape[1]), torch.randn(len(weight), rank)
        state[f"{layer}.linear.weight"] = weight
        state[f"{layer}.linear.bias"] = state.pop(f"{layer}.bias")
        state[f"{layer}.lora_A.weight"] = down
        state[f"{layer}.lora_B.weight"] = up
        update = alpha / rank * (up.double() @ down.double())
        state_of(merged)[key] = (weight.double() + update).float()
    return checkpoint, merged


def test_lora_is_merged(tmp_path, model):
    checkpoint, merged = with_lora(model, alpha=3.0)
    state_of(checkpoint)["finetune_config"] = {
        "method": "lora",
        "config": {"rank": 2, "alpha": 3.0},
    }
    expected, _ = convert_dict(tmp_path, merged)
    plain, _ = convert_dict(tmp_path, newest(model))
    name = "network.gnn_layers.0.trans.layers.0.attention.input_linear.weight"
    assert not torch.equal(expected.state_dict()[name], plain.state_dict()[name])
    converted, report = convert_dict(tmp_path, checkpoint)
    check_same(converted, expected)
    assert "low-rank updates of 4 matrices were merged" in report.format()


def test_lora_of_unknown_strength(tmp_path, model):
    checkpoint, _ = with_lora(model, alpha=3.0)
    with pytest.raises(ValueError, match=r"low-rank update.*strength is unknown"):
        convert_dict(tmp_path, checkpoint)


def with_uncertainty(values: dict) -> Potential:
    """A model whose energy has an uncertainty and an ensemble, in float32 exactly."""
    model = make_model(values)
    targets = [
        dataclasses.replace(spec, has_uncertainty=spec.kind == "energy", n_members=n)
        for spec, n in zip(model.targets, (3, 0, 0), strict=True)
    ]
    uncertain = Potential(model.config, ATOMIC_NUMBERS, targets, COVALENT_RADII)
    uncertain.load_state_dict(model.state_dict(), strict=False)
    for module in uncertain.uncertainties:
        random = torch.randn(4 * len(module.cholesky), len(module.cholesky))
        factor = torch.linalg.cholesky((random.T @ random).double())
        module.cholesky.copy_(factor.float())
        module.multiplier.fill_(1.25)
        module.members.copy_(torch.randn(module.members.shape))
    return uncertain


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("inner", [10, 16])
def test_wrapped_for_uncertainty(tmp_path, version, inner):
    model = with_uncertainty(
        {
            **TINY,
            "adaptive_cutoff_method": "grid",
            "cutoff_width_adaptive": TINY["cutoff_width"],
        }
    )
    converted, report = convert_dict(
        tmp_path, wrapped(model, version, aged(model, inner))
    )
    if version < 4:  # factorized anew, from a covariance rounded to float32
        for found, module in zip(
            converted.uncertainties, model.uncertainties, strict=True
        ):
            torch.testing.assert_close(
                found.cholesky, module.cholesky, rtol=1e-5, atol=1e-5
            )
            found.cholesky.copy_(module.cholesky)
    check_same(converted, model)
    assert (
        f"LLPR version {version}: energy (3 members), energy/pbe0 (0 members)"
        in report.format()
    )


def test_uncertainty_follows_the_chosen_energy(tmp_path):
    model = with_uncertainty(TINY)
    checkpoint = wrapped(model, 4, newest(model))
    converted, _ = convert_dict(tmp_path, checkpoint, "energy/pbe0", keep=[])
    (found,) = converted.uncertainties
    assert found.target == "energy"
    assert torch.equal(found.cholesky, model.uncertainties[1].cholesky)


def test_damaged_uncertainty(tmp_path):
    model = with_uncertainty(TINY)
    checkpoint = wrapped(model, 3, newest(model))
    del checkpoint["model_state_dict"]
    with pytest.raises(ValueError, match=r"wrapper without weights .*is missing"):
        convert_dict(tmp_path, checkpoint)
    checkpoint = wrapped(model, 3, newest(model))
    state = checkpoint["model_state_dict"]
    state["covariance_energy_uncertainty"] *= float("nan")
    with pytest.raises(ValueError, match=r"covariance .*no Cholesky factor"):
        convert_dict(tmp_path, checkpoint)
    checkpoint = wrapped(model, 4, newest(model))
    state = checkpoint["model_state_dict"]
    state["cholesky_energy_uncertainty"] = torch.eye(3)
    with pytest.raises(ValueError, match=r"cholesky of shape \[3, 3\] instead of"):
        convert_dict(tmp_path, checkpoint)


def test_newer_wrapper_is_refused(tmp_path, model):
    wrapper = {
        "architecture_name": "llpr",
        "model_ckpt_version": 5,
        "wrapped_model_checkpoint": newest(model),
    }
    with pytest.raises(ValueError, match=r"version 5 of the uncertainty wrapper"):
        convert_dict(tmp_path, wrapper)


def test_long_range_is_refused_with_the_reason(tmp_path, model):
    checkpoint = newest(model)
    checkpoint["model_data"]["model_hypers"]["long_range"] = {"enable": True}
    with pytest.raises(ValueError, match=r"long-range electrostatics.*other energies"):
        convert_dict(tmp_path, checkpoint)


def test_other_architectures_are_refused(tmp_path):
    checkpoint = {"architecture_name": "soap_bpnn", "model_ckpt_version": 3}
    with pytest.raises(ValueError, match="architecture 'soap_bpnn'; petmad converts"):
        convert_dict(tmp_path, checkpoint)
    with pytest.raises(ValueError, match="no model_data and no model_state_dict"):
        convert_dict(tmp_path, {"architecture_name": "pet"})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("length_unit", "nm", "lengths in 'nm'; petmad reads models in angstrom"),
        ("unit", "kcal/mol", "'energy' is in 'kcal/mol'; petmad reads energies in eV"),
    ],
)
def test_other_units_are_refused(tmp_path, model, field, value, message):
    checkpoint = newest(model)
    state = checkpoint["model_data"]["dataset_info"].state
    (state if field in state else state["targets"]["energy"].state)[field] = value
    with pytest.raises(ValueError, match=message):
        convert_dict(tmp_path, checkpoint)


def test_damaged_files(tmp_path, model):
    checkpoint = newest(model)
    state_of(checkpoint).pop("scaler.energy_scaler_buffer")
    with pytest.raises(ValueError, match="no scale of target 'energy'"):
        convert_dict(tmp_path, checkpoint)
    checkpoint = newest(model)
    del checkpoint["model_data"]["model_hypers"]["d_head"]
    with pytest.raises(ValueError, match="does not tell d_head"):
        convert_dict(tmp_path, checkpoint)
    checkpoint = newest(model)
    del state_of(checkpoint)["backend.combination_norms.1.bias"]
    state_of(checkpoint)["backend.surprise"] = torch.zeros(1)
    with pytest.raises(
        ValueError, match=r"missing \['network\.combination_norms\.1\.bias'.*surprise"
    ):
        convert_dict(tmp_path, checkpoint)
    checkpoint = newest(model)
    buffer = serialized_map(torch.ones(3, 1), ["center_type"], [(1,), (6,), (8,)])
    state_of(checkpoint)["additive_models.0.energy_composition_buffer"] = buffer
    with pytest.raises(ValueError, match=r"\[1, 6, 8\], but none of \[14\]"):
        convert_dict(tmp_path, checkpoint)


def test_targets_of_several_blocks_are_refused(tmp_path, model):
    checkpoint = newest(model)
    for part in ("weight", "bias"):
        name = "backend.node_last_layers.energy.0.energy"
        first = state_of(checkpoint)[f"{name}___0.{part}"]
        state_of(checkpoint)[f"{name}___1.{part}"] = first
    with pytest.raises(ValueError, match=r"'energy' has 2 blocks .*energy___0, energy"):
        convert_dict(tmp_path, checkpoint)


def test_serialized_maps():
    values = torch.arange(12.0).reshape(2, 3, 2)
    buffer = serialized_map(values, ["system", "atom"], [(0, 4), (1, 5)], blocks=2)
    blocks = read_map(buffer)
    assert len(blocks) == 2
    assert blocks[1].sample_names == ("system", "atom")
    assert blocks[1].samples.tolist() == [[0, 4], [1, 5]]
    assert blocks[1].values.tolist() == values.tolist()
    with pytest.raises(ValueError, match=r"serialized map.*damaged"):
        read_map(buffer[:100])


def test_command_line_round(tmp_path, capsys):
    """A converted file runs, and a converted checkpoint exports to the same weights."""
    values = {**hypers("conditioned"), "zbl": True}
    torch.manual_seed(1)
    model = Potential(PETConfig.from_dict(values), ATOMIC_NUMBERS, None, COVALENT_RADII)
    upstream, ours = str(tmp_path / "up.ckpt"), str(tmp_path / "ours.ckpt")
    save(newest(model), upstream)
    exported = str(tmp_path / "a.pt")
    dtype = ["--dtype", "float64"]
    assert main(["convert", upstream, "-o", exported, *dtype, "--name", "tiny"]) == 0
    printed = capsys.readouterr().out
    assert "species:      Z = 1 6 8 14" in printed
    assert "wrote" in printed
    assert main(["info", exported]) == 0
    assert '"name": "tiny"' in capsys.readouterr().out
    assert main(["convert", upstream, "-o", ours]) == 0
    loaded, provenance = load_potential(ours)
    check_same(loaded, model)
    assert provenance["converted_from"]["version"] == 16


def test_command_line_reports_errors(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "none.ckpt")]) == 1
    assert "petmad: error: no such checkpoint" in capsys.readouterr().err
