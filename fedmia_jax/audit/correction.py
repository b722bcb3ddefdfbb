"""Which bound on epsilon is claimed, and which attack is the strongest: decided before the outcomes are looked at."""

import dataclasses
from collections.abc import Sequence

from fedmia_jax import attacks as registered
from fedmia_jax import errors, options

LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Which bound on epsilon is claimed, and which attack others are compared with."""

    epsilon_cell: tuple[str, ...] = options.option(
        ("sequence_lira", "coordinator"), "attack and view whose epsilon stands by itself; the others are corrected"
    )
    epsilon_delta: float = options.option(1e-6, "delta of the bounds on epsilon under coins", low=0.0, high=0.1)
    strongest: str = options.option("stacked", "attack with references whose gain over the others is told")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """What was decided before the outcomes were looked at.

    Attributes:
      cell: attack and view whose bound on single nodes stands at `LEVEL`; empty for none.
      delta: of all bounds under coins.
      num_cells: attacks x views x (nodes, union) that are looked at; the bounds of all others hold together at `LEVEL`.
      strongest: the attack whose gain over the others is told.
    """

    cell: tuple[str, ...]
    delta: float
    num_cells: int
    strongest: str

    def level(self, attack: str, view: str, attacked: str) -> float:
        """Returns the level at which the bound of a cell is taken. Source: Bonferroni's inequality."""
        chosen = attacked == "node" and (attack, view) == self.cell
        return LEVEL if chosen else 1 - (1 - LEVEL) / max(1, self.num_cells)


def make_claim(settings: Options, attacks: Sequence[str], views: Sequence[str]) -> Claim:
    """Makes the claim of an audit that looks at some attacks under some views.

    All attacks that there are count, named or not, so that whoever runs them one by one may still quote the largest.

    Raises:
      InputError: see `check`.
    """
    check(settings)
    num_cells = 2 * max(len(attacks), len(registered.ATTACKS)) * len(views)
    return Claim(
        cell=tuple(settings.epsilon_cell),
        delta=settings.epsilon_delta,
        num_cells=num_cells,
        strongest=settings.strongest,
    )


def check(settings: Options) -> None:
    """Checks that a cell is an attack and a view, and that the strongest attack is one with references.

    Raises:
      InputError: it is not.
    """
    if len(settings.epsilon_cell) not in (0, 2):
        raise errors.InputError(
            f"attack.epsilon_cell={settings.epsilon_cell!r}: give an attack and a view, such as "
            "('sequence_lira', 'coordinator'), or () to correct all"
        )
    known = registered.with_references(tuple(registered.ATTACKS))
    if settings.strongest not in known and ":" not in settings.strongest:
        raise errors.InputError(
            f"attack.strongest={settings.strongest!r}: must be one of {', '.join(known)}, or package.module:name of "
            "another attack with references"
        )
