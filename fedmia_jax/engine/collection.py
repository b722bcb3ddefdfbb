"""What tasks have left -> tables: rows of the results, and what an audit of the hand-offs says."""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import polars as pl

from fedmia_jax.attacks import signals
from fedmia_jax.audit import comparisons, evidence, findings, rows
from fedmia_jax.config import schema
from fedmia_jax.engine import scoring
from fedmia_jax.engine.plans import plan, runs, tasks
from fedmia_jax.schedule import Schedule
from fedmia_jax.storage import artifacts
from fedmia_jax.storage import workdir as workdirs

ALWAYS = ("data.name", "data.num_classes", "federation.nodes", "federation.local_epochs")
AUDIT = 1_000_000  # index of the key that attacks with references are fitted with
COLUMN_TYPES = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String}
SCHEMA = {
    "run_id": pl.String,
    "replicate": pl.Int64,
    "phase": pl.String,
    "data.name": pl.String,
    "data.num_classes": pl.Int64,
    "federation.nodes": pl.Int64,
    "federation.local_epochs": pl.Int64,
    **{name: kind for name, kind in rows.SCHEMA.items() if name != "replicate"},
}


def tabulate(planned: plan.Plan, kept: artifacts.Artifacts, advance: Callable[[float], None]) -> pl.DataFrame:
    """Takes the metrics of every attacked party from the kept scores, on all cores; NumPy lets threads pass.

    Args:
      planned: the runs, and where their scores are.
      kept: what tasks have left.
      advance: called with 1 after each run.

    Returns:
      The results; columns as the design's contract, those that a sweep varies among them, null where the sample
      cannot resolve a number or training went non-finite.
    """
    tables, schema_of_run = [], schema_of(planned.runs[0])
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for made in pool.map(functools.partial(_rows, planned, kept), planned.runs, planned.recipes):
            tables.append(pl.DataFrame(made, schema=schema_of_run))
            advance(1)
    # One file order for readers: the baseline of all runs, then the federations.
    return pl.concat(tables).sort("phase", maintain_order=True)


def _rows(planned: plan.Plan, kept: artifacts.Artifacts, run: runs.Run, recipe: plan.Recipe) -> list[dict[str, Any]]:
    """All rows of one run: those of the centralised target, then of every snapshot, attack by attack."""
    baseline = planned.scored(kept, recipe.baseline, "scores", recipe.baseline_reader)
    targets: list[tuple[str, Schedule | None, tasks.Reader, dict[str, Any]]] = [
        ("centralised", None, recipe.baseline_reader, baseline)
    ]
    if recipe.federation and recipe.federation_reader:
        reader = recipe.federation_reader
        cycles = [planned.scored(kept, recipe.federation, f"c{cycle + 1}", reader) for cycle in run.plans.scored_cycles]
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *cycles)
        targets.append(("federated", run.schedule, reader, joined))
    held_out = [_held_out(planned, kept, run, reader, len(scored["correct"])) for _, _, reader, scored in targets]
    made = []
    for attack in run.plans.model_attacks.names:
        for (phase, schedule, _, scored), accuracy in zip(targets, held_out, strict=True):
            of_target = rows.snapshot_rows(
                schedule,
                scores=scored["scores"][attack],
                thresholds=scored["threshold"][attack],
                held_out=accuracy[attack],
                correct=scored["correct"],
                owners=run.owners,
                nodes=run.plans.rounds.nodes,
                attack=attack,
                replicate=run.replicate,
                assigned=run.assigned,
            )
            made += [head(run) | {"phase": phase} | row for row in of_target]
    return made


def _held_out(
    planned: plan.Plan, kept: artifacts.Artifacts, run: runs.Run, reader: Any, num_snapshots: int
) -> dict[str, np.ndarray]:
    """Accuracy of each attack on held-out shadows, f32[T]."""
    cycles = run.plans.scored_cycles if reader.per_snapshot else (0,)
    by_cycle = [
        scoring.curves(
            run.plans.model_attacks, planned.fitted(kept, reader, cycle), num_classes=run.dataset.num_classes
        )
        for cycle in cycles
    ]
    ends = {name: np.concatenate([curves[name][:, -1] for curves in by_cycle]) for name in by_cycle[0]}
    return {name: np.broadcast_to(end, num_snapshots) for name, end in ends.items()}


def tabulate_audits(
    points: Sequence[tuple[Sequence[runs.Run], findings.Findings]],
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Puts in front of what the audits say what tells their points apart.

    Args:
      points: the replicates of each point with reference federations, and what its audit says.

    Returns:
      Rows for the results, and the tables of `workdir.TABLES`.
    """
    results, tables = [], []
    for every_run, audited in points:
        columns = schema_of(every_run[0])
        numbered = audited.rows.iter_rows(named=True)  # replicates by their index in the evidence
        merged = [row | head(every_run[row["replicate"]]) | {"phase": "federated"} for row in numbered]
        results.append(pl.DataFrame(merged, schema=columns))
        first = {name: value for name, value in head(every_run[0]).items() if name != "replicate"}
        lead = [pl.lit(value, columns[name]).alias(name) for name, value in first.items()]
        tables.append({name: getattr(audited, name).select(*lead, pl.all()) for name in workdirs.TABLES})
    joined = {
        name: pl.concat([of_point[name] for of_point in tables], how="diagonal_relaxed") for name in workdirs.TABLES
    }
    return pl.concat(results), joined


def tabulate_changes(points: Sequence[tuple[Sequence[runs.Run], findings.Findings]]) -> pl.DataFrame:
    """Returns what attacks with references find more, or less, at each point of a sweep than at its first.

    Args:
      points: see `tabulate_audits`.

    Returns:
      One row for each point, attack and view, in front what tells points apart; points that audit other records, or
      with another number of replicates, have none.
    """
    (first, of_first), *others = points
    columns = schema_of(first[0])
    columns = {name: columns[name] for name in head(first[0]) if name != "replicate"}
    changes = []
    for every_run, audited in others:
        if _alike(every_run, first):
            of_point = {name: head(every_run[0])[name] for name in columns}
            draws = (each.draws.iter_rows(named=True) for each in (audited, of_first))
            changes += [of_point | row for row in comparisons.between_points(*draws)]
    return pl.DataFrame(changes, columns | dict(comparisons.CHANGES_SCHEMA))


def _alike(every_run: Sequence[runs.Run], others: Sequence[runs.Run]) -> bool:
    """Whether replicates of two points audit the same records."""
    return len(every_run) == len(others) and all(
        run.dataset.fingerprint == other.dataset.fingerprint and np.array_equal(run.scored, other.scored)
        for run, other in zip(every_run, others, strict=True)
    )


def gather(planned: plan.Plan, kept: artifacts.Artifacts, every_run: Sequence[runs.Run]) -> evidence.Evidence:
    """Reads the kept signals of one point's replicates, and of their references, as evidence."""
    recipes = plan.recipes_of(planned, every_run)
    cycles = every_run[0].plans.scored_cycles
    targets = []
    for recipe in recipes:
        assert recipe.federation is not None
        assert recipe.federation_reader is not None
        pieces = [
            planned.scored(kept, recipe.federation, f"c{cycle + 1}", recipe.federation_reader) for cycle in cycles
        ]
        targets.append(jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces))
    known = []
    for task in recipes[0].references:
        pieces = [kept.read(planned.unit_of[task], f"c{cycle + 1}")["signals"] for cycle in cycles]
        known.append(jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces))
    schedules = Schedule.stack([run.schedule for run in every_run]), _known_orders(every_run[0])
    return _evidence(every_run, targets, known, *schedules, answers=_answers(planned, kept, every_run, recipes))


def _answers(
    planned: plan.Plan, kept: artifacts.Artifacts, every_run: Sequence[runs.Run], recipes: Sequence[plan.Recipe]
) -> evidence.Evidence | None:
    """What an outsider is answered, as evidence of one snapshot; None where that is what the last model says."""
    piece, targets = f"c{every_run[0].plans.rounds.cycles}", []
    for recipe in recipes:
        if recipe.federation is None or recipe.answers_reader is None:
            return None
        targets.append(planned.scored(kept, recipe.federation, piece, recipe.answers_reader))
    known = [kept.read(planned.unit_of[task], piece)["answers"]["signals"] for task in recipes[0].references]
    schedules = Schedule.stack([run.schedule.last for run in every_run]), _known_orders(every_run[0])
    return _evidence(every_run, targets, known, schedules[0], schedules[1] and schedules[1].last)


def _evidence(
    every_run: Sequence[runs.Run],
    targets: Sequence[dict[str, Any]],
    known: Sequence[dict[str, Any]],
    schedule: Schedule,
    known_schedule: Schedule | None,
    answers: evidence.Evidence | None = None,
) -> evidence.Evidence:
    """Evidence from what each replicate and each reference left."""
    stacked, references = (jax.tree.map(lambda *leaves: np.stack(leaves), *each) for each in (targets, known))
    return evidence.Evidence(
        **_named(stacked["signals"]),
        owners=np.stack([run.owners for run in every_run]),
        **_coins(every_run),
        references=evidence.References(
            **_named(references), owners=every_run[0].reference_owners, schedule=known_schedule
        ),
        schedule=schedule,
        correct=stacked["correct"],
        model_scores={
            name: evidence.ModelScores(scores=stacked["scores"][name], thresholds=stacked["threshold"][name])
            for name in stacked["scores"]
        },
        answers=answers,
    )


def _known_orders(run: runs.Run) -> Schedule | None:
    """Schedules of the references; None where all federations share one."""
    if run.plans.rounds.order_shared:
        return None
    numbers = range(run.plans.references.federations)
    return Schedule.stack([run.plans.schedule(reference=number) for number in numbers])


def _named(kept: dict[str, np.ndarray]) -> dict[str, Any]:
    """Kept signals as fields of the evidence: phi, and the others by name."""
    others = {name: array for name, array in kept.items() if name != signals.PHI.name}
    return {"phi": kept[signals.PHI.name], "signals": others}


def _coins(every_run: Sequence[runs.Run]) -> dict[str, Any]:
    """What the evidence says of coins, where some were tossed."""
    if every_run[0].assigned is None:
        return {}
    assigned = np.stack([np.asarray(run.assigned) for run in every_run])
    return {"assigned": assigned, "coin_rate": every_run[0].settings.get("data.canary_rate")}


def schema_of(run: runs.Run) -> dict[str, Any]:
    """Returns the columns of the results, those that the run's sweep varies among them."""
    swept = {name: COLUMN_TYPES.get(schema.kind(name), pl.String) for name in run.values}
    swept = {name: kind for name, kind in swept.items() if name not in SCHEMA}
    names = list(SCHEMA)
    first = names.index(ALWAYS[0])
    return {name: SCHEMA[name] for name in names[:first]} | swept | {name: SCHEMA[name] for name in names[first:]}


@functools.lru_cache(maxsize=4096)
def head(run: runs.Run) -> dict[str, Any]:
    """Returns what all rows of a run share."""
    always = {name: run.settings.get(name) for name in ALWAYS} | {"data.num_classes": run.dataset.num_classes}
    swept = {name: value if schema.kind(name) in COLUMN_TYPES else str(value) for name, value in run.values.items()}
    return {"run_id": runs.run_id(run), "replicate": run.replicate, **swept, **always}
