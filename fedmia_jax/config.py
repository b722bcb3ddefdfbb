"""ConfigDict -> frozen, validated settings; every field is declared once, with its range, help and kind.

A field is *traced* when it is a number that a compiled program takes as an argument, and *static* when it decides
shapes or trip counts. The declaration below is the only place that says which.
"""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from fedmia_jax import errors


def _field(
    default: Any,
    help_text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    traced: bool = False,
) -> Any:
    """Declares a field: its default, one line of help, its closed range (`above`: open below) and its kind."""
    metadata = {"help": help_text, "low": low, "high": high, "above": above, "choices": choices, "traced": traced}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Which records, how they are labelled, and how they are dealt out."""

    name: str = _field("synthetic", "reader of the records", choices=())
    path: str | None = _field(None, "file of the records; synthetic needs none")
    num_features: int = _field(600, "features kept: the most frequent items, the first categories", low=1)
    num_classes: int | None = _field(None, "classes; unset: the labels of the file, else 100 clusters", low=2)
    cluster: bool = _field(False, "relabel with k-means even where the file has labels")
    min_items: int | None = _field(
        None, "drop records with fewer of the kept items; unset: 3 (orders), 5 (baskets)", low=1
    )
    seed: int = _field(0, "seed of the synthetic records and of k-means", low=0, high=2**31 - 1)
    num_records: int = _field(60_000, "records of the synthetic set", low=10)
    num_federation: int = _field(10_000, "records dealt to the nodes", low=1)
    num_test: int = _field(10_000, "records nobody trains on: the non-members", low=1)
    num_shadow_pool: int | None = _field(None, "records the shadows draw from; unset: all that remain", low=2)
    partition: str = _field("iid", "how nodes share the records", choices=("iid", "dirichlet", "sizes"))
    alpha: float = _field(0.5, "concentration of partition=dirichlet; small is skewed", above=0.0)
    sizes: tuple[float, ...] = _field((), "share of each node for partition=sizes, in any unit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The network that travels."""

    name: str = _field("mlp", "name in model.MODELS, or package.module:Class of your own")
    hidden: int = _field(128, "hidden units", low=1)
    dropout_rate: float = _field(0.5, "share of hidden units dropped in training", low=0.0, high=0.99, traced=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a party trains."""

    optimizer: str = _field("adam", "optimizer", choices=("adam", "sgd"))
    learning_rate: float = _field(0.001, "step size", above=0.0, traced=True)
    batch_size: int = _field(32, "records per update", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Federation:
    """How the model goes round."""

    nodes: int = _field(3, "participants", low=1)
    cycles: int = _field(5, "rounds over all nodes; 0: only the centralised baseline", low=0)
    local_epochs: int = _field(100, "epochs of one visit", low=1)
    centralised_epochs: int | None = _field(None, "epochs of the centralised baseline; unset: local_epochs", low=1)
    order: str = _field("fixed", "order of the nodes in a cycle", choices=("fixed",))
    carry_optimizer_state: bool = _field(False, "hand the optimizer state on with the parameters")


LEAST_REFERENCES = 8  # of reference federations, two of which only set thresholds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shadow:
    """The models that the adversary trains itself."""

    count: int = _field(10, "shadow models; one in ten only checks the attack", low=2)
    kind: str = _field("centralised", "how shadows are trained", choices=("centralised", "federated"))
    epochs: int | None = _field(None, "epochs of a shadow; unset: those of what it stands for", low=1)
    num_train: int | None = _field(None, "records a shadow trains on; unset: data.num_federation", low=1)
    num_out: int | None = _field(None, "records it does not; unset: as num_train, or what the pool still has", low=1)
    federations: int = _field(0, "reference federations, for attacks that compare a record with itself", low=0)
    audit: bool = _field(True, "they train on the audited records, each in its share of them; else on the shadow pool")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """The attacks and the paper's attack network."""

    names: tuple[str, ...] = _field(("network",), "attacks to run, by their names in attacks.ATTACKS or COMPARISONS")
    views: tuple[str, ...] = _field(("outsider", "coordinator"), "who attacks, by the names in adversary.py")
    variance: str = _field("pooled", "LiRA: variance of all records or of each", choices=("pooled", "per_record"))
    gamma: float = _field(1.0, "RMIA: ratio by which a record must beat a population record", low=1.0)
    offline_a: float = _field(
        0.3, "RMIA offline: how far p(x) is believed to exceed its mean without x", low=0.0, high=1.0
    )
    hidden: int = _field(64, "sigmoid units of the attack network", low=1)
    epochs: int | None = _field(None, "passes over the shadows' outputs; unset: what makes 10,000 updates", low=1)
    learning_rate: float = _field(0.1, "peak step size of its Adam, decayed to zero", above=0.0)
    batch_size: int = _field(256, "shadow outputs per update", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """One experiment, completely."""

    seed: int = _field(0, "root of all randomness", low=0, high=2**31 - 1, traced=True)
    replicates: int = _field(1, "independent repetitions: own pools, targets and shadows", low=1)
    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    training: Training = dataclasses.field(default_factory=Training)
    federation: Federation = dataclasses.field(default_factory=Federation)
    shadow: Shadow = dataclasses.field(default_factory=Shadow)
    attack: Attack = dataclasses.field(default_factory=Attack)


def make_config() -> ml_collections.ConfigDict:
    """Returns every field with its default, as the ConfigDict that a file in `configs/` starts from.

    A field without a default is a typed placeholder, so that a flag can set it and a wrong type is still caught.
    `sweep` is not set here and may get a plain mapping or a list of mappings, see `sweep.expand`.
    """
    config = ml_collections.ConfigDict(_to_config(Settings()), convert_dict=False)
    config.sweep = ml_collections.config_dict.placeholder(object)
    return config


def from_config(config: Mapping[str, Any]) -> Settings:
    """Freezes a ConfigDict (or any nested mapping) into validated settings.

    Args:
      config: nested mapping with the fields of `Settings`; fields left out keep their defaults.

    Returns:
      The settings, every field of its declared type and inside its declared range.

    Raises:
      InputError: a field that does not exist, has the wrong type or lies outside its range; one line.
    """
    settings = _build(Settings, plain(config), prefix="")
    _check_together(settings)
    return settings


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of one experiment as a nested dict, without `sweep`."""
    values = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
    values.pop("sweep", None)
    return values


def static(part: Any) -> Any:
    """Returns a settings dataclass with every traced field at its default.

    Two settings of which this is equal run as one compiled program.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(part) if field.metadata.get("traced", False)}
    groups = {
        field.name: static(getattr(part, field.name))
        for field in dataclasses.fields(part)
        if dataclasses.is_dataclass(getattr(part, field.name))
    }
    return dataclasses.replace(part, **defaults, **groups)


def traced() -> list[str]:
    """Returns the dotted names of the fields that compiled programs take as arguments."""
    return [name for name, field in fields().items() if field.metadata["traced"]]


def fields(settings_type: type = Settings, prefix: str = "") -> dict[str, dataclasses.Field]:
    """Returns every leaf field by its dotted name, in declaration order."""
    found: dict[str, dataclasses.Field] = {}
    hints = _hints(settings_type)
    for field in dataclasses.fields(settings_type):
        nested = hints[field.name]
        if dataclasses.is_dataclass(nested):
            found |= fields(typing.cast(type, nested), f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = field
    return found


def kind(name: str) -> type:
    """Returns the plain type of a field by its dotted name: int, float, bool, str or tuple."""
    return _plain_type(_hint(name))


def get(settings: Settings, name: str) -> Any:
    """Returns the value of a field by its dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping -> one level by dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def nest(flat_values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`."""
    tree: dict[str, Any] = {}
    for name, value in flat_values.items():
        *groups, last = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    return tree


def fingerprint(*parts: Any) -> str:
    """Returns a hash (16 hex digits) of mappings, sequences, numbers, strings and None."""
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hints(settings_type: type) -> dict[str, Any]:
    """Resolved annotations of a settings dataclass."""
    return typing.get_type_hints(settings_type)


def _hint(name: str) -> Any:
    """Resolved annotation of a field by its dotted name."""
    group, _, last = name.rpartition(".")
    return _hints(type(get(Settings(), group) if group else Settings()))[last]


def _to_config(settings: Any) -> ml_collections.ConfigDict:
    """One settings dataclass as a ConfigDict."""
    config = ml_collections.ConfigDict()
    for name, hint in _hints(type(settings)).items():
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            config[name] = _to_config(value)
        elif value is None:
            config[name] = ml_collections.config_dict.placeholder(_plain_type(hint))
        else:
            config[name] = value
    return config


def _plain_type(hint: Any) -> type:
    """`int | None` -> int, `tuple[float, ...]` -> tuple."""
    if isinstance(hint, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return typing.get_origin(hint) or hint


def _build(settings_type: type, values: Mapping[str, Any], prefix: str) -> Any:
    """One settings dataclass from a mapping, checked field by field."""
    hints = _hints(settings_type)
    for name in values:
        if name not in hints:
            raise errors.InputError(unknown_field(prefix + str(name)))
    declared = {field.name: field for field in dataclasses.fields(settings_type)}
    arguments = {}
    for name, value in values.items():
        if not dataclasses.is_dataclass(hints[name]):
            arguments[name] = _check_value(prefix + name, value, hints[name], declared[name].metadata)
        elif isinstance(value, Mapping):
            arguments[name] = _build(typing.cast(type, hints[name]), value, f"{prefix}{name}.")
        else:
            raise errors.InputError(f"{prefix}{name}={value!r}: a group of fields, not a value")
    return settings_type(**arguments)


def unknown_field(name: str) -> str:
    """Returns the line for a field that does not exist, with the nearest that does."""
    last = name.rpartition(".")[2]
    near = [known for known in fields() if known.rpartition(".")[2] == last]
    near = near or difflib.get_close_matches(name, list(fields()), n=1, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "python -m fedmia_jax.config lists them all"
    return f"{name}: no such field; {hint}"


def _check_value(name: str, value: Any, hint: Any, metadata: Mapping[str, Any]) -> Any:
    """One value, converted to its declared type and inside its range."""
    wanted = _plain_type(hint)
    if value is None and isinstance(hint, types.UnionType):
        return None
    if wanted is tuple:
        inner = typing.get_args(hint)[0]
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        return tuple(_check_value(name, item, inner, metadata) for item in values)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise errors.InputError(wrong_type(name, value))
    _check_range(name, value, metadata)
    return value


def wrong_type(name: str, value: Any) -> str:
    """Returns the line for a value that is not of its field's type."""
    hint = _hint(name)
    wanted = _plain_type(typing.get_args(hint)[0] if _plain_type(hint) is tuple else hint)
    plain = {int: "an integer", float: "a number", bool: "True or False", str: "a text"}[wanted]
    several = "one or more, each " if _plain_type(hint) is tuple else ""
    return f"{name}={value}: expected {several}{plain} ({fields()[name].metadata['help']})"


def _check_range(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    """Raises where a value lies outside its declared range."""
    low, high, above, choices = (metadata[key] for key in ("low", "high", "above", "choices"))
    if choices and value not in choices:
        raise errors.InputError(f"{name}={value!r}: must be one of {', '.join(choices)}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise errors.InputError(f"{name}={value!r}: must be a finite number")
    if above is not None and not value > above:
        raise errors.InputError(f"{name}={value!r}: must be greater than {above:g}")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise errors.InputError(f"{name}={value!r}: must be {bounds}")


def _check_together(settings: Settings) -> None:
    """Raises where two fields contradict each other."""
    data, nodes = settings.data, settings.federation.nodes
    if nodes > data.num_federation:
        raise errors.InputError(
            f"federation.nodes={nodes}: more nodes than data.num_federation={data.num_federation} records; "
            "use fewer nodes or more records"
        )
    shadow = settings.shadow
    if 0 < shadow.federations < LEAST_REFERENCES:
        raise errors.InputError(
            f"shadow.federations={shadow.federations}: a record must be in some references and not in others; "
            f"use 0, or {LEAST_REFERENCES} and more"
        )
    if shadow.federations and not settings.federation.cycles:
        raise errors.InputError(
            f"shadow.federations={shadow.federations}: federation.cycles=0 leaves nothing to compare"
        )
    if data.partition != "sizes" and data.sizes:
        raise errors.InputError(
            f"data.sizes={data.sizes!r}: only data.partition=sizes reads it, not {data.partition}; set one or the other"
        )
    if data.partition == "sizes" and len(data.sizes) != nodes:
        raise errors.InputError(
            f"data.sizes={data.sizes!r}: data.partition=sizes needs one share for each of "
            f"federation.nodes={nodes}, got {len(data.sizes)}"
        )
    if data.partition == "sizes" and not all(share > 0 for share in data.sizes):
        raise errors.InputError(f"data.sizes={data.sizes!r}: every share must be greater than 0")


def check_arg(arg: str, *, known: tuple[str, ...]) -> None:
    """Raises where the part after the colon of `--config=FILE.py:ARG` is none that the file knows.

    Raises:
      InputError: an unknown argument; names those that are known.
    """
    if arg not in known:
        names = ", ".join(name for name in known if name) or "nothing"
        raise errors.InputError(f"--config=...:{arg}: unknown argument; the file knows {names}")


def _list_fields() -> None:
    """Prints every field with its default and its meaning."""
    values = flat(dataclasses.asdict(Settings()))
    for name, field in fields().items():
        choices = field.metadata["choices"]
        meaning = field.metadata["help"] + (f" ({', '.join(choices)})" if choices else "")
        meaning += "; traced: values of a sweep share a program" if name in traced() else ""
        print(f"--config.{name}={'' if values[name] is None else values[name]}\n    {meaning}")


if __name__ == "__main__":
    _list_fields()
