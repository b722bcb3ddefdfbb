"""Made-up tables of a run with reference federations: pooled intervals, ROC, coalitions and naming."""

from typing import Any

import polars as pl


def pooled(
    attack: str, view: str, *, attacked: str = "node", auc: float = 0.9, tpr: float | None = None
) -> dict[str, Any]:
    """A row of the intervals; without a TPR the sample resolves none."""
    row = {"attack": attack, "view": view, "attacked": attacked, "replicates": 2, "members": 30, "non_members": 50}
    row |= {"auc": auc, "auc_low_replicates": auc - 0.01, "auc_high_replicates": auc + 0.01, "epsilon": 1.234}
    row |= {"epsilon_adjacency": "replace one", "epsilon_delta": 0.0, "epsilon_level": 0.999}
    for rate in ("0.01", "0.001"):
        ends = (None, None, None) if tpr is None else (tpr, tpr / 2, tpr * 2)
        row |= dict(zip([f"tpr_at_fpr_{rate}{end}" for end in ("", "_low", "_high")], ends, strict=True))
    return row


def coalition(party: str, replicate: int, auc: float, *, size: int = 1, attacked: str = "N3") -> dict[str, Any]:
    """A row of the coalitions; the sample does not resolve the lower rate."""
    head = {"attack": "sequence_lira", "size": size, "party": party, "attacked": attacked, "replicate": replicate}
    return head | {"auc": auc, "tpr_at_fpr_0.01": auc / 2, "tpr_at_fpr_0.001": None}


def curve(attack: str, view: str, power: float) -> pl.DataFrame:
    """A ROC of node attacks: TPR = FPR ** power."""
    rates = pl.DataFrame({"fpr": [0.001, 0.01, 0.1, 1.0]}).with_columns(tpr=pl.col("fpr") ** power)
    ends = rates.with_columns(tpr_low=pl.col("tpr") * 0.9, tpr_high=(pl.col("tpr") * 1.1).clip(upper_bound=1.0))
    return ends.with_columns(attack=pl.lit(attack), view=pl.lit(view), attacked=pl.lit("node"))


COALITIONS = pl.DataFrame(
    [
        coalition("insider:1", 0, 0.6),
        coalition("insider:1", 1, 0.7),
        coalition("insider:2", 0, 0.8),
        coalition("insider:2", 1, 0.9, attacked="N3"),
        coalition("insider:2", 1, 0.7, attacked="N1"),
    ],
    schema_overrides={"tpr_at_fpr_0.001": pl.Float64},
)
NAMING = pl.DataFrame(
    [
        {"way": "delta_phi", "view": "coordinator", "true": true, "named": named, "count": count}
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
