"""The kinds of tasks in the order of computing: one line each."""

import dataclasses
from collections.abc import Callable

import jax

from fedmia_jax.engine import audits, chunks, execution, federating, lab, plan, tasks
from fedmia_jax.storage import artifacts

Compute = Callable[
    [lab.Lab, plan.Plan, chunks.Chunk, artifacts.Draft, tuple[jax.Device, ...], Callable[[float], None]], None
]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes:
      task: its class, which also has its name and says what its outcome depends on.
      compute: how a chunk of such tasks is computed.
      call: calls the programs of a chunk and does little else, where computing does; `compute` otherwise.
    """

    task: type[tasks.Task]
    compute: Compute
    call: Compute | None = None

    @property
    def name(self) -> str:
        """What people read."""
        return self.task.NAME


KINDS = (
    Kind(tasks.Model, execution.train),
    Kind(tasks.Fit, execution.fit),
    Kind(tasks.Baseline, execution.score_baselines),
    Kind(tasks.ShadowFederations, federating.federate_shadows),
    Kind(tasks.Federation, federating.federate),
    Kind(tasks.Audit, audits.study, audits.score),
)
