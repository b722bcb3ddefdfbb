"""Chunks on all processes of one JAX job, as on the hosts of a TPU slice: each runs the same command, the first writes.

All processes plan the same run. Stage by stage the first says who computes which chunks, sends what these read of
earlier outcomes, and writes what they leave; the others read and write no file of the run. Messages go through the
collectives of JAX itself, so that no port and no disk is needed beside what the job has anyway.
"""

import atexit
import contextlib
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from fedmia_jax import errors, registry
from fedmia_jax.engine import chunks, dispatch, kinds, lab
from fedmia_jax.engine.engines import bench, contract
from fedmia_jax.engine.plans import plan, planning, runs
from fedmia_jax.fingerprints import fingerprint
from fedmia_jax.storage import artifacts

NAME = "--engine=distributed"
SECONDS_TO_START = 300  # that processes may come after each other
SECONDS_TO_END = 10  # that they may end after each other
SECONDS_OF_SILENCE = 60  # after which JAX holds a process to be dead
LAST_WORDS = "the same command on every host goes on from what is finished"

Message = tuple[dict[str, Any], Mapping[str, Any]]  # plain values, and nested arrays


@contextlib.contextmanager
def start(
    *,
    address: str | None,
    num_cpu_devices: int | None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Iterator[contract.Engine]:
    """Joins the processes of the job, until the block ends.

    Args:
      address: of the first process, HOST:PORT; None where JAX finds the job by itself, as on TPUs and under Slurm.
      num_cpu_devices: XLA host devices of each process on a CPU; None for one a core.
      num_processes: of the job; None where JAX finds it.
      process_id: of this one, from 0; None where JAX finds it.

    Raises:
      InputError: there is no such job.
    """
    try:
        jax.distributed.initialize(
            address,
            num_processes,
            process_id,
            initialization_timeout=SECONDS_TO_START,
            heartbeat_timeout_seconds=SECONDS_OF_SILENCE,
            shutdown_timeout_seconds=SECONDS_TO_END,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise errors.InputError(
            f"{NAME}: no job of several processes was found ({cause}); give --coordinator=HOST:PORT, --num_processes "
            "and --process_id"
        ) from error
    with _watched():
        hosts = Hosts()
        try:
            yield contract.Engine(hosts.compute, num_cpu_devices, leads=_leads, follow=hosts.follow, lead=hosts.lead)
        finally:
            with contextlib.suppress(RuntimeError):  # who is gone does not say goodbye
                jax.distributed.shutdown()


class Hosts:
    """The processes that compute; a single conversation, which the first one leads."""

    def __init__(self) -> None:
        self._bench: bench.Bench | None = None
        self._reads: dict[tuple[str, str], Any] = {}

    def compute(
        self,
        place: lab.Lab,
        planned: plan.Plan,
        kind: kinds.Kind,
        todo: Sequence[chunks.Chunk],
        advance: contract.Advance,
    ) -> None:
        """Leads: deals chunks of one kind, the longest first, in rounds, and keeps what each leaves.

        In a round every process computes one chunk that is made for all its devices, or as many as it has devices of
        those that are made for one.
        """
        if self._bench is None:
            _say({"begin": True})
            problem = self._open(planned, budget=place.budget, keep_models=place.keep_models, strict=place.strict)
            if problem:
                raise errors.InputError(problem)
        kept, count = place.workdir.artifacts, jax.process_count()
        lots = _lots(todo, num_devices=len(place.devices))
        for first in range(0, len(lots), count):
            dealt = dict(enumerate(lots[first : first + count]))
            _say({"kind": kind.name, "dealt": [[_describe(chunk) for chunk in lot] for lot in dealt.values()]})
            for process, lot in dealt.items():
                needs = {need for chunk in lot for unit in chunk.units for need in kind.needs(planned, unit.task)}
                reads = {need: kept.read(*need) for need in sorted(needs)}
                _say({"for": process}, {" ".join(need): tree for need, tree in reads.items()})
                if process == 0:
                    self._reads = reads
            answers = _gather(self._work(kind.name, [_describe(chunk) for chunk in dealt[0]]))
            for process, lot in dealt.items():
                head, trees = answers[process]
                _check_answer(head)
                for number, chunk in enumerate(lot):
                    outcome = bench.Outcome(trees.get(str(number), {}), **head["outcomes"][number])
                    bench.keep(place, kind, chunk, outcome)
                    advance(chunk.steps)

    def follow(self, every_run: Sequence[runs.Run], *, budget: int, keep_models: bool, strict: bool) -> None:
        """Computes what the first process deals, until it has dealt all.

        Raises:
          InputError: the first process has ended the run.
          ConnectionError: another process is gone.
        """
        try:
            _hear()  # that there is something to do
            planned = planning.make_plan(every_run, keep_models=keep_models)
            self._open(planned, budget=budget, keep_models=keep_models, strict=strict)  # a problem is said by the first
            while True:
                self._take_part(_hear()[0])
        except _Ended as end:
            if end.failed:
                raise errors.InputError(f"{NAME}: process 0 has ended the run; it says why") from None

    def _take_part(self, head: Mapping[str, Any]) -> None:
        """Computes what is dealt to this process in a round."""
        own: list[Any] = []
        for process, lot in enumerate(head["dealt"]):
            _, trees = _hear()
            if process == jax.process_index():
                own = lot
                self._reads = {(name.split()[0], name.split()[1]): tree for name, tree in trees.items()}
        _gather(self._work(head["kind"], own))

    @contextlib.contextmanager
    def lead(self) -> Iterator[None]:
        """Tells those who follow when the block has ended, so that they end too."""
        try:
            yield
        except ConnectionError:
            raise
        except Exception:
            _dismiss(failed=True)
            raise
        _dismiss(failed=False)

    def _open(self, planned: plan.Plan, **options: Any) -> str | None:
        """Makes the place to compute; returns what a process does otherwise than the first, the same on all."""
        self._bench = bench.Bench(bench.Shared(planned, **options), lambda unit, piece: self._reads[unit, piece])
        units = [unit.fingerprint for of_kind in planned.units.values() for unit in of_kind]
        facts = {
            "another run": fingerprint(units, options),
            "other releases": fingerprint(bench.releases()),
            "other devices": f"{len(jax.local_devices())} of {jax.default_backend()}",
        }
        answers = _gather(({"host": platform.node(), "facts": facts}, {}))
        for number, (head, _) in enumerate(answers):
            for problem, there in head["facts"].items():
                first = answers[0][0]["facts"][problem]
                if there != first:
                    return (
                        f"{NAME}: process {number} on {head['host']} has {problem} than process 0 ({there}, {first}); "
                        "give the same command on machines that are alike"
                    )
        return None

    def _work(self, kind: str, described: Sequence[Mapping[str, Any]]) -> Message:
        """What this process leaves of its chunks, or why it cannot."""
        place = self._bench
        assert place is not None
        lot = [place.chunk(each["units"], size=each["size"], wide=each["wide"]) for each in described]
        outcomes: dict[str, bench.Outcome] = {}

        def compute(chunk: chunks.Chunk, devices: tuple[jax.Device, ...], join: dispatch.Join) -> None:
            del join
            outcomes[chunk.units[0].fingerprint] = place.compute(kind, chunk, devices)

        try:
            dispatch.run_chunks(lot, compute, place.devices, on_failure=place.stop)
        except errors.InputError as error:
            return {"wrong": str(error)}, {}
        except Exception as error:
            blamed = registry.blame(error)
            return {"wrong": str(blamed)} if blamed else {"failed": f"{type(error).__name__}: {error}"}, {}
        ordered = [outcomes[chunk.units[0].fingerprint] for chunk in lot]
        heads = [{"seconds": each.seconds, "warnings": each.warnings, "lines": each.lines} for each in ordered]
        return {"outcomes": heads}, {str(number): each.pieces for number, each in enumerate(ordered)}


def _leads() -> bool:
    """Whether this process is the first; asks for devices."""
    return jax.process_index() == 0


class _Ended(Exception):
    """The first process has ended the run."""

    def __init__(self, *, failed: bool) -> None:
        super().__init__()
        self.failed = failed


def _say(head: dict[str, Any], trees: Mapping[str, Any] | None = None) -> None:
    """Sends a message to all that follow."""
    with _conversing():
        content = _pack(head, trees or {})
        multihost_utils.broadcast_one_to_all(np.int64(len(content)))
        multihost_utils.broadcast_one_to_all(content)


def _dismiss(*, failed: bool) -> None:
    """Says to all that follow that there is no more to do; who is gone need not know."""
    with contextlib.suppress(ConnectionError):
        _say({"failed": failed})


def _hear() -> Message:
    """The next message of the first process; raises `_Ended` where it is its last, whenever that comes."""
    with _conversing():
        size = int(multihost_utils.broadcast_one_to_all(np.int64(0)))
        head, trees = _unpack(np.asarray(multihost_utils.broadcast_one_to_all(np.zeros(size, np.uint8))))
    if "failed" in head:
        raise _Ended(failed=head["failed"])
    return head, trees


def _gather(message: Message) -> list[Message]:
    """The messages of all processes, each of which sends one."""
    with _conversing():
        content = _pack(*message)
        sizes = np.asarray(multihost_utils.process_allgather(np.int64(len(content)))).reshape(-1)
        padded = np.pad(content, (0, int(sizes.max()) - len(content)))
        every = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [_unpack(row[:size]) for row, size in zip(every, sizes.tolist(), strict=True)]


@contextlib.contextmanager
def _conversing() -> Iterator[None]:
    """Says it in one line where another process no longer answers."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise ConnectionError(f"{NAME}: another process of the job is gone") from error


def _pack(head: dict[str, Any], trees: Mapping[str, Any]) -> np.ndarray:
    """A message as bytes: plain values as JSON, arrays as NumPy writes them."""
    content = io.BytesIO()
    arrays = artifacts.flatten(trees)
    np.savez(
        content,
        head=np.frombuffer(json.dumps(head).encode(), np.uint8),
        **{f"a.{name}": leaf for name, leaf in arrays.items()},
    )
    return np.frombuffer(content.getvalue(), np.uint8)


def _unpack(content: np.ndarray) -> Message:
    """The inverse of `_pack`."""
    with np.load(io.BytesIO(content.tobytes()), allow_pickle=False) as archive:
        arrays = {name.removeprefix("a."): archive[name] for name in archive.files if name != "head"}
        return json.loads(archive["head"].tobytes()), artifacts.nest(arrays)


def _describe(chunk: chunks.Chunk) -> dict[str, Any]:
    """What a chunk is, in plain values."""
    return {"units": [unit.fingerprint for unit in chunk.units], "size": chunk.size, "wide": chunk.wide}


def _lots(todo: Sequence[chunks.Chunk], *, num_devices: int) -> list[list[chunks.Chunk]]:
    """What a process computes in a round, the longest first."""
    wide = sorted((chunk for chunk in todo if chunk.wide), key=lambda chunk: -chunk.steps)
    narrow = sorted((chunk for chunk in todo if not chunk.wide), key=lambda chunk: -chunk.steps)
    return [[chunk] for chunk in wide] + [
        narrow[first : first + num_devices] for first in range(0, len(narrow), num_devices)
    ]


def _check_answer(head: Mapping[str, Any]) -> None:
    """Raises what a process says that it could not compute."""
    if "wrong" in head:
        raise errors.InputError(head["wrong"])
    if "failed" in head:
        raise RuntimeError(head["failed"])


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """A line at the end of a process that JAX, or anybody, ends without a word.

    JAX aborts a process whose coordinator is gone; another one, which costs nothing, then says what to do.
    """
    line = f"error: {NAME}: a process was ended, perhaps since another one of the job is gone; {LAST_WORDS}"
    watch = "import sys; line = sys.argv[1]; sys.stdin.read() or print(line, file=sys.stderr, flush=True)"
    watcher = subprocess.Popen([sys.executable, "-c", watch, line], stdin=subprocess.PIPE, start_new_session=True)
    owner = os.getpid()

    def dismiss() -> None:
        if os.getpid() == owner and watcher.poll() is None:
            watcher.communicate(b"done")

    atexit.register(dismiss)
    try:
        yield
    finally:
        dismiss()
