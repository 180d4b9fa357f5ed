"""Low-rank updates of a fine-tuning, merged into the matrices that they update."""

from typing import Any


DEFAULT_ALPHA = 8.0
"""Upstream's, where a file does not tell its own."""


def merge_lora(
    state: dict[str, Any], finetune: dict[str, Any] | None
) -> tuple[dict[str, Any], int]:
    """A state dict without low-rank updates: ``W + (alpha / rank) · B A``.

    Sums are in float64, rounded once to the dtype of W.

    Args:
        state: names ending in ``.linear.weight``, ``.lora_A.weight`` [rank, in] and
            ``.lora_B.weight`` [out, rank] where there is an update.
        finetune: the file's record of its fine-tuning, which holds alpha.

    Returns:
        The merged state and the number of updates.

    Raises:
        ValueError: an update without its record.
    """
    suffix = ".lora_A.weight"
    updated = [key.removesuffix(suffix) for key in state if key.endswith(suffix)]
    if not updated:
        return state, 0
    if (finetune or {}).get("method") != "lora":
        raise ValueError(
            f"{updated[0]} has a low-rank update, but the record of the fine-tuning "
            f"(`finetune_config`) is {finetune!r}, so its strength is unknown; take "
            "the file as its training wrote it"
        )
    alpha = float((finetune.get("config") or {}).get("alpha", DEFAULT_ALPHA))
    merged = {}
    for key, value in state.items():
        layer, found, parameter = key.rpartition(".linear.")
        if found and layer in updated:
            if parameter == "weight":
                down = state[f"{layer}.lora_A.weight"].double()
                up = state[f"{layer}.lora_B.weight"].double()
                update = (alpha / down.shape[0]) * (up @ down)
                value = (value.double() + update).to(value.dtype)
            merged[f"{layer}.{parameter}"] = value
        elif ".lora_A." not in key and ".lora_B." not in key:
            merged[key] = value
    return merged, len(updated)
