"""The options as text: every name with its default and meaning, as a file has it."""

import ast
import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

import pydantic
import yaml
from pydantic_core import PydanticUndefined

from petmad.model import PETConfig

from .options import ModelOptions, Options


WIDTH = 88


def options_reference() -> str:
    """All options as commented YAML; a valid file once ``data.train`` is filled in."""
    return "\n".join(_section(Options, indent=0))


def _section(section: Any, indent: int) -> Iterator[str]:
    space = "  " * indent
    for name, kind, default, text in _entries(section):
        if choices := _choices(kind):
            text += f" One of {', '.join(choices)}."
        yield from textwrap.wrap(
            text, WIDTH, initial_indent=f"{space}# ", subsequent_indent=f"{space}# "
        )
        if _is_section(kind):
            yield f"{space}{name}:"
            yield from _section(kind, indent + 1)
        else:
            value = "..." if default is PydanticUndefined else _as_yaml(default)
            yield f"{space}{name}: {value}"
            if typing.get_origin(kind) is dict and _is_section(
                typing.get_args(kind)[1]
            ):
                yield f"{space}#  NAME:"
                for line in _section(typing.get_args(kind)[1], indent + 2):
                    yield f"{space}#{line[len(space) + 1 :]}"


def _entries(section: Any) -> Iterator[tuple[str, Any, Any, str]]:
    """Name, type, default and description of each option of a section."""
    if section is ModelOptions:
        texts = _attribute_docstrings(PETConfig)
        for name, field in PETConfig.__dataclass_fields__.items():
            yield name, field.type, field.default, texts[name]
        return
    for name, field in section.model_fields.items():
        yield name, field.annotation, field.default, field.description or ""


def _is_section(kind: Any) -> bool:
    if kind is ModelOptions:
        return True
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _choices(kind: Any) -> list[str]:
    """All values of an option that has but a few."""
    if typing.get_origin(kind) is typing.Literal:
        return [str(value) for value in typing.get_args(kind)]
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    is_optional = len(parts) == 1 and len(typing.get_args(kind)) == 2
    return [*_choices(parts[0]), "null"] if is_optional and _choices(parts[0]) else []


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _attribute_docstrings(cls: type) -> dict[str, str]:
    """The string that follows each annotated attribute in the source of a class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    texts = {}
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
            texts[field.target.id] = inspect.cleandoc(after.value.value)
    return texts
