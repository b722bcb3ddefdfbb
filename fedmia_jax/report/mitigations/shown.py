"""Shows what every level of a frontier costs and leaks: the whole table, a narrow one, and the differences."""

import numpy as np

from fedmia_jax.report import tables
from fedmia_jax.report.mitigations import frontier


def to_table(levels: frontier.Levels, *, title: str) -> tables.Table:
    """Returns what every level costs and leaks."""
    header = ["defence", "test", "points\nlost", *(f"{view}\nTPR 1%" for view in levels.views)]
    header += [
        f"{levels.widest}\nTPR 0.1%",
        "worst\nnode",
        "paper's\nattack",
        "node\nnamed",
        "epsilon\naudited",
        "promised",
    ]
    lines = []
    for level in levels.points:
        cells = [level.label, tables.mean(level.test_accuracy), _signed(level.lost, 1)]
        cells += [_share(level.leaks.get((view, frontier.LEAK))) for view in levels.views]
        cells += [_share(level.leaks.get((levels.widest, "tpr_at_fpr_0.001")))]
        worst = level.worst.get((levels.widest, frontier.LEAK), float("nan"))
        cells += ["-" if np.isnan(worst) else f"{worst:.2f}", f"{level.attack_accuracy:.3f}"]
        cells += ["-" if number is None else f"{number:.2f}" for number in (level.named, level.audited, level.promised)]
        lines.append(cells)
    caption = (
        f"TPR: of the attack {levels.attack}, named beforehand, on one node (mean over nodes; the worst node under "
        f"{levels.widest}), shadows and references trained under the same defence; 95% intervals over records and "
        "replicates. Points lost: of test accuracy of the last model, against no defence, replicate by replicate, 95% "
        "t. Epsilon audited is a lower bound, promised what the defence states; '-': none."
    )
    return tables.Table(f"What protection buys; {title}", header, lines, caption)


def to_summary(levels: frontier.Levels, *, title: str) -> tables.Table:
    """Returns the same in a few columns, for the terminal."""
    where = (levels.widest, frontier.LEAK)
    lines = []
    for level in levels.points:
        less = _change(level.changes.get(where)) if level.changes else "-"
        cost = [tables.mean(level.test_accuracy), _signed(level.lost, 1)]
        lines.append([level.label, *cost, _share(level.leaks.get(where)), less])
    caption = (
        f"TPR at 1% FPR of {levels.attack} on one node under {levels.widest}; less: against no defence, on the same "
        "records. report.md has the other views and numbers."
    )
    header = ["defence", "test", "points\nlost", "TPR 1%", "less"]
    return tables.Table(f"What protection buys; {title}", header, lines, caption)


def to_changes(levels: frontier.Levels) -> tables.Table:
    """Returns how much less every level leaks than no defence, on the same records."""
    lines = [
        [level.label, *(_change(level.changes.get((view, frontier.LEAK))) for view in levels.views)]
        for level in levels.points[1:]
    ]
    caption = (
        f"Differences of the TPR at 1% FPR of {levels.attack} on one node from no defence, on the same records and "
        "replicates, which are drawn anew for both at once; 95% intervals, each by itself."
    )
    return tables.Table("Less than without a defence", ["defence", *levels.views], lines, caption)


def _share(number: frontier.Number | None) -> str:
    """A share and its interval."""
    if number is None or np.isnan(number.value):
        return "-"
    ends = "" if np.isnan(number.low) else f" ({number.low:.2f}-{number.high:.2f})"
    return f"{number.value:.2f}{ends}"


def _signed(number: frontier.Number, digits: int) -> str:
    """A difference and its half-width."""
    width = "" if np.isnan(number.high) else f" ±{number.high - number.value:.{digits}f}"
    return f"{round(number.value, digits) + 0.0:+.{digits}f}{width}"


def _change(number: frontier.Number | None) -> str:
    """A difference and its interval."""
    if number is None or np.isnan(number.value):
        return "-"
    ends = "" if np.isnan(number.low) else f" ({number.low:+.2f} to {number.high:+.2f})"
    return f"{number.value:+.2f}{ends}"
