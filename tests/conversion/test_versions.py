"""Checkpoints of every version give back the very model that they were written from."""

import pytest
import torch
from upstream_files import SCALES, aged, newest, save
from variants import ATOMIC_NUMBERS, CLASSIC, COVALENT_RADII, TINY, hypers

from petmad.conversion.convert import convert
from petmad.model import PETConfig, Potential, TargetSpec


OLD = {
    "cutoff_function": "Cosine",
    "cutoff_width": 0.2,
    "cutoff_width_adaptive": 0.2,
    "adaptive_cutoff_method": "grid",
}
FAMILIES = {"classic": {**TINY, **CLASSIC, **OLD}, "large-scale": {**TINY, **OLD}}


def make_model(values: dict, dtype: torch.dtype = torch.float32) -> Potential:
    """A random model with three targets, in upstream's old spelling."""
    torch.manual_seed(3)
    targets = [
        TargetSpec("energy"),
        TargetSpec("energy/pbe0"),
        TargetSpec("non_conservative_forces", "force", 3, True, "eV/A"),
    ]
    config = PETConfig.from_dict(values)
    model = Potential(config, ATOMIC_NUMBERS, targets, COVALENT_RADII).to_dtype(dtype)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for spec, scale, composition in zip(
            targets, model.scales, model.compositions, strict=True
        ):
            scale.fill_(SCALES[spec.name])
            if spec.kind == "energy":
                composition.copy_(torch.randn_like(composition))
    return model


def check_same(converted: Potential, model: Potential) -> None:
    """Every weight and every hyperparameter is equal to the last bit."""
    expected = model.state_dict()
    found = converted.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    ours, theirs = converted.config.to_dict(), model.config.to_dict()
    for hypers_found in (ours, theirs):  # None and disabled are the same
        assert not (hypers_found.pop("long_range") or {}).get("enable")
    assert ours == theirs


@pytest.mark.parametrize("version", range(1, 17))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_version(tmp_path, family, version):
    model = make_model(FAMILIES[family])
    save(aged(model, version), tmp_path / "a.ckpt")
    converted, report = convert(tmp_path / "a.ckpt")
    check_same(converted, model)
    assert report.version == version
    assert (
        report.kind
        == {
            "classic": "B (classic)",
            "large-scale": "A (current), fixed cutoff",
        }[family]
    )
    assert [spec.kind for spec in converted.targets] == ["energy", "energy", "force"]


@pytest.mark.parametrize("version", [13, 14, 15, 16])
def test_hyperparameters_come_from_the_file(tmp_path, version):
    values = {
        **TINY,
        "num_neighbors_adaptive": 9,
        "adaptive_cutoff_method": "solver",
        "cutoff_width_adaptive": 0.5 if version < 14 else 0.8,
        "attention_temperature": 0.7,
        "num_gnn_layers": 3,
    }
    model = make_model(values)
    save(aged(model, version), tmp_path / "a.ckpt")
    converted, report = convert(tmp_path / "a.ckpt")
    check_same(converted, model)
    assert report.kind == "A (current)"


@pytest.mark.parametrize("variant", ["conditioned", "zbl", "layernorm_silu"])
@pytest.mark.parametrize("version", [15, 16])
def test_other_architectures(tmp_path, variant, version):
    model = make_model(hypers(variant))
    save(aged(model, version), tmp_path / "a.ckpt")
    check_same(convert(tmp_path / "a.ckpt")[0], model)


def test_float64_stays(tmp_path):
    model = make_model(TINY, torch.float64)
    save(newest(model), tmp_path / "a.ckpt")
    converted, report = convert(tmp_path / "a.ckpt")
    check_same(converted, model)
    assert report.dtype == "float64"


def test_best_weights_are_taken(tmp_path):
    model = make_model(TINY)
    checkpoint = newest(model)
    last = {
        k: v + 1 if v.is_floating_point() else v
        for k, v in checkpoint["model_state_dict"].items()
    }
    checkpoint["model_state_dict"] = last
    save(checkpoint, tmp_path / "a.ckpt")
    check_same(convert(tmp_path / "a.ckpt")[0], model)


def test_large_scale_takes_the_last_weights(tmp_path):
    model = make_model(FAMILIES["large-scale"])
    checkpoint = aged(model, 7)
    checkpoint["best_model_state_dict"] = {
        k: v + 1 if torch.is_tensor(v) and v.is_floating_point() else v
        for k, v in checkpoint["model_state_dict"].items()
    }
    save(checkpoint, tmp_path / "a.ckpt")
    check_same(convert(tmp_path / "a.ckpt")[0], model)


def test_newer_version_is_refused(tmp_path):
    checkpoint = newest(make_model(TINY))
    checkpoint["model_ckpt_version"] = 17
    save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"version 17; .* 1 to 16 .*upgrade petmad"):
        convert(tmp_path / "a.ckpt")
