"""A plan: all tasks of some runs, and each run's way to its results."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fedmia_jax.engine import chunks
from fedmia_jax.engine.plans import runs, tasks
from fedmia_jax.storage import artifacts


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Fingerprints of the tasks that one run's results come from, and who reads their snapshots."""

    baseline: str
    baseline_reader: tasks.Reader
    federation: str | None = None
    federation_reader: tasks.Reader | None = None
    references: tuple[str, ...] = ()
    answers_reader: tasks.Reader | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """All units of all kinds, and each run's way to its results.

    Attributes:
      runs: of one or many points.
      recipes: one for each run.
      unit_of: fingerprint of the unit that a task became, by fingerprint of the task.
      task_of: tasks by fingerprint.
      units: by name of their kind, in the order of computing.
      audits: fingerprints of the tasks that the audit of each point consists of, in order, by `runs.run_id`.
    """

    runs: Sequence[runs.Run]
    recipes: Sequence[Recipe]
    unit_of: Mapping[str, str]
    task_of: Mapping[str, Any]
    units: Mapping[str, list[chunks.Unit]]
    audits: Mapping[str, tuple[str, ...]]

    @functools.cached_property
    def recipe_of(self) -> dict[Any, Recipe]:
        """Each run's recipe."""
        return dict(zip(self.runs, self.recipes, strict=True))

    def fitted(self, kept: artifacts.Artifacts, reader: tasks.Reader, cycle: int) -> dict[str, Any]:
        """Returns the fitted attacks of a reader of one cycle: leaves [P, ...], or [1, ...] for all snapshots."""
        fitted = kept.read(self.unit_of[reader.task], reader.piece(cycle))["fitted"]
        return fitted if reader.per_snapshot else jax.tree.map(lambda leaf: leaf[None], fitted)

    def scored(self, kept: artifacts.Artifacts, task: str, piece: str, reader: tasks.Reader) -> dict[str, Any]:
        """Returns what a task left of a piece: `correct`, perhaps `signals`, a reader's `scores` and `threshold`."""
        contents = kept.read(self.unit_of[task], piece)
        contents = contents["answers"] if reader.answered else contents
        alike = [other for other in self.task_of[task].readers if other.answered == reader.answered]
        number = str(alike.index(reader))
        return {name: contents[name] for name in ("correct", "signals") if name in contents} | contents[number]


def recipes_of(planned: Plan, every_run: Sequence[runs.Run]) -> list[Recipe]:
    """Returns the recipes of some runs, in their order."""
    return [planned.recipe_of[run] for run in every_run]
