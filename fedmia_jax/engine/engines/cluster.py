"""Chunks as tasks of Ray, on machines that may come and go; the only place, with `worker.py`, that knows Ray.

The process that was started plans, submits all chunks of a stage, and writes what each returns: nobody else touches the
workdir. A chunk whose machine or process dies is submitted again, with a line; what the program itself raises ends the
run. A chunk takes one device of a machine, or all devices of a process where it is made for all.
"""

import contextlib
import importlib.metadata
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from fedmia_jax import compilation, errors
from fedmia_jax.engine import chunks, kinds, lab
from fedmia_jax.engine.engines import bench, contract, worker
from fedmia_jax.engine.plans import plan

VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to Ray's makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # of a Ray to come, which warns about it
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of chunks beside one that has failed
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # of what Ray would print, all
}
PATIENCE = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # twenty times half a minute else, for a cluster that is no more
SECONDS = 10.0  # for a cluster to answer
PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "gpu": "gpu", "rocm": "gpu"}  # of what JAX_PLATFORMS may say
DEVICES = 1  # of a process: on a CPU unless it is said otherwise, on GPUs always
DEATHS = 10  # of a chunk, before it is the chunk that is to blame
CAUSES = {  # what Ray raises for a chunk that says nothing itself
    "NodeDiedError": "a machine has died",
    "WorkerCrashedError": "a process has died",
    "OutOfMemoryError": "a process was ended since its machine had no memory left",
    "ObjectLostError": "a machine has died with what it had computed",
}


@contextlib.contextmanager
def start(*, address: str | None, num_cpu_devices: int | None) -> Iterator[contract.Engine]:
    """Connects to a cluster, or starts a Ray on this machine, until the block ends.

    Args:
      address: of the cluster; `auto` for the one that this machine belongs to; None to start a Ray here.
      num_cpu_devices: XLA host devices of each process on a CPU, default 1; on GPUs a process has one.

    Raises:
      InputError: Ray is not installed, or no cluster can be reached.
    """
    try:
        importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError as error:
        raise errors.InputError(
            "--engine=ray: Ray is not installed; pip install '.[cluster]' beside launch.py"
        ) from error
    for name, value in (VARIABLES if address is None else VARIABLES | PATIENCE).items():
        os.environ.setdefault(name, value)  # before Ray is imported, which reads them then
    import ray

    _connect(address)
    try:
        platform = _find_platform(ray.cluster_resources())
        num_devices = num_cpu_devices if num_cpu_devices and platform == "cpu" else DEVICES
        with compilation.using(compilation.Target(platform, _run_here)):
            yield contract.Engine(Cluster(platform).compute, num_devices, only_cpu=True)
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    """Makes this process a driver of Ray, which says nothing on the terminal."""
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            _call(address)
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray fails in many ways
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        if address is None:
            raise errors.InputError(f"--engine=ray: Ray cannot be started here ({cause})") from error
        raise errors.InputError(f"--ray_address={address}: no Ray cluster can be reached there ({cause})") from error


def _call(address: str) -> None:
    """Raises OSError or ValueError where nobody answers at HOST:PORT; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if address != "auto" and "://" not in address:
        socket.create_connection((host, int(port)), SECONDS).close()


def _find_platform(resources: dict[str, float]) -> str:
    """What JAX_PLATFORMS says; else GPUs where the cluster has some."""
    asked = os.environ.get("JAX_PLATFORMS", "").partition(",")[0]
    if not asked:
        return "gpu" if resources.get("GPU") else "cpu"
    if asked not in PLATFORMS:
        raise errors.InputError(f"JAX_PLATFORMS={asked}: --engine=ray computes on CPUs (cpu) or GPUs (cuda)")
    return PLATFORMS[asked]


def _run_here(program: Any, args: tuple[Any, ...], static: Any) -> Any:
    """Runs the few programs of planning and of tables in this process, for whatever is planned."""
    return program(*args, **static)


class Cluster:
    """The machines that compute.

    Args:
      platform: of their devices, as JAX names it.
    """

    def __init__(self, platform: str) -> None:
        self.platform = platform
        self._sent: tuple[plan.Plan, Any] | None = None

    def compute(
        self,
        place: lab.Lab,
        planned: plan.Plan,
        kind: kinds.Kind,
        todo: Sequence[chunks.Chunk],
        advance: contract.Advance,
    ) -> None:
        """Submits chunks of one kind, the longest first, and keeps what each leaves as it ends."""
        import ray

        setup, shared = _setup(self.platform, len(place.devices)), [self._share(place, planned)]
        task, reads = ray.remote(worker.work), _Reads(place, planned, kind)
        _check_room(place, self._room(len(place.devices) if any(chunk.wide for chunk in todo) else 1))

        def submit(chunk: chunks.Chunk) -> Any:
            room = self._room(len(place.devices) if chunk.wide else 1)
            job = worker.Job(
                kind.name, tuple(unit.fingerprint for unit in chunk.units), chunk.size, chunk.wide, reads.of(chunk)
            )
            return task.options(name=kind.name, max_retries=0, **room).remote(setup, shared, job)

        waiting = {submit(chunk): (chunk, 0) for chunk in sorted(todo, key=lambda chunk: -chunk.steps)}
        while waiting:
            (ended,), _ = ray.wait(list(waiting))
            chunk, deaths = waiting.pop(ended)
            try:
                outcome = _get(ended)
            except _deaths() as error:
                _mourn(place, kind, chunk, error, deaths + 1)
                waiting[submit(chunk)] = chunk, deaths + 1
                continue
            bench.keep(place, kind, chunk, outcome)
            del ended, outcome  # the object store forgets it
            advance(chunk.steps)

    def _share(self, place: lab.Lab, planned: plan.Plan) -> Any:
        """A reference to what all chunks of a run share, sent once."""
        import ray

        if self._sent is None or self._sent[0] is not planned:
            shared = bench.Shared(planned, place.budget, place.keep_models, place.strict)
            self._sent = planned, ray.put(shared)
        return self._sent[1]

    def _room(self, num_devices: int) -> dict[str, int]:
        """What a machine must have free for a chunk."""
        return {"num_cpus": num_devices, "num_gpus": 0 if self.platform == "cpu" else num_devices}


class _Reads:
    """What chunks of one kind read of earlier outcomes, each piece sent once for the stage."""

    def __init__(self, place: lab.Lab, planned: plan.Plan, kind: kinds.Kind) -> None:
        self._kept, self._planned, self._kind = place.workdir.artifacts, planned, kind
        self._sent: dict[tuple[str, str], Any] = {}

    def of(self, chunk: chunks.Chunk) -> dict[tuple[str, str], Any]:
        """Returns references by unit and piece."""
        import ray

        needs = {need for unit in chunk.units for need in self._kind.needs(self._planned, unit.task)}
        for unit, piece in needs - set(self._sent):
            self._sent[unit, piece] = ray.put(self._kept.read(unit, piece))
        return {need: self._sent[need] for need in needs}


def _setup(platform: str, num_devices: int) -> worker.Setup:
    """What every process must be to compute as it is planned here."""
    settings = tuple((name, jax.config.values[name]) for name in worker.SETTINGS)
    return worker.Setup(platform, num_devices, settings, bench.releases())


def _check_room(place: lab.Lab, room: Mapping[str, int]) -> None:
    """Warns where no machine is large enough for a chunk; one may still come."""
    import ray

    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    asked = {names[name]: count for name, count in room.items() if count}
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(has.get(name, 0) >= count for name, count in asked.items()) for has in alive):
        text = " and ".join(f"{count} {name}" for name, count in asked.items())
        place.warn(f"no machine of the cluster has {text} for a process yet; waiting for one")


def _deaths() -> tuple[type[Exception], ...]:
    """What Ray raises for a chunk that has died, or whose outcome has."""
    import ray

    return tuple(getattr(ray.exceptions, name) for name in CAUSES)


def _mourn(place: lab.Lab, kind: kinds.Kind, chunk: chunks.Chunk, error: Exception, deaths: int) -> None:
    """Warns that a chunk has died; raises where it has died too often for its machines to be to blame."""
    (cause,) = (text for name, text in CAUSES.items() if name in (base.__name__ for base in type(error).__mro__))
    if deaths == DEATHS:
        raise errors.InputError(
            f"--engine=ray: {kind.name}: {cause} for the {deaths}th time while it computed the same "
            f"{len(chunk.units)} of them; give processes more memory, or smaller chunks by --memory_gib"
        ) from error
    text = f"{kind.name}: {cause}; the {len(chunk.units)} that it had in work are computed again"
    place.warn(text, about=(chunk.units[0].fingerprint, deaths))


def _get(ended: Any) -> bench.Outcome:
    """What a chunk has left; raises what is wrong with the input as it was raised there."""
    import ray

    try:
        return ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, errors.InputError):
            raise errors.InputError(str(error.cause)) from None
        raise
