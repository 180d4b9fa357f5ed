"""Ours = upstream's (metatrain) numbers, eager and scripted, for every variant.

The goldens come from ``make_golden.py``; weights are made anew from their names.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from graphs import answer_graph, make_graph
from resources import REPOSITORY
from structures import Structure
from upstream_names import named_parameters, set_seeded_weights
from variants import ATOMIC_NUMBERS, COVALENT_RADII, TARGETS, VARIANTS, hypers

from petmad.model import PETConfig, Potential, TargetSpec
from petmad.model.folds import fold_forces


GOLDEN = pathlib.Path(__file__).parents[1] / "data" / "golden"
TOLERANCE = 1e-10
"""Of the largest number of an output, or of 1 if that is more; rounding is 1e-13."""
AUXILIARY = ("features", "last_layer_features/energy", "cutoff_stats")

all_variants = pytest.mark.parametrize("variant", VARIANTS)


@functools.cache
def golden(variant: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{variant}.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@functools.cache
def meta(variant: str) -> dict:
    return json.loads(str(golden(variant)["meta"]))


@functools.cache
def golden_model(variant: str) -> Potential:
    """The variant with upstream's hypers, seeded weights, scales and compositions."""
    numbers = golden(variant)
    targets = TARGETS.get(variant, [TargetSpec()])
    config = PETConfig.from_dict(meta(variant)["hypers"])
    model = Potential(config, ATOMIC_NUMBERS, targets, COVALENT_RADII)
    assert set_seeded_weights(model, variant) == meta(variant)["weights"]
    with torch.no_grad():
        for i, spec in enumerate(targets):
            model.scales[i].copy_(torch.from_numpy(numbers[f"scales/{spec.name}"]))
            if f"compositions/{spec.name}" in numbers:
                values = torch.from_numpy(numbers[f"compositions/{spec.name}"])
                model.compositions[i].copy_(values)
    return model.double()


@functools.cache
def scripted_model(variant: str) -> torch.jit.ScriptModule:
    return torch.jit.script(golden_model(variant))


def golden_structures(
    variant: str,
) -> dict[str, tuple[Structure, dict[str, np.ndarray]]]:
    """Structures of a golden by name, each with upstream's outputs."""
    found: dict[str, tuple[dict, dict]] = {}
    for name, value in golden(variant).items():
        if name.startswith("structure/"):
            _, key, field = name.split("/", maxsplit=2)
            fields, outputs = found.setdefault(key, ({}, {}))
            if field.startswith("output/"):
                outputs[field.removeprefix("output/")] = value
            else:
                fields[field] = value if value.ndim else int(value)
    return {k: (Structure(**fields), outputs) for k, (fields, outputs) in found.items()}


def assert_close(ours: np.ndarray, theirs: np.ndarray, what: str) -> None:
    theirs = np.asarray(theirs).reshape(np.shape(ours))
    scale = max(1.0, np.abs(theirs).max(initial=0.0))
    np.testing.assert_allclose(
        ours, theirs, rtol=0, atol=TOLERANCE * scale, err_msg=what
    )


def as_upstream(spec: TargetSpec, values: np.ndarray, volume: float) -> np.ndarray:
    """Upstream's form of one target: summed unless per atom, a stress per volume."""
    if spec.per_atom:
        return values
    total = values.sum(axis=0)
    if spec.kind == "stress":
        return total / volume if volume > 0 else np.zeros_like(total)
    return total


@all_variants
def test_golden_belongs_to_this_variant(variant):
    stored = meta(variant)["hypers"]
    assert {name: stored[name] for name in hypers(variant)} == hypers(variant)
    assert meta(variant)["tools"]["metatrain"] == "2026.4.1"


@pytest.mark.parametrize("form", ["eager", "scripted"])
@all_variants
def test_energies_forces_and_strain_gradients(variant, form):
    model = golden_model(variant) if form == "eager" else scripted_model(variant)
    cutoff = golden_model(variant).config.cutoff
    structures = golden_structures(variant)
    assert len(structures) >= 7
    for key, (structure, theirs) in structures.items():
        ours = answer_graph(model, make_graph([structure], cutoff))
        assert_close(ours.energy[0], theirs["energy"], f"energy of {key}")
        assert_close(ours.atomic_energies, theirs["atomic_energies"], f"atoms of {key}")
        assert_close(ours.forces, theirs["forces"], f"forces of {key}")
        assert_close(
            ours.strain_gradients[0], theirs["strain_gradient"], f"strain {key}"
        )


@pytest.mark.parametrize("form", ["eager", "scripted"])
@all_variants
def test_features_and_other_targets(variant, form):
    eager = golden_model(variant)
    model = eager if form == "eager" else scripted_model(variant)
    others = eager.targets[1:]
    names = [*AUXILIARY, *(spec.name for spec in others)]
    for key, (structure, theirs) in golden_structures(variant).items():
        if variant == "llpr":  # upstream's wrapper hands out only these
            names = ["last_layer_features/energy"]
        ours = answer_graph(model, make_graph([structure], eager.config.cutoff), names)
        for spec in others:
            value = as_upstream(spec, ours.outputs[spec.name], structure.volume)
            assert_close(value, theirs[spec.name], f"{spec.name} of {key}")
        for name in set(names) - {spec.name for spec in others}:
            assert_close(ours.outputs[name], theirs[name], f"{name} of {key}")


def test_last_layer_features_are_all_that_uncertainty_needs():
    model, numbers = golden_model("llpr"), golden("llpr")
    for key, (structure, theirs) in golden_structures("llpr").items():
        name = "last_layer_features/energy"
        ours = answer_graph(model, make_graph([structure], 5.0), [name])
        whitened = np.linalg.solve(numbers["llpr/cholesky"], ours.outputs[name].T)
        sigma = numbers["llpr/multiplier"] * np.linalg.norm(whitened, axis=0)
        assert_close(sigma, theirs["energy_uncertainty"], key)
        assert np.all(sigma > 0)


@all_variants
def test_training_step(variant):
    """Loss (E/n)² + mean(F²) of raw energies and its gradient for every parameter."""
    numbers, model = golden(variant), golden_model(variant)
    structure, _ = golden_structures(variant)["triclinic_0_1"]
    graph = make_graph([structure], model.config.cutoff)
    energy = model(graph, ["energy"], raw=True)["energy"].sum()
    (edge_gradients,) = torch.autograd.grad(
        energy, graph.edge_vectors, create_graph=True
    )
    forces = fold_forces(edge_gradients, graph.centers, graph.neighbors, len(structure))
    loss = (energy / len(structure)) ** 2 + (forces**2).mean()
    parameters = named_parameters(model)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    assert_close(energy.item(), numbers["train/energy"], "raw energy")
    assert_close(loss.item(), numbers["train/loss"], "loss")
    names = numbers["train/parameters"].tolist()
    stored = dict(zip(names, numbers["train/gradients"], strict=True))
    assert set(stored) <= set(parameters)
    assert sum(bool(values.any()) for values in stored.values()) > 30
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            gradient = torch.zeros(1)
        ours = np.array([gradient.sum().item(), gradient.norm().item()])
        assert_close(ours, stored.get(name, np.zeros(2)), f"gradient of {name}")


@pytest.mark.oracle
@all_variants
def test_goldens_are_what_upstream_says_today(variant, tmp_path):
    """Runs upstream anew (by PETMAD_ORACLE_PYTHON) and compares all numbers."""
    python = os.environ.get("PETMAD_ORACLE_PYTHON", sys.executable)
    script = REPOSITORY / "tests" / "make_golden.py"
    path = os.pathsep.join(
        [str(REPOSITORY / "python"), os.environ.get("PYTHONPATH", "")]
    )
    subprocess.run(
        [python, script, variant, "--out", tmp_path],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    stored = golden(variant)
    with np.load(tmp_path / f"{variant}.npz", allow_pickle=False) as fresh:
        assert sorted(fresh.files) == sorted(stored)
        for name in set(stored) - {"meta", "train/parameters"}:
            assert_close(fresh[name], stored[name], name)
