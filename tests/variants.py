"""The model variants that every judge of the network goes through.

Small widths (about 10 000 parameters) and every switch of the architecture at least
once; together the three kinds of published models and the legal combinations nobody
published.
"""

from upstream_names import set_seeded_weights

from petmad.model import PETConfig, Potential, TargetSpec


ATOMIC_NUMBERS = [1, 6, 8, 14]
COVALENT_RADII = [0.31, 0.76, 0.66, 1.11]
"""Of H, C, O and Si [Å], as ASE tabulates them."""

TINY = {
    "cutoff": 5.0,
    "cutoff_width": 0.5,
    "d_pet": 16,
    "d_node": 64,
    "d_head": 16,
    "d_feedforward": 32,
    "num_heads": 4,
    "num_gnn_layers": 2,
    "num_attention_layers": 1,
}
CLASSIC = {
    "d_node": 16,
    "cutoff": 4.5,
    "cutoff_width": 0.2,
    "cutoff_function": "Cosine",
    "normalization": "LayerNorm",
    "activation": "SiLU",
    "transformer_type": "PostLN",
    "featurizer_type": "residual",
}
DEEP = {"num_gnn_layers": 3, "num_attention_layers": 2}
ADAPTIVE = {"num_neighbors_adaptive": 8}

VARIANTS: dict[str, dict] = {
    "modern": {},
    "deep": {**DEEP, "attention_temperature": 0.7},
    "classic": CLASSIC,
    "classic_deep": {**CLASSIC, **DEEP},
    "adaptive_grid": {
        **ADAPTIVE,
        "adaptive_cutoff_method": "grid",
        "cutoff_width_adaptive": 0.5,
    },
    "adaptive_solver": {**ADAPTIVE, "adaptive_cutoff_method": "solver"},
    "adaptive_wide": {"num_neighbors_adaptive": 16, "cutoff": 7.5},
    "cosine": {"cutoff_function": "Cosine"},
    "layernorm_silu": {"normalization": "LayerNorm", "activation": "SiLU"},
    "preln_narrow": {"d_node": 16},
    "postln_expanded": {"transformer_type": "PostLN"},
    "residual_preln": {"featurizer_type": "residual"},
    "conditioned": {"system_conditioning": True},
    "conditioned_residual": {**CLASSIC, "system_conditioning": True},
    "heads": {},
    "zbl": {"zbl": True},
    "llpr": {},
}
"""Hyperparameters of each variant on top of :data:`TINY`."""

ON_RANKS = (
    "modern",
    "deep",
    "classic",
    "adaptive_grid",
    "adaptive_solver",
    "adaptive_wide",
    "conditioned",
    "heads",
)
"""Those that differ in what crosses between ranks."""

CHARGES_AND_SPINS = {
    "conditioned": [(0, 1), (1, 2), (-1, 2)],
    "conditioned_residual": [(0, 1), (2, 3)],
}
"""Charge and multiplicity of the copies of each structure, where it matters."""

TARGETS = {
    "heads": [
        TargetSpec("energy"),
        TargetSpec("energy/pbe0"),
        TargetSpec("non_conservative_force", "force", 3, True, "eV/A"),
        TargetSpec("non_conservative_stress", "stress", 9, False, "eV/A^3"),
        TargetSpec("mtt::dos", "generic", 5, False, ""),
    ],
    "llpr": [TargetSpec("energy", has_uncertainty=True, n_members=4)],
}
"""Targets of the variants that have more than a plain energy."""


def hypers(variant: str) -> dict:
    """Hyperparameters of a variant."""
    return {**TINY, **VARIANTS[variant]}


def make_potential(variant: str, **changes) -> Potential:
    """A float64 model of a variant with seeded weights; ``changes`` override hypers."""
    config = PETConfig.from_dict({**hypers(variant), **changes})
    targets = TARGETS.get(variant, [TargetSpec()])
    model = Potential(config, ATOMIC_NUMBERS, targets, COVALENT_RADII)
    set_seeded_weights(model, variant)
    return model.double()
