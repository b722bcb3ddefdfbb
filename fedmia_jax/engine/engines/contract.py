"""What an engine is: it computes the chunks of a stage wherever it likes, and keeps what they leave in the workdir."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import jax

from fedmia_jax import compilation
from fedmia_jax.engine import chunks, kinds, lab
from fedmia_jax.engine.plans import plan
from fedmia_jax.storage import artifacts

KEPT = "what is finished is kept, the same command goes on"
Advance = Callable[[float], None]
ComputeStage = Callable[[lab.Lab, plan.Plan, kinds.Kind, Sequence[chunks.Chunk], Advance], None]


@dataclasses.dataclass(frozen=True)
class Engine:
    """Who computes.

    Attributes:
      compute: `compute(place, planned, kind, todo, advance)` computes chunks of one kind, whatever their order, and
        keeps what each leaves as soon as it ends; `advance` is called with the model updates that are done. What it
        raises ends the run.
      num_cpu_devices: XLA host devices of this process on a CPU; None for one a core. Chunks are made for as many
        devices as this process has, so that every other process that computes must have as many.
      only_cpu: this process leaves accelerators to others.
      leads: whether this process plans, writes and prints; asked when devices have been found.
      follow: `follow(every_run, budget=, keep_models=, strict=)`, called in place of a run where this process does not
        lead: computes what another deals until that has dealt all; see `hosts.py`.
      lead: `with lead():` around all that a run does beside those who follow, who are told of its end.
      works_ahead: this process may work at later stages while it computes one, see `ahead.py`.
    """

    compute: ComputeStage
    num_cpu_devices: int | None
    only_cpu: bool = False
    leads: Callable[[], bool] = lambda: True
    follow: Callable[..., None] | None = None
    lead: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    works_ahead: bool = False


def compute_chunk(
    place: lab.Lab,
    planned: plan.Plan,
    compute: kinds.Compute,
    chunk: chunks.Chunk,
    draft: artifacts.Draft,
    devices: tuple[jax.Device, ...],
    advance: Advance,
) -> None:
    """Computes one chunk on some devices of this process."""
    compilation.make_room()
    # Set here, since the groups that run side by side have threads of their own.
    with jax.default_matmul_precision(chunk.tasks[0].run.settings.get("compute.precision")):
        compute(place, planned, chunk, draft, devices[: chunk.size], advance)


def keep(place: lab.Lab, kind: kinds.Kind, chunk: chunks.Chunk, draft: artifacts.Draft, seconds: float) -> None:
    """Enters what a chunk has left into the workdir's index, and how long it took into the log."""
    place.workdir.artifacts.finish(draft)
    units, rounded = len(chunk.units), round(seconds, 3)
    place.workdir.log(artifact=draft.path.name, stage=kind.name, units=units, seconds=rounded)
