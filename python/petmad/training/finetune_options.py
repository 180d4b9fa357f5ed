"""Options of a training that starts from a trained model."""

from typing import Literal

import pydantic

from .section import Section


class FinetuneOptions(Section):
    """Used with ``training.start_from``."""

    rank: int = pydantic.Field(4, ge=1)
    """Of the low-rank updates of ``training.parameters: lora``."""
    alpha: float = pydantic.Field(8.0, gt=0)
    """Strength of the updates, ``alpha / rank`` times their product."""
    lora_init: Literal["zero", "random"] = "zero"
    """Start of the updates' second factor: zero leaves the model as it is at first;
    random is upstream's way, and changes it."""
    lora_layers: list[str] = pydantic.Field(["input_linear", "output_linear"])
    """Last names of the linear layers to update; these are those of the attention."""
    train_heads: bool = False
    """Whether heads are trained beside the updates, as a whole; those of new targets
    always are."""
    inherit: dict[str, str] = pydantic.Field({})
    """Energy whose head, and scale, each new energy starts from; by default
    ``energy``."""
    composition: Literal["keep", "fit"] = "keep"
    """Whether the main energy keeps its energies of elements, or they are fitted to
    what the network leaves of the data, for data with another zero of energy. Those of
    new energies and new elements always are."""
    new_species: dict[str, str] = pydantic.Field({})
    """New elements, and the known ones they start as copies of: ``{Na: Li}``. What the
    network knows of them is trained whatever ``training.parameters`` are."""
    base: str | list[str] | None = None
    """File or files of what the model was trained on before: errors on them before and
    after are part of the report of ``petmad finetune``."""
