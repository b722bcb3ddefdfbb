"""Scores of parties -> tables: rows of the results, intervals of each attack and view, ROC, coalitions, naming."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from fedmia_jax.audit import attribution, coalitions, comparisons, epsilon, metrics, pooling, rows, scorers, scoring

HEAD = {"attack": pl.String, "view": pl.String, "attacked": pl.String}
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "rows": rows.SCHEMA,
    "intervals": HEAD
    | dict.fromkeys(pooling.COUNTS, pl.Int64)
    | dict.fromkeys(pooling.NUMBERS, pl.Float64)
    | dict.fromkeys(pooling.NAMES, pl.String)
    | {name: pl.String if kind is str else pl.Float64 for name, kind in epsilon.COLUMNS.items()},
    "roc": HEAD | dict.fromkeys(("fpr", "tpr", "tpr_low", "tpr_high"), pl.Float64),
    "coalitions": {
        "attack": pl.String,
        "size": pl.Int64,
        "party": pl.String,
        "attacked": pl.String,
        **dict.fromkeys(coalitions.NUMBERS, pl.Float64),
    },
    "attribution": dict.fromkeys(("way", "view", "true", "named"), pl.String)
    | dict.fromkeys(("parties", "candidates", "count"), pl.Int64),
    "comparisons": comparisons.SCHEMA,
    "draws": comparisons.DRAWS_SCHEMA,
}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What an audit says, as tables.

    Attributes:
      rows: one row per replicate, snapshot, attacked party, attack and view.
      intervals: one row per attack, view and whether nodes or their union are attacked, replicates pooled.
      roc: the points of the ROC behind each row of `intervals`, but for `all_coalitions:k`.
      coalitions: one row per attack, coalition of `all_coalitions:k` and attacked node, replicates pooled.
      attribution: one row per way, view, true and named node: how often, and of how many nodes one was named.
      comparisons: one row per attack with references and pair of views of which one shows more, and one per view and
        attack that the strongest is compared with; differences on single nodes.
      draws: what comparisons are made from: one row per attack with references, view of single parties and node, its
        numbers under every weighting of records and replicates.
    """

    rows: pl.DataFrame
    intervals: pl.DataFrame
    roc: pl.DataFrame
    coalitions: pl.DataFrame
    attribution: pl.DataFrame
    comparisons: pl.DataFrame
    draws: pl.DataFrame


def pieces_of(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the pieces that an audit by some attacks consists of, in the order of its tables: see `study`."""
    return (attribution.SOURCE_LOSS, *names)


def study(scorer: scorers.Scorer, piece: str, *, on_broken: Callable[[str], None]) -> Findings:
    """Makes one piece of an audit: one attack on every target under every view, or naming by the loss.

    A piece depends on the scorer alone, and not on which other pieces are made; `join` puts them together.

    Args:
      scorer: the evidence, the views and the attacks with references.
      piece: an attack, or `attribution.SOURCE_LOSS`.
      on_broken: called with a line about an attack whose scores are not numbers; its numbers are null.
    """
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}
    if piece != attribution.SOURCE_LOSS:
        _study_attack(scorer, piece, tables, on_broken)
    tables["attribution"] = list(attribution.attribute(scorer, piece))
    scorer.fitted.pop(piece, None)
    frames = {
        name: pl.DataFrame([{column: row.get(column) for column in SCHEMAS[name]} for row in table], SCHEMAS[name])
        for name, table in tables.items()
    }
    return Findings(**frames)


def join(pieces: Sequence[Findings], *, strongest: str) -> Findings:
    """Puts the tables of some pieces one below the other, and compares attacks.

    Args:
      pieces: of one audit.
      strongest: the attack that the others are compared with, named beforehand; see `correction.Options`.
    """
    tables = {name: pl.concat([getattr(piece, name) for piece in pieces]) for name in SCHEMAS}
    of_views = tables["comparisons"].with_columns(strongest=pl.col("attack") == strongest)
    gains = comparisons.between_attacks(tables["draws"].iter_rows(named=True), strongest)
    tables["comparisons"] = pl.concat([of_views, pl.DataFrame(gains, comparisons.SCHEMA)])
    return Findings(**tables)


def _study_attack(
    scorer: scorers.Scorer,
    name: str,
    tables: Mapping[str, list[dict[str, Any]]],
    on_broken: Callable[[str], None],
) -> None:
    """Puts what one attack says into the tables."""
    by_view = _read(scorer, name, tables)
    for view, attacked, group in _groups(scorer.nodes, by_view):
        head = {"attack": name, "view": view, "attacked": attacked}
        compared = attacked == "node" and name in scorer.compared
        pooled = pooling.pool(scorer.arrays, group, with_influence=compared)
        if compared:
            tables["draws"].extend(head | row for row in comparisons.make_draws(pooled, scorer.nodes))
        bounds = epsilon.measure(scorer.arrays, group, scorer.claim, attacked=attacked) if pooled.measured else {}
        tables["intervals"].append(head | pooled.row | bounds)
        tables["roc"].extend(head | point for point in pooled.curve)
        if any(pooling.is_broken(scorer.arrays, scored) for scored in group):
            on_broken(f"attack {name}: scores are not numbers, its rows stay empty; a reference or a target exploded")
    if tables["draws"]:
        tables["comparisons"].extend(comparisons.between_views(tables["draws"], comparisons.wider_views(scorer)))


def _read(
    scorer: scorers.Scorer, name: str, tables: Mapping[str, list[dict[str, Any]]]
) -> dict[str, list[scorers.Scored]]:
    """What one attack says under each view, after its rows have been put into the tables."""
    score = scoring.score_on_one_model if name in scorer.arrays.model_scores else scoring.score_with_references
    by_view: dict[str, list[scorers.Scored]] = {}
    for view, group in itertools.groupby(score(scorer, name), lambda scored: scored.view):
        if scorers.is_many(view):
            _coalitions(scorer, group, {"attack": name, "view": view}, tables)
            continue
        for scored in group:
            tables["rows"].extend(_rows(scorer, scored))
            if view != rows.SNAPSHOT:
                by_view.setdefault(view, []).append(scored)
    return by_view


def _coalitions(
    scorer: scorers.Scorer,
    group: Iterator[scorers.Scored],
    head: dict[str, Any],
    tables: Mapping[str, list[dict[str, Any]]],
) -> None:
    """Puts what the coalitions of one size learn into the tables; they are too many to be kept together."""
    pooled = pooling.pool(scorer.arrays, group, with_curve=False)
    tables["intervals"].append(head | {"attacked": "node"} | pooled.row)
    size = int(head["view"].partition(":")[2])
    tables["coalitions"].extend(
        {"attack": head["attack"], "size": size} | row for row in coalitions.make_rows(pooled.measured, scorer.nodes)
    )


def _rows(scorer: scorers.Scorer, scored: scorers.Scored) -> Iterator[dict[str, Any]]:
    """A row of the results for each target."""
    arrays, name, correct = scorer.arrays, rows.attacked_names(scorer.nodes)[scored.node], scorer.correct(scored)
    groups = zip(arrays.members(scored.node), arrays.others(scored.node), strict=True)
    for replicate, (members, others) in enumerate(groups):
        scores, threshold = scored.scores[replicate], scored.thresholds[replicate]
        measured = metrics.measure(scores, members, others, scores.dtype.type(threshold), rates=rows.RATES)
        broken = bool(np.isnan(scores[members | others]).any())
        right = None if broken or correct is None else correct[replicate]
        read = None if scored.snapshots is None else int(scored.snapshots[replicate])
        where = {"replicate": replicate, **rows.place(scorer.known.scored[replicate], read), "attacked": name}
        yield rows.make_row(
            where | {"attack": scored.attack, "view": scored.party},
            measured,
            threshold=threshold,
            members=np.flatnonzero(members),
            others=np.flatnonzero(others),
            correct=None if right is None else np.asarray(right),
            held_out=None if scored.held_out is None else scored.held_out[replicate],
        )


def _groups(
    nodes: int, by_view: Mapping[str, Sequence[scorers.Scored]]
) -> Iterator[tuple[str, str, list[scorers.Scored]]]:
    """By view, what attacks nodes, each by itself, and what attacks their union."""
    for view, group in by_view.items():
        single = [scored for scored in group if scored.node < nodes]
        union = [scored for scored in group if scored.node == nodes]
        yield from ((view, name, some) for name, some in (("node", single), ("union", union)) if some)
