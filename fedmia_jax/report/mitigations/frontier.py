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
SEED = "seed"  # where it is swept, points with one label are runs of one level


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

    @property
    def attacked_first(self) -> list[str]:
        """The views under which the first point is attacked too, the widest before the others."""
        known = [view for view in self.views if (view, LEAK) in self.points[0].leaks]
        return sorted(known, key=lambda view: view != self.widest)


def read(
    findings: Mapping[str, pl.DataFrame],
    results: pl.DataFrame,
    *,
    swept: Sequence[str],
    strongest: str,
    changes: pl.DataFrame | None = None,
    guarantees: pl.DataFrame | None = None,
) -> Levels:
    """Returns the points of a sweep.

    Args:
      findings: tables of the audits.
      results: rows of attacks on single snapshots; the first attack stands for the paper's.
      swept: dotted names of the fields that differ between points.
      strongest: the attack by which they are compared.
      changes: differences from the first point.
      guarantees: what defences promise.
    """
    of_node = adversaries.single_views(findings["intervals"])
    of_node = of_node.filter(pl.col("attacked") == "node", pl.col("attack") == strongest)
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
        points.append(_level(values, base, rows, tables_of_run, points[0] if points else None, strongest, views))
    return Levels(
        points, strongest, views, _hidden(findings["comparisons"], results["run_id"][0], strongest, _widest(views))
    )


def _hidden(compared: pl.DataFrame, run: str, attack: str, widest: str) -> dict[tuple[str, str], Number]:
    """How much less the views say than the widest."""
    rows = compared.filter(
        pl.col("run_id") == run, pl.col("attack") == attack, pl.col("other_attack") == attack, pl.col("view") == widest
    )
    shown = _changes(rows, view="other_view")
    return {where: Number(-more.value, -more.high, -more.low) for where, more in shown.items()}


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
    settings = {name: value for name, value in values.items() if not name.startswith("attack.") and name != SEED}
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


def _changes(rows: pl.DataFrame, *, view: str = "view") -> dict[tuple[str, str], Number]:
    """Differences by number and by the view that stands in a column."""
    return {
        (row[view], number): Number(*(_float(row[column]) for column in comparisons.number_columns(number)))
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
