"""What is to be done for some runs: every task once, under the fingerprint that it is shared and found again by.

Points of a sweep that agree on all that an outcome depends on share it, and points that do not never do. A model that
is wanted after several numbers of epochs is trained once, to the last.
"""

import contextlib
import dataclasses
import gc
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fedmia_jax import randomness
from fedmia_jax.audit import correction, findings
from fedmia_jax.data import pools
from fedmia_jax.engine import chunks
from fedmia_jax.engine.plans import influence, plan, runs, tasks
from fedmia_jax.fingerprints import digest, fingerprint


class Wanted:
    """Tasks by fingerprint, each with all that is wanted of it: epochs of a model, readers of a federation."""

    def __init__(self) -> None:
        self.tasks: dict[str, Any] = {}
        self.extras: dict[str, dict[Any, None]] = {}
        self._digests: dict[tuple[Any, ...], tuple[list[str], tuple[np.ndarray, ...]]] = {}

    def add(self, mark: str, task: tasks.Task, extra: Any = None) -> str:
        """Enters a task under its fingerprint, and one more thing that is wanted of it; returns the fingerprint."""
        self.tasks.setdefault(mark, task)
        extras = self.extras.setdefault(mark, {})
        if extra is not None:
            extras.setdefault(extra)
        return mark

    def digest(self, *arrays: np.ndarray) -> str:
        """Returns a hash of arrays that nobody changes; points of a sweep share what they drew, which is read once."""
        return self._kept("together", arrays, lambda: [digest(*arrays)])[0]

    def digests(self, array: np.ndarray) -> list[str]:
        """Returns a hash of every row of an array that nobody changes."""
        return self._kept("by row", (array,), lambda: [digest(row) for row in array])

    def _kept(self, how: str, arrays: tuple[np.ndarray, ...], make: Callable[[], list[str]]) -> list[str]:
        """Hashes of arrays, which are kept with them, so that no other arrays come to be known by the same numbers."""
        known = (how, *map(id, arrays))
        if known not in self._digests:
            self._digests[known] = make(), arrays
        return self._digests[known][0]


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Nothing that a plan is made of goes again, and the collector would look at all of it time after time."""
    working = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if working:
            gc.enable()


@_collector_at_rest()
def make_plan(every_run: Sequence[runs.Run], *, keep_models: bool = False) -> plan.Plan:
    """Lists what is to be done for some runs, everything once.

    Args:
      every_run: of one or many points.
      keep_models: federations leave their snapshots too; those that were run without are run again.

    Returns:
      The plan; nothing has been computed.
    """
    wanted = Wanted()
    recipes = [_add(wanted, run) for run in every_run]
    recipe_of = dict(zip(every_run, recipes, strict=True))
    audits = {
        runs.run_id(point[0]): _add_audit(wanted, point, [recipe_of[run] for run in point])
        for point in runs.points_of(every_run)
    }
    unit_of, completed = {}, {}
    units: dict[str, list[chunks.Unit]] = {task.NAME: [] for task in typing.get_args(tasks.Task)}
    for mark, task in wanted.tasks.items():
        extras = list(wanted.extras[mark])
        if isinstance(task, tasks.Model):
            extras = sorted(extras)
            task = dataclasses.replace(task, epochs=tuple(extras))
        elif isinstance(task, (tasks.Baseline, tasks.Federation)):
            task = dataclasses.replace(task, readers=tuple(extras))
        plain = [extra.plain if isinstance(extra, tasks.Reader) else extra for extra in extras]
        leaves_models = not isinstance(task, (tasks.Model, tasks.Audit))
        unit = task.unit(fingerprint(mark, plain, keep_models and leaves_models))
        unit_of[mark], completed[mark] = unit.fingerprint, task
        units[task.NAME].append(unit)
    return plan.Plan(every_run, recipes, unit_of, completed, units, audits)


def _add(wanted: Wanted, run: runs.Run) -> plan.Recipe:
    """Enters all that one run needs."""
    plans = run.plans
    central, local, rows = plans.central_epochs, plans.rounds.local_epochs, run.central_rows
    target = wanted.add(*_model(run, rows, wanted.digest(rows), randomness.Purpose.CENTRALISED, 0), central)
    first = _add_fit(wanted, run, plans.shadows.epochs or central)
    depends = influence.mark(run, tasks.Baseline.WITHOUT)
    baseline = fingerprint("baseline", depends, target, central, wanted.digest(run.scored))
    wanted.add(baseline, tasks.Baseline(run, target, central), first)
    if not plans.rounds.cycles:
        return plan.Recipe(baseline, first)
    if plans.shadows.kind == "federated":
        second = _add_shadow_federations(wanted, run)
    else:
        same = plans.shadows.epochs or central == local
        second = first if same else _add_fit(wanted, run, local)
    mark, task = _federation(wanted, run, run.shards)
    federation, answers = wanted.add(mark, task, second), None
    if task.answered:
        answers = _add_fit(wanted, run, plans.shadows.epochs or local, answered=True)
        wanted.add(mark, task, answers)
    references = _add_references(wanted, run)
    return plan.Recipe(baseline, first, federation, second, references, answers)


def _add_references(wanted: Wanted, run: runs.Run) -> tuple[str, ...]:
    """Enters the reference federations, which all replicates share."""
    if run.audit is None:
        return ()
    shared = dataclasses.replace(run, replicate=0)
    every = enumerate(run.audit.references)
    return tuple(wanted.add(*_federation(wanted, shared, shards, number)) for number, shards in every)


def _federation(
    wanted: Wanted, run: runs.Run, shards: pools.Shards, number: int | None = None
) -> tuple[str, tasks.Federation]:
    """A federation and its fingerprint."""
    task = tasks.Federation(run, shards, number)
    depends = influence.mark(run, task.WITHOUT)
    contents = [wanted.digest(shards.indices, shards.mask), wanted.digest(run.scored), digest(task.order)]
    return fingerprint("federation", depends, contents, influence.describe_signals(task.kept), number), task


def _model(
    run: runs.Run, rows: np.ndarray, content: str, purpose: randomness.Purpose, number: int
) -> tuple[str, tasks.Model]:
    """A central model and its fingerprint, into which epochs do not enter."""
    task = tasks.Model(run, rows, purpose, number)
    return fingerprint("model", influence.mark(run, task.WITHOUT), int(purpose), number, content), task


def _add_fit(wanted: Wanted, run: runs.Run, epochs: int, *, answered: bool = False) -> tasks.Reader:
    """Enters central shadows and the attacks on them."""
    models = tuple(
        wanted.add(*_model(run, rows, content, randomness.Purpose.SHADOW, number), epochs)
        for number, (rows, content) in enumerate(zip(run.split.members, wanted.digests(run.split.members), strict=True))
    )
    task = tasks.Fit(run, models, epochs, answered)
    contents = [wanted.digest(run.split.non_members), *(["answered"] if answered else [])]
    mark = fingerprint("fit", influence.mark(run, task.WITHOUT), models, epochs, *contents)
    return tasks.Reader(wanted.add(mark, task), run.plans.model_attacks, per_snapshot=False, answered=answered)


def _add_audit(wanted: Wanted, every_run: Sequence[runs.Run], recipes: Sequence[plan.Recipe]) -> tuple[str, ...]:
    """Enters the pieces of the audit of one point."""
    run, marks = every_run[0], []
    contents = [recipe.federation for recipe in recipes], recipes[0].references, digest(*(r.owners for r in every_run))
    tossed = [(digest(r.assigned), r.settings.get("data.canary_rate")) for r in every_run if r.assigned is not None]
    asked = [run.plans.settings.get(f"attack.{field}") for field in ("names", "views")]
    said = [tossed, correction.make_claim(run.plans.claim, *asked).num_cells]
    for piece in findings.pieces_of(run.plans.settings.get("attack.names")):
        depends = influence.describe(run, tasks.Audit.WITHOUT, influence.of_audit(run.settings, piece))
        read = [recipe.federation_reader for recipe in recipes if piece in run.plans.model_attacks.names]
        read += [recipe.answers_reader for recipe in recipes if piece in run.plans.model_attacks.names]
        fitted = [reader.task for reader in read if reader is not None]
        mark = fingerprint("audit", influence.AUDIT_RECIPE, piece, depends, contents, fitted, said)
        marks.append(wanted.add(mark, tasks.Audit(tuple(every_run), piece)))
    return tuple(marks)


def _add_shadow_federations(wanted: Wanted, run: runs.Run) -> tasks.Reader:
    """Enters shadow federations and the attacks on their snapshots."""
    shards = tuple(pools.deal_like(run.shards, members) for members in run.split.members)
    task = tasks.ShadowFederations(run, shards)
    dealt = [digest(of_shadow.indices, of_shadow.mask) for of_shadow in shards]
    contents = [dealt, digest(run.split.non_members), digest(run.plans.order(run.replicate))]
    mark = fingerprint("shadow federations", influence.mark(run, task.WITHOUT), contents)
    return tasks.Reader(wanted.add(mark, task), run.plans.model_attacks, per_snapshot=True)
