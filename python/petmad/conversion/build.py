"""Upstream's weights under our names: a state dict of version 16 becomes a model."""

from typing import Any

import torch

from petmad.model import PETConfig, Potential

from . import llpr
from .targets import find_head, make_spec, n_rows, read_compositions, read_scales


def network_dtype(state: dict[str, Any]) -> torch.dtype:
    """Of the file's network."""
    return state["backend.edge_embedder.weight"].dtype


def build(
    config: PETConfig,
    atomic_numbers: list[int],
    targets: dict[str, dict[str, Any]],
    sources: list[str],
    state: dict[str, Any],
    wrapper: llpr.Wrapper | None = None,
) -> Potential:
    """A model of ours with the weights of the file.

    Args:
        config: hyperparameters.
        atomic_numbers: species, ascending.
        targets: what the file tells of each of its targets.
        sources: the file's names of those to keep; the first becomes ``energy``.
        state: state dict of version 16, low-rank updates merged.
        wrapper: the file's uncertainties, where it has them.

    Raises:
        ValueError: the weights do not fit, or a target cannot be represented.
    """
    prefix = "backend."
    network = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and key != f"{prefix}species_to_species_index"
    }
    specs = [
        make_spec(name, targets[name], n_rows(network, name, list(targets)))
        for name in sources
    ]
    specs[0].name, specs[0].unit = "energy", "eV"
    for name, spec in zip(sources, specs, strict=True):
        spec.has_uncertainty = wrapper is not None and llpr.has_uncertainty(
            wrapper, name
        )
        if spec.has_uncertainty and spec.kind != "stress":  # not linear: per volume
            spec.n_members = llpr.n_members(wrapper, name, spec.n_components)
    radii = _covalent_radii(state) if config.zbl else None
    potential = Potential(config, atomic_numbers, specs, radii)
    potential.to_dtype(network_dtype(state))
    weights = _our_names(network, sources, list(targets))
    for i, (name, spec) in enumerate(zip(sources, specs, strict=True)):
        shape = (len(atomic_numbers), spec.n_components)
        weights[f"scales.{i}"] = read_scales(state, name, *shape)
        weights[f"compositions.{i}"] = read_compositions(
            state, name, atomic_numbers, spec.n_components
        )
    _load_all(potential, weights)
    if wrapper is not None:
        llpr.fill_uncertainties(potential, sources, wrapper)
    return potential.eval()


def _our_names(
    network: dict[str, torch.Tensor], sources: list[str], targets: list[str]
) -> dict[str, torch.Tensor]:
    """Weights of the network and of the kept readouts under our names."""
    ours = {}
    for key, value in network.items():
        head = find_head(key, targets)
        if head is None:
            ours[f"network.{key}"] = value
        elif head.target in sources:
            readout = f"readouts.{sources.index(head.target)}.{head.part}"
            if head.is_last:
                layer, last = head.rest.split(".")[0], head.rest.split(".")[-1]
                ours[f"{readout}_last.{layer}.{last}"] = value
            else:
                ours[f"{readout}_heads.{head.rest}"] = value
    return ours


def _covalent_radii(state: dict[str, torch.Tensor]) -> list[float]:
    key = "additive_models.1.covalent_radii"
    if key not in state:
        raise ValueError(
            f"this model has ZBL repulsion but no radii ({key} is missing); the file "
            "is damaged, download it again"
        )
    return state[key].double().tolist()


def _load_all(potential: Potential, weights: dict[str, torch.Tensor]) -> None:
    """Set every weight.

    Raises:
        ValueError: one is missing, is left over, or has another shape.
    """
    wanted = {
        name: tensor.shape
        for name, tensor in potential.state_dict().items()
        if not name.startswith(("zbl.", "uncertainties."))
    }
    missing = sorted(set(wanted) - set(weights))
    unknown = sorted(set(weights) - set(wanted))
    shapes = [
        f"{name} {list(weights[name].shape)} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in weights and weights[name].shape != shape
    ]
    if missing or unknown or shapes:
        raise ValueError(
            "the weights do not fit the hyperparameters of this checkpoint: missing "
            f"{missing[:3]}, unknown {unknown[:3]}, of another shape {shapes[:3]} "
            f"({len(missing)}, {len(unknown)}, {len(shapes)} in all); take the file as "
            "its training wrote it"
        )
    potential.load_state_dict(weights, strict=False)
