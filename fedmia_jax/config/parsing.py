"""ConfigDict -> frozen, validated settings, and back; each wrong value is one line that names field, value and cure."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from fedmia_jax import errors, options
from fedmia_jax.config import schema
from fedmia_jax.data import pools, references
from fedmia_jax.protocols import contract as protocols_contract

MOST = 2**31 - 1  # of an integer without a range of its own
WORDS = {int: "an integer", float: "a number", bool: "True or False", str: "a text"}


def make_config() -> ml_collections.ConfigDict:
    """Returns every field with its default, as the ConfigDict that a file in `configs/` starts from.

    A field without a default is a typed placeholder, so that a flag can set it and a wrong type is still caught.
    `sweep` is not set here and may get a plain mapping or a list of mappings, see `sweeps.expand`.
    """
    config = ml_collections.ConfigDict()
    for name, declaration in schema.fields().items():
        *groups, last = name.split(".")
        node = config
        for group in groups:
            if group not in node:
                node[group] = ml_collections.ConfigDict()
            node = node[group]
        unset = declaration.default is None
        node[last] = ml_collections.config_dict.placeholder(declaration.kind) if unset else declaration.default
    config.sweep = ml_collections.config_dict.placeholder(object)
    return config


def from_config(config: Mapping[str, Any]) -> schema.Settings:
    """Freezes a ConfigDict (or any nested mapping) into validated settings.

    Args:
      config: nested mapping with fields of `schema.fields`; those left out keep their defaults.

    Returns:
      The settings, every field of its declared type and inside its declared range.

    Raises:
      InputError: a field that does not exist, has the wrong type or lies outside its range; one line.
    """
    return from_flat(flat(plain(config)))


def from_flat(values: Mapping[str, Any]) -> schema.Settings:
    """Freezes values by dotted name into validated settings; see `from_config`."""
    settings = schema.Settings(check_values(values))
    _check_together(settings)
    return settings


def vary(items: Sequence[tuple[str, Any]], values: Mapping[str, Any]) -> schema.Settings:
    """Freezes the items of `check_values`, some of them at other values, into validated settings; see `from_config`."""
    fields = schema.fields()
    if len(fields) != len(items) or not fields.keys() >= values.keys():
        return from_flat(dict(items) | dict(values))
    changed = {name: _check_value(name, value, fields[name]) for name, value in values.items()}
    settings = schema.Settings(tuple((name, changed.get(name, value)) for name, value in items))
    _check_together(settings)
    return settings


def check_values(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Returns every field with its value, each checked by itself; those left out keep their defaults.

    Raises:
      InputError: a field that does not exist, has the wrong type or lies outside its range; one line.
    """
    for name, value in values.items():
        schema.admit(name, value)
    fields = schema.fields()
    for name, value in values.items():
        if name not in fields:
            if any(known.startswith(f"{name}.") for known in fields):
                raise errors.InputError(f"{name}={value!r}: a group of fields, not a value")
            raise errors.InputError(schema.unknown_field(name))
    return tuple(
        (name, _check_value(name, values.get(name, declaration.default), declaration))
        for name, declaration in fields.items()
    )


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of one experiment as a nested dict, without `sweep`."""
    values = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
    values.pop("sweep", None)
    return values


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested mapping as one level by dotted name."""
    level: dict[str, Any] = {}
    for name, value in values.items():
        level |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return level


def nest(flat_values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values by dotted name as a nested mapping, the inverse of `flat`."""
    tree: dict[str, Any] = {}
    for name, value in flat_values.items():
        *groups, last = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    return tree


def check_arg(arg: str, *, known: tuple[str, ...]) -> None:
    """Raises where the text after the colon of `--config=FILE.py:ARG` is none that the file knows.

    Raises:
      InputError: an unknown argument; names those that are known.
    """
    if arg not in known:
        names = ", ".join(name for name in known if name) or "nothing"
        raise errors.InputError(f"--config=...:{arg}: unknown argument; the file knows {names}")


def _check_value(name: str, value: Any, declaration: options.Declaration) -> Any:
    """One value, converted to its declared type and inside its range."""
    if value is None and declaration.optional:
        return None
    if declaration.kind is tuple:
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        return tuple(_check_single(name, item, typing.get_args(declaration.hint)[0], declaration) for item in values)
    return _check_single(name, value, declaration.kind, declaration)


def _check_single(name: str, value: Any, wanted: type, declaration: options.Declaration) -> Any:
    """One value that is no tuple, or one entry of it."""
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise errors.InputError(wrong_type(name, value))
    _check_range(name, value, declaration.metadata)
    return value


def wrong_type(name: str, value: Any) -> str:
    """Returns the line for a value that is not of its field's type."""
    declaration = schema.fields()[name]
    several = declaration.kind is tuple
    wanted = typing.get_args(declaration.hint)[0] if several else declaration.kind
    count = "one or more, each " if several else ""
    return f"{name}={value}: expected {count}{WORDS[wanted]} ({declaration.metadata['help']})"


def _check_range(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    """Raises where a value lies outside its declared range."""
    low, high, above, choices = (metadata[bound] for bound in ("low", "high", "above", "choices"))
    if choices and value not in choices:
        raise errors.InputError(f"{name}={value!r}: must be one of {', '.join(choices)}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise errors.InputError(f"{name}={value!r}: must be a finite number")
    if isinstance(value, int) and high is None and abs(value) > MOST:
        raise errors.InputError(f"{name}={value!r}: must be at most {MOST}, since programs count in 32 bits")
    if above is not None and not value > above:
        raise errors.InputError(f"{name}={value!r}: must be greater than {above:g}")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise errors.InputError(f"{name}={value!r}: must be {bounds}")


def _check_together(settings: schema.Settings) -> None:
    """Raises where two fields contradict each other."""
    dealing = settings.read("data", pools.Options)
    rounds = settings.read("federation", protocols_contract.Options)
    compared = settings.read("shadow", references.Options)
    if rounds.nodes > dealing.num_federation:
        raise errors.InputError(
            f"federation.nodes={rounds.nodes}: more nodes than data.num_federation={dealing.num_federation} records; "
            "use fewer nodes or more records"
        )
    references.check(compared)
    if compared.federations and not rounds.cycles:
        raise errors.InputError(
            f"shadow.federations={compared.federations}: federation.cycles=0 leaves nothing to compare"
        )
    pools.check(dealing, rounds.nodes)
