"""What an outcome depends on: every setting but those that its kind of task lists as without influence.

A new field is in all fingerprints and in all groups of programs until somebody says that it does not matter.
"""

import fnmatch
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fedmia_jax import attacks, compilation, options, registry
from fedmia_jax.attacks import contract, signals
from fedmia_jax.config import schema
from fedmia_jax.engine.plans import runs
from fedmia_jax.fingerprints import fingerprint

RECIPE = 3  # Raise it whenever the same settings would train other models or fit other attacks.
AUDIT_RECIPE = 7  # Raise it whenever the same attacks on the same signals would make other tables.
# No task reads these: records count by their content, replicates by their index, the others only read outcomes.
WITHOUT = ("replicates", "data.*", "attack.views", "attack.epsilon_*", "attack.strongest", "defense.delta")
RECENT = 64  # answers that are kept for the next task of the same run
NAMES = ("model.name", *schema.REGISTRIES)  # fields that may name code from outside the package


def values(settings: schema.Settings, without: Sequence[str]) -> dict[str, Any]:
    """Returns the values that an outcome depends on, by dotted name.

    Args:
      settings: of the point.
      without: names without influence; `federation.*` stands for a whole group.

    Returns:
      The values of all other fields that something reads. Attacks that only compare with reference federations take no
      part in any task, and neither do their options.
    """
    only = _of_reference_attacks_only(settings.get("attack.names"))
    names = _counted(tuple(settings.active), (*WITHOUT, *without, *only))
    counted = {name: settings.flat[name] for name in names}
    if "attack.names" in counted:
        counted["attack.names"] = attacks.on_one_model(counted["attack.names"])
    return counted


@functools.cache
def _counted(names: tuple[str, ...], patterns: tuple[str, ...]) -> list[str]:
    """The names that no pattern stands for."""
    return [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


@functools.cache
def _of_reference_attacks_only(names: tuple[str, ...]) -> list[str]:
    """Fields that named reference attacks declare and no named attack on one model does."""
    factories = [attacks.find(name) for name in names]
    declared = {
        kind: set(options.declared(*(factory.options for factory in factories if isinstance(factory, kind))))
        for kind in (contract.ReferenceAttackFactory, contract.ModelAttackFactory)
    }
    only = declared[contract.ReferenceAttackFactory] - declared[contract.ModelAttackFactory]
    return [f"attack.{name}" for name in sorted(only)]


@functools.lru_cache(maxsize=RECENT)
def static(run: runs.Run, without: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Returns what decides a run's programs: the values above without those that they take as arguments."""
    return tuple(sorted(values(run.settings, (*without, *schema.traced())).items()))


def of_audit(settings: schema.Settings, piece: str) -> dict[str, Any]:
    """Returns the values of `attack.*` that one piece of an audit depends on, by dotted name.

    Those are all but the options that only other attacks declare. The views are among them: attacks with references are
    fitted for what all of them show.
    """
    every = settings.get("attack.names")
    own = {name: attacks.find(name).options for name in every if name == piece}
    others = set(options.declared(*(attacks.find(name).options for name in every))) - set(
        options.declared(*own.values())
    )
    without = {"attack.names", "attack.strongest", *(f"attack.{name}" for name in others)}
    counted = {name: value for name, value in settings.active.items() if name.startswith("attack.")}
    return {name: value for name, value in counted.items() if name not in without} | {"attack.names": tuple(own)}


@functools.lru_cache(maxsize=RECENT)
def mark(run: runs.Run, without: Sequence[str]) -> str:
    """Returns a fingerprint of all that an outcome depends on beside its own records and the tasks that it reads."""
    return fingerprint(describe(run, without))


def describe(run: runs.Run, without: Sequence[str], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns all that an outcome depends on beside its own records and the tasks that it reads.

    Args:
      run: its settings, replicate and data set.
      without: see `values`.
      more: values of fields that count although `without` lists them.
    """
    counted = values(run.settings, without) | dict(more or {})
    return {
        "settings": counted,
        "records": run.dataset.fingerprint,
        "num_classes": run.dataset.num_classes,
        "replicate": run.replicate,
        "code": code(run, counted),
    }


def describe_signals(kept: Sequence[signals.Signal]) -> list[Any]:
    """Returns what kept signals depend on: their names, and the sources of those that are not of this package."""
    modules = [getattr(signal.read, "func", signal.read).__module__ for signal in kept]
    return [[signal.name, registry.sources(f"{name}:read")] for signal, name in zip(kept, modules, strict=True)]


def code(run: runs.Run, counted: Mapping[str, Any]) -> dict[str, str]:
    """Returns what computes: the recipe, libraries, number formats, and the sources of what is not of this package."""
    sources: dict[str, str] = {}
    for field in NAMES:
        if field in counted:
            names = [counted[field]] if isinstance(counted[field], str) else counted[field]
            sources |= {f"{name} {file}": text for name in names for file, text in registry.sources(name).items()}
    module = type(run.module).__module__  # a class may stand in another module than the one that names it
    if not module.startswith("fedmia_jax."):
        sources |= registry.sources(f"{module}:{type(run.module).__name__}")
    return {
        "recipe": str(RECIPE),
        "jax": jax.__version__,
        "backend": compilation.platform(),
        "x64": str(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        "threefry_partitionable": str(jax.config.jax_threefry_partitionable),  # type: ignore[attr-defined]
        **sources,
    }
