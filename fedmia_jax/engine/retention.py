"""What of the outcomes is kept: all, or only what the results and unfinished work still read.

Shadows are read by the attacks that are fitted on them, reference federations by the audit; once these are finished,
nobody reads them again unless a later command asks for something else, which then trains them anew.
"""

from fedmia_jax.engine import kinds, needs, plan
from fedmia_jax.storage import artifacts

ALL, RESULTS = "all", "results"  # what is kept


def find_wanted(planned: plan.Plan, kept: artifacts.Artifacts, *, keep: str) -> set[str]:
    """Returns the fingerprints of the units that are to be there.

    Args:
      planned: the plan.
      kept: what tasks have left.
      keep: `all`: every unit; `results`: those that the results read, and those that one of these reads which is not
        finished.
    """
    if keep == ALL:
        return _all_of(planned)
    wanted = {unit for unit, _ in needs.of_results(planned)}
    for kind in reversed(kinds.KINDS):  # none reads what comes later
        for unit in planned.units[kind.name]:
            if unit.fingerprint in wanted and not kept.finished(unit.fingerprint):
                wanted.update(read for read, _ in kind.needs(planned, unit.task))
    return wanted


def drop(planned: plan.Plan, kept: artifacts.Artifacts, *, keep: str) -> None:
    """Deletes what these runs have left and nobody will read; see `find_wanted`."""
    if keep != ALL:
        kept.drop(_all_of(planned) - find_wanted(planned, kept, keep=keep))


def _all_of(planned: plan.Plan) -> set[str]:
    """The fingerprints of all units."""
    return {unit.fingerprint for units in planned.units.values() for unit in units}
