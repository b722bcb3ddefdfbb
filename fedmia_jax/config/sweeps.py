"""A config with a `sweep` -> the points to run: every combination of values, or the points of a list."""

import ast
import dataclasses
import itertools
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from fedmia_jax import errors
from fedmia_jax.config import parsing, schema

MOST_POINTS = 100_000


@dataclasses.dataclass(frozen=True)
class Point:
    """One experiment of a sweep: its settings, and the values that set it apart by dotted name."""

    settings: schema.Settings
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The points, in the order of the config, and the dotted names that differ between them."""

    names: tuple[str, ...]
    points: tuple[Point, ...]

    @property
    def settings(self) -> schema.Settings:
        """Settings of the first point; what is not swept is everybody's."""
        return self.points[0].settings


def expand(config: Mapping[str, Any]) -> Sweep:
    """Makes the points of a config.

    Args:
      config: as `parsing.make_config` makes it. Its `sweep` maps dotted fields to lists of values, of which every
        combination is a point (the last field varies fastest), or is a list of mappings, a point each.

    Returns:
      The sweep; without a `sweep`, one point.

    Raises:
      InputError: a field that does not exist or cannot be swept, no values, a value out of range, two equal points.
    """
    base, wanted = parsing.flat(parsing.plain(config)), config.get("sweep") or {}
    admit_names(config)
    zipped = isinstance(wanted, Sequence) and not isinstance(wanted, str)
    combinations = _zipped(typing.cast(Sequence[Any], wanted)) if zipped else _cartesian(wanted)
    names = tuple(combinations[0])
    points: list[Point] = []
    seen: dict[schema.Settings, int] = {}
    items = parsing.check_values({name: value for name, value in base.items() if name not in names} | combinations[0])
    for values in combinations:
        settings = parsing.vary(items, values)
        if settings in seen:
            raise errors.InputError(f"sweep={values}: the same as point {seen[settings] + 1}; take one of them out")
        seen[settings] = len(points)
        points.append(Point(settings, {name: settings.get(name) for name in names}))
    return Sweep(names, tuple(points))


def admit_names(config: Mapping[str, Any]) -> None:
    """Admits the foreign things that a config and its sweep name, so that their options are fields.

    Raises:
      InputError: one that cannot be found.
    """
    for name, value in parsing.flat(parsing.plain(config)).items():
        schema.admit(name, value)
    wanted = config.get("sweep") or {}
    for mapping in [wanted] if isinstance(wanted, Mapping) else wanted:
        for name, values in mapping.items() if isinstance(mapping, Mapping) else ():
            for value in values if isinstance(values, (list, tuple)) else [values]:
                schema.admit(name, value)


def parse(name: str, text: str) -> list[Any]:
    """Reads the values of a flag `--config.sweep.FIELD=V1,V2,..`, or a Python list where values hold commas."""
    _check_name(name)
    texts = [text] if text.lstrip().startswith("[") else text.split(",")
    values = [_literal(item.strip()) for item in texts]
    return list(values[0]) if isinstance(values[0], list) else values


def _literal(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _cartesian(wanted: Any) -> list[dict[str, Any]]:
    """Every combination of the values of a mapping."""
    if not isinstance(wanted, Mapping):
        raise errors.InputError(f"sweep={wanted!r}: expected a mapping of field to list of values, or a list of those")
    for name, values in wanted.items():
        _check_name(name)
        if not isinstance(values, (list, tuple)) or not values:
            raise errors.InputError(f"sweep.{name}={values!r}: expected a list of one or more values")
    points = math.prod(len(values) for values in wanted.values())
    if points > MOST_POINTS:
        raise errors.InputError(f"sweep: {points:,} points, at most {MOST_POINTS:,} can be; use several commands")
    return [dict(zip(wanted, values, strict=True)) for values in itertools.product(*wanted.values())]


def _zipped(wanted: Sequence[Any]) -> list[dict[str, Any]]:
    """The points of a list, all with the same fields."""
    for number, values in enumerate(wanted, start=1):
        if not isinstance(values, Mapping) or not values:
            raise errors.InputError(f"sweep: point {number} is {values!r}; expected a mapping of field to value")
        for name in values:
            _check_name(name)
        if set(values) != set(wanted[0]):
            raise errors.InputError(
                f"sweep: point {number} sets {', '.join(sorted(values))}, point 1 {', '.join(sorted(wanted[0]))}; "
                "every point sets the same fields"
            )
    return [{name: values[name] for name in wanted[0]} for values in wanted]


def _check_name(name: str) -> None:
    """Raises unless the field exists and a sweep may set it."""
    if name not in schema.fields():
        raise errors.InputError(f"sweep.{schema.unknown_field(name)}")
    if name == "replicates":
        raise errors.InputError("sweep.replicates: set replicates itself; every point gets as many")
