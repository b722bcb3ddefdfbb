"""The paper's claims, each held against the rows of a sweep.

A claim is a set of comparisons, one for each cell of the grid (or step between cells, or visit of a node): numbers
that should be positive, by replicate. The verdict counts the comparisons whose mean over replicates is as claimed.

Source: Pustozerova and Mayer, "Information Leaks in Federated Learning", 2020, section IV.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from fedmia_jax.audit import intervals
from fedmia_jax.report import tables
from fedmia_jax.report.paper import facts as paper_facts

CELL = paper_facts.CELL
WORDS = {"step": "{}", "classes": "{} classes", "nodes": "{} nodes", "local_epochs": "{} epochs"}
HOLDS, IN_PART = 0.95, 0.5  # share of comparisons as claimed
SLACK = 0.02  # test accuracy that counts as held
EXCEPTIONS = 4  # named, the largest first
RULE = (
    "holds: in at least 95% of the comparisons; holds in part: in at least half. Means are of the differences, not: "
    "those that go the other way, the worst first, ±: 95% t-intervals over replicates."
)
DEFINED = (
    "Along the hand-offs, everything is taken from the second cycle on. The peak on a node is the attack accuracy on "
    "its records right after it trained, mean over the cycles; the swing is the highest less the lowest attack score "
    "on a node in a cycle, mean over nodes and cycles; the spread is the standard deviation over all snapshots."
)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper and what the results say to it."""

    letter: str
    statement: str
    verdict: str  # holds, holds in part, does not hold, not tested
    numbers: str


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """Comparisons of one kind: whether each is as claimed, and the text of what was compared and of the numbers."""

    held: Sequence[bool]
    text: str


CompareFn = Callable[[paper_facts.Facts], list[Comparisons]]


def check(rows: pl.DataFrame, published: pl.DataFrame) -> list[Claim]:
    """Holds the claims against the rows of a sweep.

    Args:
      rows: results of one attack on single snapshots, with the columns CELL.
      published: the paper's tables: table, CELL, metric, paper; each claim says what they say themselves.

    Returns:
      The claims, in the order of the paper's section IV and summary.
    """
    facts, paper = paper_facts.from_results(rows), paper_facts.from_tables(published)
    return [
        _claim("a", "Federated learning keeps the test accuracy of centralised training "
               f"(last model; within {SLACK} or the interval)", _kept, facts, paper),
        _claim("b", "The attack is more accurate the more classes there are", _classes, facts, paper),
        _claim("c", "The attack on a node peaks right after that node trained, for every node", _peaks, facts),
        _claim("d", "The attack is more accurate after 200 local epochs than after 100", _epochs, facts, paper),
        _claim("e", "Attack accuracy varies more along the hand-offs with 200 local epochs", _variation, facts),
        _claim("f", "The attack on one node is more accurate the more nodes there are", _nodes, facts),
        _claim("g", "Attacking one node right after it trained beats attacking the centralised model", _single, facts),
        _claim("h", "With 50 and 100 classes, attacking all nodes from the last model does worse than attacking the "
               "centralised model", _union, facts, paper),
        _claim("i", "Recall varies more along the hand-offs than accuracy", _recall, facts),
    ]  # fmt: skip


def _claim(
    letter: str,
    statement: str,
    compare_fn: CompareFn,
    facts: paper_facts.Facts,
    paper: paper_facts.Facts | None = None,
) -> Claim:
    """Counts the comparisons of all kinds that are as claimed."""
    kinds = [comparisons for comparisons in compare_fn(facts) if comparisons.held]
    held = [as_claimed for comparisons in kinds for as_claimed in comparisons.held]
    if not held:
        return Claim(letter, statement, "not tested", "these results have nothing to compare")
    share = sum(held) / len(held)
    verdict = "holds" if share >= HOLDS else "holds in part" if share >= IN_PART else "does not hold"
    texts = [comparisons.text for comparisons in kinds]
    if paper is not None:
        own = [as_claimed for comparisons in compare_fn(paper) for as_claimed in comparisons.held]
        texts.append(f"in the paper's own tables in {sum(own)} of {len(own)}")
    return Claim(letter, statement, verdict, "; ".join(texts))


def compare_with_zero(name: str, frame: pl.DataFrame, *, by: Sequence[str], slack: float | None = None) -> Comparisons:
    """Compares numbers with zero: the column `value` by the columns `by`, and by replicate.

    Args:
      name: what the numbers are; the text begins with it.
      frame: the numbers, of some or all replicates in each cell.
      by: the columns of a cell, all in `WORDS`.
      slack: where given, a number counts as held where it is not below zero by more than it or the interval.
    """
    cells = frame.group_by(by, maintain_order=True).agg("value")
    values = [np.array(replicates) for replicates in cells["value"]]
    means = [float(replicates.mean()) for replicates in values]
    widths = [intervals.t_width(replicates) for replicates in values]
    lowest = [0.0 if slack is None else -max(slack, np.nan_to_num(width)) for width in widths]
    held = [mean > low if slack is None else mean >= low for mean, low in zip(means, lowest, strict=True)]
    if not held:
        return Comparisons([], "")
    exceptions = [
        (mean, f"{_label(row)} {tables.signed(mean, width)}")
        for row, mean, width, right in zip(cells.select(by).iter_rows(named=True), means, widths, held, strict=True)
        if not right
    ]
    whole = frame.group_by("replicate").agg(pl.col("value").mean(), pl.len()).filter(pl.col("len") == len(held))
    text = f"{name} in {sum(held)} of {len(held)}, mean {tables.signed(float(np.mean(means)), _width(whole['value']))}"
    return Comparisons(held, text + _exceptions([label for _, label in sorted(exceptions)]))


def _exceptions(labels: Sequence[str]) -> str:
    """The first few, and how many more."""
    if not labels:
        return ""
    more = f" and {len(labels) - EXCEPTIONS} more" if len(labels) > EXCEPTIONS else ""
    return f" (not: {', '.join(labels[:EXCEPTIONS])}{more})"


def _label(row: dict[str, object]) -> str:
    """A cell in words, slashes between."""
    return " / ".join(WORDS[name].format(value) for name, value in row.items())


def _width(values: pl.Series) -> float:
    """Half-width of the interval over replicates."""
    return intervals.t_width(values.to_numpy())


def _against(frame: pl.DataFrame, column: str, other: pl.DataFrame) -> pl.DataFrame:
    """`value`: a column of the frame less the centralised one, in the same cell and replicate."""
    joined = frame.join(other, on=[*CELL, "replicate"], suffix="_other", maintain_order="left")
    return joined.with_columns(value=pl.col(column) - pl.col(f"{column}_other"))


def _steps(frame: pl.DataFrame, column: str, along: str) -> pl.DataFrame:
    """`value`: what a column gains from each value of one axis to the next that was run; `step` names the two."""
    group = [name for name in (*CELL, "replicate") if name != along and name in frame.columns]
    steps = frame.sort(*group, along).with_columns(
        value=pl.col(column).diff().over(group),
        step=pl.format(f"{{}} to {WORDS[along]}", pl.col(along).shift(1).over(group), pl.col(along)),
    )
    return steps.drop_nulls("value")


def _peaks_on(visits: pl.DataFrame) -> pl.DataFrame:
    """`attack_accuracy`: the peak, by cell and replicate."""
    return visits.group_by(*CELL, "replicate", maintain_order=True).agg(attack_accuracy=pl.col("accuracy").mean())


def _kept(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim a."""
    value = _against(facts.final, "test_accuracy", facts.central)
    return [compare_with_zero("last model less centralised:", value, by=CELL, slack=SLACK)]


def _classes(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim b; the centralised target does not depend on the nodes, the paper's not on the epochs either."""
    columns = ["classes", "local_epochs", "replicate"]
    central = facts.central.group_by(columns, maintain_order=True).agg(pl.col("attack_accuracy").mean())
    central = central.unique(["classes", "replicate", "attack_accuracy"], maintain_order=True)
    return [
        compare_with_zero("centralised:", _steps(central, "attack_accuracy", "classes"), by=["step", "local_epochs"]),
        compare_with_zero(
            "last model, all nodes:",
            _steps(facts.final, "attack_accuracy", "classes"),
            by=["step", "nodes", "local_epochs"],
        ),
    ]


def _peaks(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim c: higher than just before the visit, and never higher until just before the next one."""
    visits = facts.visits.with_columns(held=pl.col("peak") & (pl.col("rise") > 0))
    if visits.is_empty():
        return []
    share = _width(visits.group_by("replicate").agg(pl.col("held").mean())["held"])
    rise = visits.group_by("replicate").agg(pl.col("rise").mean())["rise"]
    mean = float(visits["rise"].to_numpy().mean())
    first = pl.col("target") == 1
    cells = visits.group_by(CELL, maintain_order=True).agg(pl.col("held").mean(), pl.len()).sort("held")
    worst = cells.row(0, named=True)
    text = (
        f"higher than before the visit and highest until the next at {_share(visits, share)}; N1: "
        f"{_share(visits.filter(first))}, other nodes: {_share(visits.filter(~first))}; mean rise at the visit "
        f"{tables.signed(mean, _width(rise))}; in {cells['held'].eq(1.0).sum()} of {cells.height} cells at every visit"
    )
    if worst["held"] < 1.0:
        text += f", least in {_label({name: worst[name] for name in CELL})}: {worst['held']:.0%} of {worst['len']}"
    return [Comparisons(visits["held"].to_list(), text)]


def _share(visits: pl.DataFrame, width: float = float("nan")) -> str:
    """How many visits are as claimed, in words."""
    text = f"{visits['held'].sum():,} of {visits.height:,} visits ({visits['held'].to_numpy().mean():.1%}"
    return text + (")" if np.isnan(width) else f" ±{width:.1%})")


def _epochs(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim d."""
    on_first = _peaks_on(facts.visits.filter(pl.col("target") == 1))
    measured = {"last model, all nodes:": facts.final, "peak on N1:": on_first}
    return [
        compare_with_zero(name, _steps(frame, "attack_accuracy", "local_epochs"), by=["classes", "nodes"])
        for name, frame in measured.items()
    ]


def _variation(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim e."""
    return [
        compare_with_zero(
            f"{kind}:",
            _steps(facts.swings.filter(pl.col("kind") == kind), "accuracy", "local_epochs"),
            by=["classes", "nodes"],
        )
        for kind in ("swing", "spread")
    ]


def _nodes(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim f."""
    on_first = _peaks_on(facts.visits.filter(pl.col("target") == 1))
    steps = _steps(on_first, "attack_accuracy", "nodes")
    return [compare_with_zero("peak on N1:", steps, by=["step", "classes", "local_epochs"])]


def _single(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim g."""
    attacked = {"N1:": facts.visits.filter(pl.col("target") == 1), "every node, mean:": facts.visits}
    return [
        compare_with_zero(name, _against(_peaks_on(visits), "attack_accuracy", facts.central), by=CELL)
        for name, visits in attacked.items()
    ]


def _union(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim h."""
    value = _against(facts.final, "attack_accuracy", facts.central).with_columns(value=-pl.col("value"))
    return [
        compare_with_zero("centralised less last model:", value.filter(pl.col("classes").is_in([50, 100])), by=CELL)
    ]


def _recall(facts: paper_facts.Facts) -> list[Comparisons]:
    """Claim i."""
    value = facts.swings.with_columns(value=pl.col("recall") - pl.col("accuracy"))
    return [
        compare_with_zero(f"{kind}:", value.filter(pl.col("kind") == kind), by=CELL) for kind in ("swing", "spread")
    ]


def to_markdown(claims: Sequence[Claim]) -> str:
    """Returns the claims as a list, the verdict first."""
    lines = [f"- **{claim.verdict}** ({claim.letter}) {claim.statement}: {claim.numbers}." for claim in claims]
    return "\n".join([*lines, "", RULE[0].upper() + RULE[1:], DEFINED])


def to_table(claims: Sequence[Claim], title: str) -> tables.Table:
    """Returns the claims for the terminal."""
    rows = [[claim.verdict, f"({claim.letter}) {claim.statement}: {claim.numbers}"] for claim in claims]
    return tables.Table(title, ["verdict", "claim"], rows, f"{RULE} {DEFINED}", left=2, wrap=True)
