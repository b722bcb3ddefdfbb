"""The side of a Ray task: a process on any machine that computes chunks in memory and returns what they leave.

It reads no file of the run: the plan with its records, and what a chunk reads of earlier outcomes, come through Ray's
object store, once for each machine.
"""

import dataclasses
import functools
import importlib.metadata
import pathlib
import platform
import time
from collections.abc import Hashable, Mapping
from typing import Any

import jax

from fedmia_jax import errors, registry
from fedmia_jax.config import schema
from fedmia_jax.engine import chunks, devices, kinds, lab, plan
from fedmia_jax.engine.engines import contract
from fedmia_jax.fingerprints import fingerprint
from fedmia_jax.storage import environment, in_memory

# Settings of JAX that decide what programs compute; a process takes them from the one that plans.
SETTINGS = ("jax_enable_x64", "jax_threefry_partitionable", "jax_disable_most_optimizations")


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a process must be to compute as it was planned.

    Attributes:
      platform: as JAX names it.
      num_devices: of that platform, in each process.
      settings: of JAX, pairs of name and value.
      releases: pairs of package and release.
    """

    platform: str
    num_devices: int
    settings: tuple[tuple[str, Any], ...]
    releases: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """What all chunks of a run share; see `lab.Lab`."""

    planned: plan.Plan
    budget: int
    keep_models: bool
    strict: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One chunk: its kind by name, its units by fingerprint, and references to what it reads, by unit and piece."""

    kind: str
    units: tuple[str, ...]
    size: int
    wide: bool
    reads: Mapping[tuple[str, str], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a chunk leaves: pieces as `Draft.write` takes them, warnings with what they are about, lines of the log."""

    pieces: Mapping[str, Any]
    warnings: list[tuple[str, Hashable]]
    lines: list[dict[str, Any]]
    seconds: float


def releases() -> tuple[tuple[str, str], ...]:
    """Returns what computes here: releases of packages, and a hash of the sources of this one."""
    root = pathlib.Path(__file__).resolve().parents[2]
    sources = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py")}
    packages = [(name, importlib.metadata.version(name)) for name in environment.PACKAGES]
    return (*packages, (root.name, fingerprint(sources)))


def work(setup: Setup, shared: list[Any], job: Job) -> Outcome:
    """Computes one chunk.

    Args:
      setup: of this process, before anything is read that needs a device.
      shared: one reference to what is shared; in a list, since Ray would read it anew for every chunk.
      job: the chunk.

    Raises:
      InputError: this process is not as it should be, or what the computation itself says.
    """
    _start(setup)
    bench = _open(shared[0])
    try:
        return bench.compute(job)
    except errors.InputError:
        raise
    except Exception as error:
        blamed = registry.blame(error)
        if blamed is None:
            raise
        raise blamed from error


@functools.cache
def _start(setup: Setup) -> None:
    """Looks for devices, once; raises where they, or what computes on them, are not as planned."""
    machine = f"--engine=ray: machine {platform.node()}"
    here = dict(releases())
    other = [f"{name} {here[name]} there, {wanted} here" for name, wanted in setup.releases if here[name] != wanted]
    if other:
        raise errors.InputError(f"{machine} has other releases ({'; '.join(other)}); install the same everywhere")
    for name, value in setup.settings:
        jax.config.update(name, value)
    devices.start(setup.num_devices, only_cpu=setup.platform == "cpu")
    if (jax.default_backend(), len(jax.devices())) != (setup.platform, setup.num_devices):
        raise errors.InputError(
            f"{machine} has {len(jax.devices())} devices of {jax.default_backend()!r} in a process, not "
            f"{setup.num_devices} of {setup.platform!r}; install JAX's extra for it, or set JAX_PLATFORMS=cpu where "
            "the command is given"
        )


@functools.lru_cache(maxsize=1)
def _open(shared: Any) -> "_Bench":
    """What this process has of a run."""
    import ray

    contents: Shared = ray.get(shared)
    for run in contents.planned.runs:
        for field in schema.REGISTRIES:  # things of the user's own are found by their names here too
            schema.admit(field, run.settings.get(field))
    return _Bench(contents)


@dataclasses.dataclass(frozen=True, eq=False)
class _Lab(lab.Lab):
    """A lab that keeps its warnings, for the process where somebody reads them."""

    warnings: list[tuple[str, Hashable]] = dataclasses.field(default_factory=list)

    def warn(self, text: str, *, about: Hashable = None) -> None:
        self.warnings.append((text, about))


class _Bench:
    """A place in memory where the chunks of one run are computed, one after the other."""

    def __init__(self, shared: Shared) -> None:
        self.planned = shared.planned
        self.reads: Mapping[tuple[str, str], Any] = {}
        self.workdir = in_memory.Workdir(self._read)
        workdir: Any = self.workdir
        shown: Any = None  # stages and bars are elsewhere
        self.place = _Lab(workdir, shown, budget=shared.budget, keep_models=shared.keep_models, strict=shared.strict)
        groups = [tuple(group) for units in self.planned.units.values() for group in chunks.make_groups(units)]
        self.groups = {unit.fingerprint: group for group in groups for unit in group}
        self.units = {unit.fingerprint: unit for group in groups for unit in group}

    def compute(self, job: Job) -> Outcome:
        """Computes one chunk."""
        start = time.perf_counter()
        self.reads = job.reads
        self.workdir.lines.clear()
        self.place.warnings.clear()
        (kind,) = (kind for kind in kinds.KINDS if kind.name == job.kind)
        units = tuple(self.units[unit] for unit in job.units)
        chunk = chunks.Chunk(units, job.size, job.wide, self.groups[job.units[0]])
        draft: Any = in_memory.Draft(len(units))
        used = self.place.devices if chunk.wide else self.place.devices[:1]
        contract.compute_chunk(self.place, self.planned, kind.compute, chunk, draft, used, lambda steps: None)
        seconds = time.perf_counter() - start
        return Outcome(draft.pieces, list(self.place.warnings), list(self.workdir.lines), seconds)

    def _read(self, unit: str, piece: str) -> Any:
        """A piece of an earlier outcome."""
        import ray

        return ray.get(self.reads[unit, piece])
