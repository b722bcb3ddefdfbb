"""Who sees which hand-offs: views of a party, or of several together, as masks over the snapshots [T].

| name               | who                                      | snapshots                                           |
| ------------------ | ---------------------------------------- | --------------------------------------------------- |
| `outsider`         | whoever gets the finished model          | the last                                            |
| `insider:j`        | node j                                   | what it received and what it sent                   |
| `coalition:{i,j}`  | several nodes                            | what any of them received or sent                   |
| `bracket:t`        | the neighbours of node t                 | just before and just after every visit to t         |
| `coordinator`      | who passes the model on                  | all                                                 |
| `coordinator_p2p`  | a coordinator of peer-to-peer hand-offs  | the last; the initial one knows no record yet       |
| `insider`          | each node by itself                      | `insider:j` for every j                             |
| `bracket`          | the neighbours of each node              | `bracket:t` for every t                             |
| `all_coalitions:k` | every k nodes                            | `coalition:{..}` for every k of them                |

A party knows its own records: it attacks the other nodes, and a bracket the node in its middle. The model that node 1
first receives was trained by nobody and is no snapshot. Source: Pustozerova and Mayer (2020), sections III and V (the
honest-but-curious insider, the coordinator, peer-to-peer hand-offs).
"""

import dataclasses
import itertools
import re

import numpy as np

from fedmia_jax import errors

SNAPSHOT = "snapshot"  # the view of an attack on each snapshot by itself; has no party
KNOWN = "outsider, insider, insider:j, coalition:{i,j,..}, bracket, bracket:t, coordinator, coordinator_p2p, "
KNOWN += "all_coalitions:k"


@dataclasses.dataclass(frozen=True)
class Party:
    """Who sees together.

    Attributes:
      name: as in the table above, nodes counted from 1.
      mask: bool[T], the snapshots seen, in training order.
      attacked: indices of the nodes attacked, from 0; N stands for the union of all nodes.
    """

    name: str
    mask: np.ndarray
    attacked: tuple[int, ...]


def make_view(name: str, *, nodes: int, cycles: int) -> list[Party]:
    """Returns the parties of a view; several where it stands for each node, or each coalition, in turn.

    Args:
      name: see the table above.
      nodes: N.
      cycles: C.

    Returns:
      The parties. `outsider` and the coordinators attack every node and the union; the others nodes only.

    Raises:
      InputError: no such view, or nodes that the federation does not have.
    """
    kind, _, rest = name.partition(":")
    everyone = (*range(nodes), nodes)
    last = np.arange(nodes * cycles) == nodes * cycles - 1
    if name in ("outsider", "coordinator_p2p"):
        return [Party(name, last, everyone)]
    if name == "coordinator":
        return [Party(name, np.ones(nodes * cycles, bool), everyone)]
    if name == "insider":
        return [_coalition((node,), nodes, cycles) for node in range(nodes)]
    if name == "bracket":
        return [_bracket(node, nodes, cycles) for node in range(nodes)]
    if kind == "all_coalitions":
        (size,) = _numbers(name, rest, low=1, high=nodes - 1, count=1)
        return [_coalition(chosen, nodes, cycles) for chosen in itertools.combinations(range(nodes), size)]
    if kind == "insider":
        return [_coalition(_nodes(name, rest, nodes, count=1), nodes, cycles)]
    if kind == "bracket":
        return [_bracket(_nodes(name, rest, nodes, count=1)[0], nodes, cycles)]
    if kind == "coalition":
        return [_coalition(_nodes(name, rest, nodes), nodes, cycles)]
    raise errors.InputError(f"attack.views={name!r}: no such view; must be some of {KNOWN}")


def _nodes(name: str, text: str, nodes: int, *, count: int | None = None) -> tuple[int, ...]:
    """Indices from 0 of the nodes that a view names."""
    found = _numbers(name, text, low=1, high=nodes, count=count)
    if len(found) == nodes and count is None:
        raise errors.InputError(f"attack.views={name!r}: all {nodes} nodes leave none to attack; name fewer")
    return tuple(sorted({number - 1 for number in found}))


def _numbers(name: str, text: str, *, low: int, high: int, count: int | None) -> list[int]:
    """The numbers behind the colon."""
    inner = text.removeprefix("{").removesuffix("}")
    if not re.fullmatch(r"\d+(,\s*\d+)*", inner):
        raise errors.InputError(f"attack.views={name!r}: expected numbers behind the colon; must be some of {KNOWN}")
    found = [int(number) for number in inner.split(",")]
    if (count and len(found) != count) or not all(low <= number <= high for number in found):
        several = "one number" if count else "numbers"
        raise errors.InputError(f"attack.views={name!r}: expected {several} between {low} and {high}")
    return found


def received(node: int, nodes: int, cycles: int) -> np.ndarray:
    """Indices of the snapshots that a node received, i64[C], or [C - 1] for the first node."""
    found = np.arange(cycles) * nodes + node - 1
    return found[found >= 0]


def sent(node: int, nodes: int, cycles: int) -> np.ndarray:
    """Indices of the snapshots that a node sent, i64[C]."""
    return np.arange(cycles) * nodes + node


def _handled(members: tuple[int, ...], nodes: int, cycles: int) -> np.ndarray:
    """bool[T], what any of some nodes received or sent."""
    mask = np.zeros(nodes * cycles, bool)
    for node in members:
        mask[received(node, nodes, cycles)] = mask[sent(node, nodes, cycles)] = True
    return mask


def _coalition(members: tuple[int, ...], nodes: int, cycles: int) -> Party:
    """Several nodes, or one."""
    text = ",".join(str(node + 1) for node in members)
    name = f"insider:{text}" if len(members) == 1 else f"coalition:{{{text}}}"
    attacked = tuple(node for node in range(nodes) if node not in members)
    return Party(name, _handled(members, nodes, cycles), attacked)


def _bracket(node: int, nodes: int, cycles: int) -> Party:
    """The node before, which sends what a node receives, and the node behind, which receives what it sends."""
    return Party(f"bracket:{node + 1}", _handled((node,), nodes, cycles), (node,))


def visits(mask: np.ndarray, node: int, *, nodes: int) -> np.ndarray:
    """Returns the snapshots just after those visits to a node that a view brackets, i64[<=C].

    Args:
      mask: bool[T].
      node: index from 0.
      nodes: N.
    """
    after = np.arange(node, len(mask), nodes)
    after = after[after >= 1]
    return after[mask[after] & mask[after - 1]]


def freshest(mask: np.ndarray, node: int, *, nodes: int) -> int:
    """Returns the seen snapshot with the fewest hand-offs since the attacked node trained, the latest of such.

    What an adversary reads with an attack on one snapshot; the last seen one for the union of all nodes. A view that
    sees only snapshots from before the node's first visit gets the last of them.

    Args:
      mask: bool[T], at least one seen.
      node: index from 0; N for the union.
      nodes: N.
    """
    seen = np.flatnonzero(mask)
    if node < nodes and (seen >= node).any():
        seen = seen[seen >= node]
        ages = (seen - node) % nodes
        seen = seen[ages == ages.min()]
    return int(seen[-1])
