"""A compiler for devices that are not there, in the place of whoever runs programs."""

import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedmia_jax.engine.accelerators import counters, topologies

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
