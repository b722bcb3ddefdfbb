"""Options: what a user may set, declared once, beside the code that reads it.

A group of options is a frozen dataclass whose fields are made by `option`: a default, a line of help, a range. The
config collects the groups of all that is registered, so a field is there as `--config.GROUP.FIELD` as soon as it is
declared. An option is *traced* when it is a number that a compiled program takes as an argument, so that points of a
sweep that differ in it share a program; all others are *static* and decide shapes or trip counts.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

OptionsT = TypeVar("OptionsT")


def option(
    default: Any,
    help_text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    traced: bool = False,
) -> Any:
    """Declares an option as a field of a frozen dataclass.

    Args:
      default: value where the user sets none; its annotation gives the type.
      help_text: one line that says what it is.
      low: smallest value.
      high: largest value.
      above: the value must be greater than this.
      choices: the words that are allowed; empty for any.
      traced: compiled programs take the value as an argument.
    """
    metadata = {"help": help_text, "low": low, "high": high, "above": above, "choices": choices, "traced": traced}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The group of something that has nothing to set."""


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What was declared of one option."""

    name: str
    hint: Any  # the annotation, resolved
    default: Any
    metadata: Mapping[str, Any] = dataclasses.field(hash=False)

    @functools.cached_property
    def kind(self) -> type:
        """The plain type: int, float, bool, str or tuple."""
        return plain_type(self.hint)

    @property
    def optional(self) -> bool:
        """Whether the option may be unset."""
        return isinstance(self.hint, types.UnionType)

    @property
    def traced(self) -> bool:
        """Whether compiled programs take the value as an argument."""
        return self.metadata["traced"]


def plain_type(hint: Any) -> type:
    """Returns the type behind an annotation: `int | None` -> int, `tuple[float, ...]` -> tuple."""
    if isinstance(hint, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return typing.get_origin(hint) or hint


@functools.cache
def declared(*groups: type) -> Mapping[str, Declaration]:
    """Returns the options of some groups by name, in the order of their declaration.

    Args:
      groups: frozen dataclasses whose fields are made by `option`.

    Raises:
      ValueError: two groups declare one name differently.
    """
    collected: dict[str, Declaration] = {}
    for group in groups:
        hints = typing.get_type_hints(group)
        for field in dataclasses.fields(group):
            declaration = Declaration(field.name, hints[field.name], field.default, dict(field.metadata))
            if collected.setdefault(field.name, declaration) != declaration:
                raise ValueError(f"option {field.name!r} of {group.__qualname__}: declared differently elsewhere")
    return collected


def read(group: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    """Returns a group of options with its values picked from a mapping that may hold others too."""
    return group(**{name: values[name] for name in _names(group)})  # type: ignore[arg-type]


@functools.cache
def _names(group: type) -> tuple[str, ...]:
    """Names of the options of a group."""
    return tuple(field.name for field in dataclasses.fields(group))


def static(options: OptionsT) -> OptionsT:
    """Returns the options with every traced one at its default; groups that are then equal share a program."""
    fields = dataclasses.fields(options)  # type: ignore[arg-type]
    traced = {field.name: field.default for field in fields if field.metadata["traced"]}
    return dataclasses.replace(options, **traced)  # type: ignore[type-var]


def traced(group: type) -> Iterable[str]:
    """Returns the names of the traced options of a group."""
    return [name for name, declaration in declared(group).items() if declaration.traced]
