"""What is to be done for some runs: units of work, with the keys that they are shared and found again by.

A key is a fingerprint of exactly what an outcome depends on, so that points of a sweep that agree on it share it, and
points that do not never do. A model that is wanted after several numbers of epochs is trained once, to the last.
"""

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fedmia_jax import config, parts, plan, workload, works
from fedmia_jax.data import pools

RECIPE = 1  # Raise it whenever the same settings would train other models or fit other attacks.


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Where the parts of one run's results come from."""

    baseline: str
    baseline_reader: works.Reader
    federation: str | None = None
    federation_reader: works.Reader | None = None
    references: tuple[str, ...] = ()


class Wanted:
    """Work by key, each with all that is wanted of it: epochs of a model, readers of a federation."""

    def __init__(self) -> None:
        self.work: dict[str, Any] = {}
        self.extras: dict[str, list[Any]] = {}

    def add(self, key: str, work: Any, extra: Any = None) -> str:
        """Enters work, and one more thing that is wanted of it; returns the key."""
        self.work.setdefault(key, work)
        extras = self.extras.setdefault(key, [])
        if extra is not None and extra not in extras:
            extras.append(extra)
        return key


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """All units of all stages, and each run's way to its results."""

    runs: Sequence[workload.Run]
    recipes: Sequence[Recipe]
    address: dict[str, str]  # of work: the key of its unit
    work: dict[str, Any]
    units: dict[str, list[plan.Unit]]  # by stage, in the order of computing

    def fitted(self, kept: parts.Parts, reader: works.Reader, cycle: int) -> dict[str, Any]:
        """Fitted attacks of a reader of one cycle: leaves [N, ...], or [1, ...] for all snapshots."""
        found = kept.read(self.address[reader.key], f"c{cycle + 1}" if reader.per_snapshot else "fitted")["fitted"]
        return found if reader.per_snapshot else jax.tree.map(lambda leaf: leaf[None], found)


def make_plan(runs: Sequence[workload.Run], *, keep_models: bool = False) -> Plan:
    """Lists what is to be done for some runs, everything once.

    Args:
      runs: of one or many points.
      keep_models: federations leave their snapshots too; those that were run without are run again.

    Returns:
      The plan; nothing has been computed.
    """
    wanted = Wanted()
    recipes = [_add(wanted, run) for run in runs]
    address, work = {}, {}
    units: dict[str, list[plan.Unit]] = {stage: [] for stage, _ in works.STAGES.values()}
    for key, item in wanted.work.items():
        extras = wanted.extras[key]
        if isinstance(item, works.Model):
            extras = sorted(extras)
            item = dataclasses.replace(item, epochs=tuple(extras))
        elif isinstance(item, (works.Baseline, works.Federation)):
            item = dataclasses.replace(item, readers=tuple(extras))
        asked = [dataclasses.asdict(extra) if isinstance(extra, works.Reader) else extra for extra in extras]
        unit = works.make_unit(config.fingerprint(key, asked, keep_models and not isinstance(item, works.Model)), item)
        address[key], work[key] = unit.key, item
        units[works.stage_of(item)].append(unit)
    return Plan(runs, recipes, address, work, units)


def _add(wanted: Wanted, run: workload.Run) -> Recipe:
    """Enters all that one run needs."""
    settings = run.settings
    local = settings.federation.local_epochs
    central = settings.federation.centralised_epochs or local
    target = wanted.add(*_model(run, run.dealt.federation, pools.Purpose.CENTRALISED, 0), central)
    first = _add_fit(wanted, run, settings.shadow.epochs or central)
    baseline = config.fingerprint("baseline", target, central, digest(run.scored))
    wanted.add(baseline, works.Baseline(run, target, central), first)
    if not settings.federation.cycles:
        return Recipe(baseline, first)
    if settings.shadow.kind == "federated":
        second = _add_shadow_federations(wanted, run)
    else:
        second = _add_fit(wanted, run, settings.shadow.epochs or local)
    federation = wanted.add(*_federation(run, run.shards), second)
    shared = dataclasses.replace(run, replicate=0)
    audited = run.audit.references if run.audit else ()
    references = [wanted.add(*_federation(shared, shards, number)) for number, shards in enumerate(audited)]
    return Recipe(baseline, first, federation, second, tuple(references))


def _federation(run: workload.Run, shards: pools.Shards, number: int | None = None) -> tuple[str, works.Federation]:
    """A federation and its key."""
    dealt = digest(shards.indices, shards.mask)
    phi = bool(run.settings.shadow.federations)
    key = config.fingerprint("federation", facts(run), _rounds(run), dealt, digest(run.scored), phi, number)
    return key, works.Federation(run, shards, number)


def _model(run: workload.Run, rows: np.ndarray, purpose: pools.Purpose, number: int) -> tuple[str, works.Model]:
    """A central model and its key, in which epochs do not enter."""
    return config.fingerprint("model", facts(run), int(purpose), number, digest(rows)), works.Model(
        run, rows, purpose, number
    )


def _add_fit(wanted: Wanted, run: workload.Run, epochs: int) -> works.Reader:
    """Enters central shadows and the attacks on them."""
    models = tuple(
        wanted.add(*_model(run, rows, pools.Purpose.SHADOW, number), epochs)
        for number, rows in enumerate(run.split.members)
    )
    attack, outside = run.attack, digest(run.split.non_members)
    key = config.fingerprint("fit", facts(run), models, epochs, dataclasses.asdict(attack), outside)
    return works.Reader(wanted.add(key, works.Fit(run, models, epochs)), attack, per_snapshot=False)


def _add_shadow_federations(wanted: Wanted, run: workload.Run) -> works.Reader:
    """Enters shadow federations and the attacks on their snapshots."""
    shards = tuple(workload.shadow_shards(run, members) for members in run.split.members)
    dealt = [digest(item.indices, item.mask) for item in shards]
    attack, outside = run.attack, digest(run.split.non_members)
    key = config.fingerprint("shadow federations", facts(run), _rounds(run), dealt, dataclasses.asdict(attack), outside)
    return works.Reader(wanted.add(key, works.ShadowFederations(run, shards)), attack, per_snapshot=True)


def facts(run: workload.Run) -> dict[str, Any]:
    """What every trained model depends on beside its records' rows."""
    return {
        "code": code(run),
        "records": run.dataset.fingerprint,
        "num_classes": run.dataset.num_classes,
        "seed": run.settings.seed,
        "replicate": run.replicate,
        "model": dataclasses.asdict(run.settings.model),
        "training": dataclasses.asdict(run.settings.training),
    }


def code(run: workload.Run) -> dict[str, str]:
    """What computes: the recipe, the libraries, and the source of a network from outside this package."""
    name = type(run.module).__module__
    foreign = not name.startswith("fedmia_jax.")
    source = inspect.getsource(sys.modules[name]) if foreign else ""
    return {"recipe": str(RECIPE), "jax": jax.__version__, "backend": jax.default_backend(), "network": source}


def _rounds(run: workload.Run) -> dict[str, Any]:
    """What a federation depends on beside that."""
    rounds = dataclasses.asdict(run.settings.federation)
    del rounds["centralised_epochs"]
    return rounds


def digest(*arrays: np.ndarray) -> str:
    """Fingerprint of the content of arrays."""
    content = hashlib.sha256()
    for array in arrays:
        content.update(f"{array.dtype.str}{array.shape};".encode() + np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]
