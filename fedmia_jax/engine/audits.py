"""How the pieces of an audit are computed and kept: one attack on the hand-offs of all replicates of a point.

A piece's tables are kept as the bytes of parquet files, under the hashes that guard all outcomes.
"""

import dataclasses
import functools
import io
import threading
from collections.abc import Callable, Sequence

import jax
import numpy as np
import polars as pl

from fedmia_jax import randomness
from fedmia_jax.audit import api, findings, scorers
from fedmia_jax.engine import chunks, collection, lab
from fedmia_jax.engine.plans import plan, runs, tasks
from fedmia_jax.storage import artifacts

MAKING = threading.Lock()


def study(
    place: lab.Lab,
    planned: plan.Plan,
    chunk: chunks.Chunk,
    draft: artifacts.Draft,
    devices: tuple[jax.Device, ...],
    advance: Callable[[float], None],
) -> None:
    """Makes one piece of the audit of a point; pieces of one point share what they read.

    Pieces are worked on side by side: much of an audit keeps a single core busy.
    """
    del devices
    (unit,) = chunk.units
    task: tasks.Audit = unit.task
    scorer = _scorer(planned, place.workdir.artifacts, task.replicates)
    tables = dataclasses.asdict(api.study(scorer, task.piece, on_broken=place.fail))
    draft.write("tables", {name: _encode(table)[None] for name, table in tables.items()})
    advance(chunk.steps)


def score(planned: plan.Plan, kept: artifacts.Artifacts, task: tasks.Audit) -> None:
    """Calls the programs of one piece of the audit of a point, and makes nothing of what they say."""
    api.score(_scorer(planned, kept, task.replicates), task.piece)


def read(planned: plan.Plan, kept: artifacts.Artifacts, every_run: Sequence[runs.Run]) -> findings.Findings:
    """Returns what the audit of one point says, from its kept pieces."""
    pieces = [kept.read(planned.unit_of[mark], "tables") for mark in planned.audits[runs.run_id(every_run[0])]]
    return findings.join(
        [findings.Findings(**{name: _decode(content) for name, content in piece.items()}) for piece in pieces],
        strongest=every_run[0].plans.claim.strongest,
    )


def _scorer(planned: plan.Plan, kept: artifacts.Artifacts, every_run: tuple[runs.Run, ...]) -> scorers.Scorer:
    """What the pieces of one point read, made once for all that are worked on at the same time."""
    with MAKING:
        return _make_scorer(planned, kept, every_run)


@functools.lru_cache(maxsize=1)
def _make_scorer(planned: plan.Plan, kept: artifacts.Artifacts, every_run: tuple[runs.Run, ...]) -> scorers.Scorer:
    """What the pieces of one point read; attacks are fitted when they are asked for."""
    plans = every_run[0].plans
    return api.make_scorer(
        collection.gather(planned, kept, every_run),
        attacks=plans.settings.get("attack.names"),
        views=plans.settings.get("attack.views"),
        key=randomness.make_key(plans.settings.get("seed"), 0, randomness.Purpose.ATTACK, collection.AUDIT),
        options=dict(plans.reference_attacks.values) | dataclasses.asdict(plans.claim),
    )


def _encode(table: pl.DataFrame) -> np.ndarray:
    """A table as bytes, u8[B]."""
    file = io.BytesIO()
    table.write_parquet(file)
    return np.frombuffer(file.getvalue(), np.uint8)


def _decode(content: np.ndarray) -> pl.DataFrame:
    """The inverse of `_encode`."""
    return pl.read_parquet(io.BytesIO(content.tobytes()))
