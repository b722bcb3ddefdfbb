"""Makes the two tables of a run, or the one of a sweep, out of results; the same for terminal and Markdown."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import rich.box
import rich.table

from fedmia_jax.audit import intervals
from fedmia_jax.report import snapshots

SHORT = {
    "target_train_accuracy": "train",
    "target_test_accuracy": "test",
    "accuracy": "attack",
    "precision": "prec.",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
    "tpr_at_fpr_0.01": "TPR@1%",
    "tpr_at_fpr_0.001": "@0.1%",
}
OF_N1 = ("target_train_accuracy", "accuracy", "precision", "recall", "auc", "tpr_at_fpr_0.01")
OF_UNION = ("target_train_accuracy", "accuracy", "recall", "auc")


@dataclasses.dataclass(frozen=True)
class Table:
    """Text cells with a heading and a caption.

    Attributes:
      title: the heading.
      header: names of the columns; a line break in a name is one on the terminal.
      rows: the cells.
      caption: what stands below.
      left: number of columns, from the first one, that are flush left; the others are flush right.
      wrap: whether the last column may be wrapped on the terminal.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    left: int = 1
    wrap: bool = False

    def to_rich(self) -> rich.table.Table:
        """The table for a terminal."""
        table = rich.table.Table(
            title=self.title,
            caption=self.caption,
            box=rich.box.SIMPLE_HEAD,
            pad_edge=False,
            padding=0,
            title_justify="left",
            caption_justify="left",
        )
        for index, name in enumerate(self.header):
            last = index == len(self.header) - 1
            table.add_column(name, justify="left" if index < self.left else "right", no_wrap=not (self.wrap and last))
        for row in self.rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        """The table for `report.md`."""
        lines = [
            [name.replace(".\n", ".").replace("\n", " ") for name in self.header],
            ["---"] * len(self.header),
            *self.rows,
        ]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"## {self.title}\n\n{body}\n\n{self.caption}"


def make_tables(results: pl.DataFrame) -> list[Table]:
    """Returns, for each attack, the centralised table and the federated one by snapshot for N1 and the union."""
    tables = []
    for attack in results["attack"].unique(maintain_order=True):
        rows = results.filter(pl.col("attack") == attack)
        tables.append(_centralised(rows, attack))
        if (rows["phase"] == "federated").any():
            tables.append(_federated(rows, attack))
    return tables


def mean(values: np.ndarray) -> str:
    """Returns the mean over replicates with its 95% t-interval, as text; a dash where there is none."""
    if not len(values) or np.isnan(values).any():  # training of a replicate went non-finite
        return "-"
    width = intervals.t_width(values)
    return f"{values.mean():.3f}" + ("" if np.isnan(width) else f" ±{width:.3f}")


def signed(mean: float, width: float = float("nan")) -> str:
    """Returns a difference with its sign and, where there is one, its interval."""
    return f"{round(mean, 3) + 0.0:+.3f}" + ("" if np.isnan(width) else f" ±{width:.3f}")  # + 0.0: no "-0.000"


def digits(low: float, high: float) -> int:
    """Returns how many decimal places a number has whose interval is so wide: two, or three where it tells as much."""
    half = max((high - low) / 2, 1e-3)
    return int(np.clip(np.ceil(-np.log10(half)), 2, 3))


def make_points(results: pl.DataFrame, *, swept: Sequence[str], title: str) -> list[Table]:
    """Returns, for each attack, a table of a sweep: one row for each point, in the order of the results.

    Args:
      results: the results table, of several points.
      swept: dotted names of the columns that tell the points apart.
      title: what the runs were on.
    """
    header = [*(name.replace(".", ".\n") for name in swept), "centralised\ntrain", "\ntest", "\nattack"]
    header += ["federated\ntest", "union,\nlast model", "N1, just\ntrained"]
    tables = []
    for attack in results["attack"].unique(maintain_order=True):
        of_attack = results.filter(pl.col("attack") == attack)
        points = of_attack.partition_by("run_id", *swept, maintain_order=True)
        rows = [[*(value(point[name][0]) for name in swept), *_point(point)] for point in points]
        replicates = of_attack["replicate"].n_unique()
        held_out = of_attack["attack_held_out_accuracy"].drop_nulls().to_numpy()
        caption = (
            f"{f'Means of {replicates} replicates, ± 95% t' if replicates > 1 else 'One replicate'}. Attack "
            "accuracies: on the centralised target, on all nodes from the last model, and on N1 from the models that "
            "N1 handed on (mean over the cycles). On held-out shadows: "
            f"{held_out.min():.3f} to {held_out.max():.3f}."
        )
        tables.append(Table(f"Sweep, attack: {attack}; {title}", header, rows, caption, left=len(swept)))
    return tables


def _point(point: pl.DataFrame) -> list[str]:
    """Means over replicates at one point of a sweep; the last snapshot is the last one trained."""
    union = pl.col("attacked") == "union"
    central = point.filter(union, pl.col("phase") == "centralised")
    federated = point.filter(pl.col("phase") == "federated")
    last = federated.filter(union).group_by("replicate", maintain_order=True).last()
    peaks = federated.filter(pl.col("node") == 1, pl.col("attacked") == "N1")
    peaks = peaks.group_by("replicate", maintain_order=True).agg(pl.col("accuracy").mean())
    columns = [central[name] for name in ("target_train_accuracy", "target_test_accuracy", "accuracy")]
    columns += [last["target_test_accuracy"], last["accuracy"], peaks["accuracy"]]
    return [mean(column.to_numpy()) for column in columns]


def value(value: Any) -> str:
    """Returns a swept value as text."""
    if value is None:
        return "unset"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cells(rows: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Means over replicates, with three digits; a dash where the sample cannot resolve a number."""
    means = rows.select(pl.col(name).cast(pl.Float64).mean() for name in names).row(0)
    return ["-" if mean is None else f"{mean:.3f}" for mean in means]


def _caption(rows: pl.DataFrame) -> str:
    """What the numbers are means of, how sure they are, and whether the attack had converged."""
    held_out = rows["attack_held_out_accuracy"].to_numpy().mean()
    text = (
        f"Members and {rows['num_non_members'][0]:,} non-members weighted 50/50. "
        f"Attack accuracy on held-out shadows: {held_out:.3f}."
    )
    cells = rows.group_by("snapshot", "attacked")
    widths = [intervals.t_width(cell["accuracy"].to_numpy()) for _, cell in cells]
    if np.isnan(widths).all():
        return f"One replicate. {text}"
    replicates = rows["replicate"].n_unique()
    return f"Means of {replicates} replicates; attack accuracies ±{np.nanmax(widths):.3f} or less (95% t). {text}"


def _centralised(results: pl.DataFrame, attack: str) -> Table:
    """The baseline, attacked as a whole."""
    rows = results.filter((pl.col("phase") == "centralised") & (pl.col("attacked") == "union"))
    cells = [["centralised", *_cells(rows, list(SHORT))]]
    return Table(f"Centralised training, attack: {attack}", ["target", *SHORT.values()], cells, _caption(rows))


def _federated(results: pl.DataFrame, attack: str) -> Table:
    """Every snapshot, for the first node and for all nodes together."""
    rows = results.filter((pl.col("phase") == "federated") & pl.col("attacked").is_in(["N1", "union"]))
    columns = {"N1": OF_N1, "union": OF_UNION}
    header = ["model", "test", *(f"{who}\n{SHORT[name]}" for who, names in columns.items() for name in names)]
    lines = []
    for snapshot in snapshots.in_order(rows):
        at_snapshot = rows.filter(pl.col("snapshot") == snapshot)
        line = [snapshot, *_cells(at_snapshot, ["target_test_accuracy"])]
        for who, names in columns.items():
            line += _cells(at_snapshot.filter(pl.col("attacked") == who), names)
        lines.append(line)
    kind = "Sequential federation" if snapshots.sequential(rows) else "Federation"
    return Table(f"{kind}, attack: {attack}", header, lines, _caption(rows))
