"""Small exported models of random weights with tensor targets of every kind."""

import torch

from petmad.export import export_model
from petmad.model import PETConfig, Potential, TargetSpec


READOUTS = ("edge", "node", "exact", "direct")
KINDS = ("scalar", "vector", "axial_vector", "symmetric", "matrix", "spherical")
SMALL = {
    "cutoff": 3.6,
    "d_pet": 8,
    "d_head": 8,
    "d_node": 12,
    "d_feedforward": 16,
    "num_heads": 2,
    "num_attention_layers": 1,
    "num_gnn_layers": 2,
}


def all_tensors():
    """Every kind from every readout, named ``kind_readout``; order 3 where free.

    With pair terms beside two of the readouts, token terms beside others.
    """
    return [
        TargetSpec(
            f"{kind}_{readout}",
            kind,
            order=3,
            readout=readout,
            pair_terms=readout in ("edge", "direct"),
            token_terms=readout in ("edge", "exact"),
            unit="eÅ",
        )
        for kind in KINDS
        for readout in READOUTS
    ]


def water_tensors(readout="edge"):
    """What spectra need, and a shielding of each atom."""
    return [
        TargetSpec(
            "dipole", "vector", unit="eÅ", readout=readout, origin="center_of_mass"
        ),
        TargetSpec(
            "polarizability",
            "symmetric",
            unit="Å³",
            readout=readout,
            pair_terms=True,
            token_terms=readout == "edge",
        ),
        TargetSpec("shielding", "matrix", per_atom=True, unit="ppm", readout=readout),
    ]


def tensor_potential(specs, energy=True, seed=0, **hypers):
    """A model of H, C and O, in float32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        targets = [TargetSpec()] * energy + list(specs)
        potential = Potential(PETConfig(**{**SMALL, **hypers}), [1, 6, 8], targets)
        for parameter in potential.parameters():
            if parameter.dim() > 0 and parameter.dtype == torch.float32:
                parameter.data += 0.1 * torch.randn(parameter.shape)
        for name, buffer in potential.named_buffers():
            if "_terms" in name and name.endswith("weights"):
                buffer += 0.1 * torch.randn(buffer.shape)
        for spec, composition in zip(targets, potential.compositions, strict=True):
            if spec.kind in ("energy", "scalar"):
                composition.data[:, 0] = torch.tensor([-1.0, -3.0, -5.0])
    return potential


def export_tensors(path, specs, dtype="float64", **options):
    """Path of an exported :func:`tensor_potential`."""
    export_model(tensor_potential(specs, **options), path, dtype)
    return path
