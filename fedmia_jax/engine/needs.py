"""What a task reads of earlier outcomes, kind by kind: units by fingerprint, and the piece of each.

Where nothing is shared but messages, this and the plan are all that computing a task takes.
"""

from collections.abc import Iterable, Iterator, Sequence

from fedmia_jax.engine.plans import plan, tasks

Need = tuple[str, str]


def of_independent(planned: plan.Plan, task: tasks.Model | tasks.ShadowFederations) -> Iterable[Need]:
    """Trains from the records alone."""
    del planned, task
    return ()


def of_fit(planned: plan.Plan, task: tasks.Fit) -> Iterator[Need]:
    """Reads the shadows."""
    for model in task.models:
        yield planned.unit_of[model], f"e{task.epochs}"


def of_baseline(planned: plan.Plan, task: tasks.Baseline) -> Iterator[Need]:
    """Reads the target and the attacks on it."""
    yield planned.unit_of[task.model], f"e{task.epochs}"
    yield from _of_readers(planned, task.readers, [0])


def of_federation(planned: plan.Plan, task: tasks.Federation) -> Iterator[Need]:
    """Reads the attacks on its snapshots."""
    yield from _of_readers(planned, task.readers, task.run.plans.scored_cycles)


def of_audit(planned: plan.Plan, task: tasks.Audit) -> Iterator[Need]:
    """Reads what the replicates and their references have left of every cycle."""
    recipes = plan.recipes_of(planned, task.replicates)
    federations = [recipe.federation for recipe in recipes if recipe.federation is not None]
    for federation in (*federations, *recipes[0].references):
        for cycle in task.run.plans.scored_cycles:
            yield planned.unit_of[federation], f"c{cycle + 1}"


def of_results(planned: plan.Plan) -> Iterator[Need]:
    """Names what the tables of the results read: scores of all targets, the attacks on them, pieces of the audits."""
    for run, recipe in zip(planned.runs, planned.recipes, strict=True):
        yield planned.unit_of[recipe.baseline], "scores"
        yield from _of_readers(planned, [recipe.baseline_reader], [0])
        if recipe.federation is not None and recipe.federation_reader is not None:
            for cycle in run.plans.scored_cycles:
                yield planned.unit_of[recipe.federation], f"c{cycle + 1}"
            yield from _of_readers(planned, [recipe.federation_reader], run.plans.scored_cycles)
    for marks in planned.audits.values():
        yield from ((planned.unit_of[mark], "tables") for mark in marks)


def _of_readers(planned: plan.Plan, readers: Sequence[tasks.Reader], cycles: Sequence[int]) -> Iterator[Need]:
    """The fitted attacks of some readers, for snapshots of some cycles."""
    for reader in readers:
        for cycle in cycles:
            yield planned.unit_of[reader.task], reader.piece(cycle)
