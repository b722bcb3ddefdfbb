"""What adversaries learn -> tables of attacks x views, coalitions and naming, and their figures."""

import dataclasses
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmia_jax import certainty, store
from fedmia_jax.report import figures, tables

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#111111")
SHOWN = ("sequence_lira", "trajectory", "lira_online", "rmia_online", "delta_phi", "peers", "network", "loss")
NUMBERS = {  # column: (what it is, how its interval is made)
    "auc": ("AUC", "percentile bootstrap over records and replicates"),
    "tpr_at_fpr_0.01": ("TPR at 1% FPR", "Clopper-Pearson, a record being one trial"),
    "tpr_at_fpr_0.001": ("TPR at 0.1% FPR", "Clopper-Pearson, a record being one trial"),
}


def read(workdir: store.Workdir) -> dict[str, pl.DataFrame] | None:
    """Returns the tables of a run with reference federations, by `store.TABLES`, or None."""
    found = {name: table for name in store.TABLES if (table := workdir.read_table(name)) is not None}
    return found if len(found) == len(store.TABLES) and not found["roc"].is_empty() else None


def make_tables(found: dict[str, pl.DataFrame]) -> list[tables.Table]:
    """Returns attacks x views for one node and for the union, coalitions by size, and naming."""
    sure = found["certainty"]
    made = []
    for attacked, whom in (("node", "one node"), ("union", "the union of all nodes")):
        part = sure.filter(pl.col("attacked") == attacked)
        if not part.is_empty():
            made += [_across(part, column, whom) for column in NUMBERS if part[column].count()]
    made.append(_epsilon(sure.filter(pl.col("attacked") == "node")))
    if not found["coalitions"].is_empty():
        made.append(_by_size(found["coalitions"]))
    if not found["attribution"].is_empty():
        made.append(_naming(found["attribution"]))
    return made


def by_point(found: dict[str, pl.DataFrame], *, swept: Sequence[str]) -> list[tables.Table]:
    """Returns attacks x views for one node at every point of a sweep, AUC and where the sample resolves it TPR at 0.1%.

    Args:
      found: see `read`.
      swept: dotted names of the columns that tell the points apart.
    """
    sure, made = found["certainty"].filter(pl.col("attacked") == "node"), []
    for values, part in sure.group_by(*swept, maintain_order=True):
        point = ", ".join(f"{name}={tables.value(value)}" for name, value in zip(swept, values, strict=True))
        for column in ("auc", "tpr_at_fpr_0.001"):
            if part[column].count():
                table = _across(part, column, "one node")
                made.append(dataclasses.replace(table, title=f"{table.title}; {point}"))
    return made


def _across(part: pl.DataFrame, column: str, whom: str) -> tables.Table:
    """One number for every attack and view."""
    what, how = NUMBERS[column]
    views = part["view"].unique(maintain_order=True).to_list()
    ends = ("low_replicates", "high_replicates") if column == "auc" else ("low", "high")
    cells = {
        (row["attack"], row["view"]): _cell(row[column], *(row[f"{column}_{end}"] for end in ends))
        for row in part.iter_rows(named=True)
    }
    attacks = part["attack"].unique(maintain_order=True).to_list()
    rows = [[attack, *(cells.get((attack, view), "") for view in views)] for attack in attacks]
    first, members = part.row(0, named=True), int(part["members"].to_numpy().max())
    caption = (
        f"{first['replicates']} replicates pooled, {members:,} distinct members and {first['non_members']:,} "
        f"non-members. 95% intervals: {how}. Empty: the view does not show what the attack reads. An attack on one "
        "snapshot reads the one soonest after the node trained."
    )
    return tables.Table(f"{what} on {whom}, attacks x views", ["attack", *views], rows, caption)


def _cell(value: float | None, low: float | None, high: float | None) -> str:
    """A number and its interval; a dash where the sample cannot resolve it."""
    if value is None:
        return "-"
    first, second, third = (f"{number:.3f}".removeprefix("0") for number in (value, low, high))
    return f"{first} ({second}-{third})"


def _epsilon(part: pl.DataFrame) -> tables.Table:
    """Lower bounds on epsilon."""
    views = part["view"].unique(maintain_order=True).to_list()
    cells = {(row["attack"], row["view"]): f"{row['epsilon']:.2f}" for row in part.iter_rows(named=True)}
    rows = [
        [attack, *(cells.get((attack, view), "") for view in views)]
        for attack in part["attack"].unique(maintain_order=True)
    ]
    caption = (
        "Training of these models is not (epsilon, 0)-differentially private for any smaller epsilon, at 95%, as far "
        "as the records of one model are independent trials: the threshold is chosen on one half of them and counted "
        "on the other. The number of records bounds it."
    )
    return tables.Table("Lower bound on epsilon, one node, attacks x views", ["attack", *views], rows, caption)


def by_size(coalitions: pl.DataFrame) -> pl.DataFrame:
    """Returns mean and worst coalition of every attack and size, with t-intervals over replicates.

    Args:
      coalitions: see `findings.Findings`; a coalition is scored by the mean over the nodes that it attacks.

    Returns:
      Columns attack, size, coalitions, which (`mean` or `worst`), party, and value and width of each number.
    """
    keys = ["attack", "size", "party", "replicate"]
    columns = [column for column in NUMBERS if coalitions[column].count()]
    each = coalitions.group_by(keys, maintain_order=True).agg(pl.col(columns).mean())
    rows = []
    for (attack, size), part in each.group_by("attack", "size", maintain_order=True):
        means = part.group_by("party", maintain_order=True).agg(pl.col("auc").mean())
        worst = means.sort("auc", descending=True, maintain_order=True)["party"][0]
        for which, some in (("mean", part), ("worst", part.filter(pl.col("party") == worst))):
            row = {"attack": attack, "size": size, "coalitions": len(means), "which": which, "party": worst}
            for column in columns:
                values = some.group_by("replicate", maintain_order=True).agg(pl.col(column).mean())[column].to_numpy()
                row |= {column: float(values.mean()), f"{column}_width": certainty.t_width(values)}
            rows.append(row)
    return pl.DataFrame(rows)


def _by_size(coalitions: pl.DataFrame) -> tables.Table:
    """Coalitions by size."""
    summary = by_size(coalitions)
    columns = [column for column in NUMBERS if column in summary.columns]
    header = ["attack", "insiders", "coalitions"]
    header += [f"{NUMBERS[column][0]},\n{which}" for which in ("mean", "worst") for column in columns]
    rows = []
    for (attack, size), part in summary.group_by("attack", "size", maintain_order=True):
        cells = [str(attack), str(size), f"{part['coalitions'][0]:,}"]
        for which in ("mean", "worst"):
            row = part.filter(pl.col("which") == which).row(0, named=True)
            cells += [_wide(row[column], row[f"{column}_width"]) for column in columns]
        rows.append([*cells, str(part["party"][0]).removeprefix("coalition:").removeprefix("insider:")])
    caption = (
        "Every coalition of so many insiders attacks every node outside it, where it sees what the attack reads (a "
        "step needs both ends of a visit). Means over those nodes, ± 95% t over replicates. The worst "
        "coalition is the one with the highest AUC, chosen on the same targets."
    )
    return tables.Table("Coalitions of insiders", [*header, "worst"], rows, caption)


def _wide(value: float, width: float) -> str:
    """A mean and the half-width of its interval."""
    return f"{value:.3f}" + ("" if np.isnan(width) else f" ±{width:.3f}")


def _naming(attribution: pl.DataFrame) -> tables.Table:
    """How often the node is named that held a record."""
    nodes = attribution["true"].n_unique()
    rows = []
    for (way, view), part in attribution.group_by("way", "view", maintain_order=True):
        right, total = int(part.filter(pl.col("true") == pl.col("named"))["count"].sum()), int(part["count"].sum())
        rows.append([str(way), str(view), _cell(right / total, *certainty.clopper_pearson(right, total))])
    caption = f"Of {total:,} member records; by chance {1 / nodes:.3f}. 95% intervals: Clopper-Pearson."
    return tables.Table("Which node held the record? (top-1)", ["named by", "view", "right"], rows, caption, left=2)


def draw(workdir: store.Workdir, found: dict[str, pl.DataFrame], results: pl.DataFrame, *, title: str) -> list[str]:
    """Draws and saves the figures; returns their names."""
    drawn: dict[str, Figure] = {"roc": roc(found["roc"], title=title)}
    if not found["coalitions"].is_empty():
        drawn["coalitions"] = coalitions(found["coalitions"], title=title)
    if not found["attribution"].is_empty():
        drawn["attribution"] = confusion(found["attribution"], title=title)
    for attack in ("lira_online", "network"):
        part = results.filter(pl.col("attack") == attack, pl.col("phase") == "federated")
        if not part.is_empty():
            drawn[f"advantage_{attack}"] = advantage(part, attack=attack, title=title)
    for name, figure in drawn.items():
        figures.save(workdir, name, figure)
    return list(drawn)


def roc(curves: pl.DataFrame, *, title: str) -> Figure:
    """Draws ROC curves on logarithmic axes: attacks under the widest view, and views of the first of `SHOWN`."""
    part = curves.filter(pl.col("attacked") == "node")
    attacks = [name for name in SHOWN if name in part["attack"].unique()] or part["attack"].unique().to_list()[:8]
    views = part["view"].unique(maintain_order=True).to_list()
    widest = "coordinator" if "coordinator" in views else views[-1]
    figure, axes = plt.subplots(1, 2, figsize=(12.5, 5.6), layout="constrained")
    _curves(axes[0], part.filter(pl.col("view") == widest), "attack", attacks)
    axes[0].set_title(f"attacks, view: {widest}", fontsize=10)
    _curves(axes[1], part.filter(pl.col("attack") == attacks[0]), "view", views)
    axes[1].set_title(f"views, attack: {attacks[0]}", fontsize=10)
    axes[0].set_ylabel("true-positive rate")
    figure.suptitle(f"Membership of one node, replicates pooled; bands: 95% Clopper-Pearson\n{title}", fontsize=10)
    return figure


def _curves(axes: Axes, part: pl.DataFrame, column: str, names: Sequence[str]) -> None:
    """Curves by attack or view, with their bands."""
    for name, colour in zip(names, COLOURS, strict=False):
        curve = part.filter(pl.col(column) == name)
        if curve.is_empty():
            continue
        axes.plot(curve["fpr"], curve["tpr"], color=colour, label=name, linewidth=1.6)
        axes.fill_between(
            curve["fpr"].to_numpy(), curve["tpr_low"].to_numpy(), curve["tpr_high"].to_numpy(), color=colour, alpha=0.15
        )
    low = float(part["fpr"].to_numpy().min())
    drawn = part.filter(pl.col(column).is_in(list(names)), pl.col("tpr_low") > 0)["tpr_low"].to_numpy()
    bottom = max(low, 0.7 * float(drawn.min()))
    axes.plot([low, 1], [low, 1], color="#aaaaaa", linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(bottom, 1.05), xlabel="false-positive rate")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def coalitions(table: pl.DataFrame, *, title: str) -> Figure:
    """Draws leakage against the number of insiders: mean and worst coalition."""
    summary = by_size(table)
    columns = [column for column in NUMBERS if column in summary.columns]
    figure, axes = plt.subplots(1, len(columns), figsize=(5.2 * len(columns), 4.8), layout="constrained", squeeze=False)
    attacks = summary["attack"].unique(maintain_order=True).to_list()
    for place, column in zip(axes[0], columns, strict=True):
        for attack, colour in zip(attacks, COLOURS, strict=False):
            for which, style in (("mean", "-"), ("worst", "--")):
                part = summary.filter(pl.col("attack") == attack, pl.col("which") == which)
                label = f"{attack}, {which}"
                widths = part[f"{column}_width"].fill_nan(0.0)
                place.errorbar(
                    part["size"],
                    part[column],
                    widths,
                    color=colour,
                    linestyle=style,
                    marker="o",
                    markersize=3,
                    label=label,
                )
        low = max(0.0, float(summary[column].to_numpy().min()) - 0.05)
        place.set(xlabel="insiders together", title=NUMBERS[column][0], ylim=(low, 1.02))
        place.set_xticks(sorted(summary["size"].unique().to_list()))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.suptitle(f"What coalitions of insiders learn of another node; 95% t over replicates\n{title}", fontsize=10)
    return figure


def confusion(attribution: pl.DataFrame, *, title: str) -> Figure:
    """Draws confusion matrices, true node by named node: a row for each view, a column for each way."""
    views = attribution["view"].unique(maintain_order=True).to_list()
    views = [view for view in views if view != "coordinator_p2p" or "outsider" not in views]
    ways = attribution["way"].unique(maintain_order=True).to_list()
    nodes = attribution["true"].unique(maintain_order=True).to_list()
    shape = (len(views), len(ways))
    size = (3.3 * len(ways) + 0.8, 3.4 * len(views) + 0.8)
    figure, axes = plt.subplots(*shape, figsize=size, layout="constrained", squeeze=False)
    image = None
    for (row, view), (column, way) in ((a, b) for a in enumerate(views) for b in enumerate(ways)):
        place, part = axes[row, column], attribution.filter(pl.col("view") == view, pl.col("way") == way)
        if part.is_empty():
            place.set_axis_off()
            continue
        place.set_title(f"{way}\n{view}", fontsize=9)
        counts = part["count"].to_numpy().reshape(len(nodes), len(nodes)).astype(float)
        image = place.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), vmin=0, vmax=1, cmap="viridis")
        place.set_xticks(range(len(nodes)), nodes, fontsize=7, rotation=90)
        place.set_yticks(range(len(nodes)), nodes, fontsize=7)
        place.set_xlabel("named", fontsize=8)
        place.set_ylabel("held by", fontsize=8)
    if image is not None:
        figure.colorbar(image, ax=axes, shrink=0.7, label="share of the node's records")
    figure.suptitle(f"Which node held the record?\n{title}", fontsize=10)
    return figure


def advantage(part: pl.DataFrame, *, attack: str, title: str) -> Figure:
    """Draws the advantage over guessing, TPR - FPR at the attack's own threshold, on every node along the hand-offs."""
    nodes = [name for name in part["attacked"].unique(maintain_order=True) if name != "union"]
    snapshots = part.sort("cycle", "node")["snapshot"].unique(maintain_order=True).to_list()
    figure, axes = plt.subplots(figsize=(max(8.0, 0.22 * len(snapshots) + 2), 5.0), layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(nodes)))
    for name, colour in zip(nodes, colours, strict=True):
        groups = part.filter(pl.col("attacked") == name).partition_by("snapshot", as_dict=True)
        values = [2 * groups[(snapshot,)]["accuracy"].to_numpy() - 1 for snapshot in snapshots]
        means, widths = (
            np.array([each.mean() for each in values]),
            np.array([certainty.t_width(each) for each in values]),
        )
        axes.plot(range(len(snapshots)), means, color=colour, label=name, linewidth=1.4)
        axes.fill_between(range(len(snapshots)), means - widths, means + widths, color=colour, alpha=0.12)
    axes.set_xticks(range(len(snapshots)), snapshots, rotation=90, fontsize=7)
    axes.set(
        xlabel="model after cycle and node",
        ylabel="advantage, TPR - FPR",
        xlim=(0, len(snapshots) - 1),
        ylim=(-0.2, 1.02),
    )
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    axes.set_title(
        f"Advantage of {attack} on each node, hand-off by hand-off; 95% t over replicates\n{title}", fontsize=10
    )
    return figure
