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
