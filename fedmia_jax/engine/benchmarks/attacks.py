"""Attacks with references: how long they take a record, and how much memory where there are very many records.

The signals are drawn, not trained; nothing is found in them. Of the large audit all references overlap in one buffer,
since of their own they would take twenty gigabytes: to an attack, which reads blocks of records, that is no difference.
These take minutes, and are done once.
"""

import collections
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from fedmia_jax import attacks, options
from fedmia_jax.attacks import signals
from fedmia_jax.audit import api, evidence, scoring
from fedmia_jax.engine.benchmarks import timing
from fedmia_jax.engine.plans import points
from fedmia_jax.schedule import Schedule

VIEWS = ("outsider", "insider", "coordinator")
NODES, CYCLES, NUM_REFERENCES, NUM_RECORDS = 3, 5, 32, 4_000
LARGE_NODES, LARGE_CYCLES, LARGE_REFERENCES = 2, 100, 256
LARGE = {"lira_online": (10_000, 100_000), "sequence_lira": (10_000, 100_000)}  # records
LARGE_VIEWS = ("coordinator",)  # who reads all snapshots
STRIDES = (977, 131)  # of the overlapping buffer, between references and between snapshots


def make_suites(plans: points.Plans) -> list[timing.Suite]:
    """Returns a case for each attack with references, and for some of them on very many records."""
    del plans
    names = attacks.with_references(tuple(attacks.ATTACKS))
    usual = [timing.Case(name, functools.partial(make_audit, name, NUM_RECORDS), NUM_RECORDS) for name in names]
    large = [
        timing.Case(f"{name}, {number:,} records", functools.partial(make_large_audit, name, number), number)
        for name, numbers in LARGE.items()
        for number in numbers
    ]
    return [
        timing.Suite("attacks", usual, 0, together=False),
        timing.Suite(
            f"{LARGE_REFERENCES} references, {LARGE_NODES * LARGE_CYCLES} snapshots", large, 0, together=False, turns=0
        ),
    ]


def make_audit(name: str, num_records: int) -> Callable[[], object]:
    """Returns a call that fits an attack, and scores one target under some views."""
    rng, schedule = np.random.default_rng(0), Schedule.cyclic(nodes=NODES, cycles=CYCLES)
    phi = rng.normal(size=(1 + NUM_REFERENCES, len(schedule), num_records)).astype(np.float32)
    return _make_call(name, schedule, phi, VIEWS)


def make_large_audit(name: str, num_records: int) -> Callable[[], object]:
    """Returns the same for more references and snapshots than memory holds of so many records."""
    rng, schedule = np.random.default_rng(0), Schedule.cyclic(nodes=LARGE_NODES, cycles=LARGE_CYCLES)
    shape = (1 + LARGE_REFERENCES, len(schedule), num_records)
    size = 1 + sum((length - 1) * stride for length, stride in zip(shape, (*STRIDES, 1), strict=True))
    buffer = rng.normal(size=size).astype(np.float32)
    strides = tuple(buffer.itemsize * stride for stride in (*STRIDES, 1))
    phi = np.lib.stride_tricks.as_strided(buffer, shape, strides, writeable=False)
    return _make_call(name, schedule, phi, LARGE_VIEWS)


def _make_call(name: str, schedule: Schedule, phi: np.ndarray, views: Sequence[str]) -> Callable[[], object]:
    """Scores of all views, by an attack that is fitted anew in every call."""
    owners = np.random.default_rng(1).integers(-1, schedule.nodes, (len(phi), phi.shape[2])).astype(np.int32)
    defaults = {each: option.default for each, option in options.declared(attacks.find(name).options).items()}
    (signal,) = attacks.signals_read(attacks.choose((name,), defaults)).values()
    target, known = ({} if signal == signals.PHI else {signal.name: part} for part in (phi[:1], phi[1:]))
    references = evidence.References(phi=phi[1:], owners=owners[1:], signals=known)
    arrays = evidence.Evidence(phi=phi[:1], owners=owners[:1], schedule=schedule, references=references, signals=target)

    def call() -> None:
        scorer = api.make_scorer(arrays, (name,), views, options={"strongest": name})
        with jax.default_matmul_precision("highest"):
            collections.deque(scoring.score_with_references(scorer, name), maxlen=0)

    return call
