"""What single parties learn of single nodes, and who learns most: a coalition of insiders, or whoever attacks a node.

The worst of many is chosen on other replicates than it is reported on, since the highest of many numbers is too high.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from fedmia_jax.audit import resampling, roc, rows

NUMBERS = ("auc", *(f"tpr_at_fpr_{rate}" for rate in rows.RATES))


class Measured(NamedTuple):
    """What one party says of the records of one node, or of the union.

    Attributes:
      party: name.
      node: the attacked one, N for the union.
      auc: f[S], at each replicate.
      rates: at the rates of `rows.RATES`, and at more behind them.
      members: distinct records, over all replicates.
      others: distinct non-members.
    """

    party: str
    node: int
    auc: Float[np.ndarray, "S"]
    rates: resampling.Rates
    members: int
    others: int

    def numbers(self) -> Float[np.ndarray, "L"]:
        """Returns `NUMBERS`, replicates pooled."""
        return np.append(self.auc.mean(), self.rates.tpr.value[: len(rows.RATES)])

    def without(self) -> Float[np.ndarray, "L S"]:
        """Returns `NUMBERS` with each replicate left out in turn."""
        count = len(self.auc)
        auc = (self.auc.sum() - self.auc) / (count - 1)
        return np.concatenate([auc[None], self.rates.tpr.without[: len(rows.RATES)]])


def resolved(measured: Sequence[Measured]) -> list[bool]:
    """Returns which of `NUMBERS` the sample resolves: a rate must allow one false alarm, a record being one."""
    fewest = min(each.others for each in measured)
    return [True, *(roc.allowed_alarms(rate, fewest) >= 1 for rate in rows.RATES)]


def make_rows(measured: Sequence[Measured], nodes: int) -> list[dict[str, Any]]:
    """Returns party, attacked node and `NUMBERS` of each, null where the sample cannot resolve them."""
    names = rows.attacked_names(nodes)
    table = []
    for each in measured:
        numbers = zip(NUMBERS, each.numbers(), resolved([each]), strict=True)
        shown = {name: float(number) if enough else None for name, number, enough in numbers}
        table.append({"party": each.party, "attacked": names[each.node]} | shown)
    return table


def worst(measured: Sequence[Measured], name: Callable[[Measured], str]) -> tuple[str | None, list[float | None]]:
    """Returns the group that learns most, and its numbers, chosen on other replicates than they are of.

    Each replicate is left out in turn; the group whose number is highest on the others is chosen, and what the
    replicate left out adds to that group's number is taken. Source: Tukey's pseudo-values, Efron and Tibshirani (1993),
    section 11.5; a threshold is pooled over replicates, so that no number is of one replicate alone.

    Args:
      measured: what all parties of a view say.
      name: of the group that each belongs to, such as its party; a group's number is the mean.

    Returns:
      The group with the highest AUC on all replicates, None where there is one alone; and `NUMBERS`, each of the groups
      that are chosen by it, None with one replicate, one group or where the sample cannot resolve the number.
    """
    groups: dict[str, list[Measured]] = {}
    for each in measured:
        groups.setdefault(name(each), []).append(each)
    if len(groups) < 2:
        return None, [None] * len(NUMBERS)
    whole = np.stack([np.mean([each.numbers() for each in group], axis=0) for group in groups.values()])  # [G, L]
    label = list(groups)[int(np.argmax(whole[:, 0]))]
    count = len(measured[0].auc)
    if count < 2:
        return label, [None] * len(NUMBERS)
    without = np.stack([np.mean([each.without() for each in group], axis=0) for group in groups.values()])  # [G, L, S]
    added = count * whole[:, :, None] - (count - 1) * without
    chosen = np.take_along_axis(added, without.argmax(axis=0, keepdims=True), axis=0)[0].mean(axis=1)
    numbers = zip(np.clip(chosen, 0, 1), resolved(measured), strict=True)
    return label, [float(number) if enough else None for number, enough in numbers]
