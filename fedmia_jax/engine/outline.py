"""A table in words and numbers, before anybody decides how it looks."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Outline:
    """Text cells with a heading.

    Attributes:
      title: the heading.
      header: names of the columns.
      rows: cells.
      caption: how to read it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
