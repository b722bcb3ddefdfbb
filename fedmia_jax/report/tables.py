"""Results -> the two tables of a run, or the one of a sweep; the same for terminal and Markdown."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import rich.box
import rich.table

from fedmia_jax import certainty

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
    """Text cells with a heading; the first `left` columns flush left, the last one wrapped where `wrap`."""

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
    found = []
    for attack in results["attack"].unique(maintain_order=True):
        part = results.filter(pl.col("attack") == attack)
        found.append(_centralised(part, attack))
        if (part["phase"] == "federated").any():
            found.append(_federated(part, attack))
    return found


def mean(values: np.ndarray) -> str:
    """The mean over replicates with its 95% t-interval, as text; a dash where there is none."""
    if not len(values) or np.isnan(values).any():  # training of a replicate went non-finite
        return "-"
    width = certainty.t_width(values)
    return f"{values.mean():.3f}" + ("" if np.isnan(width) else f" ±{width:.3f}")


def signed(mean: float, width: float = float("nan")) -> str:
    """A difference with its sign and, where there is one, its interval."""
    return f"{round(mean, 3) + 0.0:+.3f}" + ("" if np.isnan(width) else f" ±{width:.3f}")  # + 0.0: no "-0.000"


def make_points(results: pl.DataFrame, *, swept: Sequence[str], title: str) -> list[Table]:
    """Returns, for each attack, a table of a sweep: one row for each point, in the order of the results.

    Args:
      results: the results table, of several points.
      swept: dotted names of the columns that tell the points apart.
      title: what the runs were on.
    """
    header = [*(name.replace(".", ".\n") for name in swept), "centralised\ntrain", "\ntest", "\nattack"]
    header += ["federated\ntest", "union,\nlast model", "N1, just\ntrained"]
    found = []
    for attack in results["attack"].unique(maintain_order=True):
        part = results.filter(pl.col("attack") == attack)
        points = part.partition_by("run_id", *swept, maintain_order=True)
        rows = [[*(value(point[name][0]) for name in swept), *_point(point)] for point in points]
        number, held_out = part["replicate"].n_unique(), part["attack_held_out_accuracy"].drop_nulls().to_numpy()
        caption = (
            f"{f'Means of {number} replicates, ± 95% t' if number > 1 else 'One replicate'}. Attack accuracies: on the "
            "centralised target, on all nodes from the last model, and on N1 from the models that N1 handed on (mean "
            f"over the cycles). On held-out shadows: {held_out.min():.3f} to {held_out.max():.3f}."
        )
        found.append(Table(f"Sweep, attack: {attack}; {title}", header, rows, caption, left=len(swept)))
    return found


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
    """A swept value as text."""
    if value is None:
        return "unset"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cells(part: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Means over replicates, with three digits; a dash where the sample cannot resolve a number."""
    means = part.select(pl.col(name).cast(pl.Float64).mean() for name in names).row(0)
    return ["-" if mean is None else f"{mean:.3f}" for mean in means]


def _caption(part: pl.DataFrame) -> str:
    """What the numbers are means of, how sure they are, and whether the attack had converged."""
    held_out = part["attack_held_out_accuracy"].to_numpy().mean()
    text = (
        f"Members and {part['num_non_members'][0]:,} non-members weighted 50/50. "
        f"Attack accuracy on held-out shadows: {held_out:.3f}."
    )
    keys = ["snapshot", "attacked"]
    widths = [certainty.t_width(group["accuracy"].to_numpy()) for _, group in part.group_by(keys)]
    if np.isnan(widths).all():
        return f"One replicate. {text}"
    number = part["replicate"].n_unique()
    return f"Means of {number} replicates; attack accuracies ±{np.nanmax(widths):.3f} or less (95% t). {text}"


def _centralised(results: pl.DataFrame, attack: str) -> Table:
    """The baseline, attacked as a whole."""
    part = results.filter((pl.col("phase") == "centralised") & (pl.col("attacked") == "union"))
    rows = [["centralised", *_cells(part, list(SHORT))]]
    return Table(f"Centralised training, attack: {attack}", ["target", *SHORT.values()], rows, _caption(part))


def _federated(results: pl.DataFrame, attack: str) -> Table:
    """Every hand-off, for the first node and for all nodes together."""
    part = results.filter((pl.col("phase") == "federated") & pl.col("attacked").is_in(["N1", "union"]))
    shown = {"N1": OF_N1, "union": OF_UNION}
    header = ["model", "test", *(f"{who}\n{SHORT[name]}" for who, names in shown.items() for name in names)]
    rows = []
    for snapshot in part["snapshot"].unique(maintain_order=True):
        at = part.filter(pl.col("snapshot") == snapshot)
        row = [snapshot, *_cells(at, ["target_test_accuracy"])]
        for who, names in shown.items():
            row += _cells(at.filter(pl.col("attacked") == who), names)
        rows.append(row)
    return Table(f"Sequential federation, attack: {attack}", header, rows, _caption(part))
