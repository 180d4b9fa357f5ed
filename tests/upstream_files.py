"""Small checkpoints in upstream's layout of every version, written from our models.

Versions 1 to 16 of metatrain's PET: each ``_to_N`` undoes one upgrade. Upstream's
classes are imitated while a file is written, so that neither metatrain nor metatensor
is needed.
"""

import contextlib
import io
import sys
import types
import zipfile
from unittest import mock

import numpy as np
import torch
from upstream_names import upstream_name

from petmad.model import Potential


def _imitation(module: str, name: str) -> type:
    """A class whose instances pickle under a name of upstream, with ``state``."""

    def getstate(self):
        return self.state

    namespace = {"__module__": module, "__getstate__": getstate}
    return type(name, (), namespace)


DatasetInfo = _imitation("metatrain.utils.data.dataset", "DatasetInfo")
TargetInfo = _imitation("metatrain.utils.data.target_info", "TargetInfo")
ScriptObject = _imitation("torch", "ScriptObject")


def _with_state(kind: type, state):
    instance = kind()
    instance.state = state
    return instance


@contextlib.contextmanager
def _importable():
    """While it lasts, the imitations can be found under upstream's names."""
    modules = {}
    for kind in (DatasetInfo, TargetInfo):
        parts = kind.__module__.split(".")
        for n in range(1, len(parts) + 1):
            name = ".".join(parts[:n])
            modules.setdefault(name, types.ModuleType(name))
        setattr(modules[kind.__module__], kind.__name__, kind)
    with (
        mock.patch.dict(sys.modules, modules),
        mock.patch.object(torch, "ScriptObject", ScriptObject),
    ):
        yield


def save(checkpoint: dict, path) -> None:
    """``torch.save`` with upstream's class names."""
    with _importable():
        torch.save(checkpoint, path)


def serialized_map(values, sample_names, samples, blocks: int = 1) -> torch.Tensor:
    """A metatensor map as [n] uint8, every block the same."""

    def labels(names, rows):
        rows = [tuple(row) for row in rows]
        return np.array(rows, dtype=[(name, "<i4") for name in names])

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:

        def add(name, array):
            with archive.open(name, "w") as file:
                np.save(file, array)

        add("keys.npy", labels(["_"], [(k,) for k in range(blocks)]))
        for k in range(blocks):
            add(f"blocks/{k}/values.npy", np.asarray(values, dtype=np.float64))
            add(f"blocks/{k}/samples.npy", labels(sample_names, samples))
            for c, size in enumerate(np.shape(values)[1:-1]):
                rows = [(x,) for x in range(size)]
                add(f"blocks/{k}/components/{c}.npy", labels([f"xyz_{c}"], rows))
            rows = [(x,) for x in range(np.shape(values)[-1])]
            add(f"blocks/{k}/properties.npy", labels(["property"], rows))
    return torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8)


COMPONENTS = {"force": [3], "stress": [3, 3]}
QUANTITIES = {"energy": "energy", "force": "force", "stress": "pressure", "generic": ""}


def _target_info(spec):
    names = ["system", "atom"] if spec.per_atom else ["system"]
    properties = spec.n_components if spec.kind == "generic" else 1
    shape = [0, *COMPONENTS.get(spec.kind, []), properties]
    layout = serialized_map(np.zeros(shape), names, [])
    map_name = "__torch__.torch.classes.metatensor.TensorMap"
    state = {
        "quantity": QUANTITIES[spec.kind],
        "unit": spec.unit,
        "description": "",
        "layout": _with_state(ScriptObject, (layout, map_name)),
        "is_scalar": spec.kind in ("energy", "generic"),
        "is_cartesian": spec.kind in COMPONENTS,
        "is_spherical": False,
    }
    return _with_state(TargetInfo, state)


def _state_dict(model: Potential) -> dict:
    numbers = model.atomic_numbers
    index = torch.full((max(numbers) + 1,), -1)
    index[numbers] = torch.arange(len(numbers))
    state = {"backend.species_to_species_index": index}
    for key, value in model.state_dict().items():
        name = upstream_name(key, model.target_names)
        if name is not None:
            state[f"backend.{name}"] = value.clone()
            if name.startswith("system_conditioning."):
                state[name] = state[f"backend.{name}"]
    state["additive_models.0.dummy_buffer"] = torch.zeros(1, dtype=torch.float64)
    state["additive_models.0.model.type_to_index"] = index
    state["scaler.dummy_buffer"] = torch.zeros(1)
    state["scaler.model.type_to_index"] = index
    for spec, scales, compositions in zip(
        model.targets, model.scales, model.compositions, strict=True
    ):
        if spec.kind in ("energy", "generic"):  # in another order than ours
            state[f"additive_models.0.{spec.name}_composition_buffer"] = serialized_map(
                compositions.flip(0), ["center_type"], [(z,) for z in numbers[::-1]]
            )
        values = scales if spec.kind == "generic" else scales[:, :1]
        rows = range(len(numbers)) if spec.per_atom else [-1]
        buffer = serialized_map(
            values[: len(rows)], ["atomic_type"], [(row,) for row in rows]
        )
        for part in ("", "_per_target", "_per_property"):
            state[f"scaler.{spec.name}{part}_scaler_buffer"] = buffer
    if model.zbl is not None:
        state["additive_models.1.species_to_index"] = index.int()
        state["additive_models.1.covalent_radii"] = model.zbl.radii.clone()
    return state


def newest(model: Potential) -> dict:
    """The model as a checkpoint of version 16."""
    info = {
        "length_unit": "angstrom",
        "_atomic_types": list(model.atomic_numbers),
        "targets": {spec.name: _target_info(spec) for spec in model.targets},
        "extra_data": {},
    }
    state = _state_dict(model)
    return {
        "architecture_name": "pet",
        "model_ckpt_version": 16,
        "metadata": _with_state(ScriptObject, ('{"name": "tiny"}', "ModelMetadata")),
        "model_data": {
            "model_hypers": {
                **model.config.to_dict(),
                "long_range": {"enable": False, "smearing": 1.4},
            },
            "dataset_info": _with_state(DatasetInfo, info),
        },
        "epoch": None,
        "best_epoch": None,
        "model_state_dict": state,
        "best_model_state_dict": state,
        "trainer_ckpt_version": 15,
        "train_hypers": {"batch_size": 2, "atomic_baseline": {}},
        "optimizer_state_dict": None,
    }


def _rename(checkpoint: dict, rename) -> None:
    old = checkpoint["model_state_dict"]
    new = dict(item for k, v in old.items() for item in [rename(k, v)] if item)
    checkpoint["model_state_dict"] = new
    if checkpoint["best_model_state_dict"] is not None:
        checkpoint["best_model_state_dict"] = new


def _drop_hypers(checkpoint: dict, **expected) -> None:
    """Leave hyperparameters out; the model must have what that age implied."""
    hypers = checkpoint["model_data"]["model_hypers"]
    for name, value in expected.items():
        assert hypers.pop(name) == value, f"{name} cannot be left out of this model"


def _to_15(checkpoint: dict) -> None:
    state = checkpoint["model_state_dict"]
    _rename(
        checkpoint,
        lambda k, v: (
            None if f"backend.{k}" in state else (k.removeprefix("backend."), v)
        ),
    )


def _to_14(checkpoint: dict) -> None:
    _drop_hypers(
        checkpoint, system_conditioning=False, max_charge=10, max_spin_multiplicity=10
    )


def _to_13(checkpoint: dict) -> None:
    width = checkpoint["model_data"]["model_hypers"]["cutoff_width"]
    _drop_hypers(checkpoint, cutoff_width_adaptive=width)


def _to_12(checkpoint: dict) -> None:
    _rename(checkpoint, lambda k, v: None if "_per_" in k else (k, v))


def _to_11(checkpoint: dict) -> None:
    _drop_hypers(checkpoint, adaptive_cutoff_method="grid")


def _to_10(checkpoint: dict) -> None:
    _drop_hypers(checkpoint, attention_temperature=1.0)


def _to_9(checkpoint: dict) -> None:
    _drop_hypers(checkpoint, num_neighbors_adaptive=None, cutoff_function="Cosine")


def _to_8(checkpoint: dict) -> None:
    checkpoint["model_state_dict"].setdefault("finetune_config", {})


def _to_7(checkpoint: dict) -> None:
    hypers = checkpoint["model_data"]["model_hypers"]
    is_large = hypers["featurizer_type"] == "feedforward"
    _rename(checkpoint, _large_scale_name if is_large else _classic_name)
    for name in ("normalization", "activation", "transformer_type", "featurizer_type"):
        del hypers[name]
    if is_large:  # what such files say is wrong, and has to be overruled
        hypers.update(d_node=7, d_feedforward=9, activation="SiLU")
    else:
        del hypers["d_node"]


def _padded(table: torch.Tensor) -> torch.Tensor:
    return torch.cat([table, torch.full_like(table[:1], 99.0)])


def _classic_name(key: str, value):
    key = key.replace(".mlp.w_in", ".mlp.0").replace(".mlp.w_out", ".mlp.3")
    if key.startswith("node_embedders."):
        layer = key.split(".")[1]
        return f"gnn_layers.{layer}.node_embedder.weight", _padded(value)
    if key == "edge_embedder.weight":
        return "embedding.weight", _padded(value)
    return key, _padded(value) if ".neighbor_embedder." in key else value


def _large_scale_name(key: str, value):
    key = key.replace("combination_norms", "combination_rmsnorms")
    if key == "node_embedders.0.weight":
        return "node_embedding.weight", _padded(value)
    if key == "edge_embedder.weight":
        return "embedding.weight", _padded(value)
    return key, _padded(value) if ".neighbor_embedder." in key else value


def _to_6(checkpoint: dict) -> None:
    targets = checkpoint["model_data"]["dataset_info"].state["targets"]
    scales = torch.tensor([SCALES[name] for name in targets], dtype=torch.float64)
    _rename(checkpoint, lambda k, v: None if k.startswith("scaler.") else (k, v))
    checkpoint["model_state_dict"]["scaler.scales"] = scales


def _to_5(checkpoint: dict) -> None:
    checkpoint["best_model_state_dict"] = None


def _to_4(checkpoint: dict) -> None:
    info = checkpoint["model_data"]["dataset_info"].state
    info["_atomic_types"] = set(info["_atomic_types"])


def _to_3(checkpoint: dict) -> None:
    del checkpoint["epoch"], checkpoint["best_epoch"]


def _to_2(checkpoint: dict) -> None:
    finetune = checkpoint["model_state_dict"].pop("finetune_config")
    checkpoint["train_hypers"]["finetune"] = finetune


def _to_1(checkpoint: dict) -> None:
    _rename(checkpoint, lambda k, v: (k.replace("0.model.type", "0.type"), v))
    del checkpoint["model_ckpt_version"]


STEPS = (
    _to_15,
    _to_14,
    _to_13,
    _to_12,
    _to_11,
    _to_10,
    _to_9,
    _to_8,
    _to_7,
    _to_6,
    _to_5,
    _to_4,
    _to_3,
    _to_2,
    _to_1,
)
SCALES = {"energy": 0.75, "energy/pbe0": 1.5, "non_conservative_forces": 2.25}
"""Scales of targets that can be told by one number, as files up to version 6 do."""


def aged(model: Potential, version: int) -> dict:
    """The model as a checkpoint of an older version."""
    checkpoint = newest(model)
    for step in STEPS[: 16 - version]:
        step(checkpoint)
    if version > 1:
        checkpoint["model_ckpt_version"] = version
    return checkpoint


def wrapped(model: Potential, version: int, inner: dict) -> dict:
    """A checkpoint of the uncertainty wrapper, in the layout of its version."""
    state = {}
    for module in model.uncertainties:
        name = (
            "energy_uncertainty"
            if module.target == "energy"
            else f"mtt::aux::{module.target}_uncertainty"
        )
        covariance = module.cholesky @ module.cholesky.T
        state[f"covariance_{name}"] = covariance.float()
        if version == 4:
            state[f"cholesky_{name}"] = module.cholesky.float()
        else:
            state[f"inv_covariance_{name}"] = torch.linalg.inv(covariance).float()
        state[f"multiplier_{name}"] = module.multiplier.float().reshape(1)
        members = module.members.float()
        if module.n_members > 0 and version >= 3:
            state[f"llpr_ensemble_layers.{module.target}.weight"] = members
        elif module.n_members > 0:
            state[f"{module.target}_ensemble_weights"] = members.T.contiguous()
    wrapper = {
        "architecture_name": "llpr",
        "state_dict" if version < 3 else "model_state_dict": state,
        "wrapped_model_checkpoint": inner,
    }
    if version > 1:
        wrapper["model_ckpt_version"] = version
    return wrapper
