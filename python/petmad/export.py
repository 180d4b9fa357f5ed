"""A trained model as one TorchScript file that describes and proves itself.

The only Python file that knows TorchScript. The file's attributes can be read from C++
without JSON; a copy of the metadata lies in the archive, see :mod:`petmad.model_file`.
"""

import copy
import datetime
import hashlib
import json
import os
import pathlib
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
import torch
from torch import nn

from . import __version__
from ._ops import load_ops
from .fast_network import make_fast
from .model import EdgeGraph, PETConfig, Potential, TargetSpec
from .model.folds import fold_forces, fold_virial
from .model.halo import LocalHalo
from .model_file import FORMAT_VERSION, read_metadata
from .neighbors import neighbor_list


DTYPES = {"float32": torch.float32, "float64": torch.float64}


class HostHalo(LocalHalo):
    """Asks the host program's exchange for what lives on other ranks; see ``halo.py``.

    With handle 0 there is no host, with a negative one no ghost whose values are not
    here: it is :class:`LocalHalo`.
    """

    def ghost_values(self, owned: torch.Tensor, halo: int) -> torch.Tensor:
        """Values of owned atoms, then of the ghosts that other ranks own."""
        if halo <= 0:
            return owned
        return torch.ops.petmad.ghost_values(owned, halo)

    def live_edges(
        self, keep: torch.Tensor, reverse_edges: torch.Tensor, halo: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Edges kept from both of their ends, remote ones asked."""
        if halo <= 0:
            return self.local_live_edges(keep, reverse_edges)
        return torch.ops.petmad.live_edges(keep, reverse_edges, halo)

    def reverse(
        self, rows: torch.Tensor, reverse_edges: torch.Tensor, halo: int
    ) -> torch.Tensor:
        """The row of each kept edge's reversed edge, fetched where it is remote."""
        if halo <= 0 and rows.is_cpu:
            return torch.ops.petmad.distinct_rows(rows, reverse_edges)
        if halo <= 0:
            return rows.index_select(0, reverse_edges)
        return torch.ops.petmad.reverse_edges(rows, reverse_edges, halo)


class ExportedModel(nn.Module):
    """What is written: the potential on flat arguments, and its description."""

    norm_outputs: List[str]

    def __init__(
        self,
        potential: Potential,
        metadata: Dict[str, Any],
        weights: Dict[str, torch.Tensor],
    ) -> None:
        super().__init__()
        self.potential = potential
        self.weights: Dict[str, torch.Tensor] = weights  # by the plain model's names
        self.petmad_model: int = 1
        self.can_recompute: bool = True
        self.format_version: int = metadata["format_version"]
        self.name: str = metadata["name"]
        self.weights_hash: str = metadata["weights_hash"]
        self.dtype: str = metadata["dtype"]
        self.atomic_numbers: List[int] = metadata["atomic_numbers"]
        self.targets: List[str] = [target["name"] for target in metadata["targets"]]
        self.outputs: List[str] = metadata["outputs"]
        self.norm_outputs = metadata["norm_outputs"]
        self.n_members: int = metadata["targets"][self.targets.index("energy")][
            "n_members"
        ]
        self.cutoff: float = metadata["cutoff"]
        self.is_adaptive: bool = metadata["is_adaptive"]
        self.reach_hops: int = metadata["reach_hops"]
        self.reach: float = metadata["reach"]
        self.is_conditioned: bool = metadata["hypers"]["system_conditioning"]
        self.metadata_json: str = json.dumps(metadata)
        self.golden: List[Dict[str, torch.Tensor]] = [
            {"energy": torch.zeros(1)}  # fixes the type of an empty list
        ]

    def forward(
        self,
        edge_vectors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
        reverse_edges: torch.Tensor,
        species: torch.Tensor,
        structures: torch.Tensor,
        charges: torch.Tensor,
        spin_multiplicities: torch.Tensor,
        halo: int,
        outputs: List[str],
    ) -> Dict[str, torch.Tensor]:
        """Per-atom predictions; arguments as in :class:`petmad.model.EdgeGraph`."""
        graph = EdgeGraph(
            edge_vectors,
            centers,
            neighbors,
            reverse_edges,
            species,
            structures,
            charges,
            spin_multiplicities,
            halo,
        )
        return self.potential(graph, outputs)


def weights_hash(potential: Potential) -> str:
    """SHA-256 over names, shapes and bytes of all weights in their stored dtype."""
    digest = hashlib.sha256()
    for name, tensor in sorted(potential.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def export_model(
    potential: Potential,
    path: Union[str, os.PathLike],
    dtype: str = "float32",
    name: Optional[str] = None,
    training: Optional[Dict[str, Any]] = None,
) -> Dict[str, Any]:
    """Write ``potential`` as an exported model file.

    Args:
        potential: the model; left unchanged.
        path: file to write, usually ``*.pt``. Replaced in one step: an interrupted
            export leaves the old file.
        dtype: of the network, ``float32`` or ``float64``; the rest is float64.
        name: shown in logs; default: the stem of ``path``.
        training: provenance to carry along, anything JSON can hold.

    Returns:
        The metadata written.

    Raises:
        ValueError: unknown dtype, or a model without a target named ``energy``.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if "energy" not in potential.target_names:
        raise ValueError(
            "an exported model needs a target named 'energy', this one has "
            f"{potential.target_names}"
        )
    load_ops()
    path = pathlib.Path(path)
    potential = copy.deepcopy(potential).cpu().to_dtype(DTYPES[dtype]).eval()
    potential.requires_grad_(False)
    config = potential.config
    metadata = {
        "format_version": FORMAT_VERSION,
        "petmad_version": __version__,
        "torch_version": torch.__version__,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(
            "T", "seconds"
        ),
        "name": name or path.stem,
        "architecture": "PET",
        "hypers": config.to_dict(),
        "atomic_numbers": potential.atomic_numbers,
        "targets": [target.to_dict() for target in potential.targets],
        "outputs": potential.output_names,
        "norm_outputs": [
            f"{target.name}_uncertainty"
            for target in potential.targets
            if target.has_uncertainty
        ],
        "cutoff": config.cutoff,
        "is_adaptive": config.is_adaptive,
        "reach_hops": config.reach_hops,
        "reach": config.reach,
        "length_unit": "angstrom",
        "energy_unit": "eV",
        "dtype": dtype,
        "n_parameters": sum(p.numel() for p in potential.parameters() if p.dim() > 0),
        "weights_hash": weights_hash(potential),
        "training": training or {},
    }
    golden = [
        evaluate_golden(potential, system) for system in golden_systems(potential)
    ]
    metadata["golden"] = [
        {"n_atoms": len(g["species"]), "energy": float(g["energy"])} for g in golden
    ]
    weights = dict(potential.state_dict())
    potential.network.halo = HostHalo()
    make_fast(potential)
    scripted = torch.jit.script(ExportedModel(potential, metadata, weights))
    scripted.golden = golden

    partial = path.with_name(path.name + ".partial")
    extra = {"metadata.json": json.dumps(metadata, indent=1)}
    torch.jit.save(scripted, str(partial), _extra_files=extra)
    os.replace(partial, path)
    return metadata


def golden_systems(potential: Potential) -> List[Dict[str, torch.Tensor]]:
    """Three small systems of the model's species: a cluster, a crystal cell, a slab.

    Neighbors sit near 2 Å, so that every layer is exercised.
    """
    rng = np.random.default_rng(2025)
    n_species = len(potential.atomic_numbers)
    zero = np.zeros((3, 3))
    skewed = np.array([[4.1, 0.2, -0.3], [0.9, 4.4, 0.4], [-0.7, 0.8, 4.7]])
    flat = np.array([[5.0, 0.3, 0.0], [0.0, 5.2, 0.0], [0.0, 0.0, 0.0]])
    spots = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])
    systems = []
    for n_atoms, cell, pbc in ((6, zero, "FFF"), (5, skewed, "TTT"), (7, flat, "TTF")):
        positions = 2.1 * spots[:n_atoms] + 0.2 * rng.standard_normal((n_atoms, 3))
        systems.append(
            {
                "positions": torch.tensor(positions),
                "cell": torch.tensor(cell),
                "pbc": torch.tensor([p == "T" for p in pbc]),
                "species": torch.tensor(rng.integers(0, n_species, n_atoms)),
                "charge": torch.tensor(0),
                "spin_multiplicity": torch.tensor(1),
            }
        )
    return systems


def evaluate_golden(
    potential: Potential, system: Dict[str, torch.Tensor]
) -> Dict[str, torch.Tensor]:
    """The system with energy, forces, virial and atomic energies by the eager model."""
    positions, cell = system["positions"], system["cell"]
    edges = neighbor_list(positions, cell, system["pbc"], potential.config.cutoff)
    vectors = positions[edges.neighbors] - positions[edges.centers]
    vectors = vectors + edges.cell_shifts.to(torch.float64) @ cell
    vectors.requires_grad_(True)
    n_atoms = positions.shape[0]
    graph = EdgeGraph(
        vectors,
        edges.centers,
        edges.neighbors,
        edges.reverse_edges,
        system["species"],
        torch.zeros(n_atoms, dtype=torch.int64),
        system["charge"].reshape(1),
        system["spin_multiplicity"].reshape(1),
        0,
    )
    atomic_energies = potential(graph, ["energy"])["energy"][:, 0]
    (gradients,) = torch.autograd.grad(atomic_energies.sum(), vectors)
    return {
        **system,
        "energy": atomic_energies.sum().detach(),
        "atomic_energies": atomic_energies.detach(),
        "forces": fold_forces(gradients, edges.centers, edges.neighbors, n_atoms),
        "virial": fold_virial(gradients, vectors.detach()),
    }


def load_exported(
    path: Union[str, os.PathLike],
) -> Tuple[Potential, Dict[str, Any]]:
    """The model inside an exported file, in the dtype it was exported in.

    Returns:
        The model, ready to be trained further, and its provenance.

    Raises:
        ValueError: not a model file.
        FileNotFoundError: there is no such file.
    """
    metadata = read_metadata(path)
    load_ops()
    scripted = torch.jit.load(str(path), map_location="cpu")
    state = dict(scripted.weights) if hasattr(scripted, "weights") else _old(scripted)
    radii = state["zbl.radii"].tolist() if "zbl.radii" in state else None
    targets = [TargetSpec(**target) for target in metadata["targets"]]
    config = PETConfig.from_dict(metadata["hypers"])
    potential = Potential(config, metadata["atomic_numbers"], targets, radii)
    potential.to_dtype(DTYPES[metadata["dtype"]])
    potential.load_state_dict(state)
    return potential.eval(), metadata["training"]


def _old(scripted: torch.jit.ScriptModule) -> Dict[str, torch.Tensor]:
    """Weights of a file of format 1, whose modules were the plain ones."""
    prefix = "potential."
    return {k.removeprefix(prefix): v for k, v in scripted.state_dict().items()}
