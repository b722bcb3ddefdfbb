"""What the committed reports of `configs/adversaries.py` say, on three sets of records at once."""

import re
from typing import Any

import documents
import sources

SETS = ("synthetic", "orders", "retail")
AUC, TPR, LOW_TPR = "AUC", "TPR at 1% FPR", "TPR at 0.1% FPR"


def path(records: str) -> str:
    """Returns the report on a set of records."""
    return f"docs/adversaries/{records}/report.md"


def seen(attack: str, view: str, number: str = LOW_TPR, *, whom: str = "one node") -> list[sources.Number]:
    """Returns what an attack reaches under a view, on each set of records."""
    return [sources.cell(path(records), f"{number} on {whom}", attack, view) for records in SETS]


def coalition(attack: str, size: int, which: str = "mean", number: str = LOW_TPR) -> list[sources.Number]:
    """Returns what coalitions of so many insiders reach, on average or the worst of them."""
    where = ("Coalitions of insiders", (attack, str(size)), f"{number}, {which}")
    return [sources.cell(path(records), *where) for records in SETS]


def named(way: str, view: str = "coordinator") -> list[sources.Number]:
    """Returns how often the holder of a record is named."""
    return [sources.cell(path(records), "Which node held the record?", (way, view), "right") for records in SETS]


def epsilon(attack: str, view: str) -> list[sources.Number]:
    """Returns the lower bounds on epsilon."""
    return [sources.cell(path(records), "Lower bound on epsilon", attack, view) for records in SETS]


def more(view: str, other: str, number: str = LOW_TPR) -> list[sources.Number]:
    """Returns what the strongest attack tells more under one view than under another."""
    return [sources.cell(path(records), "Who sees more", (view, other), number) for records in SETS]


def gain(other: str, view: str, number: str = LOW_TPR) -> list[sources.Number]:
    """Returns what the strongest attack gains over another under a view."""
    return [sources.cell(path(records), "Gain of the strongest attack", (view, other), number) for records in SETS]


def positive(differences: list[sources.Number]) -> bool:
    """Whether every interval lies above zero."""
    return all(difference.low > 0 for difference in differences)


def not_negative(differences: list[sources.Number]) -> bool:
    """Whether no interval lies below zero."""
    return all(difference.high >= 0 for difference in differences)


def best(view: str, number: str = LOW_TPR) -> list[sources.Number]:
    """Returns what the best attack under a view reaches, on each set of records."""
    found = []
    for records in SETS:
        table = sources.sheet(path(records), f"{number} on one node")
        cells = [row[table.header.index(view)] for row in table.rows]
        found.append(max(sources.read(text) for text in cells if text.strip("-")))
    return found


def worst(attack: str, size: int) -> list[list[int]]:
    """Returns who sits in the worst coalition of so many insiders, on each set of records."""
    rows = [sources.sheet(path(records), "Coalitions of insiders").row(attack, str(size)) for records in SETS]
    return [[int(node) for node in re.findall(r"\d+", row[-1])] for row in rows]


def evenly(insiders: list[int], nodes: int) -> bool:
    """Whether the longest and the shortest way between neighbours on the ring differ by two nodes at most."""
    ways = [(after - before) % nodes for before, after in zip(insiders, [*insiders[1:], insiders[0]], strict=True)]
    return max(ways) - min(ways) <= 2


def num_classes(records: str) -> int:
    """Returns the number of classes."""
    return int(sources.says(path(records), r"(\d+) k-means classes")[0])


def members(records: str) -> int:
    """Returns the number of members in a replicate."""
    return int(sources.stored(f"docs/adversaries/{records}/run.json")["settings"]["data"]["num_federation"])


def non_members(records: str) -> int:
    """Returns the number of non-members in a replicate."""
    return int(sources.says(path(records), r"Members and ([\d,]+) non-members")[0].replace(",", ""))


def minutes(records: str, *stages: str) -> float:
    """Returns how long the run took, or some of its stages."""
    seconds: dict[str, float] = sources.stored(f"docs/adversaries/{records}/run.json")["seconds"]
    return sum(seconds[stage] for stage in stages or seconds) / 60


def above(first: list[sources.Number], second: list[sources.Number]) -> bool:
    """Whether every interval of the first lies above that of the second."""
    return all(one.low > other.high for one, other in zip(first, second, strict=True))


def not_below(first: list[sources.Number], second: list[sources.Number]) -> bool:
    """Whether no interval of the first lies below that of the second."""
    return all(one.high >= other.low for one, other in zip(first, second, strict=True))


def parties(records: str, rows: list[tuple[str, Any, str]]) -> documents.Table:
    """Returns the table of what each party sees.

    Args:
      records: the set of records.
      rows: who, the view or (size, which) of coalitions, and the attack.
    """
    lines = []
    for who, view, attack in rows:
        if isinstance(view, str):
            cells = [sources.sheet(path(records), f"{number} on one node") for number in (AUC, TPR, LOW_TPR)]
            shown = [table.row(attack)[table.header.index(view)] for table in cells]
        else:
            size, which = view
            table = sources.sheet(path(records), "Coalitions of insiders")
            row = dict(zip(table.header, table.row(attack, str(size)), strict=True))
            shown = [row[f"{number}, {which}"].replace("0.", ".") for number in (AUC, TPR, LOW_TPR)]
            who = f"{who} of {row['coalitions']}"
        lines.append([who, f"`{attack}`", *shown])
    return documents.Table(["who", "attack", AUC, TPR, LOW_TPR], lines)
