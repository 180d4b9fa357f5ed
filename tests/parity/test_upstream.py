"""Ours = upstream's (metatrain) numbers, eager and scripted, for every variant.

The goldens come from ``make_golden.py``; weights are made anew from their names.
"""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from goldens import (
    as_upstream,
    assert_close,
    golden,
    golden_model,
    golden_structures,
    meta,
)
from graphs import answer_graph, make_graph
from resources import REPOSITORY
from upstream_names import named_parameters
from variants import VARIANTS, hypers

from petmad.model.folds import fold_forces


AUXILIARY = ("features", "last_layer_features/energy", "cutoff_stats")

all_variants = pytest.mark.parametrize("variant", VARIANTS)


@functools.cache
def scripted_model(variant: str) -> torch.jit.ScriptModule:
    return torch.jit.script(golden_model(variant))


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


@pytest.mark.parametrize("form", ["eager", "scripted"])
def test_uncertainty_and_ensemble(form):
    """Per atom, and of whole structures by the sums of the atoms."""
    model = golden_model("llpr") if form == "eager" else scripted_model("llpr")
    names = ["energy_uncertainty", "energy_ensemble"]
    for key, (structure, theirs) in golden_structures("llpr").items():
        ours = answer_graph(model, make_graph([structure], 5.0), names).outputs
        vectors, members = (ours[name] for name in names)
        sigma = np.linalg.norm(vectors, axis=1)
        assert np.all(sigma > 0)
        assert_close(sigma, theirs["energy_uncertainty"], f"atoms of {key}")
        assert_close(members, theirs["energy_ensemble"], f"members, atoms of {key}")
        total = np.linalg.norm(vectors.sum(axis=0))
        assert_close(total, theirs["total/energy_uncertainty"], key)
        assert_close(
            members.sum(axis=0), theirs["total/energy_ensemble"], f"members of {key}"
        )


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
