"""How fast this machine does it: suites of cases that are measured side by side in one process.

Every case of a suite does the same work; they take turns, medians of the turns are told with their range, and
compilation apart. A peer is measured only after it has been seen to reach the loss that ours reaches.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence

import rich.console

from fedmia_jax import errors
from fedmia_jax.engine import outline
from fedmia_jax.engine.benchmarks import (
    attacks,
    defenses,
    federation,
    planning,
    records,
    scaling,
    shadows,
    startup,
    timing,
)
from fedmia_jax.engine.plans import points

SUITES: Mapping[str, Callable[[points.Plans], Sequence[timing.Suite]]] = {
    "shadows": shadows.make_suites,
    "federation": federation.make_suites,
    "attacks": attacks.make_suites,
    "defenses": defenses.make_suites,
    "scaling": scaling.make_suites,
    "sweep": planning.make_suites,
    "startup": startup.make_suites,
}


def run(plans: points.Plans, names: Sequence[str], console: rich.console.Console) -> list[timing.Row]:
    """Measures some suites.

    Args:
      plans: `data.num_features`, `model`, `training`, `defense` and `shadow.count` are read.
      names: in `SUITES`.
      console: for a line while work is going on.

    Raises:
      InputError: no such suite.
    """
    for name in names:
        if name not in SUITES:
            raise errors.InputError(f"--suites={name}: must be one of {', '.join(SUITES)}")
    rows = []
    for name in names:
        for suite in SUITES[name](plans):
            with console.status(f"{suite.name}: {suite.num_turns} turns of {len(suite.cases)} cases"):
                rows += timing.measure(suite)
    return rows


def explain(rows: Sequence[timing.Row], plans: points.Plans) -> outline.Outline:
    """Returns what was measured in words and numbers; columns that would be empty are left out."""
    cells = [row.cells for row in rows]
    filled = [column for column in range(len(timing.HEADER)) if any(line[column] for line in cells)]
    header, *shown = ([line[column] for column in filled] for line in (list(timing.HEADER), *cells))
    meanings = "; ".join(f"{name}: {timing.HEADER[name]}" for name in header if timing.HEADER[name])
    turns = sorted({len(row.seconds) for row in rows})
    told = " or ".join(map(str, turns)) + (" turns" if turns[-1:] != [1] else " turn")
    text = [f"{meanings}.", f"Medians of {told} in one run on {rows[0].device}."]
    if any(row.batch_size for row in rows):
        text.append(
            f"Training: {plans.settings.get('data.num_features')} features, {plans.network.hidden} units, "
            f"{records.NUM_CLASSES} classes, {plans.training.optimizer}, dropout."
        )
    if any(row.suite == "shadows" for row in rows) and not importlib.util.find_spec("torch"):
        text.append("PyTorch is not installed: pip install torch to compare.")
    return outline.Outline("Speed", header, shown, " ".join(text))
