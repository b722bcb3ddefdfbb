"""All programs of a run, compiled for devices that are not there: whether they compile, and what they will take.

The run is walked as it would be computed, group by group, with every program handed to the other machine's compiler
instead of being run; what it would have left is stood in for by ones of the same shapes.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fedmia_jax import compilation, types
from fedmia_jax.data import dataset as datasets
from fedmia_jax.engine import chunks, dispatch, experiment, kinds, lab, outline, progress
from fedmia_jax.engine.accelerators import compiler, topologies
from fedmia_jax.engine.engines import contract
from fedmia_jax.engine.plans import amounts, plan, planning, runs
from fedmia_jax.storage import in_memory


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run would be on some devices that are not there.

    Attributes:
      topology: the devices.
      programs: in the order of their first use.
      updates: of all models that are trained.
      passes: of the innermost loop of each program that trains, in turn, by the program.
    """

    topology: topologies.Topology
    programs: Sequence[compiler.Compiled]
    updates: float
    passes: Mapping[compiler.Compiled, float]

    @property
    def seconds(self) -> float:
        """What the devices take to train, about."""
        return sum(passes * made.pass_seconds(self.topology.kind) for made, passes in self.passes.items())

    @property
    def problems(self) -> list[str]:
        """A line for each program that does not compile."""
        return [f"{made.stage}: {made.name}: {made.problem}" for made in self.programs if made.problem]


class _Lab(lab.Lab):
    """A lab without devices of its own."""

    def records(self, dataset: datasets.Dataset, devices: tuple[jax.Device, ...]) -> types.Records:
        del devices
        features: Any = dataset.features
        labels: Any = dataset.labels
        return types.Records(features, labels)

    def warn(self, text: str, *, about: Any = None) -> None:
        pass


def estimate(
    every_run: Sequence[runs.Run], topology: topologies.Topology, shown: progress.Progress, *, budget: int
) -> Estimate:
    """Compiles every program of some runs, and says what they would take.

    Args:
      every_run: of one or many points.
      topology: what to compile for.
      shown: for a line at the end of each stage.
      budget: bytes of the models in work, see `lab.Lab`.
    """
    drafts: dict[str, in_memory.Draft] = {}  # every unit has left what the first chunk of its group left
    workdir: Any = in_memory.Workdir(lambda unit, piece: drafts[unit].read(0, piece))
    maker, updates, passes = compiler.Compiler(topology), 0.0, collections.Counter[compiler.Compiled]()
    with compilation.using(compilation.Target(topology.devices[0].platform, maker.run)):
        place = _Lab(workdir, shown, devices=topology.devices, budget=budget, strict=False)
        planned = planning.make_plan(every_run)
        for kind in kinds.KINDS:
            # The pieces of an audit share what they read, and not their programs.
            every = experiment.chunks_of if kind.call else experiment.first_chunks
            todo = every(place, planned.units[kind.name])
            if not todo:
                continue
            maker.stage = kind.name
            with shown.stage(f"{kind.name}: {len(todo)}", total=len(todo)) as advance:
                for together in chunks.by_bundle(todo):
                    maker.training = None
                    maker.floor = max(amounts.of_params(chunk.tasks[0].run) for chunk in together)
                    drafts |= _walk(place, planned, kind, together)
                    trained = [unit for chunk in together for unit in chunk.group if unit.num_models]
                    updates += sum(unit.steps for unit in trained)
                    if maker.training is not None:
                        passes[maker.training] += max(_passes(chunk, topology) for chunk in together)
                    advance(len(together))
    return Estimate(topology, maker.programs, updates, passes)


def _walk(
    place: lab.Lab, planned: plan.Plan, kind: kinds.Kind, together: Sequence[chunks.Chunk]
) -> dict[str, in_memory.Draft]:
    """Calls the programs of a chunk, or of a bundle; returns what each unit of their groups would leave."""
    drafts: dict[str, in_memory.Draft] = {}

    def walk(chunk: chunks.Chunk, devices: tuple[jax.Device, ...], join: dispatch.Join) -> None:
        draft: Any = in_memory.Draft(1)
        if kind.call is not None:
            kind.call(planned, place.workdir.artifacts, chunk.tasks[0])
        else:
            where = dataclasses.replace(place, join=join)
            contract.compute_chunk(where, planned, kind.compute, chunk, draft, devices, lambda steps: None)
        drafts.update((unit.fingerprint, draft) for unit in chunk.group)

    devices = place.devices if together[0].wide else place.devices[:1]
    dispatch.run_chunks(
        [dataclasses.replace(chunk, wide=True) for chunk in together], walk, devices, on_failure=place.stop.set
    )
    return drafts


def _passes(chunk: chunks.Chunk, topology: topologies.Topology) -> float:
    """How many updates a device makes in turn for a group: the models of a chunk make theirs at the same time."""
    group = chunk.group
    passes = sum(unit.steps for unit in group) / (group[0].num_models * chunk.size)
    return passes / (1 if chunk.wide else len(topology.devices))


def explain(found: Estimate) -> outline.Outline:
    """Returns an estimate in words and numbers."""
    topology = found.topology
    header = [
        "stage",
        "program",
        "models",
        "compiled in",
        "MiB",
        "kernels",
        "KiB a model",
        "of floor",
        "cycles a model",
        "us a pass",
        "passes",
        "s",
    ]
    rows = [_explain_program(made, found.passes.get(made, 0), topology.kind) for made in found.programs]
    largest = max((made.nbytes for made in found.programs), default=0)
    fits = "fits" if largest <= topology.kind.nbytes else "does not fit"
    caption = (
        f"{len(found.programs)} programs for {len(topology.devices)} x {topology.devices[0].device_kind}, "
        f"{len(found.problems)} of which do not compile. The largest takes {largest / 2**30:.2f} GiB of a device's "
        f"{topology.kind.nbytes / 2**30:.0f}, and {fits}. {found.updates:,.0f} updates, about {found.seconds:.2g} s "
        "of training; compiling, fitting, scoring and the audit not counted.\n"
        "models: that a device works at side by side. MiB: arguments, results and what lies between, on a device. "
        "kernels: a pass of the innermost loop, in training one update of each model. KiB: operands and results of "
        f"these; of floor: how many times {compiler.FLOOR} passes over the parameters. "
        f"cycles: as the compiler estimates. us: {_say_rule(topology.kind, found.programs)}; "
        "passes: in turn on a device; s: both multiplied."
    )
    return outline.Outline(f"Compiled for {topology.name}", header, rows, caption)


def _say_rule(kind: topologies.Kind, programs: Sequence[compiler.Compiled]) -> str:
    """How the time of a pass is estimated."""
    if any(made.work and made.work.cycles for made in programs):
        return f"cycles of all models at {kind.clock / 1e9:g} GHz"
    return (
        f"the larger of bytes at {kind.bandwidth / 1e12:.2f} TB/s and {compiler.KERNEL_SECONDS * 1e6:g} for each kernel"
    )


def _explain_program(made: compiler.Compiled, passes: float, kind: topologies.Kind) -> list[str]:
    """The cells of one program."""
    if made.work is None:
        return [made.stage, made.name, str(made.models), "does not compile", *[""] * 8]
    each = made.pass_seconds(kind)
    share = made.work.nbytes / made.models
    return [
        made.stage,
        made.name,
        str(made.models),
        f"{made.seconds:.1f} s",
        f"{made.nbytes / 2**20:,.0f}" + ("" if made.nbytes <= kind.nbytes else ", too much"),
        str(made.work.kernels),
        f"{share / 2**10:,.0f}",
        f"{share / made.floor:.1f}" if made.floor else "",
        f"{made.work.cycles / made.models:,.0f}" if made.work.cycles else "",
        *([f"{each * 1e6:.1f}", f"{passes:,.0f}", f"{passes * each:.1f}"] if passes else [""] * 3),
    ]
