"""Two parties, or two attacks, on the same records and replicates: differences with intervals.

Records and replicates are drawn anew for both at once, by the weights of `resampling`; what both have in common, such
as records that are easy for everyone, is then not in the difference. Which pairs are compared follows from what parties
see and from an attack that is named beforehand, never from outcomes.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from fedmia_jax.audit import coalitions, intervals, pooling, resampling, roc, rows, scorers, views

ALL, OWN = "all", "own"  # of what the other view shows: all snapshots, or all that the node received or trained
ORDER = "order"  # the same snapshots, and who trained them
DRAWS = resampling.Resampled._fields
DRAWS_SCHEMA: Mapping[str, Any] = {
    "attack": pl.String,
    "view": pl.String,
    "attacked": pl.String,
    "parties": pl.Int64,
    "members": pl.Int64,
    "alarms": pl.List(pl.Float64),
    **dict.fromkeys(DRAWS, pl.List(pl.Float32)),
}


def number_columns(number: str) -> list[str]:
    """Returns the columns of the difference of one number, with both ends of its interval."""
    return [f"{number}_difference{end}" for end in ("", "_low", "_high")]


SCHEMA: Mapping[str, Any] = {
    **dict.fromkeys(("attack", "view", "other_attack", "other_view", "sees"), pl.String),
    "strongest": pl.Boolean,
    "nodes": pl.Int64,
    **dict.fromkeys((column for number in coalitions.NUMBERS for column in number_columns(number)), pl.Float64),
}


CHANGES_SCHEMA: Mapping[str, Any] = {
    **dict.fromkeys(("attack", "view", "other_view"), pl.String),
    "nodes": pl.Int64,
    **dict.fromkeys((column for number in coalitions.NUMBERS for column in number_columns(number)), pl.Float64),
}


class Cell(NamedTuple):
    """What the parties of one view learn of one node by one attack, averaged over the parties.

    Attributes:
      parties: how many.
      members: distinct records.
      alarms: f[L], different records among the false alarms of each of `coalitions.NUMBERS`; infinite for an AUC, NaN
        where the sample does not resolve a rate.
      numbers: `coalitions.NUMBERS` under every weighting.
    """

    parties: int
    members: int
    alarms: Float[np.ndarray, "L"]
    numbers: resampling.Resampled


Cells = Mapping[str, Mapping[str, Cell]]  # by view and node


class Wider(NamedTuple):
    """A view that shows more than another."""

    view: str
    other: str
    sees: str  # `ALL`, `OWN` or `ORDER`


def make_draws(pooled: pooling.Pooled, nodes: int) -> list[dict[str, Any]]:
    """Returns a row of draws for each node that one attack attacks under one view, in `DRAWS_SCHEMA`.

    Args:
      pooled: with influences; no rows where it has no numbers.
      nodes: N.
    """
    if not pooled.measured:
        return []
    names, groups = rows.attacked_names(nodes), _by_node(pooled.measured)
    influence = np.stack([pooled.influence[node] / len(group) for node, group in groups.items()])
    table = []
    for (node, group), *moved in zip(groups.items(), *resampling.first_order(influence), strict=True):
        parts = zip(_auc(group, *moved), resampling.average([each.rates.tpr for each in group]), strict=True)
        of_rates = slice(len(rows.RATES))
        numbers = [np.concatenate([auc[None], tpr[of_rates]]).astype(np.float32) for auc, tpr in parts]
        row = {"attacked": names[node], "parties": len(group), "members": max(each.members for each in group)}
        row["alarms"] = _alarms(group).tolist()
        table.append(row | {name: part.ravel().tolist() for name, part in zip(DRAWS, numbers, strict=True)})
    return table


def between_views(draws: Iterable[Mapping[str, Any]], pairs: Sequence[Wider]) -> list[dict[str, Any]]:
    """Returns how much more one attack says to those who see more, a row for each pair of views that it can read.

    Args:
      draws: rows of one attack.
      pairs: see `wider_views`.
    """
    table = []
    for attack, cells in _cells(draws).items():
        for pair in pairs:
            made = _difference(*_of_shared_nodes(cells.get(pair.view, {}), cells.get(pair.other, {})))
            if made:
                head = {"attack": attack, "view": pair.view, "other_attack": attack, "other_view": pair.other}
                table.append(head | {"sees": pair.sees, "strongest": False} | made)
    return table


def between_attacks(draws: Iterable[Mapping[str, Any]], strongest: str) -> list[dict[str, Any]]:
    """Returns what one attack gains over each other one under each view, on the nodes that as many parties attack.

    Args:
      draws: rows of all attacks.
      strongest: the attack that was named beforehand; no rows where it is not among them.
    """
    by_attack, table = _cells(draws), []
    for view, cells in by_attack.pop(strongest, {}).items():
        for other, by_view in by_attack.items():
            alike = {node: cell for node, cell in by_view.get(view, {}).items() if _alike(cells.get(node), cell)}
            made = _difference(*_of_shared_nodes(cells, alike))
            if made:
                head = {"attack": strongest, "view": view, "other_attack": other, "other_view": view}
                table.append(head | {"sees": None, "strongest": True} | made)
    return table


def between_points(draws: Iterable[Mapping[str, Any]], first: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns what every attack says more at one point of a sweep than at another, a row for each attack and view.

    Points may have other numbers of nodes, and then a node is not the same at both: the mean over all nodes of one is
    compared with the mean over all of the other; `nodes` counts those of `draws`.

    Args:
      draws: rows of one point.
      first: rows of the other, of the same records and as many replicates, so that their weights are the same. Where
        it does not have a view, that of the same party without protection stands for it, see `views.unprotected`.
    """
    others, table = _cells(first), []
    for attack, by_view in _cells(draws).items():
        of_first = others.get(attack, {})
        for view, cells in by_view.items():
            other = view if view in of_first else views.unprotected(view)
            made = _difference(list(cells.values()), list(of_first.get(other, {}).values()))
            if made:
                table.append({"attack": attack, "view": view, "other_view": other} | made)
    return table


def wider_views(scorer: scorers.Scorer) -> list[Wider]:
    """Returns the pairs of views of which one shows more, at every node that both attack.

    One shows more where each of its parties sees all that any party of the other sees (`ALL`), or all that the other
    sees of the snapshots that the attacked node received or trained (`OWN`); and somewhere something beside it. Or it
    shows the same to who also knows the order in which nodes train (`ORDER`).
    """
    known, single = scorer.known, [view for view in scorer.observers if not scorers.is_many(view)]
    own = {
        node: np.stack([views.handled(schedule, [node]) for schedule in known.scored]) for node in range(scorer.nodes)
    }
    masks = {view: _masks(scorer, view) for view in single}
    found = []
    for view, other in itertools.permutations(single, 2):
        if other == view + views.UNORDERED:
            found.append(Wider(view, other, ORDER))
        elif views.needs_drawn_order(view) and not views.needs_drawn_order(other):
            continue  # it may show more, but not who trained what
        elif _shows_more(masks[view], masks[other], dict.fromkeys(own, np.True_)):
            found.append(Wider(view, other, ALL))
        elif _shows_more(masks[view], masks[other], own):
            found.append(Wider(view, other, OWN))
    return found


def _masks(scorer: scorers.Scorer, view: str) -> dict[int, Bool[np.ndarray, "X F T"]]:
    """What each party of a view that attacks a node sees, by node."""
    by_node: dict[int, list[np.ndarray]] = {}
    for observer in scorer.observers[view]:
        for node in observer.attacked:
            if node < scorer.nodes:
                by_node.setdefault(node, []).append(observer.masks)
    return {node: np.stack(group) for node, group in by_node.items()}


def _shows_more(
    wide: Mapping[int, np.ndarray], narrow: Mapping[int, np.ndarray], counted: Mapping[int, np.ndarray | np.bool]
) -> bool:
    """Whether all of the one see all of the other, and some more, of the snapshots that count."""
    both = [node for node in wide if node in narrow]
    missing = [(narrow[node].any(axis=0) & ~wide[node].all(axis=0) & counted[node]).any() for node in both]
    beside = [(wide[node].any(axis=0) & ~narrow[node].all(axis=0) & counted[node]).any() for node in both]
    return any(beside) and not any(missing)


def _by_node(measured: Iterable[coalitions.Measured]) -> dict[int, list[coalitions.Measured]]:
    """What all parties say, by attacked node."""
    groups: dict[int, list[coalitions.Measured]] = {}
    for each in measured:
        groups.setdefault(each.node, []).append(each)
    return groups


def _auc(
    group: Sequence[coalitions.Measured], records: Float[np.ndarray, "R"], within: Float[np.ndarray, "W"]
) -> Iterator[np.ndarray]:
    """The parts of a `Resampled` of the AUC, from what weightings move it by."""
    by_replicate = np.mean([each.auc for each in group], axis=0)
    auc, count = by_replicate.mean(), len(by_replicate)
    without = (by_replicate.sum() - by_replicate) / (count - 1) if count > 1 else np.zeros(0)
    yield from (auc, without, auc + records, auc + within)


def _alarms(group: Sequence[coalitions.Measured]) -> Float[np.ndarray, "L"]:
    """Different records among the false alarms of each number, see `Cell`."""
    fewest = min(each.others for each in group)
    resolved = [roc.allowed_alarms(rate, fewest) >= 1 for rate in rows.RATES]
    counted = np.mean([each.rates.alarms[: len(rows.RATES)] for each in group], axis=0)
    return np.append(np.inf, np.where(resolved, counted, np.nan))


def _cells(draws: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Cell]]]:
    """The cells behind rows of draws, by attack, view and node."""
    by_attack: dict[str, dict[str, dict[str, Cell]]] = {}
    for row in draws:
        numbers = resampling.Resampled(
            np.array(row["value"]), *(np.reshape(row[name], (len(coalitions.NUMBERS), -1)) for name in DRAWS[1:])
        )
        of_view = by_attack.setdefault(row["attack"], {}).setdefault(row["view"], {})
        of_view[row["attacked"]] = Cell(row["parties"], row["members"], np.array(row["alarms"]), numbers)
    return by_attack


def _alike(first: Cell | None, second: Cell) -> bool:
    """Whether as many parties attack a node by both attacks."""
    return first is not None and first.parties == second.parties


def _of_shared_nodes(first: Mapping[str, Cell], second: Mapping[str, Cell]) -> tuple[list[Cell], list[Cell]]:
    """The cells of the nodes that both have."""
    both = [node for node in first if node in second]
    return [first[node] for node in both], [second[node] for node in both]


def _difference(first: Sequence[Cell], second: Sequence[Cell]) -> dict[str, Any]:
    """The numbers of a row, from means over nodes; empty where there are none.

    As in `pooling`, a rate must allow one false alarm, and for an interval several of different records, under both.
    """
    sides = first, second
    if not all(sides):
        return {}
    means = [resampling.average([cell.numbers for cell in cells]) for cells in sides]
    apart = resampling.Resampled(*(one - other for one, other in zip(*means, strict=True)))
    alarms = np.min([np.mean([cell.alarms for cell in cells], axis=0) for cells in sides], axis=0)
    trials = max(cell.members for cells in sides for cell in cells)
    row: dict[str, Any] = {"nodes": len(first)}
    for place, (number, variance) in enumerate(zip(coalitions.NUMBERS, resampling.variances(apart), strict=True)):
        columns, value = number_columns(number), float(apart.value[place])
        share = float(means[0].value[place])
        ends = intervals.difference_interval(value, variance, share=share, trials=trials)
        enough = [not np.isnan(alarms[place]), *[alarms[place] >= intervals.LEAST_ALARMS] * 2]
        parts = zip(columns, (value, *ends), enough, strict=True)
        row |= {column: part if shown else None for column, part, shown in parts}
    return row
