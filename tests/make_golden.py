"""Reference numbers of upstream PET (metatrain) for every variant, without its weights.

    pip install torch==2.13.0 metatrain==2026.4.1
    PYTHONPATH=python python tests/make_golden.py  # all variants, about a minute
    PYTHONPATH=python python tests/make_golden.py modern  # or some

Each file of ``tests/data/golden`` holds one variant: structures, and what upstream's
exported model answers in float64, with the tools' versions and the fingerprint of the
weights, which ``seeded_weights.py`` makes anew from their names wherever the numbers
are compared.
"""

import argparse
import copy
import importlib.metadata
import json
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import torch
from seeded_weights import fingerprint, normal_like, seeded_weight, uniform
from structures import Structure, small_structures, triclinic
from variants import ATOMIC_NUMBERS, CHARGES_AND_SPINS, TARGETS, VARIANTS, hypers

from petmad.model import TargetSpec


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import metatensor.torch as mts
    from metatensor.torch import Labels, TensorBlock, TensorMap
    from metatomic.torch import ModelEvaluationOptions, ModelOutput, System
    from metatrain.llpr import LLPRUncertaintyModel
    from metatrain.pet import PET
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import (
        get_energy_target_info,
        get_generic_target_info,
    )
    from metatrain.utils.io import load_model
    from metatrain.utils.neighbor_lists import (
        get_requested_neighbor_lists,
        get_system_with_neighbor_lists,
    )

GOLDEN = pathlib.Path(__file__).parent / "data" / "golden"
TOOLS = ("metatrain", "metatomic-torch", "metatensor-torch", "vesin", "torch", "numpy")
AUXILIARY = {
    "features": "feature",
    "last_layer_features/energy": "mtt::aux::energy_last_layer_features",
    "cutoff_stats": "mtt::aux::cutoff_stats",
}
"""Our names of upstream's per-atom outputs."""


def target_info(spec: TargetSpec):
    """Upstream's description of one of our targets."""
    if spec.kind == "energy":
        return get_energy_target_info(spec.name, {"quantity": "energy", "unit": "eV"})
    rank = {"force": 1, "stress": 2}.get(spec.kind)
    description = {
        "quantity": {"force": "force", "stress": "pressure"}.get(spec.kind, ""),
        "unit": spec.unit,
        "sample_kind": "atom" if spec.per_atom else "system",
        "type": "scalar" if rank is None else {"cartesian": {"rank": rank}},
        "num_subtargets": spec.n_components if rank is None else 1,
        "description": "",
    }
    return get_generic_target_info(spec.name, description)


def set_baselines(model: PET, targets: list[TargetSpec]) -> dict[str, np.ndarray]:
    """Give an upstream model compositions and scales made from names; return them.

    Upstream keeps both as serialized maps in buffers, beside the maps themselves.
    """
    baselines = {}
    composition = model.additive_models[0]
    for name, weights in composition.model.weights.items():
        for block in weights.blocks():
            values = normal_like(f"composition/{name}", block.values.numel())
            block.values[:] = torch.from_numpy(values).reshape(block.values.shape)
            baselines[f"compositions/{name}"] = values.reshape(len(ATOMIC_NUMBERS), -1)
        buffer = mts.save_buffer(mts.make_contiguous(weights))
        composition.register_buffer(f"{name}_composition_buffer", buffer)
    for spec in targets:
        baselines[f"scales/{spec.name}"] = set_scale(model.scaler, spec)
    return baselines


def set_scale(scaler, spec: TargetSpec) -> np.ndarray:
    """Set one target's scale, [n_species, n_components], in upstream's form."""
    maps = scaler.model
    block = maps.scales[spec.name].block()
    per_target = maps.per_target_scales[spec.name].block().values
    per_property = maps.per_property_scales[spec.name].block().values
    whole = 1.0 + 0.5 * uniform(f"scale/{spec.name}", len(per_target))
    per_target[:] = torch.from_numpy(whole).reshape(-1, *[1] * (per_target.dim() - 1))
    if per_property.shape[-1] > 1:
        shares = 1.0 + 0.5 * uniform(f"share/{spec.name}", per_property.shape[-1])
        per_property[:] = torch.from_numpy(shares)
    block.values[:] = per_target * per_property
    stored = {
        "": maps.scales,
        "_per_target": maps.per_target_scales,
        "_per_property": maps.per_property_scales,
    }
    for kind, tensors in stored.items():
        buffer = mts.save_buffer(mts.make_contiguous(tensors[spec.name]))
        scaler.register_buffer(f"{spec.name}{kind}_scaler_buffer", buffer)
    values = block.values.numpy().reshape(len(block.values), -1)
    values = np.broadcast_to(values, (len(ATOMIC_NUMBERS), values.shape[1]))
    if values.shape[1] != spec.n_components:
        values = np.repeat(values, spec.n_components, axis=1)
    return values.copy()


def make_upstream(variant: str) -> tuple[PET, dict[str, np.ndarray], str]:
    """An upstream model with seeded weights, its baselines, and the fingerprint."""
    options = copy.deepcopy(get_default_hypers("pet")["model"])
    options.update(hypers(variant))
    targets = TARGETS.get(variant, [TargetSpec()])
    info = DatasetInfo(
        "angstrom", ATOMIC_NUMBERS, {t.name: target_info(t) for t in targets}
    )
    model = PET(options, info)
    weights = {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            name = key.removeprefix("backend.")
            weights[name] = seeded_weight(variant, name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(weights[name]))
    return model, set_baselines(model, targets), fingerprint(weights)


def add_uncertainty(model: PET, numbers: dict[str, np.ndarray]) -> LLPRUncertaintyModel:
    """Wrap a model in LLPR with seeded numbers, which are put into ``numbers``."""
    n = model.last_layer_feature_size
    rows = normal_like("llpr/features", 4 * n * n).reshape(4 * n, n)
    covariance = torch.from_numpy(rows.T @ rows).float()
    wrapped = LLPRUncertaintyModel(
        {"num_ensemble_members": {"energy": TARGETS["llpr"][0].n_members}},
        model.dataset_info,
    )
    wrapped.set_wrapped_model(model)
    wrapped.covariance_energy_uncertainty[:] = covariance
    wrapped.compute_cholesky_decomposition(None)
    wrapped.multiplier_energy_uncertainty[:] = 1.75
    members = wrapped.llpr_ensemble_layers["energy"].weight
    values = normal_like("llpr/members", members.numel()).reshape(members.shape)
    with torch.no_grad():
        members.copy_(torch.from_numpy(values))
    numbers["llpr/cholesky"] = wrapped.cholesky_energy_uncertainty.numpy().copy()
    numbers["llpr/multiplier"] = np.array(1.75)
    numbers["llpr/members"] = members.detach().numpy().copy()
    return wrapped


def evaluate_uncertainty(model, structure: Structure) -> dict[str, np.ndarray]:
    """Uncertainty and ensemble of the whole structure, under ``total/NAME``."""
    positions, cell = torch.tensor(structure.positions), torch.tensor(structure.cell)
    system = make_system(model, structure, positions, cell)
    names = ("energy_uncertainty", "energy_ensemble")
    request = {name: ModelOutput(sample_kind="system") for name in names}
    options = ModelEvaluationOptions("angstrom", request, None)
    results = model([system], options, check_consistency=False)
    return {
        f"total/{name}": results[name].block().values.detach().numpy()[0]
        for name in names
    }


def reload(model, folder: str):
    """The model in float64 after a trip through its checkpoint."""
    path = pathlib.Path(folder) / "model.ckpt"
    torch.save(model.get_checkpoint(), path)
    return load_model(path).to(torch.float64)


def system_data(name: str, value: int) -> TensorMap:
    """A number that belongs to the system, as upstream wants it attached."""
    block = TensorBlock(
        torch.tensor([[float(value)]], dtype=torch.float64),
        Labels("system", torch.tensor([[0]])),
        [],
        Labels.range(name, 1),
    )
    return TensorMap(Labels.single(), [block])


def make_system(model, structure: Structure, positions, cell) -> System:
    """Upstream's input with its neighbor lists."""
    types = torch.tensor(structure.numbers, dtype=torch.int32)
    system = System(types, positions, cell, torch.tensor(structure.pbc))
    system = get_system_with_neighbor_lists(system, get_requested_neighbor_lists(model))
    for name in ("charge", "spin_multiplicity"):
        system.add_data(name, system_data(name, getattr(structure, name)))
    return system


def evaluate(model, structure: Structure, targets: list[TargetSpec], names) -> dict:
    """Everything the exported model says about a structure, under our names."""
    positions = torch.tensor(structure.positions, requires_grad=True)
    strain = torch.eye(3, dtype=torch.float64, requires_grad=True)
    cell = torch.tensor(structure.cell)
    system = make_system(model, structure, positions @ strain, cell @ strain)
    kinds = {t.name: "atom" if t.per_atom else "system" for t in targets}
    kinds.update(dict.fromkeys(names, "atom"), energy="atom")
    request = {name: ModelOutput(sample_kind=kind) for name, kind in kinds.items()}
    options = ModelEvaluationOptions("angstrom", request, None)
    results = model([system], options, check_consistency=False)
    values = {
        k: v.block().values.detach().squeeze(-1).numpy() for k, v in results.items()
    }
    energy = results["energy"].block().values.sum()
    energy.backward()
    values.update(
        atomic_energies=values.pop("energy"),
        energy=energy.detach().numpy(),
        forces=-positions.grad.numpy(),
        strain_gradient=strain.grad.numpy(),
    )
    ours = {theirs: name for name, theirs in AUXILIARY.items()}
    return {ours.get(name, name): value for name, value in values.items()}


def train_step(model: PET, structure: Structure) -> dict[str, np.ndarray]:
    """Loss (E/n)² + mean(F²) of the raw energy; sum and norm of its gradients."""
    positions = torch.tensor(structure.positions, requires_grad=True)
    system = make_system(model, structure, positions, torch.tensor(structure.cell))
    model.requires_grad_(True).train()
    request = {"energy": ModelOutput(unit="eV", sample_kind="system")}
    energy = model([system], request)["energy"].block().values.sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    loss = (energy / len(structure)) ** 2 + (gradient**2).mean()
    loss.backward()
    gradients = {
        key.removeprefix("backend."): [p.grad.sum().item(), p.grad.norm().item()]
        for key, p in model.named_parameters()
        if p.grad is not None
    }
    return {
        "train/energy": energy.detach().numpy(),
        "train/loss": loss.detach().numpy(),
        "train/parameters": np.array(list(gradients)),
        "train/gradients": np.array(list(gradients.values())),
    }


def make_golden(variant: str) -> dict[str, np.ndarray]:
    """All numbers of one variant, by name."""
    targets = TARGETS.get(variant, [TargetSpec()])
    model, numbers, weights = make_upstream(variant)
    names = list(AUXILIARY.values())
    with tempfile.TemporaryDirectory() as folder:
        if variant == "llpr":
            model = add_uncertainty(model, numbers)
            names = [
                "mtt::aux::energy_last_layer_features",
                "energy_uncertainty",
                "energy_ensemble",
            ]
        exported = reload(model, folder).export()
        fresh = reload(model, folder)
    for name, structure in small_structures().items():
        for charge, spin in CHARGES_AND_SPINS.get(variant, [(0, 1)]):
            copy_of = structure.changed(charge=charge, spin_multiplicity=spin)
            key = f"structure/{name}_{charge}_{spin}"
            for field in ("numbers", "positions", "cell", "pbc"):
                numbers[f"{key}/{field}"] = getattr(copy_of, field)
            for field in ("charge", "spin_multiplicity"):
                numbers[f"{key}/{field}"] = np.array(getattr(copy_of, field))
            outputs = evaluate(exported, copy_of, targets, names)
            if variant == "llpr":
                outputs.update(evaluate_uncertainty(exported, copy_of))
            for output, value in outputs.items():
                numbers[f"{key}/output/{output}"] = value
    numbers.update(train_step(getattr(fresh, "model", fresh), triclinic()))
    meta = {
        "variant": variant,
        "hypers": dict(getattr(fresh, "model", fresh).hypers),
        "weights": weights,
        "tools": {tool: importlib.metadata.version(tool) for tool in TOOLS},
    }
    numbers["meta"] = np.array(json.dumps(meta, sort_keys=True))
    return numbers


def main() -> None:
    """Write the goldens named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", help="default: all")
    parser.add_argument("--out", type=pathlib.Path, default=GOLDEN)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for variant in arguments.variants or VARIANTS:
        numbers = make_golden(variant)
        np.savez_compressed(arguments.out / f"{variant}.npz", **numbers)
        energy = numbers["structure/triclinic_0_1/output/energy"]
        sys.stdout.write(f"{variant}: triclinic {energy:.10f} eV\n")


if __name__ == "__main__":
    main()
