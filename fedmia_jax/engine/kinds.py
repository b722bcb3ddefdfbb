"""The kinds of tasks in the order of computing: one line each."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax

from fedmia_jax.engine import audits, chunks, execution, federating, lab, needs
from fedmia_jax.engine.plans import plan, tasks
from fedmia_jax.storage import artifacts

Compute = Callable[
    [lab.Lab, plan.Plan, chunks.Chunk, artifacts.Draft, tuple[jax.Device, ...], Callable[[float], None]], None
]
Call = Callable[[plan.Plan, artifacts.Artifacts, Any], None]
Needs = Callable[[plan.Plan, Any], Iterable[needs.Need]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes:
      task: its class, which also has its name and says what its outcome depends on.
      compute: how a chunk of such tasks is computed.
      needs: `needs(planned, task)` names all that computing the task reads of earlier outcomes.
      ahead: computes of a chunk what reads no earlier outcome, and holds it in the draft, from which `compute` goes on.
      call: `call(planned, kept, task)` calls the programs of a task and does little else, where computing does.
    """

    task: type[tasks.Task]
    compute: Compute
    needs: Needs
    ahead: Compute | None = None
    call: Call | None = None

    @property
    def name(self) -> str:
        """What people read."""
        return self.task.NAME


KINDS = (
    Kind(tasks.Model, execution.train, needs.of_independent),
    Kind(tasks.Fit, execution.fit, needs.of_fit),
    Kind(tasks.Baseline, execution.score_baselines, needs.of_baseline),
    Kind(tasks.ShadowFederations, federating.federate_shadows, needs.of_independent),
    Kind(tasks.Federation, federating.federate, needs.of_federation, ahead=federating.federate_ahead),
    Kind(tasks.Audit, audits.study, needs.of_audit, call=audits.score),
)
