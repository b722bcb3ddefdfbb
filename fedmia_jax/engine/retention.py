"""What of the outcomes is kept: all, or only what the results and unfinished work still read.

Shadows are read by the attacks that are fitted on them, reference federations by the audit; once these are finished,
nobody reads them again unless a later command asks for something else, which then trains them anew.
"""

from fedmia_jax.engine import kinds, lab, needs
from fedmia_jax.engine.plans import plan, tasks

ALL = "all"


def find_wanted(place: lab.Lab, planned: plan.Plan) -> set[str]:
    """Returns the fingerprints of the units that are to be there.

    Args:
      place: what is kept there, and what shall be: `all`, every unit; `results`, those that stay and those that one of
        these reads which is not finished.
      planned: the plan.
    """
    if place.keep == ALL:
        return _all_of(planned)
    wanted, kept = find_staying(place, planned), place.workdir.artifacts
    for kind in reversed(kinds.KINDS):  # none reads what comes later
        for unit in planned.units[kind.name]:
            if unit.fingerprint in wanted and not kept.finished(unit.fingerprint):
                wanted.update(read for read, _ in kind.needs(planned, unit.task))
    return wanted


def find_staying(place: lab.Lab, planned: plan.Plan) -> set[str]:
    """Returns the units that the results read, and those with the models of hand-offs where these are kept."""
    stay = {unit for unit, _ in needs.of_results(planned)}
    if place.keep_models:
        for kind in (tasks.Federation, tasks.ShadowFederations):
            stay |= {unit.fingerprint for unit in planned.units[kind.NAME]}
    return stay


def drop(place: lab.Lab, planned: plan.Plan) -> None:
    """Deletes what these runs have left and nobody will read."""
    if place.keep != ALL:
        place.workdir.artifacts.drop(_all_of(planned) - find_wanted(place, planned))


def _all_of(planned: plan.Plan) -> set[str]:
    """The fingerprints of all units."""
    return {unit.fingerprint for units in planned.units.values() for unit in units}
