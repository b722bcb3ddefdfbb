"""What stands in for a workdir where there is none: outcomes in memory, and a log that is a list."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """One artifact in the making, as `artifacts.Draft`, in memory; it is made from the start.

    Attributes:
      num_units: what stands behind so many rows only filled up the stack, and is left out.
      pieces: trees of arrays by name, with the units along the first axis.
    """

    num_units: int
    pieces: dict[str, Any] = dataclasses.field(default_factory=dict)

    def write(self, piece: str, tree: Any) -> None:
        """Keeps a finished piece."""
        self.pieces[piece] = jax.tree.map(lambda leaf: np.asarray(leaf)[: self.num_units], jax.device_get(tree))

    def held(self, piece: str) -> None:
        """Returns that nothing is held for a piece."""

    def save(self, done: int, state: Any) -> None:
        """Keeps no state."""

    def load(self, state: Any) -> tuple[int, Any]:
        """Returns that nothing is done, and the given state."""
        return 0, state

    def read(self, row: int, piece: str) -> Any:
        """Returns a piece of one unit's outcome, without the units' axis."""
        return jax.tree.map(lambda leaf: leaf[row], self.pieces[piece])


@dataclasses.dataclass(frozen=True, eq=False)
class Workdir:
    """What computing needs of a `workdir.Workdir`, and of its `Artifacts`.

    Attributes:
      read: `read(unit, piece)` returns a piece of a unit's outcome.
      lines: of the log.
    """

    read: Callable[[str, str], Any]
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def artifacts(self) -> "Workdir":
        """What finished work has left."""
        return self

    def log(self, **values: Any) -> None:
        """Appends a line to the log."""
        self.lines.append(values)
