"""Made-up tables of a run with reference federations: pooled intervals, ROC, coalitions and naming."""

from typing import Any

import polars as pl


def pooled(
    attack: str, view: str, *, attacked: str = "node", auc: float = 0.9, tpr: float | None = None, parties: int = 1
) -> dict[str, Any]:
    """A row of the intervals; without a TPR the sample resolves none."""
    row = {"attack": attack, "view": view, "attacked": attacked, "parties": parties, "replicates": 2}
    row |= {"members": 30, "non_members": 50, "auc": auc, "epsilon": 1.234}
    row |= {"auc_low_replicates": auc - 0.004, "auc_high_replicates": auc + 0.004}
    row |= {"epsilon_adjacency": "replace one", "epsilon_delta": 0.0, "epsilon_level": 0.999}
    for rate in ("0.01", "0.001"):
        ends = (None, None, None) if tpr is None else (tpr, tpr / 2, tpr * 2)
        row |= dict(zip([f"tpr_at_fpr_{rate}{end}" for end in ("", "_low", "_high")], ends, strict=True))
    for which, name in (("node", "N2"), ("party", None)):
        row |= {f"auc_worst_{which}": auc + 0.02, f"worst_{which}": name}
        row |= {f"tpr_at_fpr_{rate}_worst_{which}": None for rate in ("0.01", "0.001")}
    return row


def of_size(size: int, auc: float, *, tpr: float | None = None) -> dict[str, Any]:
    """A row of all coalitions of one size; the sample does not resolve the lower rate."""
    row = pooled("sequence_lira", f"all_coalitions:{size}", auc=auc, parties=3)
    row |= {"tpr_at_fpr_0.01": tpr, "tpr_at_fpr_0.01_worst_party": tpr, "auc_worst_party": auc + 0.05}
    return row | {"worst_party": "insider:2" if size == 1 else "coalition:{1,3}"}


def curve(attack: str, view: str, power: float) -> pl.DataFrame:
    """A ROC of node attacks: TPR = FPR ** power."""
    rates = pl.DataFrame({"fpr": [0.001, 0.01, 0.1, 1.0]}).with_columns(tpr=pl.col("fpr") ** power)
    ends = rates.with_columns(tpr_low=pl.col("tpr") * 0.9, tpr_high=(pl.col("tpr") * 1.1).clip(upper_bound=1.0))
    return ends.with_columns(attack=pl.lit(attack), view=pl.lit(view), attacked=pl.lit("node"))


def compared(
    view: str, other: str, *, by: str | None = None, sees: str | None = None, low: float | None = None
) -> dict[str, Any]:
    """A row of comparisons of stacked, between two views or with another attack; no interval at the lower rate."""
    row = {"attack": "stacked", "view": view, "other_attack": by or "stacked", "other_view": other, "sees": sees}
    row |= {"strongest": True, "nodes": 3}
    for number, ends in (
        ("auc", (0.0123, 0.0036, 0.021)),
        ("tpr_at_fpr_0.01", (0.04, low, 0.09)),
        ("tpr_at_fpr_0.001", (-0.02, None, None)),
    ):
        row |= dict(zip([f"{number}_difference{end}" for end in ("", "_low", "_high")], ends, strict=True))
    return row


SIZES = [of_size(1, 0.7, tpr=0.35), of_size(2, 0.8, tpr=0.45)]
COALITIONS = pl.DataFrame({"attack": ["sequence_lira"], "size": [1], "party": ["insider:1"], "attacked": ["N3"]})
NAMING = pl.DataFrame(
    [
        {
            "way": "delta_phi",
            "view": "coordinator",
            "parties": 1,
            "candidates": 2,
            "true": true,
            "named": named,
            "count": count,
        }
        for true, named, count in (("N1", "N1", 9), ("N1", "N2", 1), ("N2", "N1", 3), ("N2", "N2", 7))
    ]
)
ROC = pl.concat(
    [
        curve(attack, view, power)
        for attack, view, power in (
            ("loss", "outsider", 0.8),
            ("loss", "coordinator", 0.7),
            ("peers", "coordinator", 0.5),
        )
    ]
)
COMPARISONS = pl.DataFrame(
    [
        compared("coordinator", "bracket", sees="all", low=-0.01),
        compared("bracket", "outsider", sees="own", low=0.011),
        compared("coordinator", "coordinator_p2p", sees="all", low=0.011),
        compared("bracket", "bracket", by="lira_online", low=0.011),
        compared("bracket", "bracket", by="delta_phi", low=0.011),
        compared("coordinator", "bracket", sees="all", low=0.011) | {"attack": "lira_online", "strongest": False},
    ]
)
