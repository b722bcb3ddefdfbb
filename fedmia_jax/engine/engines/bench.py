"""Chunks in memory, in a process that reads no file of the run, and what they leave for who keeps it.

For engines of which one process plans and writes, and others compute: the plan and what a chunk reads of earlier
outcomes come to them as messages.
"""

import dataclasses
import importlib.metadata
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from fedmia_jax.engine import chunks, kinds, lab
from fedmia_jax.engine.engines import contract
from fedmia_jax.engine.plans import plan
from fedmia_jax.fingerprints import fingerprint
from fedmia_jax.storage import environment, in_memory


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """What all chunks of a run share; see `lab.Lab`."""

    planned: plan.Plan
    budget: int
    keep_models: bool
    strict: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a chunk leaves.

    Attributes:
      pieces: as `Draft.write` takes them.
      seconds: that it took.
      warnings: each with what it is about; of all chunks that were computed beside it, in the last of them.
      lines: of the log, likewise.
    """

    pieces: Mapping[str, Any]
    seconds: float
    warnings: list[tuple[str, str | None]]
    lines: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Lab(lab.Lab):
    """A lab that keeps its warnings, for the process where somebody reads them."""

    warnings: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)

    def warn(self, text: str, *, about: str | None = None) -> None:
        self.warnings.append((text, about))


class Bench:
    """A place where the chunks of one run are computed.

    Args:
      shared: what they share.
      read: `read(unit, piece)` returns a piece of an earlier outcome.
    """

    def __init__(self, shared: Shared, read: Callable[[str, str], Any]) -> None:
        self.planned = shared.planned
        self._workdir = in_memory.Workdir(read)
        workdir: Any = self._workdir
        shown: Any = None  # stages and bars are elsewhere
        self._place = _Lab(workdir, shown, budget=shared.budget, keep_models=shared.keep_models, strict=shared.strict)
        groups = [tuple(group) for units in self.planned.units.values() for group in chunks.make_groups(units)]
        self._groups = {unit.fingerprint: group for group in groups for unit in group}
        self._units = {unit.fingerprint: unit for group in groups for unit in group}

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """Devices of this process."""
        return self._place.devices

    def stop(self) -> None:
        """Ends what is computed beside a chunk that has failed."""
        self._place.stop.set()

    def chunk(self, units: Sequence[str], *, size: int, wide: bool) -> chunks.Chunk:
        """Returns a chunk by the fingerprints of its units."""
        return chunks.Chunk(tuple(self._units[unit] for unit in units), size, wide, self._groups[units[0]])

    def compute(self, kind: str, chunk: chunks.Chunk, devices: tuple[jax.Device, ...]) -> Outcome:
        """Computes one chunk of a kind, by its name."""
        start = time.perf_counter()
        (of_kind,) = (each for each in kinds.KINDS if each.name == kind)
        draft: Any = in_memory.Draft(len(chunk.units))
        contract.compute_chunk(self._place, self.planned, of_kind.compute, chunk, draft, devices, lambda steps: None)
        seconds = time.perf_counter() - start
        told = Outcome(draft.pieces, seconds, list(self._place.warnings), list(self._workdir.lines))
        self._place.warnings.clear()
        self._workdir.lines.clear()
        return told


def keep(place: lab.Lab, kind: kinds.Kind, chunk: chunks.Chunk, outcome: Outcome) -> None:
    """Writes what a chunk has left, as if it had been computed here."""
    for text, about in outcome.warnings:
        place.warn(text, about=about)
    for line in outcome.lines:
        place.workdir.log(**line)
    draft = place.workdir.artifacts.begin([unit.fingerprint for unit in chunk.units], size=chunk.size)
    for piece, tree in outcome.pieces.items():
        draft.write(piece, tree)
    contract.keep(place, kind, chunk, draft, outcome.seconds)


def releases() -> tuple[tuple[str, str], ...]:
    """Returns what computes here: releases of packages, and a hash of the sources of this one."""
    root = pathlib.Path(__file__).resolve().parents[2]
    sources = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py")}
    packages = [(name, importlib.metadata.version(name)) for name in environment.PACKAGES]
    return (*packages, (root.name, fingerprint(sources)))
