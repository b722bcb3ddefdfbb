"""All programs of a run, compiled for devices that are not there: whether they compile, and what they will take.

The run is walked as it would be computed, group by group, with every program handed to the other machine's compiler
instead of being run; what it would have left is stood in for by ones of the same shapes.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedmia_jax import compilation, types
from fedmia_jax.data import dataset as datasets
from fedmia_jax.engine import chunks, dispatch, experiment, kinds, lab, outline, progress
from fedmia_jax.engine.accelerators import counters, topologies
from fedmia_jax.engine.engines import contract
from fedmia_jax.engine.plans import plan, planning, runs, tasks
from fedmia_jax.storage import in_memory

TRAINS = "advance_model"  # the function in `programs.py` whose innermost loop is one update of every model
KERNEL_SECONDS = 2.6e-6  # of a small kernel after another, as an H200 takes in the updates of ten models
FLOOR = 6  # passes of an update over the parameters: gradient out and in, and for Adam two moments beside


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program that was handed to a compiler.

    Attributes:
      stage: that runs it.
      name: of the function.
      models: that a device works at side by side.
      floor: bytes that a pass moves at least for each model; 0 where the program does not train.
      seconds: that compiling took.
      nbytes: of arguments, results and what lies between on a device; 0 where it does not compile.
      work: one pass of its innermost loop, None where it does not compile.
      problem: what the compiler says against it, empty where it compiles.
    """

    stage: str
    name: str
    models: int
    floor: int
    seconds: float
    nbytes: int
    work: counters.Pass | None
    problem: str = ""

    def pass_seconds(self, kind: topologies.Kind) -> float:
        """Returns about how long a device takes for one pass of the innermost loop."""
        if self.work is None:
            return 0.0
        if self.work.cycles:
            return self.work.cycles / kind.clock
        return max(self.work.nbytes / kind.bandwidth, self.work.kernels * KERNEL_SECONDS)


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
    programs: Sequence[Compiled]
    updates: float
    passes: Mapping[Compiled, float]

    @property
    def seconds(self) -> float:
        """What the devices take to train, about."""
        return sum(passes * made.pass_seconds(self.topology.kind) for made, passes in self.passes.items())

    @property
    def problems(self) -> list[str]:
        """A line for each program that does not compile."""
        return [f"{made.stage}: {made.name}: {made.problem}" for made in self.programs if made.problem]


@dataclasses.dataclass(eq=False)
class Compiler:
    """Compiles what it is given, what is the same program once."""

    topology: topologies.Topology
    stage: str = ""
    floor: int = 0
    training: Compiled | None = None  # the program that the models of the present group train by
    seen: dict[Any, tuple[Compiled, Any]] = dataclasses.field(default_factory=dict)  # with what stands for the result
    texts: dict[str, Compiled] = dataclasses.field(default_factory=dict)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def programs(self) -> list[Compiled]:
        """All that were compiled, in the order of their first use."""
        return list(dict.fromkeys(made for made, _ in self.seen.values()))

    def run(self, program: jax.stages.Wrapped, args: tuple[Any, ...], static: Mapping[str, Any]) -> Any:
        """Compiles a program for the topology; returns ones in the shape of its result."""
        leaves, structure = jax.tree.flatten(args)
        sharded = static.get("num_devices", 1) > 1
        sharding = None if sharded else jax.sharding.SingleDeviceSharding(self.topology.devices[0])
        structs = [_struct(leaf, sharding) for leaf in leaves]
        marks = tuple(
            (leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else type(leaf) for leaf in structs
        )
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        mark = (program, structure, marks, tuple(sorted(static.items())), precision)
        with self.lock:  # the chunks of a bundle have threads of their own
            if mark not in self.seen:
                self.seen[mark] = self._call(program, leaves, structure, structs, static)
            made, result = self.seen[mark]
            if made.name == TRAINS:
                self.training = made
        return result

    def _call(
        self,
        program: jax.stages.Wrapped,
        leaves: Sequence[Any],
        structure: Any,
        structs: Sequence[Any],
        static: Mapping[str, Any],
    ) -> tuple[Compiled, Any]:
        """Compiles a program that has not been seen; returns it, and ones in the shape of its result."""
        results = []

        def flat(*leaves: Any) -> Any:
            made, of_result = jax.tree.flatten(program(*jax.tree.unflatten(structure, leaves), **static))
            results.append(of_result)
            return made

        shapes = jax.eval_shape(flat, *structs)
        with jax.default_device(jax.local_devices(backend="cpu")[0]):  # the programs' own devices are not there
            ones = [jnp.ones(leaf.shape, leaf.dtype) for leaf in shapes]
        models = -(-leaves[-1].shape[0] // static["num_devices"]) if "num_devices" in static else 1
        name = program.__name__  # type: ignore[attr-defined]
        return self._compile(name, jax.jit(flat), structs, models), jax.tree.unflatten(results[0], ones)

    def _compile(self, name: str, program: jax.stages.Wrapped, structs: Sequence[Any], models: int) -> Compiled:
        """Compiles a program, and reads what came of it."""
        floor = FLOOR * self.floor if name == TRAINS else 0
        start = time.perf_counter()
        try:
            lowered = program.lower(*structs)
            text = lowered.as_text()
            if text in self.texts:
                return self.texts[text]
            made = lowered.compile()
        except Exception as error:  # compilers fail in ways of their own
            seconds, problem = time.perf_counter() - start, " ".join(str(error).split())
            return Compiled(self.stage, name, models, floor, seconds, 0, None, problem)
        seconds = time.perf_counter() - start
        memory: Any = made.memory_analysis()
        parts = ("argument", "output", "temp", "generated_code")
        nbytes = sum(getattr(memory, f"{part}_size_in_bytes") for part in parts) - memory.alias_size_in_bytes
        work = counters.read(made.as_text() or "")
        self.texts[text] = Compiled(self.stage, name, models, floor, seconds, nbytes, work)
        return self.texts[text]


def _struct(leaf: Any, sharding: jax.sharding.Sharding | None) -> Any:
    """What a compiler needs to know of an argument; plain numbers stay, since they take any type."""
    if isinstance(leaf, (bool, int, float)):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


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
    place = _Lab(workdir, shown, devices=topology.devices, budget=budget, strict=False)
    compiler, updates, passes = Compiler(topology), 0.0, collections.Counter[Compiled]()
    with compilation.using(compilation.Target(topology.devices[0].platform, compiler.run)):
        planned = planning.make_plan(every_run)
        for kind in kinds.KINDS:
            # The pieces of an audit share what they read, and not their programs.
            every = experiment.chunks_of if kind.call else experiment.first_chunks
            todo = every(place, planned.units[kind.name])
            if not todo:
                continue
            compiler.stage = kind.name
            with shown.stage(f"{kind.name}: {len(todo)}", total=len(todo)) as advance:
                for together in _together(todo):
                    compiler.training = None
                    compiler.floor = max(tasks.params_nbytes(chunk.tasks[0].run) for chunk in together)
                    drafts |= _walk(place, planned, kind, together)
                    trained = [unit for chunk in together for unit in chunk.group if unit.num_models]
                    updates += sum(unit.steps for unit in trained)
                    if compiler.training is not None:
                        passes[compiler.training] += max(_passes(chunk, topology) for chunk in together)
                    advance(len(together))
    return Estimate(topology, compiler.programs, updates, passes)


def _together(todo: Sequence[chunks.Chunk]) -> list[list[chunks.Chunk]]:
    """The chunks, those of a bundle together."""
    found: dict[Any, list[chunks.Chunk]] = {}
    for chunk in todo:
        found.setdefault(chunk.bundle or chunk, []).append(chunk)
    return list(found.values())


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
        f"these; of floor: how many times {FLOOR} passes over the parameters. cycles: as the compiler estimates. "
        f"us: {_say_rule(topology.kind, found.programs)}; passes: in turn on a device; s: both multiplied."
    )
    return outline.Outline(f"Compiled for {topology.name}", header, rows, caption)


def _say_rule(kind: topologies.Kind, programs: Sequence[Compiled]) -> str:
    """How the time of a pass is estimated."""
    if any(made.work and made.work.cycles for made in programs):
        return f"cycles of all models at {kind.clock / 1e9:g} GHz"
    return f"the larger of bytes at {kind.bandwidth / 1e12:.2f} TB/s and {KERNEL_SECONDS * 1e6:g} for each kernel"


def _explain_program(made: Compiled, passes: float, kind: topologies.Kind) -> list[str]:
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
