"""Takes from the tables of a sweep what each level of a defence costs and what it still leaks."""

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from fedmia_jax.audit import coalitions, comparisons, intervals
from fedmia_jax.report import adversaries, tables

NUMBERS = coalitions.NUMBERS
LEAK = "tpr_at_fpr_0.01"  # the number that advice goes by
WIDEST = "coordinator"  # the view that advice goes by, where it is there
PEER_TO_PEER = "coordinator_p2p"  # the view of a coordinator through whose hands no model goes
NONE = "no defence"


@dataclasses.dataclass(frozen=True)
class Number:
    """A number with its interval, NaN where there is none."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Level:
    """One point of a sweep over defences.

    Attributes:
      family: names of its defences, or of the settings that differ; levels of one family are one curve.
      label: the family and its levels.
      flags: how to set it on the command line.
      test_accuracy: f[S] of the last model, by replicate.
      lost: what of that is lost, in points, against no defence: mean over replicates with a t-interval.
      attack_accuracy: of the first attack on the union of all nodes, from the last model.
      leaks: by view and number, of the strongest attack on one node.
      worst: the same on the worst node.
      changes: by view and number, differences from no defence on the same records and replicates.
      named: how often the strongest attack names the node that held a record, from the widest view.
      audited: lower bound on epsilon of the strongest attack under the widest view.
      promised: the smallest epsilon that the defences promise; None where they promise none.
    """

    family: str
    label: str
    flags: str
    test_accuracy: np.ndarray
    lost: Number
    attack_accuracy: float
    leaks: Mapping[tuple[str, str], Number]
    worst: Mapping[tuple[str, str], float]
    changes: Mapping[tuple[str, str], Number]
    named: float | None
    audited: float | None
    promised: float | None


@dataclasses.dataclass(frozen=True)
class Levels:
    """All points, the first without a defence.

    Attributes:
      points: in the order of the sweep; those whose training exploded are left out.
      attack: the strongest one, named beforehand.
      views: of single parties, in their order.
      hidden: by view and number, how much less it says than the widest, at the first point.
    """

    points: Sequence[Level]
    attack: str
    views: Sequence[str]
    hidden: Mapping[tuple[str, str], Number] = dataclasses.field(default_factory=dict)

    @property
    def widest(self) -> str:
        """The view that advice goes by."""
        return _widest(self.views)


def read(
    findings: Mapping[str, pl.DataFrame],
    results: pl.DataFrame,
    *,
    swept: Sequence[str],
    changes: pl.DataFrame | None = None,
    guarantees: pl.DataFrame | None = None,
) -> Levels:
    """Returns the points of a sweep.

    Args:
      findings: tables of the audits.
      results: rows of attacks on single snapshots; the first attack stands for the paper's.
      swept: dotted names of the fields that differ between points.
      changes: differences from the first point.
      guarantees: what defences promise.
    """
    attack = findings["comparisons"].filter("strongest")["attack"][0]
    of_node = adversaries.single_views(findings["intervals"])
    of_node = of_node.filter(pl.col("attacked") == "node", pl.col("attack") == attack)
    views = of_node["view"].unique(maintain_order=True).to_list()
    points: list[Level] = []
    base: dict[str, Any] = {}
    for rows in results.filter(pl.col("attack") == results["attack"][0]).partition_by("run_id", maintain_order=True):
        if rows["accuracy"].null_count():
            continue
        run, values = rows["run_id"][0], {name: rows[name][0] for name in swept}
        base = base or values
        tables_of_run = [
            None if table is None else table.filter(pl.col("run_id") == run)
            for table in (of_node, changes, guarantees, findings["attribution"])
        ]
        points.append(_level(values, base, rows, tables_of_run, points[0] if points else None, attack, views))
    return Levels(points, attack, views, _hidden(findings["comparisons"], results["run_id"][0], attack, _widest(views)))


def _hidden(compared: pl.DataFrame, run: str, attack: str, widest: str) -> dict[tuple[str, str], Number]:
    """How much less the views say than the widest."""
    rows = compared.filter(
        pl.col("run_id") == run, pl.col("attack") == attack, pl.col("other_attack") == attack, pl.col("view") == widest
    )
    return {
        (row["other_view"], number): Number(
            *(-_float(row[comparisons.number_columns(number)[end]]) for end in (0, 2, 1))
        )
        for row in rows.iter_rows(named=True)
        for number in NUMBERS
    }


def _widest(views: Sequence[str]) -> str:
    """The view that advice goes by."""
    return WIDEST if WIDEST in views else views[-1]


def _level(
    values: Mapping[str, Any],
    base: Mapping[str, Any],
    rows: pl.DataFrame,
    tables_of_run: Sequence[pl.DataFrame | None],
    first: Level | None,
    attack: str,
    views: Sequence[str],
) -> Level:
    """One point."""
    of_node, changes, guarantees, attribution = tables_of_run
    assert of_node is not None
    assert attribution is not None
    # Who attacks, and from which draw, is no part of a defence.
    settings = {name: value for name, value in values.items() if not name.startswith("attack.") and name != "seed"}
    differing = {name: value for name, value in settings.items() if value != base[name]}
    names = differing.pop("defense.names", None)
    family = " + ".join(ast.literal_eval(names)) if names else ", ".join(differing) or NONE
    flags = [f'--config.defense.names="{names}"'] if names else []
    flags += [f"--config.{name}={tables.value(value)}" for name, value in differing.items()]
    last = rows.filter(pl.col("phase") == "federated", pl.col("attacked") == "union")
    last = last.group_by("replicate", maintain_order=True).last()
    accuracy = last["target_test_accuracy"].to_numpy()
    widest = _widest(views)
    audited = of_node.filter(pl.col("view") == widest)["epsilon"].to_list()
    promised = [] if guarantees is None else _promised(guarantees)
    return Level(
        family=family,
        label=_label(family, names, differing),
        flags=" ".join(flags),
        test_accuracy=accuracy,
        lost=_lost(first.test_accuracy if first else accuracy, accuracy),
        attack_accuracy=float(last["accuracy"].to_numpy().mean()),
        leaks={
            (row["view"], number): _interval(row, number) for row in of_node.iter_rows(named=True) for number in NUMBERS
        },
        worst={
            (row["view"], number): _float(row[f"{number}_worst_node"])
            for row in of_node.iter_rows(named=True)
            for number in NUMBERS
        },
        changes={} if changes is None else _changes(changes.filter(pl.col("attack") == attack)),
        named=_named(attribution.filter(pl.col("way") == attack, pl.col("view") == widest)),
        audited=audited[0] if audited else None,
        promised=min(promised) if promised else None,
    )


def _label(family: str, names: str | None, differing: Mapping[str, Any]) -> str:
    """Defences and levels in words; a level that is called as its defence is not called so twice."""
    levels = [(name.rpartition(".")[2], tables.value(value)) for name, value in differing.items()]
    shown = [value if name == family else f"{name} {value}" for name, value in levels]
    return " ".join([family if names or not levels else "", *shown]).strip()


def _promised(guarantees: pl.DataFrame) -> list[float]:
    """Epsilons of records and nodes; that of a single bit says nothing of a record."""
    return guarantees.filter(~pl.col("protects").str.starts_with("a bit "))["epsilon"].drop_nulls().to_list()


def _float(value: float | None) -> float:
    """A number, NaN for none."""
    return float("nan") if value is None else value


def _interval(row: Mapping[str, Any], number: str) -> Number:
    """A number of a row of intervals."""
    end = "_replicates" if number == "auc" else ""
    return Number(*(_float(row[f"{number}{part}"]) for part in ("", f"_low{end}", f"_high{end}")))


def _changes(rows: pl.DataFrame) -> dict[tuple[str, str], Number]:
    """Differences by view and number."""
    return {
        (row["view"], number): Number(*(_float(row[column]) for column in comparisons.number_columns(number)))
        for row in rows.iter_rows(named=True)
        for number in NUMBERS
    }


def _lost(first: np.ndarray, accuracy: np.ndarray) -> Number:
    """Points of accuracy lost, replicate by replicate."""
    lost = 100 * (first[: len(accuracy)] - accuracy[: len(first)])
    width = intervals.t_width(lost)
    return Number(float(lost.mean()), float(lost.mean() - width), float(lost.mean() + width))


def _named(attribution: pl.DataFrame) -> float | None:
    """The share of records whose node is named."""
    total = int(attribution["count"].sum())
    right = int(attribution.filter(pl.col("true") == pl.col("named"))["count"].sum())
    return right / total if total else None


def to_table(levels: Levels, *, title: str) -> tables.Table:
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
        cells += [_share(level.leaks.get((view, LEAK))) for view in levels.views]
        cells += [_share(level.leaks.get((levels.widest, "tpr_at_fpr_0.001")))]
        worst = level.worst.get((levels.widest, LEAK), float("nan"))
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


def to_summary(levels: Levels, *, title: str) -> tables.Table:
    """Returns the same in a few columns, for the terminal."""
    where = (levels.widest, LEAK)
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


def to_changes(levels: Levels) -> tables.Table:
    """Returns how much less every level leaks than no defence, on the same records."""
    lines = [
        [level.label, *(_change(level.changes.get((view, LEAK))) for view in levels.views)]
        for level in levels.points[1:]
    ]
    caption = (
        f"Differences of the TPR at 1% FPR of {levels.attack} on one node from no defence, on the same records and "
        "replicates, which are drawn anew for both at once; 95% intervals, each by itself."
    )
    return tables.Table("Less than without a defence", ["defence", *levels.views], lines, caption)


def _share(number: Number | None) -> str:
    """A share and its interval."""
    if number is None or np.isnan(number.value):
        return "-"
    ends = "" if np.isnan(number.low) else f" ({number.low:.2f}-{number.high:.2f})"
    return f"{number.value:.2f}{ends}"


def _signed(number: Number, digits: int) -> str:
    """A difference and its half-width."""
    width = "" if np.isnan(number.high) else f" ±{number.high - number.value:.{digits}f}"
    return f"{round(number.value, digits) + 0.0:+.{digits}f}{width}"


def _change(number: Number | None) -> str:
    """A difference and its interval."""
    if number is None or np.isnan(number.value):
        return "-"
    ends = "" if np.isnan(number.low) else f" ({number.low:+.2f} to {number.high:+.2f})"
    return f"{number.value:+.2f}{ends}"
