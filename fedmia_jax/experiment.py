"""An experiment or a sweep, from runs to rows: the only composer.

Stage by stage, chunk by chunk: central models, the attacks fitted on them, the scores of the centralised targets, then
the federations, whose snapshots are scored cycle by cycle and not kept. What a chunk leaves is kept in the workdir, so
that the same command goes on where an earlier one stopped.
"""

import dataclasses
import time
from collections.abc import Sequence

import jax
import polars as pl

from fedmia_jax import compute, errors, findings, plan, results, stages, store, workload
from fedmia_jax.report import tables


def run(lab: workload.Lab, runs: Sequence[workload.Run]) -> pl.DataFrame:
    """Trains targets and shadows, fits the attacks, scores every snapshot.

    Args:
      lab: workdir, devices and memory.
      runs: what to run, of one or many points.

    Returns:
      The results, one row per (run, replicate, snapshot, attacked, attack, view); columns of `results.SCHEMA`.

    Raises:
      InputError: training or an attack of a single point went non-finite.
    """
    planned = stages.make_plan(runs, keep_models=lab.keep_models)
    for stage, units in planned.units.items():
        _run_stage(lab, planned, stage, units)
    with lab.stage("metrics", total=len(runs)) as advance:
        table = results.tabulate(planned, lab.workdir.parts, advance)
    points = findings.points_of(runs)
    if not points:
        return table
    with lab.stage("adversaries", total=sum(len(point[0].settings.attack.names) for point in points)) as advance:
        found = findings.study(planned, lab.workdir.parts, advance, on_broken=lab.fail)
    for name in store.TABLES:
        lab.workdir.write_table(name, getattr(found, name))
    return pl.concat([table, found.rows])


def check_distinct(runs: Sequence[workload.Run]) -> None:
    """Raises where two points are the same experiment on the same records.

    Raises:
      InputError: such points, by what was asked of them.
    """
    seen: dict[str, workload.Run] = {}
    for one in runs:
        first = seen.setdefault(results.run_id(one), one)
        if dict(first.values) != dict(one.values):
            raise errors.InputError(f"sweep: {first.values} and {one.values} are the same; take one of them out")


def chunks_of(lab: workload.Lab, units: Sequence[plan.Unit]) -> list[plan.Chunk]:
    """Returns the chunks of a stage."""
    return plan.make_chunks(units, num_devices=len(lab.devices), budget=lab.budget)


def explain(lab: workload.Lab, runs: Sequence[workload.Run]) -> tables.Table:
    """Returns the plan as a table: one line for each group of units that share a compiled program."""
    planned = stages.make_plan(runs)
    rows = []
    for stage, units in planned.units.items():
        firsts = (chunk for chunk in chunks_of(lab, units) if chunk.units[0] is chunk.group[0])
        rows += [_explain_group(lab, stage, first) for first in firsts]
    units = [unit for of_stage in planned.units.values() for unit in of_stage]
    header = ["stage", "classes", "nodes", "epochs", "units", "models", "chunks", "devices", "MiB", "updates"]
    points, models = len({results.run_id(run) for run in runs}), sum(unit.num_models for unit in units)
    caption = (
        f"{points:,} points, {len(runs):,} runs, {len(rows)} groups; {models:,} models in "
        f"{sum(unit.steps for unit in units):,.0f} updates, on {len(lab.devices)} devices within "
        f"{lab.budget / 2**30:.2g} GiB.\nA group is one compiled program; points that agree share models and attacks. "
        "MiB: memory\nof what is in work at once, beside the records and the libraries."
    )
    return tables.Table("Plan", header, rows, caption)


def _explain_group(lab: workload.Lab, stage: str, first: plan.Chunk) -> list[str]:
    """The cells of one group, from its first chunk."""
    group = first.group
    models = sum(unit.num_models for unit in group)
    run = group[0].work.run
    rounds = run.settings.federation
    cells = [stage, str(run.dataset.num_classes)]
    if "federations" in stage:
        cells += [str(rounds.nodes), str(rounds.local_epochs)]
    else:
        cells += ["", str(group[0].work.epochs[-1]) if models else ""]
    devices = 1
    if first.wide:
        devices = len(lab.devices) if group[0].alone else min(first.size, len(lab.devices))
    cells += [f"{len(group):,}", f"{models:,}", f"{-(-len(group) // first.size):,}", str(devices)]
    memory = first.nbytes + devices * group[0].fixed_nbytes
    return [*cells, f"{memory / 2**20:,.0f}", f"{sum(unit.steps for unit in group):,.0f}" if models else ""]


def _run_stage(lab: workload.Lab, planned: stages.Plan, stage: str, units: Sequence[plan.Unit]) -> None:
    """Computes what a stage has not kept yet."""
    todo = []
    for chunk in chunks_of(lab, units):
        missing = tuple(unit for unit in chunk.units if not lab.workdir.parts.finished(unit.key))
        if len(missing) == len(chunk.units):
            todo.append(chunk)
        elif missing:  # the others were done under another plan
            wide = chunk.wide and len(missing) >= len(lab.devices)
            todo.append(dataclasses.replace(chunk, units=missing, size=len(missing), wide=wide))
    if not todo:
        return
    models = sum(unit.num_models for chunk in todo for unit in chunk.units)
    title = f"{stage}: {models:,} models" if models else f"{stage}: {sum(len(chunk.units) for chunk in todo):,}"
    with lab.stage(title, total=sum(chunk.steps for chunk in todo)) as advance:

        def one(chunk: plan.Chunk, devices: tuple[jax.Device, ...]) -> None:
            start = time.perf_counter()
            part = lab.workdir.parts.part([unit.key for unit in chunk.units], size=chunk.size)
            compute.COMPUTE[stage](lab, planned, chunk, part, devices[: chunk.size], advance)
            lab.workdir.parts.finish(part)
            seconds = round(time.perf_counter() - start, 3)
            lab.workdir.log(part=part.path.name, stage=stage, units=len(chunk.units), seconds=seconds)

        plan.run_chunks(todo, one, lab.devices, on_failure=lab.stop.set)
