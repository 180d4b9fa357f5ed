"""A model of ours as a checkpoint of upstream (metatrain): PET version 16, LLPR 4."""

import json
import re
from typing import Any

import numpy as np
import torch

from petmad.model import Potential, TargetSpec

from . import llpr
from .tensormap import write_map
from .unpickle import DatasetInfo, ScriptObject, TargetInfo
from .upgrades import NEWEST


COMPONENTS = {"force": ["xyz"], "stress": ["xyz_1", "xyz_2"]}
QUANTITIES = {"energy": "energy", "force": "force", "stress": "pressure", "generic": ""}
LONG_RANGE_OFF = {
    "enable": False,
    "use_ewald": False,
    "smearing": 1.4,
    "kspace_resolution": 1.33,
    "interpolation_nodes": 5,
}
READOUT = re.compile(r"readouts\.(\d+)\.(node|edge)_(heads|last)\.(\d+)\.(.+)")
CONDITIONING = "system_conditioning."


def make_checkpoint(potential: Potential, name: str = "") -> dict[str, Any]:
    """What upstream loads, ready for :func:`petmad.conversion.pickle_upstream.save`.

    Args:
        potential: the model; its tensors are shared, not copied.
        name: of the model, kept in the metadata.

    Raises:
        ValueError: a scale or composition has no place in upstream's layout.
    """
    checkpoint = _pet_checkpoint(potential, name)
    if any(spec.has_uncertainty for spec in potential.targets):
        return _llpr_checkpoint(potential, checkpoint)
    return checkpoint


def _check_kinds(potential: Potential) -> None:
    """Refuse targets of a kind that this layout has no heads for.

    Raises:
        ValueError: names the first.
    """
    for spec in potential.targets:
        if spec.kind not in QUANTITIES:
            raise ValueError(
                f"target {spec.name!r} is of kind {spec.kind!r}, but petmad writes "
                f"{', '.join(QUANTITIES)} for metatrain; keep this model in petmad"
            )


def _pet_checkpoint(potential: Potential, name: str) -> dict[str, Any]:
    _check_kinds(potential)
    info = {
        "length_unit": "angstrom",
        "_atomic_types": list(potential.atomic_numbers),
        "targets": {spec.name: _target_info(spec) for spec in potential.targets},
        "extra_data": {},
    }
    hypers = {**potential.config.to_dict(), "long_range": dict(LONG_RANGE_OFF)}
    state = _state(potential)
    return {
        "architecture_name": "pet",
        "model_ckpt_version": NEWEST,
        "metadata": _metadata(name),
        "model_data": {"model_hypers": hypers, "dataset_info": DatasetInfo(info)},
        "epoch": None,
        "best_epoch": None,
        "model_state_dict": {**state, "finetune_config": {}},
        "best_model_state_dict": state,
    }


def _metadata(name: str) -> ScriptObject:
    content = {
        "authors": [],
        "class": "ModelMetadata",
        "description": "written by petmad",
        "extra": {},
        "name": name,
        "references": {"architecture": ["https://arxiv.org/abs/2305.19302v3"]},
    }
    kind = "__torch__.torch.classes.metatomic.ModelMetadata"
    return ScriptObject((json.dumps(content), kind))


def _property(spec: TargetSpec) -> str:
    """Upstream's name of the last axis of a target."""
    return spec.name.replace("mtt::", "").split("/")[0]


def _shape(spec: TargetSpec) -> list[int]:
    """Components and properties of a target."""
    if spec.kind == "generic":
        return [spec.n_components]
    return [3] * len(COMPONENTS.get(spec.kind, [])) + [1]


def _target_info(spec: TargetSpec) -> TargetInfo:
    sample_names = ("system", "atom") if spec.per_atom else ("system",)
    layout = write_map(
        np.zeros([0, *_shape(spec)]),
        (sample_names, np.zeros((0, len(sample_names)))),
        COMPONENTS.get(spec.kind, []),
        _property(spec),
    )
    kind = "__torch__.torch.classes.metatensor.TensorMap"
    quantity = QUANTITIES[spec.kind]
    return TargetInfo(
        {
            "is_scalar": spec.kind not in COMPONENTS,
            "is_cartesian": spec.kind in COMPONENTS,
            "is_spherical": False,
            "is_atomic_basis": False,
            "layout": ScriptObject((layout, kind)),
            "quantity": quantity,
            "unit": spec.unit,
            "description": "",
            "blocks_shape": {f"{quantity}___0": _shape(spec)},
        }
    )


def _state(potential: Potential) -> dict[str, torch.Tensor]:
    """State dict of version 16; upstream finds the dtype in its second entry."""
    numbers = potential.atomic_numbers
    index = torch.full((max(numbers) + 1,), -1)
    index[numbers] = torch.arange(len(numbers))
    state = {"backend.species_to_species_index": index}
    for key, value in potential.state_dict().items():
        name = _name(key, potential.target_names)
        if name is not None:
            state[f"backend.{name}"] = value
            if name.startswith(CONDITIONING):
                state[name] = value
    state["additive_models.0.dummy_buffer"] = torch.ones(1, dtype=torch.float64)
    state["additive_models.0.model.type_to_index"] = index
    state["scaler.dummy_buffer"] = torch.ones(1)
    state["scaler.model.type_to_index"] = index
    for spec, scales, compositions in zip(
        potential.targets, potential.scales, potential.compositions, strict=True
    ):
        state.update(_baselines(spec, numbers, scales.detach(), compositions.detach()))
    if potential.zbl is not None:
        state["additive_models.1.species_to_index"] = index.to(torch.int32)
        state["additive_models.1.covalent_radii"] = potential.zbl.radii
    return state


def _name(key: str, targets: list[str]) -> str | None:
    """Upstream's name of a weight of ours; None for what is kept elsewhere there."""
    if key.startswith("network."):
        return key.removeprefix("network.")
    found = READOUT.fullmatch(key)
    if found is None:
        return None
    target, layer, rest = targets[int(found[1])], found[4], found[5]
    if found[3] == "heads":
        return f"{found[2]}_heads.{target}.{layer}.{rest}"
    return f"{found[2]}_last_layers.{target}.{layer}.{target}___0.{rest}"


def _baselines(
    spec: TargetSpec,
    numbers: list[int],
    scales: torch.Tensor,
    compositions: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Scale and composition of a target as upstream's buffers.

    Upstream has one scale for each property, of every species where the target is per
    atom; components of vectors and tensors share it and have no composition.
    """
    is_tensor = spec.kind in COMPONENTS
    same_rows = bool((scales == scales[:1]).all())
    same_columns = bool((scales == scales[:, :1]).all())
    if not (same_rows or spec.per_atom) or not (same_columns or not is_tensor):
        raise ValueError(
            f"target {spec.name!r} has scales that differ between "
            f"{'components' if is_tensor and not same_columns else 'elements'}, which "
            "metatrain's layout cannot hold; keep this model in petmad"
        )
    if is_tensor and bool(compositions.any()):
        raise ValueError(
            f"target {spec.name!r} has a composition, which metatrain's layout holds "
            "for scalars alone; keep this model in petmad"
        )
    rows = np.arange(len(numbers)) if spec.per_atom else np.array([-1])
    columns = 1 if is_tensor else spec.n_components
    values = scales[: len(rows), :columns].numpy()

    def buffer(values: np.ndarray, name: str, labels: np.ndarray) -> torch.Tensor:
        return write_map(values, ((name,), labels.reshape(-1, 1)), [], _property(spec))

    prefix = f"scaler.{spec.name}"
    state = {
        f"{prefix}_scaler_buffer": buffer(values, "atomic_type", rows),
        f"{prefix}_per_target_scaler_buffer": buffer(values, "atomic_type", rows),
        f"{prefix}_per_property_scaler_buffer": buffer(
            np.ones_like(values), "atomic_type", rows
        ),
    }
    if not is_tensor:
        state[f"additive_models.0.{spec.name}_composition_buffer"] = buffer(
            compositions.numpy(), "center_type", np.array(numbers)
        )
    return state


def _llpr_checkpoint(potential: Potential, pet: dict[str, Any]) -> dict[str, Any]:
    """The wrapper of version 4 around a checkpoint."""
    dtype = next(potential.network.parameters()).dtype
    state, members = {}, {}
    for module in potential.uncertainties:
        name = llpr.uncertainty_name(module.target)
        factor = module.cholesky
        state[f"covariance_{name}"] = (factor @ factor.T).to(dtype)
        state[f"cholesky_{name}"] = factor.to(dtype)
        state[f"multiplier_{name}"] = module.multiplier.to(dtype).reshape(1)
        if module.n_members > 0:
            members[module.target] = module.n_members
            weight = f"llpr_ensemble_layers.{module.target}.weight"
            state[weight] = module.members.to(dtype)
    return {
        "architecture_name": "llpr",
        "model_ckpt_version": llpr.NEWEST,
        "metadata": pet["metadata"],
        "model_data": {
            "hypers": {"num_ensemble_members": members},
            "dataset_info": pet["model_data"]["dataset_info"],
        },
        "epoch": None,
        "best_epoch": None,
        "model_state_dict": state,
        "best_model_state_dict": state,
        "wrapped_model_checkpoint": pet,
    }
