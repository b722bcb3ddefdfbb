"""The side of a Ray task: a process on any machine that computes chunks in memory and returns what they leave.

It reads no file of the run: the plan with its records, and what a chunk reads of earlier outcomes, come through Ray's
object store, once for each machine.
"""

import dataclasses
import functools
import platform
from collections.abc import Mapping
from typing import Any

import jax

from fedmia_jax import errors, registry
from fedmia_jax.config import schema
from fedmia_jax.engine import devices
from fedmia_jax.engine.engines import bench

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
class Job:
    """One chunk: its kind by name, its units by fingerprint, and references to what it reads, by unit and piece."""

    kind: str
    units: tuple[str, ...]
    size: int
    wide: bool
    reads: Mapping[tuple[str, str], Any]


def work(setup: Setup, shared: list[Any], job: Job) -> bench.Outcome:
    """Computes one chunk.

    Args:
      setup: of this process, before anything is read that needs a device.
      shared: one reference to what is shared; in a list, since Ray would read it anew for every chunk.
      job: the chunk.

    Raises:
      InputError: this process is not as it should be, or what the computation itself says.
    """
    _start(setup)
    opened = _open(shared[0])
    try:
        return opened.work(job)
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
    here = dict(bench.releases())
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

    contents: bench.Shared = ray.get(shared)
    for run in contents.planned.runs:
        for field in schema.REGISTRIES:  # things of the user's own are found by their names here too
            schema.admit(field, run.settings.get(field))
    return _Bench(contents)


class _Bench(bench.Bench):
    """A bench to which references to what is read come with each job."""

    def __init__(self, shared: bench.Shared) -> None:
        super().__init__(shared, self._read)
        self.reads: Mapping[tuple[str, str], Any] = {}

    def work(self, job: Job) -> bench.Outcome:
        """Computes one chunk."""
        self.reads = job.reads
        chunk = self.chunk(job.units, size=job.size, wide=job.wide)
        return self.compute(job.kind, chunk, self.devices if job.wide else self.devices[:1])

    def _read(self, unit: str, piece: str) -> Any:
        """A piece of an earlier outcome."""
        import ray

        return ray.get(self.reads[unit, piece])
