"""What the programs in documents may name: cells of committed reports, configs, constants, and what is given by hand.

Everything public here is a name of theirs.
"""

import dataclasses
import functools
import importlib
import itertools
import json
import pathlib
import re
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

NUMBER = r"[-+]?(?:\d[\d,]*)?\.?\d+"
CELL = re.compile(rf"\**({NUMBER})\**(?: \(({NUMBER})(?:-| to )({NUMBER})\)| ±({NUMBER}))?")


class Number(float):
    """A number with the interval that its report gives it, if any.

    Attributes:
      low, high: ends of the interval, or the number itself.
      text: the cell.
    """

    low: float
    high: float
    text: str


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of a report: its title, and rows of cells by the names of their columns."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def row(self, *begins: str) -> list[str]:
        """Returns the one row whose cells begin so; an empty text stands for any."""
        found = [row for row in self.rows if all(want in ("", cell) for want, cell in zip(begins, row, strict=False))]
        if len(found) != 1:
            raise LookupError(f"{len(found)} rows {begins} in {self.title!r}")
        return found[0]


def sheet(path: str, title: str) -> Sheet:
    """Returns the table of a committed report whose title begins so."""
    found = [table for table in _sheets(ROOT / path) if table.title.startswith(title)]
    if not found:
        raise LookupError(f"no table {title!r} in {path}")
    return found[0]


def cell(path: str, title: str, row: str | tuple[str, ...], column: str) -> Number:
    """Returns a number of a committed report, by the title of its table, its row and its column."""
    table = sheet(path, title)
    if column not in table.header:
        raise LookupError(f"no column {column!r} in {table.title!r} of {path}")
    cells = table.row(*((row,) if isinstance(row, str) else row))
    return read(cells[table.header.index(column)])


def read(text: str) -> Number:
    """Returns the number of a cell: `.97 (.96-.98)`, `+.01 (-.01 to +.03)`, `0.97 ±0.01` or `97`."""
    match = CELL.fullmatch(text.strip())
    if match is None:
        raise LookupError(f"{text!r} is no number; the sample may not resolve it")
    value, low, high, width = (None if part is None else float(part.replace(",", "")) for part in match.groups())
    assert value is not None
    number = Number(value)
    number.low = value - width if width is not None else value if low is None else low
    number.high = value + width if width is not None else value if high is None else high
    number.text = text.strip()
    return number


def says(path: str, pattern: str) -> list[str]:
    """Returns the groups of a pattern in a committed report, for numbers in its sentences."""
    match = re.search(pattern, (ROOT / path).read_text())
    if match is None:
        raise LookupError(f"{path} does not say {pattern!r}")
    return list(match.groups())


def config(name: str, arg: str = "") -> Any:
    """Returns the config that `configs/NAME.py:ARG` makes."""
    return importlib.import_module(f"configs.{name}").get_config(arg)


def code(place: str) -> Any:
    """Returns a constant of the code, by `package.module:NAME`."""
    module, _, name = place.partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


def default(field: str) -> Any:
    """Returns the default of a config field."""
    return functools.reduce(lambda group, name: group[name], field.split("."), config("default"))


def false_positive_rates() -> list[float]:
    """Returns the rates at which true positive rates are told."""
    columns = code("fedmia_jax.report.tables:SHORT")
    return [float(column.rpartition("_")[2]) for column in columns if column.startswith("tpr_at_fpr_")]


def stored(path: str) -> Any:
    """Returns the content of a committed JSON file."""
    return json.loads((ROOT / path).read_text())


def pinned(package: str) -> list[str]:
    """Returns the releases of a package that the project asks for, in the order of `requirements.txt`."""
    return re.findall(rf"^{package}==([\d.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


def given(why: str, *values: Any) -> list[Any]:
    """Returns numbers that no table holds, such as definitions, with the reason why they are typed."""
    assert why
    return list(values)


def cited(*values: Any) -> list[Any]:
    """Returns years and numbers of publications."""
    return list(values)


def outside(why: str, *values: Any) -> list[Any]:
    """Returns numbers of an experiment outside this repository; the prose must say so."""
    assert why
    return list(values)


def forget() -> None:
    """Forgets the reports that were read, after others have been taken."""
    _sheets.cache_clear()


@functools.cache
def _sheets(path: pathlib.Path) -> list[Sheet]:
    """All tables of a Markdown file, each with the heading before it."""
    title, tables, lines = "", [], []
    for line in [*path.read_text().splitlines(), ""]:
        if line.startswith("|"):
            lines.append([part.strip() for part in line.strip()[1:-1].split("|")])
            continue
        if lines:
            tables.append(Sheet(title, _distinct(lines[0]), _filled(lines[2:])))
            lines = []
        title = line.lstrip("# ") if line.startswith("#") else title
    return tables


def _distinct(header: list[str]) -> list[str]:
    """A header in which a name that comes again has its number behind it, such as `attack (2)`."""
    times = [header[: place + 1].count(name) for place, name in enumerate(header)]
    return [name if time == 1 else f"{name} ({time})" for name, time in zip(header, times, strict=True)]


def _filled(rows: list[list[str]]) -> list[list[str]]:
    """Rows in which an empty first cell is the one above."""
    for above, row in itertools.pairwise(rows):
        row[0] = row[0] or above[0]
    return rows
