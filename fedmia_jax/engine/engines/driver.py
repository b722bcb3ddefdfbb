"""Chunks as tasks of Ray; with `cluster.py` and `worker.py` the only place that knows Ray.

The process that was started plans, submits all chunks of a stage, and writes what each returns: nobody else touches the
workdir. A chunk whose machine or process dies is submitted again, with a line; what the program itself raises ends the
run, and so does a chunk whose processes die one after the other while no other chunk ends. A chunk takes one device of
a machine, or all devices of a process where it is made for all.
"""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fedmia_jax import errors
from fedmia_jax.engine import chunks, kinds, lab
from fedmia_jax.engine.engines import bench, contract, worker
from fedmia_jax.engine.plans import plan

SECONDS_TO_WAIT = 60.0  # for a chunk to end, before it is looked whether there is a machine
DEATHS = 10  # of processes with the same chunk, while no other chunk ends
MACHINE = re.compile(r"Node IP: (\S+), node ID: (\w+)")  # in what Ray says of one that has died
ELSEWHERE = {"scheduling_strategy": "SPREAD"}  # than where a process has died, if there is another machine
GONE = ("NodeDiedError", "ObjectLostError")  # what Ray raises where a machine has died, or what it had computed
CAUSES = {  # what it raises where a process cannot do its work, and the work itself says nothing
    "WorkerCrashedError": "a process has died",
    "OutOfMemoryError": "a process was ended since its machine had no memory left",
    "RaySystemError": "a machine could not start a process",
    "RuntimeEnvSetupError": "a machine could not start a process",
    "ObjectLostError": "what a process was to read was lost",  # raised there, and so a RayTaskError too
}


class Driver:
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
        """Submits chunks of one kind, the longest first, and keeps what each leaves as it ends.

        Raises:
          InputError: what a chunk says itself, or that no process can compute one, or what Ray says.
        """
        import ray

        try:
            _Stage(self, place, planned, kind).compute(todo, advance)
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.RayTaskError):
                raise
            cause = " ".join(str(error).split())[:300]
            raise errors.InputError(f"--engine=ray: {type(error).__name__} ({cause}); {contract.KEPT}") from error

    def share(self, place: lab.Lab, planned: plan.Plan) -> Any:
        """A reference to what all chunks of a run share, sent once."""
        import ray

        if self._sent is None or self._sent[0] is not planned:
            shared = bench.Shared(planned, place.budget, place.keep_models, place.strict)
            self._sent = planned, ray.put(shared)
        return self._sent[1]

    def forget(self) -> None:
        """Sends what all chunks share anew for the next."""
        self._sent = None

    def room(self, num_devices: int) -> dict[str, int]:
        """What a machine must have free for a chunk."""
        return {"num_cpus": num_devices, "num_gpus": 0 if self.platform == "cpu" else num_devices}


class _Stage:
    """Chunks of one kind in work."""

    def __init__(self, driver: Driver, place: lab.Lab, planned: plan.Plan, kind: kinds.Kind) -> None:
        import ray

        self._driver, self._place, self._planned, self._kind = driver, place, planned, kind
        self._task: Any = ray.remote(worker.work)
        self._setup, self._reads = _setup(driver.platform, len(place.devices)), _Reads(place, planned, kind)
        self._waiting: dict[Any, chunks.Chunk] = {}
        self._held: list[chunks.Chunk] = []  # with which more than one process has died
        self._deaths: collections.Counter[chunks.Chunk] = collections.Counter()  # of processes, since a chunk has ended

    def compute(self, todo: Sequence[chunks.Chunk], advance: contract.Advance) -> None:
        """Submits all, and keeps what each leaves as it ends."""
        import ray

        room = self._driver.room(max(self._num_devices(chunk) for chunk in todo))
        _check_room(self._place, room)
        for chunk in sorted(todo, key=lambda chunk: -chunk.steps):
            self._submit(chunk)
        while self._waiting:
            ready, _ = ray.wait(list(self._waiting), timeout=SECONDS_TO_WAIT)
            if not ready:
                _check_room(self._place, room, about=f"room for the last {len(self._waiting)} of {self._kind.name}")
                continue
            chunk = self._waiting.pop(ready[0])
            try:
                outcome = _get(ready.pop())
            except _errors(*GONE, *CAUSES) as error:
                self._resume(chunk, error)
            else:
                bench.keep(self._place, self._kind, chunk, outcome)
                del outcome  # the object store forgets it
                advance(chunk.steps)
                self._deaths.clear()
                self._submit_held()
            if not self._waiting:
                self._submit_held()

    def _num_devices(self, chunk: chunks.Chunk) -> int:
        """Devices of a process that computes a chunk."""
        return len(self._place.devices) if chunk.wide else 1

    def _submit(self, chunk: chunks.Chunk, **options: Any) -> None:
        """Lets a chunk be computed; Ray itself would try again in silence."""
        units = tuple(unit.fingerprint for unit in chunk.units)
        job = worker.Job(self._kind.name, units, chunk.size, chunk.wide, self._reads.of(chunk))
        shared, room = self._driver.share(self._place, self._planned), self._driver.room(self._num_devices(chunk))
        task = self._task.options(name=self._kind.name, max_retries=0, **room, **options)
        self._waiting[task.remote(self._setup, [shared], job)] = chunk

    def _submit_held(self) -> None:
        """Lets one chunk with which processes have died be computed again.

        One by one, as others end: a machine may have too little memory for as many as it has cores.
        """
        if self._held:
            self._submit(self._held.pop(0), **ELSEWHERE)

    def _resume(self, chunk: chunks.Chunk, error: Exception) -> None:
        """Submits a chunk again whose machine has died, however often; holds it back where processes die with it.

        Raises:
          InputError: processes have died too often with this chunk while no other has ended.
        """
        import ray

        in_process = isinstance(error, ray.exceptions.RayTaskError)
        if isinstance(error, _errors(*GONE)) and not in_process:
            found = MACHINE.search(str(error))
            machine, about = (f"machine {found[1]}", f"machine {found[2]}") if found else ("a machine", None)
            self._place.warn(f"{machine} has died; what it had in work is computed again by others", about=about)
            self._submit(chunk)
            return
        if in_process:
            self._driver.forget()
            self._reads.forget()
        cause = next(text for name, text in CAUSES.items() if isinstance(error, _errors(name)))
        self._deaths[chunk] += 1
        count, name = len(chunk.units), self._kind.name
        if self._deaths[chunk] == DEATHS:
            raise errors.InputError(
                f"--engine=ray: {name}: {cause}, {DEATHS} times in a row with the same {count} in work; see Ray's "
                f"logs, give processes more memory or smaller chunks by --memory_gib; {contract.KEPT}"
            ) from error
        # Each of them is shown, though two may read alike.
        self._place.show.warn(f"{name}: {cause}; the {count} that it had in work are computed again")
        if self._deaths[chunk] == 1:
            self._submit(chunk, **ELSEWHERE)
        else:
            self._held.append(chunk)


class _Reads:
    """What chunks of one kind read of earlier outcomes, each piece sent once for the stage."""

    def __init__(self, place: lab.Lab, planned: plan.Plan, kind: kinds.Kind) -> None:
        self._kept, self._planned, self._kind = place.workdir.artifacts, planned, kind
        self._sent: dict[tuple[str, str], Any] = {}

    def forget(self) -> None:
        """Sends all pieces anew for the chunks that come."""
        self._sent.clear()

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


def _check_room(place: lab.Lab, room: Mapping[str, int], *, about: str | None = None) -> None:
    """Warns where no machine is large enough for a chunk; one may still come."""
    import ray

    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    asked = {names[name]: count for name, count in room.items() if count}
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(has.get(name, 0) >= count for name, count in asked.items()) for has in alive):
        text = " and ".join(f"{count} {name}" for name, count in asked.items())
        place.warn(f"no machine of the cluster has {text} for a process yet; waiting for one", about=about)


def _errors(*names: str) -> tuple[type[Exception], ...]:
    """Errors of Ray by their names."""
    import ray

    return tuple(getattr(ray.exceptions, name) for name in names)


def _get(ended: Any) -> bench.Outcome:
    """What a chunk has left; raises what is wrong with the input as it was raised there."""
    import ray

    try:
        return ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, errors.InputError):
            raise errors.InputError(str(error.cause)) from None
        raise
