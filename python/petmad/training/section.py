"""What all sections of the options have in common: unknown names are errors."""

import pydantic


STRICT = pydantic.ConfigDict(
    extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
)


class Section(pydantic.BaseModel):
    """A section of the options; the text below an option documents it."""

    model_config = STRICT
