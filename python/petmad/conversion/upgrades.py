"""Steps that bring the dictionary of an older checkpoint to version 16.

Only what inference needs is brought along: trainer state is left as it is. A missing
hyperparameter gets the value that models of that age had; a present one is kept, but
for the large-scale models of step 7.
"""

from collections.abc import Callable
from typing import Any

import torch


Checkpoint = dict[str, Any]
NEWEST = 16
STATES = ("model_state_dict", "best_model_state_dict")
NETWORK = (
    "gnn_layers.",
    "node_embedders.",
    "edge_embedder.",
    "combination_norms.",
    "combination_mlps.",
    "node_heads.",
    "edge_heads.",
    "node_last_layers.",
    "edge_last_layers.",
    "species_to_species_index",
    "system_conditioning.",
)
"""Beginnings of the names that version 16 puts under ``backend.``."""


def _states(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """The state dicts that are there, one that is stored twice only once."""
    found = {id(checkpoint.get(key)): checkpoint.get(key) for key in STATES}
    return [state for state in found.values() if state is not None]


def _hypers(checkpoint: Checkpoint) -> dict[str, Any]:
    return checkpoint["model_data"]["model_hypers"]


def _fill(checkpoint: Checkpoint, **values: Any) -> None:
    for name, value in values.items():
        _hypers(checkpoint).setdefault(name, value)


def _from_1(checkpoint: Checkpoint) -> None:
    for state in _states(checkpoint):
        if "additive_models.0.type_to_index" in state:
            state["additive_models.0.model.type_to_index"] = state.pop(
                "additive_models.0.type_to_index"
            )


def _from_2(checkpoint: Checkpoint) -> None:
    finetune = (checkpoint.get("train_hypers") or {}).get("finetune") or {}
    for state in _states(checkpoint):
        state.setdefault("finetune_config", finetune)


def _from_3(checkpoint: Checkpoint) -> None:
    checkpoint.setdefault("epoch", None)
    checkpoint.setdefault("best_epoch", None)


def _from_4(checkpoint: Checkpoint) -> None:
    info = checkpoint["model_data"]["dataset_info"].state
    info["_atomic_types"] = sorted(info["_atomic_types"])


def _from_5(checkpoint: Checkpoint) -> None:
    if not checkpoint.get("best_model_state_dict"):
        checkpoint["best_model_state_dict"] = checkpoint["model_state_dict"]


def _from_6(checkpoint: Checkpoint) -> None:
    """One scale per target, in the order of the data set: now one tensor each."""
    targets = checkpoint["model_data"]["dataset_info"].state["targets"]
    for state in _states(checkpoint):
        if "scaler.scales" in state:
            scales = state.pop("scaler.scales").to(torch.float64)
            for name, scale in zip(targets, scales, strict=True):
                state[f"scaler.{name}_scaler_buffer"] = scale.reshape(1, 1)


def _from_7(checkpoint: Checkpoint) -> None:
    """Two families of that time become one network."""
    if "node_embedding.weight" in checkpoint["model_state_dict"]:
        d_pet = _hypers(checkpoint)["d_pet"]
        _hypers(checkpoint).update(
            normalization="RMSNorm",
            activation="SwiGLU",
            transformer_type="PreLN",
            featurizer_type="feedforward",
            d_node=4 * d_pet,
            d_feedforward=2 * d_pet,
        )
        state = _renamed(checkpoint["model_state_dict"], _large_scale_name)
        checkpoint.update(dict.fromkeys(STATES, state))
        return
    _fill(
        checkpoint,
        normalization="LayerNorm",
        activation="SiLU",
        transformer_type="PostLN",
        featurizer_type="residual",
        d_node=_hypers(checkpoint)["d_pet"],
    )
    for key in STATES:
        if checkpoint.get(key) is not None:
            checkpoint[key] = _renamed(checkpoint[key], _classic_name)


def _renamed(state: dict[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """New names; tables of species lose their last row, the padding species."""
    tables = ("embedding.", ".neighbor_embedder.", ".node_embedder.")
    return {
        rename(key): value[:-1] if any(part in key for part in tables) else value
        for key, value in state.items()
    }


def _large_scale_name(key: str) -> str:
    key = key.replace("combination_rmsnorms", "combination_norms")
    if "node_embedding." in key:
        return key.replace("node_embedding.", "node_embedders.0.")
    return key.replace("embedding.", "edge_embedder.")


def _classic_name(key: str) -> str:
    key = key.replace(".mlp.0", ".mlp.w_in").replace(".mlp.3", ".mlp.w_out")
    if ".node_embedder." in key:
        _, layer, *_, last = key.split(".")
        return f"node_embedders.{layer}.{last}"
    return key.replace("embedding.", "edge_embedder.")


def _from_8(checkpoint: Checkpoint) -> None:
    for state in _states(checkpoint):
        if "finetune_config" in state:
            config = {"inherit_heads": {}, "method": "full", **state["finetune_config"]}
            state["finetune_config"] = config


def _from_9(checkpoint: Checkpoint) -> None:
    _fill(checkpoint, num_neighbors_adaptive=None, cutoff_function="Cosine")


def _from_10(checkpoint: Checkpoint) -> None:
    _fill(checkpoint, attention_temperature=1.0)


def _from_11(checkpoint: Checkpoint) -> None:
    _fill(checkpoint, adaptive_cutoff_method="grid")


def _from_12(checkpoint: Checkpoint) -> None:
    """Scales were split into two factors; inference needs their product, unchanged."""


def _from_13(checkpoint: Checkpoint) -> None:
    _fill(checkpoint, cutoff_width_adaptive=_hypers(checkpoint)["cutoff_width"])


def _from_14(checkpoint: Checkpoint) -> None:
    _fill(
        checkpoint, system_conditioning=False, max_charge=10, max_spin_multiplicity=10
    )


def _from_15(checkpoint: Checkpoint) -> None:
    for key in STATES:
        if checkpoint.get(key) is not None:
            checkpoint[key] = {
                f"backend.{name}" if name.startswith(NETWORK) else name: value
                for name, value in checkpoint[key].items()
            }


STEPS: tuple[Callable[[Checkpoint], None], ...] = (
    _from_1,
    _from_2,
    _from_3,
    _from_4,
    _from_5,
    _from_6,
    _from_7,
    _from_8,
    _from_9,
    _from_10,
    _from_11,
    _from_12,
    _from_13,
    _from_14,
    _from_15,
)


def upgrade(checkpoint: Checkpoint) -> int:
    """Bring a checkpoint to version 16, in place.

    Returns:
        The version it had.

    Raises:
        ValueError: it is newer than that.
    """
    version = checkpoint.get("model_ckpt_version") or 1
    if not isinstance(version, int) or not 1 <= version <= NEWEST:
        raise ValueError(
            f"this checkpoint has version {version!r}; petmad reads versions 1 to "
            f"{NEWEST} of metatrain's PET: upgrade petmad"
        )
    for step in STEPS[version - 1 :]:
        step(checkpoint)
    checkpoint["model_ckpt_version"] = NEWEST
    return version
