"""Reads documents: which numerals stand in their prose and tables, and whether each is what its source says.

Behind a stretch of prose stands a comment that readers on GitHub do not see, a program in Python:

    <!-- numbers
    config("adversaries").federation.nodes
    assert seen("lira_online", "outsider")[0] > 0.5
    -->

The values of its expressions, flattened, must be the numerals of the stretch, in order; a value is rounded to the
digits that the document shows, and counts in hundreds before a percent sign. What it asserts must hold. A numeral
without a value is an error, and so is a value that is typed rather than named (see `sources.given`). An expression that
gives a `Table` makes the whole next table of the stretch.

Code, names with digits and the numbers of lists have no source; they are locked: a digest of their lines with digits
must be the one in `docs/locked.json`. What a command has made, from `<!-- NAME -->` to `<!-- /NAME -->`, is locked too.
"""

import ast
import dataclasses
import decimal
import hashlib
import re
import textwrap
from collections.abc import Iterator
from typing import Any

COMMENT = re.compile(r"^ *<!-- numbers\n(.*?)-->\n", re.DOTALL | re.MULTILINE)
LOCKED = re.compile(
    r"^<!-- (?P<made>\w+) -->$.*?^<!-- /(?P=made) -->$"  # what a command has made
    r"|^ *```.*?^ *```$"  # fenced code
    r"|^ *\n(?: {4}[^\n]*\S[^\n]*\n(?: *\n(?= {4} *\S))*)+"  # indented code
    r"|`[^`]+`"  # code in a line
    r"|\]\([^)]*\)"  # where a link goes
    r"|^ *\d+\. "  # the number of a list
    r"|\b[A-Za-z_]\w*\d\w*",  # a name with digits, such as C2N1
    re.DOTALL | re.MULTILINE,
)
NUMERAL = re.compile(
    r"(?<![\w.])(?:\d+(?:\.\d+){2,}"  # a version
    r"|[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+))(?P<percent>\s?%)?"
)
TABLE = re.compile(r"^\|.*\|\n(?:^\|.*\|\n)*", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a document that is made from its sources."""

    header: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def numerals(text: str) -> list[re.Match[str]]:
    """Returns the numerals of a document that need a source, in order."""
    return list(NUMERAL.finditer(_plain(text)))


def locked(text: str) -> str:
    """Returns the digest of what is locked in a document."""
    lines = [line for match in LOCKED.finditer(_blank(COMMENT, text)) for line in match[0].splitlines()]
    kept = "\n".join(line for line in lines if re.search(r"\d", line))
    return hashlib.blake2b(kept.encode(), digest_size=16).hexdigest()


def render(text: str, names: dict[str, Any]) -> tuple[str, list[str]]:
    """Returns a document as its sources have it, and what is wrong with the one that is there, a line each.

    Args:
      text: the document with its comments.
      names: what the programs in the comments may use; a program may add to it.
    """
    made, wrong, position, plain = [], [], 0, _plain(text)
    for comment in COMMENT.finditer(text):
        stretch, line = text[position : comment.start()], text.count("\n", 0, comment.start()) + 1
        values, failures = _run(comment[1], names)
        if "outside(" in comment[1] and "outside this repository" not in " ".join(stretch.split()):
            failures.append("the prose must say that a number comes from outside this repository")
        if not failures:
            stretch, failures = _fill(stretch, plain[position : comment.start()], values)
        wrong += [f"the numbers in line {line}: {failure}" for failure in failures]
        made += [stretch, comment[0]]
        position = comment.end()
    for match in NUMERAL.finditer(plain, position):
        line = text.count("\n", 0, match.start()) + 1
        wrong.append(f"line {line}: {match[0]} has no source; name one in a comment behind it")
    return "".join([*made, text[position:]]), wrong


def spell(value: Any, like: str) -> str:
    """Returns a value with the digits of the numeral that it takes the place of."""
    if isinstance(value, str):
        return value
    percent = re.search(r"\s?%$", like)
    digits = like[: percent.start()] if percent else like
    number = decimal.Decimal(repr(float(value))) * (100 if percent else 1)
    places = len(digits.partition(".")[2])
    rounded = number.quantize(decimal.Decimal(1).scaleb(-places), decimal.ROUND_HALF_UP)
    grouped = "," in digits or (len(digits) <= 3 and abs(rounded) >= 1000)
    spelt = f"{rounded:{'+' if digits.startswith('+') else ''}{',' if grouped else ''}f}"
    short = digits.lstrip("+-").startswith(".")
    return (re.sub(r"^([+-]?)0\.", r"\1.", spelt) if short else spelt) + (percent[0] if percent else "")


def _run(program: str, names: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """Values of a program's expressions, flattened, and what went wrong in it."""
    values: list[Any] = []
    try:
        for statement in ast.parse(textwrap.dedent(program)).body:
            if not isinstance(statement, ast.Expr):
                exec(compile(ast.Module([statement], []), "<numbers>", "exec"), names)
            elif typed := [ast.unparse(part) for part in _parts(statement.value) if not _named(part)]:
                return [], [f"{typed[0]} is typed; name its source, or say given(why, ..)"]
            else:
                values += _flatten(eval(compile(ast.Expression(statement.value), "<numbers>", "eval"), names))
    except AssertionError:
        return [], [f"the sources do not say that {ast.unparse(statement.test)}"]  # type: ignore[attr-defined]
    except Exception as error:
        return [], [f"{type(error).__name__}: {error}"]
    return values, []


def _parts(value: ast.expr) -> Iterator[ast.expr]:
    """The expressions in a list or tuple that is written out, one by one."""
    if isinstance(value, ast.List | ast.Tuple):
        for part in value.elts:
            yield from _parts(part)
    else:
        yield value


def _named(part: ast.expr) -> bool:
    """Whether an expression names anything."""
    return any(isinstance(node, ast.Name) for node in ast.walk(part))


def _flatten(value: Any) -> Iterator[Any]:
    """The values in lists of lists, one by one."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flatten(part)
    else:
        yield value


def _fill(stretch: str, plain: str, values: list[Any]) -> tuple[str, list[str]]:
    """A stretch with its tables and numerals as the values say, and where it says otherwise."""
    tables = [str(value) for value in values if isinstance(value, Table)]
    values = [value for value in values if not isinstance(value, Table)]
    old = list(TABLE.finditer(stretch))[: len(tables)]
    if len(old) < len(tables):
        return stretch, [f"{len(tables)} tables are made, {len(old)} stand there"]
    wrong = [_differ(match[0], table) for match, table in zip(old, tables, strict=True) if match[0] != table]
    for match, table in zip(reversed(old), reversed(tables), strict=True):
        stretch = stretch[: match.start()] + table + stretch[match.end() :]
        plain = plain[: match.start()] + re.sub(r"[^\n]", " ", table) + plain[match.end() :]
    found = list(NUMERAL.finditer(plain))
    if len(found) != len(values):
        return stretch, [*wrong, f"{len(found)} numerals ({_some(found)}), {len(values)} values"]
    for match, value in zip(reversed(found), reversed(values), strict=True):
        if (spelt := spell(value, match[0])) != match[0]:
            wrong.append(f"{match[0]} stands where the source says {spelt}")
            stretch = stretch[: match.start()] + spelt + stretch[match.end() :]
    return stretch, wrong


def _differ(old: str, new: str) -> str:
    """The first line in which two tables differ."""
    pairs = zip(old.splitlines(), new.splitlines(), strict=False)
    first = next(((a, b) for a, b in pairs if a != b), ("a table", "one with another number of lines"))
    return f"{first[0]} stands where the source says {first[1]}"


def _some(found: list[re.Match[str]]) -> str:
    """The first few numerals."""
    return ", ".join(match[0] for match in found[:12]) + (", .." if len(found) > 12 else "")


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """A text with blanks in place of what a pattern matches, every character where it was."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _plain(text: str) -> str:
    """A document without programs and what is locked."""
    return _blank(LOCKED, _blank(COMMENT, text))
