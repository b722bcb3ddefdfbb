"""Cases that take turns, and what is told of each."""

import dataclasses
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from fedmia_jax.storage import environment

TURNS = 15  # so that the median of the next run lies in the range of this one; of five a third did not
PEERS = ("PyTorch", "Opacus")  # how the names of cases begin that are not ours
HEADER = {  # columns, and what they mean where that needs words
    "suite": "",
    "batch": "",
    "case": "",
    "us": "microseconds per model and update (per point of a sweep, record of an audit, start of a process)",
    "range": "of the turns",
    "times the first": "how many times as fast as the first case of the suite",
    "of ceiling": "part of what this machine can reach, see docs/performance.md",
    "GFLOP/s": "of the products of an update",
    "GB/s": "of six passes over the parameters",
    "records/s": "",
    "MiB": "of each model in training",
    "first call": "with compilation",
    "peak": "memory of the process so far",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """Something whose speed is measured.

    Attributes:
      name: what people read.
      make: makes the call that is measured, which returns when all is done; what it makes is freed with the call.
      steps: what the time is divided by: updates of single models, or points.
      models: trained side by side.
      nbytes: memory of what the call works on; 0 where it is not counted.
    """

    name: str
    make: Callable[[], Callable[[], Any]]
    steps: int
    models: int = 1
    nbytes: int = 0


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """What a machine could do at best.

    Attributes:
      floor: measures the seconds that a step takes at least on this machine.
      flops: multiplications and additions of a step.
      moved_nbytes: that a step reads and writes at least.
    """

    floor: Callable[[], float]
    flops: int
    moved_nbytes: int


@dataclasses.dataclass(frozen=True)
class Suite:
    """Cases that are measured side by side.

    Attributes:
      name: what people read.
      cases: the first is what the others are compared with.
      batch_size: records of a step.
      ceiling: of a step, measured beside the cases; None where not known.
      together: whether all cases are there at once and take turns; else each is made, measured and freed.
      turns: after the first call; None for `TURNS`. With 0 the first call is all that is measured.
    """

    name: str
    cases: Sequence[Case]
    batch_size: int
    ceiling: Ceiling | None = None
    together: bool = True
    turns: int | None = None

    @property
    def num_turns(self) -> int:
        """Turns after the first call."""
        return TURNS if self.turns is None else self.turns


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of a case.

    Attributes:
      suite, case: their names.
      batch_size: records of a step.
      models: trained side by side.
      seconds: of a step of one model, by turn.
      first_seconds: of the first call, compilation included.
      times_first: how many times as fast as the first case of its suite, medians of the turns.
      of_ceiling: part of what this machine can reach; None where that is not known.
      flops, moved_nbytes: of a step, at least; 0 where that is not known.
      nbytes: memory of what a model works on.
      peak_nbytes: of the process so far, when the case was measured.
      device: what it ran on.
    """

    suite: str
    case: str
    batch_size: int
    models: int
    seconds: tuple[float, ...]
    first_seconds: float
    times_first: float
    of_ceiling: float | None
    flops: int
    moved_nbytes: int
    nbytes: int
    peak_nbytes: int
    device: str

    @property
    def median(self) -> float:
        """Seconds of a step of one model."""
        return statistics.median(self.seconds)

    @property
    def plain(self) -> dict[str, Any]:
        """All of it as plain values, for files."""
        return dataclasses.asdict(self) | {
            "seconds": list(self.seconds),
            "median_seconds": self.median,
            "steps_per_second": 1 / self.median,
            "records_per_second": self.batch_size / self.median,
            "environment": environment.describe(),
        }

    @property
    def cells(self) -> list[str]:
        """For a table."""
        least, most = min(self.seconds) * 1e6, max(self.seconds) * 1e6
        ceiling = "" if self.of_ceiling is None else f"{self.of_ceiling:.0%}"
        rates = [f"{per / self.median / 1e9:.1f}" if per else "" for per in (self.flops, self.moved_nbytes)]
        records = f"{self.batch_size / self.median:,.0f}" if self.batch_size else ""
        memory = f"{self.nbytes / 2**20:.1f}" if self.nbytes else ""
        speed = [f"{self.median * 1e6:.0f}", f"{least:.0f}-{most:.0f}", f"{self.times_first:.2f}"]
        speed += [ceiling, *rates, records]
        peak = f"{self.peak_nbytes / 2**30:.2f} GiB"
        return [self.suite, str(self.batch_size or ""), self.case, *speed, memory, f"{self.first_seconds:.1f} s", peak]


def measure(suite: Suite) -> list[Row]:
    """Measures the cases of a suite; every turn calls each once, so that all see the same machine."""
    turns: dict[str, list[float]] = {case.name: [] for case in suite.cases}
    firsts: dict[str, float] = {}
    floors: list[float] = []
    peaks: dict[str, int] = {}
    for cases in [suite.cases] if suite.together else [[case] for case in suite.cases]:
        calls = {case.name: case.make() for case in cases}
        firsts |= {name: seconds_of(call) for name, call in calls.items()}
        for _ in range(suite.num_turns):
            for case in cases:
                turns[case.name].append(seconds_of(calls[case.name]) / case.steps)
            floors += [suite.ceiling.floor()] if suite.ceiling else []
        if not suite.num_turns:
            turns |= {case.name: [firsts[case.name] / case.steps] for case in cases}
        peaks |= {case.name: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 for case in cases}
    medians = {name: statistics.median(seconds) for name, seconds in turns.items()}
    device = f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    return [
        Row(
            suite=suite.name,
            case=case.name,
            batch_size=suite.batch_size,
            models=case.models,
            seconds=tuple(turns[case.name]),
            first_seconds=firsts[case.name],
            times_first=medians[suite.cases[0].name] / medians[case.name],
            of_ceiling=statistics.median(floors) / medians[case.name] if floors else None,
            flops=suite.ceiling.flops if suite.ceiling else 0,
            moved_nbytes=suite.ceiling.moved_nbytes if suite.ceiling else 0,
            nbytes=case.nbytes // case.models,
            peak_nbytes=peaks[case.name],
            device=device,
        )
        for case in suite.cases
    ]


def seconds_of(call: Callable[[], Any]) -> float:
    """Returns the wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
