"""All fields of a config: what the shell declares here, and what code declares beside itself, by group.

A field is `GROUP.NAME`. Every group has options that are always there, and those of the things that its registry holds,
foreign ones included as soon as they are named; see `admit`.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fedmia_jax import attacks, data, defenses, options, protocols
from fedmia_jax.audit import correction, views
from fedmia_jax.data import dataset, pools, references
from fedmia_jax.defenses import contract as defenses_contract
from fedmia_jax.learning import networks, training
from fedmia_jax.options import option
from fedmia_jax.protocols import contract as protocols_contract

PRECISIONS = ("highest", "high", "default")
FOREIGN_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # package.module:name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """How often and from which root."""

    seed: int = option(0, "root of all randomness", low=0, high=2**31 - 1, traced=True)
    replicates: int = option(1, "independent repetitions: own pools, targets and shadows", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """The centralised target beside a federation."""

    centralised_epochs: int | None = option(None, "epochs of the centralised baseline; unset: local_epochs", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shadows:
    """How the adversary trains its shadows."""

    kind: str = option("centralised", "how shadows are trained", choices=("centralised", "federated"))
    epochs: int | None = option(None, "epochs of a shadow; unset: those of what it stands for", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """How accelerators compute."""

    precision: str = option(
        "highest", "of matrix products on a GPU or TPU; high and default are faster and less exact", choices=PRECISIONS
    )


class Factory(Protocol):
    """Anything that a registry holds and that has options."""

    @property
    def options(self) -> type: ...


@dataclasses.dataclass(frozen=True)
class Registry:
    """A field that names registered things, whose options stand in a group.

    Attributes:
      group: where the options of the things stand.
      known: the registry.
      find: a thing by its name, foreign ones too.
    """

    group: str
    known: Mapping[str, Factory]
    find: Callable[[str], Factory]


GROUPS: dict[str, tuple[type, ...]] = {  # what is always there; the empty group has no prefix
    "": (Experiment,),
    "data": (dataset.Options, pools.Options),
    "model": (networks.Options,),
    "training": (training.Options,),
    "federation": (protocols_contract.Options, Baseline),
    "defense": (defenses_contract.Options,),
    "shadow": (pools.ShadowOptions, Shadows, references.Options),
    "attack": (attacks.Options, views.Options, correction.Options),
    "compute": (Compute,),
}
REGISTRIES: dict[str, Registry] = {
    "data.name": Registry("data", data.READERS, data.find),
    "federation.kind": Registry("federation", protocols.PROTOCOLS, protocols.find),
    "defense.names": Registry("defense", defenses.DEFENSES, defenses.find),
    "attack.names": Registry("attack", attacks.ATTACKS, attacks.find),
}
_admitted: dict[str, dict[str, type]] = {field: {} for field in REGISTRIES}  # options of foreign things, by their name


def admit(field: str, value: Any) -> None:
    """Makes the options of the foreign things that a value names into fields.

    Args:
      field: a field; nothing happens unless it is one of `REGISTRIES`.
      value: of the field: a name, several names, or a text that holds some.

    Raises:
      InputError: a foreign thing that cannot be found.
      ValueError: it declares an option that is there already, and differently.
    """
    if field not in REGISTRIES:
        return
    for text in value if isinstance(value, (tuple, list)) else [value]:
        for name in FOREIGN_NAME.findall(str(text)):
            _admitted[field].setdefault(name, REGISTRIES[field].find(name).options)


def fields() -> dict[str, options.Declaration]:
    """Returns every field by its dotted name, in the order of the groups."""
    return _fields(_foreign())


def _foreign() -> tuple[tuple[type, ...], ...]:
    """Options of the foreign things that are named, by registry."""
    return tuple(tuple(groups.values()) for groups in _admitted.values())


@functools.cache
def _fields(admitted: tuple[tuple[type, ...], ...]) -> dict[str, options.Declaration]:
    """All fields, where the foreign things of each registry have these options."""
    collected: dict[str, options.Declaration] = {}
    for group, always in GROUPS.items():
        declaring = list(always)
        for registry, foreign in zip(REGISTRIES.values(), admitted, strict=True):
            if registry.group == group:
                declaring += [factory.options for factory in registry.known.values()] + list(foreign)
        prefix = f"{group}." if group else ""
        collected |= {prefix + name: declaration for name, declaration in options.declared(*declaring).items()}
    return collected


def traced() -> tuple[str, ...]:
    """Returns the dotted names of the fields that compiled programs take as arguments."""
    return _traced(_foreign())


@functools.cache
def _traced(admitted: tuple[tuple[type, ...], ...]) -> tuple[str, ...]:
    """The traced ones of `_fields`."""
    return tuple(name for name, declaration in _fields(admitted).items() if declaration.traced)


def kind(name: str) -> type:
    """Returns the plain type of a field by its dotted name: int, float, bool, str or tuple."""
    return fields()[name].kind


def unknown_field(name: str) -> str:
    """Returns the line for a field that does not exist, with the nearest that does."""
    last = name.rpartition(".")[2]
    near = [known for known in fields() if known.rpartition(".")[2] == last]
    near = near or difflib.get_close_matches(name, list(fields()), n=1, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "python -m fedmia_jax.config lists them all"
    return f"{name}: no such field; {hint}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """One experiment, completely: the value of every field, checked.

    Attributes:
      items: pairs of dotted name and value, in the order of the fields.
    """

    items: tuple[tuple[str, Any], ...]

    @functools.cached_property
    def flat(self) -> Mapping[str, Any]:
        """Values by dotted name."""
        return dict(self.items)

    def get(self, name: str) -> Any:
        """Returns the value of a field by its dotted name."""
        return self.flat[name]

    @functools.cached_property
    def groups(self) -> Mapping[str, Mapping[str, Any]]:
        """Values by their names in each group."""
        groups: dict[str, dict[str, Any]] = {}
        for name, value in self.items:
            group, _, last = name.rpartition(".")
            groups.setdefault(group, {})[last] = value
        return groups

    def group(self, prefix: str) -> Mapping[str, Any]:
        """Returns the values of one group by their names in it."""
        return self.groups[prefix]

    def read(self, prefix: str, group: type[options.OptionsT]) -> options.OptionsT:
        """Returns some options of a group, as the code that reads them declares them."""
        return options.read(group, self.group(prefix))

    @property
    def static(self) -> tuple[tuple[str, Any], ...]:
        """The items that no compiled program takes as an argument."""
        numbers = traced()
        return tuple(item for item in self.items if item[0] not in numbers)

    @functools.cached_property
    def active(self) -> dict[str, Any]:
        """Values of the fields that something reads: options of things that are not named are left out."""
        read = _read_fields(tuple(self.flat[field] for field in REGISTRIES))
        return {name: value for name, value in self.flat.items() if name in read}


@functools.cache
def _read_fields(named: tuple[str | tuple[str, ...], ...]) -> frozenset[str]:
    """Names of the fields that are always there, and of the options of what each registry's field names."""
    read: set[str] = set()
    for group, always in GROUPS.items():
        declaring = list(always)
        for registry, names in zip(REGISTRIES.values(), named, strict=True):
            if registry.group == group:
                declaring += [registry.find(name).options for name in ([names] if isinstance(names, str) else names)]
        read |= {f"{group}.{name}" if group else name for name in options.declared(*declaring)}
    return frozenset(read)
