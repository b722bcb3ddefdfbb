"""What the committed reports of `configs/mitigations.py` say."""

import sources

NONE = "no defence"


def bought(folder: str) -> str:
    """Returns the report of one comparison, a folder of `docs/mitigations`."""
    return f"docs/mitigations/{folder}/report.md"


def level(folder: str, label: str, column: str) -> sources.Number:
    """Returns what a level of a defence costs or leaks."""
    return sources.cell(bought(folder), "What protection buys", label, column)


def change(folder: str, label: str, view: str) -> sources.Number:
    """Returns how much more a level leaks under a view than no defence, on the same records."""
    return sources.cell(bought(folder), "Less than without a defence", label, view)


def verdict(folder: str, advice: str) -> str:
    """Returns what became of a sentence of the paper's advice."""
    table = sources.sheet(bought(folder), "The paper's advice")
    return table.row("", advice)[0]


def less(differences: list[sources.Number]) -> bool:
    """Whether every interval lies below zero."""
    return all(difference.high < 0 for difference in differences)


def unresolved(differences: list[sources.Number]) -> bool:
    """Whether every interval holds zero."""
    return all(difference.low <= 0 <= difference.high for difference in differences)


def spent(folder: str) -> float:
    """Returns how long a comparison took, in minutes."""
    seconds: dict[str, float] = sources.stored(f"docs/mitigations/{folder}/run.json")["seconds"]
    return sum(seconds.values()) / 60
