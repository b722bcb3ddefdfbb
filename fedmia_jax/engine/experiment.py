"""An experiment or a sweep, from runs to rows: the only composer.

Stage by stage, chunk by chunk: central models, the attacks fitted on them, the scores of the centralised targets, then
the federations, whose snapshots are scored cycle by cycle and not kept. What a chunk leaves is kept in the workdir, so
that the same command goes on where an earlier one stopped.
"""

import dataclasses
from collections.abc import Collection, Sequence

import jax
import polars as pl

from fedmia_jax import compilation, errors
from fedmia_jax.engine import ahead, audits, chunks, collection, guarantees, kinds, lab, outline, retention
from fedmia_jax.engine.engines import contract, local
from fedmia_jax.engine.plans import plan, planning, runs, sizes
from fedmia_jax.storage import workdir as workdirs


def run(place: lab.Lab, every_run: Sequence[runs.Run], engine: contract.Engine = local.ENGINE) -> pl.DataFrame:
    """Trains targets and shadows, fits the attacks, scores every snapshot.

    Args:
      place: workdir, devices and memory.
      every_run: what to run, of one or many points.
      engine: who computes.

    Returns:
      The results, one row per (run, replicate, snapshot, attacked, attack, view); columns of `collection.SCHEMA`.

    Raises:
      InputError: training or an attack of a single point went non-finite.
    """
    stated = guarantees.tabulate(every_run)
    if not stated.is_empty():
        place.workdir.write_table(guarantees.NAME, stated)
    platform, devices = compilation.platform(), len(place.devices)
    here = {"platform": platform, "devices": devices, "processes": jax.process_count()}
    place.workdir.log(**here, memory_gib=round(place.budget / 2**30, 3))
    planned = planning.make_plan(every_run, keep_models=place.keep_models)
    sizes.check_units(planned.units, budget=place.budget)
    kept = place.workdir.artifacts
    wanted = retention.find_wanted(place, planned)
    stages = [(kind, _unfinished(place, planned.units[kind.name], wanted)) for kind in kinds.KINDS]
    with ahead.working(place, planned, stages if engine.works_ahead else []) as stop_working_ahead:
        for kind, todo in stages:
            if kind.ahead is not None:
                stop_working_ahead()
            if todo:
                _run_stage(place, planned, kind, todo, engine.compute)
                retention.drop(place, planned)
    retention.drop(place, planned)
    with place.stage("metrics", total=len(every_run)) as advance:
        table = collection.tabulate(planned, kept, advance)
    points = [(point, audits.read(planned, kept, point)) for point in runs.points_of(every_run)]
    if not points:
        return table
    rows, tables = collection.tabulate_audits(points)
    for name in workdirs.TABLES:
        place.workdir.write_table(name, tables[name])
    if len(points) > 1:
        place.workdir.write_table(workdirs.CHANGES, collection.tabulate_changes(points))
    return pl.concat([table, rows])


def check_distinct(every_run: Sequence[runs.Run]) -> None:
    """Raises where two points are the same experiment on the same records.

    Raises:
      InputError: such points, by what was asked of them.
    """
    seen: dict[str, runs.Run] = {}
    for run in every_run:
        first = seen.setdefault(runs.run_id(run), run)
        if dict(first.values) != dict(run.values):
            raise errors.InputError(f"sweep: {first.values} and {run.values} are the same; take one of them out")


def chunks_of(place: lab.Lab, units: Sequence[chunks.Unit]) -> list[chunks.Chunk]:
    """Returns the chunks of a kind's units."""
    return chunks.make_chunks(units, num_devices=len(place.devices), budget=place.budget, bundles=place.bundles)


def first_chunks(place: lab.Lab, units: Sequence[chunks.Unit]) -> list[chunks.Chunk]:
    """Returns one chunk of each group of a kind's units."""
    return [chunk for chunk in chunks_of(place, units) if chunk.units[0] is chunk.group[0]]


def explain(place: lab.Lab, every_run: Sequence[runs.Run]) -> outline.Outline:
    """Returns the plan in words and numbers."""
    planned = planning.make_plan(every_run)
    sizes.check_units(planned.units, budget=place.budget)
    rows = []
    for stage, units in planned.units.items():
        rows += [_explain_group(place, stage, first) for first in first_chunks(place, units)]
    units = [unit for of_stage in planned.units.values() for unit in of_stage]
    header = ["stage", "classes", "nodes", "epochs", "units", "models", "chunks", "devices", "MiB", "updates", "disk"]
    points, models = len({runs.run_id(run) for run in every_run}), sum(unit.num_models for unit in units)
    stay = retention.find_staying(place, planned)
    kept, stays = (
        sum(unit.kept_nbytes for unit in some) / 2**20
        for some in (units, [unit for unit in units if unit.fingerprint in stay])
    )
    caption = (
        f"{points:,} points, {len(every_run):,} runs, {len(rows)} groups; {models:,} models in "
        f"{sum(unit.steps for unit in units):,.0f} updates, on {len(place.devices)} devices within "
        f"{place.budget / 2**30:.2g} GiB.\nA group is one compiled program; points that agree share models and "
        "attacks. MiB: memory\nof what is in work at once, beside the records and the libraries; disk: MiB of what is "
        f"kept,\n{kept:,.0f} in all, beside attacks and tables, which are small; {stays:,.0f} stay with --keep=results."
    )
    return outline.Outline("Plan", header, rows, caption)


def _explain_group(place: lab.Lab, stage: str, first: chunks.Chunk) -> list[str]:
    """The cells of one group, from its first chunk."""
    group = first.group
    models = sum(unit.num_models for unit in group)
    devices = 1
    if first.wide:
        devices = len(place.devices) if group[0].alone else min(first.size, len(place.devices))
    memory = first.nbytes_on(devices)
    return [
        stage,
        str(group[0].task.run.dataset.num_classes),
        *(str(group[0].shown.get(heading, "")) for heading in ("nodes", "epochs")),
        f"{len(group):,}",
        f"{models:,}",
        f"{-(-len(group) // first.size):,}",
        str(devices),
        f"{memory / 2**20:,.0f}",
        f"{sum(unit.steps for unit in group):,.0f}" if models else "",
        f"{sum(unit.kept_nbytes for unit in group) / 2**20:,.1f}" if group[0].kept_nbytes else "",
    ]


def _unfinished(place: lab.Lab, units: Sequence[chunks.Unit], wanted: Collection[str]) -> list[chunks.Chunk]:
    """The chunks of a kind's units that are wanted and not kept yet."""
    kept = place.workdir.artifacts
    todo = []
    for chunk in chunks_of(place, units):
        missing = tuple(
            unit for unit in chunk.units if unit.fingerprint in wanted and not kept.finished(unit.fingerprint)
        )
        if len(missing) == len(chunk.units):
            todo.append(chunk)
        elif missing:  # the others were done under another plan
            wide = chunk.wide and len(missing) >= len(place.devices)
            todo.append(dataclasses.replace(chunk, units=missing, size=len(missing), wide=wide))
    return todo


def _run_stage(
    place: lab.Lab,
    planned: plan.Plan,
    kind: kinds.Kind,
    todo: Sequence[chunks.Chunk],
    compute: contract.ComputeStage,
) -> None:
    """Computes chunks of one kind of task."""
    models = sum(unit.num_models for chunk in todo for unit in chunk.units)
    title = f"{kind.name}: {models:,} models" if models else f"{kind.name}: {sum(len(c.units) for c in todo):,}"
    with place.stage(title, total=sum(chunk.steps for chunk in todo)) as advance:
        compute(place, planned, kind, todo, advance)
