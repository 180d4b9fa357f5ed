"""A second export: the layers as machine code, by AOTInductor, without TorchScript.

What depends on the data (adaptive cutoffs, which edges are kept, where their tokens
sit) has no weights and stays in plain torch. The layers, the readout of the energy and
its gradient by the kept edges are one program for any number of atoms, edges and
tokens, of the plain network: it needs none of petmad's operators. The file holds code
for the kind of processor it was made on, and is read from Python alone (``petmad
evaluate``, :class:`AheadModel`); the engine reads TorchScript, which is faster
(``benchmarks/aoti.py``).
"""

import copy
import json
import os
import pathlib
import warnings
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

from .export import DTYPES, check_finite
from .golden import evaluate_golden, golden_systems, system_graph
from .model import EdgeGraph, PETConfig, Potential
from .model.folds import fold_forces
from .model.pet import KeptEdges
from .model.rings import Rings, one_ring
from .model.transformer import TokenSlots, token_slots, weigh_slots
from .output_files import replaced


SUFFIX = ".pt2"
METADATA = "petmad"
REALS = ("positions", "cell", "energy", "forces")
"""Of a golden system; the rest are integers and flags."""
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
"""Of golden energies [eV] and forces [eV/Å], relative to the largest beyond 1."""


class Layers(nn.Module):
    """From kept edges to energies and their gradients, plain tensors in and out."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self,
        geometry: torch.Tensor,
        weights: torch.Tensor,
        centers: torch.Tensor,
        reverse_edges: torch.Tensor,
        neighbor_species: torch.Tensor,
        species: torch.Tensor,
        charges: torch.Tensor,
        spin_multiplicities: torch.Tensor,
        starts: torch.Tensor,
        rows: torch.Tensor,
        slots: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Energies of the atoms of one structure [n_atoms] eV, without ZBL.

        And the gradients of their sum by geometry and by weights. The arguments are
        those of :class:`KeptEdges`, :class:`Rings`, :class:`EdgeGraph` and
        :class:`TokenSlots`.
        """
        network = self.potential.network
        zeros, nothing = torch.zeros_like(species), species.new_zeros(0)
        vectors = geometry.new_zeros([0, 3])
        graph = EdgeGraph(
            vectors,
            nothing,
            nothing,
            nothing,
            species,
            zeros,
            charges,
            spin_multiplicities,
            0,
        )
        rings = one_ring(centers, reverse_edges, species.shape[0], network.n_rings)
        geometry = geometry.detach().requires_grad_(True)
        weights = weights.detach().requires_grad_(True)
        edges = KeptEdges(centers, geometry, weights, neighbor_species)
        layout = weigh_slots(TokenSlots(starts, rows, slots), weights)
        features = network.evaluate(graph, edges, rings, weights, layout)
        energies = self.potential.read(features, graph, ["energy"], False)["energy"]
        by_geometry, by_weights = torch.autograd.grad(
            energies.sum(), (geometry, weights)
        )
        return energies[:, 0], by_geometry, by_weights


def layer_inputs(
    edges: KeptEdges, rings: Rings, graph: EdgeGraph
) -> tuple[torch.Tensor, ...]:
    """Arguments of :class:`Layers` from what ``PET.select`` finds."""
    slots = token_slots(rings.centers, graph.species.shape[0])
    return (
        edges.geometry.detach(),
        edges.weights.detach(),
        rings.centers,
        rings.reverse_edges,
        edges.neighbor_species,
        graph.species,
        graph.charges,
        graph.spin_multiplicities,
        slots.starts,
        slots.rows.clone(),  # no view
        slots.slots,
    )


def export_program(
    potential: Potential, graph: EdgeGraph
) -> torch.export.ExportedProgram:
    """:class:`Layers` for any number of atoms, edges and tokens.

    Args:
        potential: without gradients by its weights, and without ZBL.
        graph: an example, of 2 atoms and 2 tokens or more.
    """
    edges, rings, _ = potential.network.select(graph)
    inputs = layer_inputs(edges, rings, graph)
    shapes: list[dict] = [{0: Dim.AUTO} for _ in inputs]
    shapes[6] = shapes[7] = {}  # charges and spins of one structure
    shapes[9] = {0: Dim.AUTO, 1: Dim.AUTO}  # rows of tokens
    # torch.export alone stops at the gradient; traced first, it is like any operation
    traced = make_fx(
        Layers(potential), tracing_mode="symbolic", _allow_non_fake_inputs=True
    )(*inputs)
    return torch.export.export(
        traced, inputs, dynamic_shapes=tuple(shapes), strict=False
    )


def export_ahead(
    potential: Potential, path: str | os.PathLike, dtype: str = "float32"
) -> dict[str, Any]:
    """Compile the energy of a model into a file for this kind of processor.

    Args:
        potential: the model; left unchanged.
        path: file to write, ``*.pt2``; replaced once its content was proved.
        dtype: of the network, ``float32`` or ``float64``.

    Returns:
        The metadata written.

    Raises:
        ValueError: unknown dtype, another suffix, no energy, or ZBL, whose edges stay
            outside.
    """
    path = pathlib.Path(path)
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if path.suffix != SUFFIX:
        raise ValueError(f"a file of AOTInductor must be called *{SUFFIX}, got {path}")
    if "energy" not in potential.target_names or potential.zbl is not None:
        lacks = "has ZBL" if potential.zbl is not None else "has no energy"
        raise ValueError(
            f"AOTInductor gets energies of the network alone, but this model {lacks}; "
            "export it without `--aoti`"
        )
    potential = copy.deepcopy(potential).cpu().to_dtype(DTYPES[dtype]).eval()
    potential.requires_grad_(False)
    check_finite(potential.state_dict(), "the weights")
    answers = [evaluate_golden(potential, one) for one in golden_systems(potential)]
    kept = (*REALS, "pbc", "species", "charge", "spin_multiplicity")
    metadata = {
        "hypers": potential.config.to_dict(),
        "atomic_numbers": potential.atomic_numbers,
        "dtype": dtype,
        "golden": [{key: answer[key].tolist() for key in kept} for answer in answers],
    }
    program = export_program(
        potential, system_graph(answers[1], potential.config.cutoff)
    )
    described = {"aot_inductor.metadata": {METADATA: json.dumps(metadata)}}
    with replaced(path) as whole:
        with warnings.catch_warnings():
            # torch 2.13 uses a name that it has deprecated itself.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(whole), inductor_configs=described
            )
        AheadModel(whole)
    return metadata


class AheadModel:
    """A file of :func:`export_ahead`, proved by its own golden systems.

    Args:
        path: of the file.

    Raises:
        ValueError: it is no such file, or gives other numbers than when it was made.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        try:
            self.layers = torch._inductor.aoti_load_package(str(path))
            metadata = json.loads(self.layers.loader.get_metadata()[METADATA])
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"{path} is no file of `petmad export --aoti`, or was made for another "
                f"processor or torch: {_shortened(str(error))}"
            ) from error
        config = PETConfig.from_dict(metadata["hypers"])
        self.atomic_numbers: list[int] = metadata["atomic_numbers"]
        self.cutoff = config.cutoff
        self.network = Potential(config, self.atomic_numbers).network
        self.network.to(DTYPES[metadata["dtype"]])
        for golden in metadata["golden"]:
            self._check(golden, TOLERANCE[metadata["dtype"]], path)

    def __call__(self, graph: EdgeGraph) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies of atoms [n_atoms] eV, gradient by edges [n_edges, 3] eV/Å.

        The graph must be of one structure.

        Raises:
            ValueError: fewer than 2 atoms or kept edges, for which there is no code.
        """
        vectors = graph.edge_vectors.detach().requires_grad_(True)
        edges, rings, _ = self.network.select(graph._replace(edge_vectors=vectors))
        n_atoms, n_kept = len(graph.species), len(edges.kept)
        if min(n_atoms, n_kept) < 2:
            raise ValueError(
                "a file of `petmad export --aoti` has code for 2 or more atoms and "
                f"kept edges, got {n_atoms} and {n_kept}; export without `--aoti`"
            )
        energies, *by_kept = self.layers(*layer_inputs(edges, rings, graph))
        (gradient,) = torch.autograd.grad(
            (edges.geometry, edges.weights), vectors, by_kept
        )
        return energies, gradient

    def _check(
        self, golden: dict[str, Any], tolerance: float, path: str | os.PathLike
    ) -> None:
        """Compare one stored answer."""
        system = {
            key: torch.tensor(value, dtype=torch.float64 if key in REALS else None)
            for key, value in golden.items()
        }
        graph = system_graph(system, self.cutoff)
        energies, gradient = self(graph)
        n_atoms = len(energies)
        forces = fold_forces(gradient, graph.centers, graph.neighbors, n_atoms)
        found = {"energy": energies.sum(), "forces": forces}
        for key, value in found.items():
            scale = max(1.0, float(system[key].abs().max()))
            error = float((value - system[key]).abs().max())
            if not error <= tolerance * scale:
                raise ValueError(
                    f"{path} is wrong here: the {key} of a stored system of {n_atoms} "
                    f"atoms is off by {error:.2g}, more than {tolerance * scale:.2g}; "
                    "export it again on this machine"
                )


def _shortened(message: str, size: int = 200) -> str:
    """The beginning of a message; torch's may list every entry of an archive."""
    text = " ".join(message.split())
    return text if len(text) <= size else f"{text[:size]} ..."
