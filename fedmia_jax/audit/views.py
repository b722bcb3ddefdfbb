"""Who sees which hand-offs: views of a party, or of several together, as masks over the snapshots [T].

| name                 | who                                     | snapshots                                          |
| -------------------- | --------------------------------------- | -------------------------------------------------- |
| `outsider`           | whoever gets the finished model         | the last                                           |
| `insider:j`          | node j                                  | what it received and what it trained               |
| `coalition:{i,j}`    | several nodes                           | what any of them received or trained               |
| `bracket:t`          | the neighbours of node t                | just before and just after every visit to it       |
| `bracket:t@c`        | the neighbours of node t, in one cycle  | just before and just after its visit in cycle c    |
| `coordinator`        | who passes the model on                 | all                                                |
| `coordinator_p2p`    | a coordinator of peer-to-peer hand-offs | as `outsider`; the initial one knows no record yet |
| `coordinator_secure` | a coordinator behind secure aggregation | the aggregates                                     |
| `insider`            | each node by itself                     | `insider:j` for every j                            |
| `bracket`            | the neighbours of each node             | `bracket:t` for every t                            |
| `all_coalitions:k`   | every k nodes                           | `coalition:{..}` for every k of them               |
| `NAME_unordered`     | who does not know in which order nodes  | as NAME: `outsider`, `insider`, `insider:j`,       |
|                      | train                                   | `coalition:{i,j}`, `coordinator`                   |

A party knows its own records: it attacks the other nodes, and a bracket the node in its middle. Whoever knows the order
reads snapshots by who trained them; who does not reads them one after the other, and insiders by their own visits. The
model that the first node receives was trained by nobody and is no snapshot. Source: Pustozerova and Mayer (2020),
sections III and V (the honest-but-curious insider, the coordinator, peer-to-peer hand-offs, before and after in a
single cycle).
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from fedmia_jax import errors, options
from fedmia_jax.schedule import AGGREGATE, NOBODY, Schedule

KNOWN = "outsider, insider, insider:j, coalition:{i,j,..}, bracket, bracket:t, bracket:t@c, coordinator, "
KNOWN += "coordinator_p2p, coordinator_secure, all_coalitions:k; and NAME_unordered"
ALIASES = {"coordinator_p2p": "outsider"}  # results keep the name that was asked for
EVERY = "all_coalitions"
SECURE = "_secure"  # behind the name of a view whose party sees aggregates alone
UNORDERED = "_unordered"  # behind the name of a view whose party does not know who trained what
WITHOUT_ORDER = ("outsider", "insider", "coalition", "coordinator")  # views that there are without knowledge of it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Who attacks."""

    views: tuple[str, ...] = options.option(("outsider", "coordinator"), "who attacks, by the names in audit/views.py")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the snapshots of federations in different orders stand side by side for a party.

    Attributes:
      ordered: by visit, cycle by cycle and in a cycle node by node; else without knowledge of who trained what.
      insiders: without that knowledge, the nodes around whose own visits snapshots stand, what each received and what
        it trained, cycle by cycle; for no node snapshots stand in the order in which they were trained.
      answered: the last snapshot alone, as it answers an outsider.
    """

    ordered: bool = True
    insiders: tuple[int, ...] = ()
    answered: bool = False


BY_VISIT = Layout()
ANSWERED = Layout(ordered=False, answered=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Party:
    """Who sees together.

    Attributes:
      name: as in the table above, nodes and cycles counted from 1.
      mask: bool[T], the snapshots seen, in training order.
      attacked: indices of the nodes attacked, from 0; N stands for the union of all nodes.
      layout: how it compares federations.
    """

    name: str
    mask: Bool[np.ndarray, "T"]
    attacked: tuple[int, ...]
    layout: Layout = BY_VISIT


def make_views(names: Sequence[str], schedule: Schedule) -> dict[str, list[Party]]:
    """Returns the parties of several views, by the name of the view.

    Raises:
      InputError: no view at all, or one that `make_view` refuses.
    """
    if not names:
        raise errors.InputError(f"attack.views={names!r}: name a view; {KNOWN}")
    return {name: make_view(name, schedule) for name in names}


def make_view(name: str, schedule: Schedule) -> list[Party]:
    """Returns the parties of a view; several where it stands for each node, or each coalition, in turn.

    Args:
      name: see the table above.
      schedule: of one federation.

    Returns:
      The parties. `outsider` and the coordinators attack every node and the union; the others nodes only.

    Raises:
      InputError: no such view, nodes or cycles that the federation does not have, or a party that sees nothing.
    """
    plain = name.removesuffix(UNORDERED)
    parties = _make_parties(plain, schedule)
    if plain != name:
        _check_unordered(name, plain, schedule)
        parties = [_without_order(party, schedule) for party in parties]
    for party in parties:
        if not party.mask.any():
            raise errors.InputError(f"attack.views={name!r}: {party.name} sees no snapshot of this federation")
    return parties


def _make_parties(name: str, schedule: Schedule) -> list[Party]:
    """The parties of a view, whether they see something or not."""
    kind, _, rest = name.partition(":")
    nodes, everyone = schedule.nodes, (*range(schedule.nodes), schedule.nodes)
    if ALIASES.get(name, name) == "outsider":
        return [Party(name, np.arange(len(schedule)) == len(schedule) - 1, everyone)]
    if name == "coordinator":
        return [Party(name, np.ones(len(schedule), bool), everyone)]
    if name == "coordinator_secure":
        return [Party(name, schedule.trainer == AGGREGATE, everyone)]
    if name == "insider":
        return [_coalition((node,), schedule) for node in range(nodes)]
    if name == "bracket":
        return [_bracket(node, schedule) for node in range(nodes)]
    if kind == EVERY:
        (size,) = _numbers(name, rest, low=1, high=nodes - 1, count=1)
        return [_coalition(chosen, schedule) for chosen in itertools.combinations(range(nodes), size)]
    if kind == "insider":
        return [_coalition(_nodes(name, rest, nodes, count=1), schedule)]
    if kind == "bracket":
        return [_named_bracket(name, rest, schedule)]
    if kind == "coalition":
        return [_coalition(_nodes(name, rest, nodes), schedule)]
    raise errors.InputError(f"attack.views={name!r}: no such view; must be some of {KNOWN}")


def asks(name: str) -> bool:
    """Returns whether a view is of whoever gets answers, where others hold models."""
    return name.removesuffix(UNORDERED) == "outsider"


def unprotected(name: str) -> str:
    """Returns the view of the same party where the order is known, and where nothing is aggregated out of its sight."""
    return name.removesuffix(UNORDERED).removesuffix(SECURE)


def needs_drawn_order(name: str) -> bool:
    """Returns whether a view is of a party that does not know in which order nodes train."""
    return name.endswith(UNORDERED)


def _check_unordered(name: str, plain: str, schedule: Schedule) -> None:
    """Raises where nobody can be without knowledge of the order, or where a view is made of it."""
    if plain.partition(":")[0] not in WITHOUT_ORDER:
        raise errors.InputError(
            f"attack.views={name!r}: there is no such view without knowledge of the order; only of "
            f"{', '.join(WITHOUT_ORDER)}"
        )
    if (schedule.trainer == AGGREGATE).any() or (schedule.visits == NOBODY).any():
        raise errors.InputError(
            f"attack.views={name!r}: nodes do not train one after the other here, each in every cycle, so that there "
            f"is no order to be unknown; leave {UNORDERED} out"
        )


def _without_order(party: Party, schedule: Schedule) -> Party:
    """The same party where it does not know in which order nodes train."""
    insiders = tuple(node for node in range(schedule.nodes) if node not in party.attacked)
    return dataclasses.replace(party, name=party.name + UNORDERED, layout=Layout(False, insiders))


def _nodes(name: str, text: str, nodes: int, *, count: int | None = None) -> tuple[int, ...]:
    """Indices from 0 of the nodes that a view names."""
    numbers = _numbers(name, text, low=1, high=nodes, count=count)
    if len(numbers) == nodes and count is None:
        raise errors.InputError(f"attack.views={name!r}: all {nodes} nodes leave none to attack; name fewer")
    return tuple(sorted({number - 1 for number in numbers}))


def _numbers(name: str, text: str, *, low: int, high: int, count: int | None) -> list[int]:
    """The numbers behind the colon."""
    inner = text.removeprefix("{").removesuffix("}")
    if not re.fullmatch(r"\d+(,\s*\d+)*", inner):
        raise errors.InputError(f"attack.views={name!r}: expected numbers behind the colon; must be some of {KNOWN}")
    numbers = [int(number) for number in inner.split(",")]
    if (count and len(numbers) != count) or not all(low <= number <= high for number in numbers):
        several = "one number" if count else "numbers"
        raise errors.InputError(f"attack.views={name!r}: expected {several} between {low} and {high}")
    return numbers


def handled(schedule: Schedule, nodes: Sequence[int]) -> Bool[np.ndarray, "T"]:
    """Returns the snapshots that any of some nodes received or trained."""
    return np.isin(schedule.trainer, list(nodes)) | schedule.receivers[:, list(nodes)].any(axis=1)


def _coalition(members: tuple[int, ...], schedule: Schedule) -> Party:
    """Several nodes, or one."""
    text = ",".join(str(node + 1) for node in members)
    name = f"insider:{text}" if len(members) == 1 else f"coalition:{{{text}}}"
    attacked = tuple(node for node in range(schedule.nodes) if node not in members)
    return Party(name, handled(schedule, members), attacked)


def _named_bracket(name: str, text: str, schedule: Schedule) -> Party:
    """The neighbours of the node that a view names, in all cycles or in the one that it names."""
    text, at, cycle_text = text.partition("@")
    (node,) = _nodes(name, text, schedule.nodes, count=1)
    if not at:
        return _bracket(node, schedule)
    (cycle,) = _numbers(name, cycle_text, low=1, high=schedule.cycles, count=1)
    return _bracket(node, schedule, cycle=cycle - 1)


def _bracket(node: int, schedule: Schedule, *, cycle: int | None = None) -> Party:
    """Whoever sends what a node receives, and whoever receives what it sends; in one cycle, or in all of them."""
    after = schedule.trainer == node
    if cycle is not None:
        after &= schedule.cycle == cycle
    before = schedule.before[after]
    mask = after.copy()
    mask[before[before != NOBODY]] = True
    return Party(f"bracket:{node + 1}" + ("" if cycle is None else f"@{cycle + 1}"), mask, (node,))
