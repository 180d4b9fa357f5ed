"""A trained model as one TorchScript file that describes and proves itself.

The only Python file that knows TorchScript. The file's attributes can be read from C++
without JSON; a copy of the metadata lies in the archive, see :mod:`petmad.model_file`.
"""

import copy
import datetime
import hashlib
import io
import json
import os
import pathlib
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import nn

from . import __version__
from ._ops import load_ops
from .archive import check_archive
from .fast_network import make_fast
from .golden import evaluate_golden, golden_systems
from .model import EdgeGraph, PETConfig, Potential, TargetSpec
from .model.halo import LocalHalo
from .model_file import FORMAT_VERSION, read_metadata
from .output_files import check_output, replaced


DTYPES = {"float32": torch.float32, "float64": torch.float64}
TENSOR_KEYS = ("name", "kind", "unit", "origin", "n_entries", "per_atom")
"""What C++ reads of each tensor target, in this order."""


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
    tensors: List[Tuple[str, str, str, str, int, bool]]

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
        self.tensors = [
            tuple(tensor[key] for key in TENSOR_KEYS) for tensor in metadata["tensors"]
        ]
        self.n_members: int = sum(
            target["n_members"]
            for target in metadata["targets"]
            if target["name"] == "energy"
        )
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


def _describe_tensor(target: TargetSpec) -> Dict[str, Any]:
    """What a tensor target is, as the file tells it."""
    return {
        "name": target.name,
        "kind": target.kind,
        "unit": target.unit,
        "per_atom": target.per_atom,
        "origin": target.origin,
        "blocks": [list(block) for block in target.blocks],
        "n_entries": target.rows().shape[1],
    }


def check_suffix(path: pathlib.Path) -> None:
    """Refuse names by which petmad knows other kinds of files.

    Raises:
        ValueError: it ends in ``.ckpt`` or ``.pt2``.
    """
    others = {".ckpt": "a checkpoint", ".pt2": "a file of `petmad export --aoti`"}
    if path.suffix in others:
        raise ValueError(
            f"{path} is called as {others[path.suffix]}, but would be an exported "
            f"model file (TorchScript); call it {path.with_suffix('.pt')}"
        )


def check_finite(tensors: Dict[str, torch.Tensor], what: str) -> None:
    """Refuse numbers that are infinite or none at all.

    Args:
        tensors: by name, of any shape and dtype.
        what: they are, as a plural.

    Raises:
        ValueError: names the first tensor that holds one.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            n_bad = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"{what} are not finite: {name!r} has {n_bad} of {tensor.numel()} "
                "numbers that are infinite or NaN; take an earlier checkpoint, train "
                "with a smaller learning rate, or export in float64 what float32 "
                "cannot hold"
            )


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
        ValueError: unknown dtype, or a model with neither a target named ``energy``
            nor a tensor, or with weights or answers that are not finite; or no file
            can be written there.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}")
    tensors = [target for target in potential.targets if target.blocks]
    if "energy" not in potential.target_names and not tensors:
        raise ValueError(
            "an exported model needs a target named 'energy' or a tensor, this one has "
            f"{potential.target_names}"
        )
    load_ops()
    path = check_output(path)
    check_suffix(path)
    potential = copy.deepcopy(potential).cpu().to_dtype(DTYPES[dtype]).eval()
    check_finite(potential.state_dict(), "the weights")
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
        "tensors": [_describe_tensor(target) for target in tensors],
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
    for answers in golden:
        check_finite(answers, "the model's own answers for a golden structure")
    metadata["golden"] = [
        {"n_atoms": len(g["species"])}
        | {key: float(g[key]) for key in ("energy",) if key in g}
        for g in golden
    ]
    weights = dict(potential.state_dict())
    potential.network.halo = HostHalo()
    make_fast(potential)
    scripted = torch.jit.script(ExportedModel(potential, metadata, weights))
    scripted.golden = golden

    extra = {"metadata.json": json.dumps(metadata, indent=1)}
    archive = io.BytesIO()
    torch.jit.save(scripted, archive, _extra_files=extra)
    with replaced(path) as whole:
        _write_without_sources(archive, whole)
    return metadata


def _write_without_sources(archive: io.BytesIO, path: pathlib.Path) -> None:
    """Write an archive without the source lines it was compiled from.

    They serve tracebacks, and name folders of the machine that exported.
    """
    archive.seek(0)
    reader = torch._C.PyTorchFileReader(archive)
    writer = torch._C.PyTorchFileWriter(str(path))
    own = ("version", "byteorder", ".data/serialization_id")  # written by the writer
    for name in reader.get_all_records():
        if name not in own and not name.endswith(".debug_pkl"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()


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
    check_archive(path, "export or copy it again")
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
