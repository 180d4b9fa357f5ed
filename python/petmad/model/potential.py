"""A whole model: the network, its readouts, and the physics added outside of it.

Predictions are per atom; sums over structures, forces and virials are left to
:mod:`petmad.model.folds` and to the C++ engine. Scales and compositions are float64,
and so is every sum that involves them, whatever the dtype of the network.
"""

from typing import Dict, List, Optional

import torch
from torch import nn

from .config import PETConfig
from .graph import EdgeGraph
from .pet import PET, Features
from .readout import TargetSpec
from .tensor_readout import make_readout
from .uncertainty import Uncertainty
from .zbl import ZBL


def _output_names(specs: List[TargetSpec]) -> List[str]:
    """All that a model of these targets can be asked for."""
    names = [spec.name for spec in specs]
    names += ["features", "cutoff_stats"]
    names += [f"last_layer_features/{spec.name}" for spec in specs]
    names += [f"{spec.name}_uncertainty" for spec in specs if spec.has_uncertainty]
    names += [f"{spec.name}_ensemble" for spec in specs if spec.n_members > 0]
    return names


class Entries(nn.Module):
    """Turns the components of a tensor's blocks into Cartesian entries."""

    def __init__(self, spec: TargetSpec) -> None:
        super().__init__()
        self.is_identity = spec.kind == "spherical" or not spec.blocks
        self.register_buffer("rows", spec.rows(), persistent=False)

    def forward(self, components: torch.Tensor) -> torch.Tensor:
        """[n_atoms, n_components] float64 in, [n_atoms, n_entries] out."""
        return components if self.is_identity else components @ self.rows


class Potential(nn.Module):
    """PET with its targets, scales, compositions and optional ZBL.

    Args:
        config: hyperparameters.
        atomic_numbers: species of the model, ascending; species i is
            ``atomic_numbers[i]``.
        targets: what it predicts; default: one energy.
        covalent_radii: of each species [Å], needed with ``config.zbl``.

    Buffers, per target index t: ``scales.t`` and ``compositions.t``, [n_species,
    n_components] float64 in the target's unit.
    """

    def __init__(
        self,
        config: PETConfig,
        atomic_numbers: List[int],
        targets: Optional[List[TargetSpec]] = None,
        covalent_radii: Optional[List[float]] = None,
    ) -> None:
        super().__init__()
        if sorted(set(atomic_numbers)) != list(atomic_numbers) or not atomic_numbers:
            raise ValueError(
                f"`atomic_numbers` must be ascending and unique, got {atomic_numbers}"
            )
        specs = targets or [TargetSpec()]
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise ValueError(f"target names must be unique, got {names}")
        self._config = config
        self._specs = specs
        self._numbers = list(atomic_numbers)
        n_species = len(atomic_numbers)
        self.network = PET(config, n_species)
        self.target_names: List[str] = names
        self.readouts = nn.ModuleList(
            make_readout(config, spec, n_species) for spec in specs
        )
        self.entries = nn.ModuleList(Entries(spec) for spec in specs)
        self.scales = nn.ParameterList(
            nn.Parameter(
                torch.ones(n_species, spec.n_components, dtype=torch.float64),
                requires_grad=False,
            )
            for spec in specs
        )
        self.compositions = nn.ParameterList(
            nn.Parameter(
                torch.zeros(n_species, spec.n_components, dtype=torch.float64),
                requires_grad=False,
            )
            for spec in specs
        )
        self.uncertainties = nn.ModuleList(
            Uncertainty(config, spec) for spec in specs if spec.has_uncertainty
        )
        self.reads_network: List[bool] = [spec.reads_network for spec in specs]
        self.is_energy: List[bool] = [spec.kind == "energy" for spec in specs]
        self.is_stress: List[bool] = [spec.kind == "stress" for spec in specs]
        self.output_names: List[str] = _output_names(specs)
        if config.zbl:
            if covalent_radii is None:
                raise ValueError("`zbl` needs `covalent_radii`, one per species [Å]")
            self.zbl = ZBL(self._numbers, covalent_radii)
        else:
            self.zbl = None

    @torch.jit.unused
    @property
    def config(self) -> PETConfig:
        """Hyperparameters."""
        return self._config

    @torch.jit.unused
    @property
    def targets(self) -> List[TargetSpec]:
        """Targets, in order."""
        return self._specs

    @torch.jit.unused
    @property
    def atomic_numbers(self) -> List[int]:
        """Z of each species."""
        return self._numbers

    @torch.jit.unused
    def to_dtype(self, dtype: torch.dtype) -> "Potential":
        """Convert the network; scales, compositions and ZBL stay float64. In place."""
        self.network.to(dtype)
        self.readouts.to(dtype)
        return self

    def forward(
        self, graph: EdgeGraph, outputs: List[str], raw: bool = False
    ) -> Dict[str, torch.Tensor]:
        """Predict per atom.

        Args:
            graph: atoms and edges.
            outputs: names of targets; also ``features`` [n_owned, R·(d_node + d_pet)],
                ``last_layer_features/<target>`` [n_owned, 2·R·d_head] and
                ``cutoff_stats`` [n_owned, 2] (own cutoff in Å, kept neighbors). For
                targets that have them: ``<target>_uncertainty`` [n_owned, 2·R·d_head],
                vectors whose norm it is (see :class:`Uncertainty`), and
                ``<target>_ensemble`` [n_owned, n_members · n_components]. Of the
                evaluation itself ``rings`` and ``layer_sizes`` [n_layers, 2], see
                :class:`petmad.model.pet.Features`.
            raw: leave out scale, composition and ZBL, as the training loss wants it.

        Returns:
            For each target [n_owned, n_components], float64 unless ``raw``. A stress
            target is per atom, symmetrised and times the volume [eV]: divide its sum by
            the volume. A tensor is given by its Cartesian entries, 3 or 9 (row by row),
            unless it is spherical or ``raw`` is asked for: then by its components.

        Raises:
            ValueError: an output is unknown; the message lists the known ones.
        """
        features = self.network(graph, self.needs_layers(outputs))
        return self.read(features, graph, outputs, raw)

    def read(
        self, features: Features, graph: EdgeGraph, outputs: List[str], raw: bool
    ) -> Dict[str, torch.Tensor]:
        """:meth:`forward` from features of the network."""
        n_owned = graph.structures.shape[0]
        results: Dict[str, torch.Tensor] = {}
        predictions: Dict[str, torch.Tensor] = {}
        last_layers: Dict[str, torch.Tensor] = {}
        for i, (readout, scale, composition, entries) in enumerate(
            zip(self.readouts, self.scales, self.compositions, self.entries)
        ):
            name = self.target_names[i]
            if self.is_needed(name, outputs):
                prediction, last_layers[name] = readout(
                    features, graph, self.wants_last(name, outputs)
                )
                if self.is_stress[i]:
                    square = prediction.reshape(n_owned, 3, 3)
                    square = 0.5 * (square + square.transpose(1, 2))
                    prediction = square.reshape(n_owned, 9)
                if not raw:
                    species = graph.species[:n_owned]
                    prediction = prediction.to(torch.float64)
                    prediction = prediction * scale[species] + composition[species]
                    if self.zbl is not None and self.is_energy[i]:
                        prediction = prediction + self.zbl(graph)[:, None]
                    prediction = entries(prediction)
                predictions[name] = prediction
        for uncertainty in self.uncertainties:
            name = uncertainty.target
            if name + "_uncertainty" in outputs:
                results[name + "_uncertainty"] = uncertainty.vectors(last_layers[name])
            if name + "_ensemble" in outputs and uncertainty.n_members > 0:
                results[name + "_ensemble"] = uncertainty.ensemble(
                    last_layers[name], predictions[name]
                )
        for name, prediction in predictions.items():
            if name in outputs:
                results[name] = prediction
            if "last_layer_features/" + name in outputs:
                results["last_layer_features/" + name] = last_layers[name]
        if "features" in outputs:
            results["features"] = self.pooled_features(
                features.nodes, features.edges, features.weights, features.kept_centers
            )
        if "cutoff_stats" in outputs:
            counts = torch.bincount(features.kept_centers, minlength=n_owned)
            results["cutoff_stats"] = torch.stack(
                [features.cutoffs, counts.to(features.cutoffs.dtype)], dim=1
            )
        if "rings" in outputs:
            results["rings"] = features.rings
        if "layer_sizes" in outputs:
            sizes = torch.tensor(features.layer_sizes, dtype=torch.int64)
            results["layer_sizes"] = sizes.reshape(-1, 2)
        for name in outputs:
            if name not in results:
                raise ValueError(
                    f"unknown output '{name}'; this model has {self.output_names}"
                )
        return results

    def is_needed(self, target: str, outputs: List[str]) -> bool:
        """Whether any of the outputs comes from the readout of this target."""
        return target in outputs or self.wants_last(target, outputs)

    def wants_last(self, target: str, outputs: List[str]) -> bool:
        """Whether any of the outputs needs the last features of this target."""
        return (
            "last_layer_features/" + target in outputs
            or target + "_uncertainty" in outputs
            or target + "_ensemble" in outputs
        )

    def needs_layers(self, outputs: List[str]) -> bool:
        """Whether any of the outputs reads the layers of the network."""
        needed = "features" in outputs or "layer_sizes" in outputs
        for name, reads_network in zip(self.target_names, self.reads_network):
            needed = needed or (reads_network and self.is_needed(name, outputs))
        return needed

    def pooled_features(
        self,
        nodes: List[torch.Tensor],
        edges: List[torch.Tensor],
        weights: torch.Tensor,
        kept_centers: torch.Tensor,
    ) -> torch.Tensor:
        """Node states of every readout layer, then weighted sums of their messages."""
        n_owned = nodes[0].shape[0]
        parts: List[torch.Tensor] = []
        for node in nodes:
            parts.append(node)
        for edge in edges:
            pooled = torch.zeros(
                n_owned, edge.shape[1], dtype=edge.dtype, device=edge.device
            )
            parts.append(pooled.index_add(0, kept_centers, edge * weights[:, None]))
        return torch.cat(parts, dim=1)
