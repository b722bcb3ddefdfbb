"""Made-up results whose content is known: the paper's numbers moved, and nodes whose attack fades after the visit."""

import functools
import itertools
from typing import Any

import numpy as np
import polars as pl

from fedmia_jax.report import paper

GRID = list(itertools.product((10, 20, 50, 100), (3, 10, 15), (100, 200)))
SWEPT = ("data.num_classes", "federation.nodes", "federation.local_epochs")
NUMBERS = {tuple(row[:5]): row[5] for row in paper.published().iter_rows()}
METRICS = {
    "train_accuracy": "target_train_accuracy",
    "test_accuracy": "target_test_accuracy",
    "attack_accuracy": "accuracy",
    "attack_precision": "precision",
    "attack_recall": "recall",
    "attack_f1": "f1",
}
OTHERS = ("auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "threshold", "attack_held_out_accuracy")


def peak(classes: int, nodes: int, epochs: int) -> float:
    """Attack accuracy on a node right after it trained, as the paper would have it: 0.64 to 0.95."""
    return 0.55 + 0.05 * np.log2(classes / 5) + 0.007 * nodes + 0.0004 * epochs


def make_run(
    cell: tuple[int, int, int],
    replicate: int,
    *,
    cycles: int = 5,
    shift: float = 0.0,
    swing: float = 0.2,
    late: int = 0,
    centralised: dict[str, float] | None = None,
) -> pl.DataFrame:
    """The rows of one replicate: the paper's tables moved by `shift`, and nodes whose attack fades after the visit.

    The attack on a node is best `late` hand-offs after its visit and falls by `swing` (twice that with 200 epochs)
    until the one before; its recall falls half as far again.
    """
    classes, nodes, epochs = cell
    attacked = [f"N{node + 1}" for node in range(nodes)] + ["union"]
    steps = np.arange(cycles * nodes)
    since = (steps[:, None] - np.arange(nodes) - late) % nodes  # [T, N]
    on_nodes = peak(*cell) - swing * (epochs / 200) * since / nodes
    last = NUMBERS["II", *cell, "attack_accuracy"] + shift
    accuracy = np.concatenate([on_nodes, np.full((len(steps), 1), last)], axis=1)  # [T, A]
    test_accuracy = np.full_like(accuracy, NUMBERS["II", *cell, "test_accuracy"] + shift)
    federated = dict.fromkeys(OTHERS, np.full_like(accuracy, 0.5))
    federated |= dict.fromkeys(("accuracy", "precision", "f1", "target_train_accuracy"), accuracy)
    federated |= {"recall": 1.5 * accuracy - 0.5, "target_test_accuracy": test_accuracy}
    central = {metric: NUMBERS["I", classes, None, None, metric] + shift for metric in METRICS}
    central = dict.fromkeys(OTHERS, 0.5) | {
        METRICS[name]: value for name, value in (central | (centralised or {})).items()
    }
    columns = {name: np.insert(values, 0, central[name], axis=0).ravel() for name, values in federated.items()}
    cycle, node = ([None, *(1 + numbers).tolist()] for numbers in (steps // nodes, steps % nodes))
    places = {"cycle": cycle, "node": node}
    places["snapshot"] = [None, *(f"C{c}N{n}" for c, n in zip(cycle[1:], node[1:], strict=True))]
    places["phase"] = ["centralised"] + ["federated"] * len(steps)
    columns |= {name: [value for value in values for _ in attacked] for name, values in places.items()}
    always = {"run_id": "-".join(map(str, cell)), "replicate": replicate, "data.name": "synthetic"}
    always |= dict(zip(SWEPT, cell, strict=True))
    always |= {"attack": "network", "view": "snapshot", "num_members": 100, "num_non_members": 1000}
    frame = pl.DataFrame(columns | {"attacked": attacked * (1 + len(steps))}, schema_overrides={"snapshot": pl.String})
    return frame.with_columns(pl.lit(value).alias(name) for name, value in always.items())


def make(cells: Any = tuple(GRID), shifts: tuple[float, ...] = (0.0,), **options: Any) -> pl.DataFrame:
    """The rows of several cells; one replicate for each shift. The baseline first, as results are ordered."""
    runs = [make_run(cell, i, shift=shift, **options) for cell in cells for i, shift in enumerate(shifts)]
    return pl.concat(runs).with_columns(pl.col(*SWEPT, "replicate").cast(pl.Int64)).sort("phase", maintain_order=True)


@functools.cache
def whole(*shifts: float) -> pl.DataFrame:
    """The whole grid."""
    return make(shifts=shifts or (0.0,))


def with_aggregates(results: pl.DataFrame, *, accuracy: float = 0.625, only: bool = False) -> pl.DataFrame:
    """The same with an aggregate of every cycle behind its last node: `C1`, which no node trained.

    Args:
      results: of federations that pass a model round.
      accuracy: of the attack on the aggregates, whoever is attacked.
      only: whether nothing but the aggregates stays, beside the baseline.
    """
    placed = results.with_row_index("place").with_columns(pl.col("place").cast(pl.Float64))
    last = placed.filter(pl.col("node") == pl.col("federation.nodes"))
    aggregates = last.with_columns(
        pl.col("place").max().over("run_id", "replicate", "cycle") + 0.5,
        node=pl.lit(None, pl.Int64),
        snapshot=pl.format("C{}", "cycle"),
        accuracy=accuracy,
    )
    kept = placed.filter(pl.col("phase") == "centralised") if only else placed
    return pl.concat([kept, aggregates]).sort("place", maintain_order=True).drop("place")


def of_protocol(rate: float, shift: float) -> pl.DataFrame:
    """Two cells of the paper's grid, moved by `shift`, as one protocol of several."""
    rows = make([(10, 3, 100), (100, 3, 100)], shifts=(shift,)).with_columns(pl.lit(rate).alias("model.dropout_rate"))
    return rows.with_columns(pl.col("run_id") + f"-{rate}")
