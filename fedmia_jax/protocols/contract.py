"""What a protocol gives: how one model, or several, travel through a federation in a cycle.

A protocol is a pair of pure functions, `init` and `round`, and a schedule. It trains nodes with the `visit` that it is
given and with nothing else: there the node's own training and all defences are, so a protocol honours them without
knowing of them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import errors, options, types
from fedmia_jax.schedule import Schedule

NO_REPEAT = "random_no_repeat"
ORDERS = ("fixed", "random", NO_REPEAT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How models travel; a protocol may declare more."""

    kind: str = options.option("sequential", "protocol, a name in protocols.PROTOCOLS or package.module:name")
    nodes: int = options.option(3, "participants", low=1)
    cycles: int = options.option(5, "rounds over all nodes; 0: only the centralised baseline", low=0)
    scored_cycles: int | None = options.option(
        None, "cycles whose snapshots are attacked, evenly spaced and the last among them; unset: all", low=1
    )
    local_epochs: int = options.option(100, "epochs of one visit", low=1)
    order: str = options.option(
        "fixed",
        "order of the nodes in a cycle; random: drawn for each cycle; random_no_repeat: no node twice in a row",
        choices=ORDERS,
    )
    order_shared: bool = options.option(
        True, "one draw of the order for all replicates and references; else each draws its own"
    )


def scored_cycles(rounds: Options) -> tuple[int, ...]:
    """Returns the cycles whose snapshots are attacked, counted from 0."""
    count = min(rounds.scored_cycles or rounds.cycles, rounds.cycles)
    return tuple(rounds.cycles * place // count - 1 for place in range(1, count + 1))


class Node(NamedTuple):
    """What a protocol may do with a node, for one model, pure and not jitted.

    Attributes:
      start: `(key) -> TrainState`, the initial model.
      fresh: `(params) -> TrainState`, a model with a fresh optimizer.
      visit: `(state, records, shard, hyper, key, local_epochs) -> TrainState`, the node's training and then what its
        defences do to what is handed off.
    """

    start: Callable[[jax.Array], types.TrainState]
    fresh: Callable[[types.Params], types.TrainState]
    visit: Callable[..., types.TrainState]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Federation:
    """The parties of one federation, as a compiled program takes them."""

    records: types.Records  # the whole data set
    shards: types.Shard  # leaves [N, n]
    hyper: types.Hyper
    key: jax.Array  # of all visits
    local_epochs: types.Array  # i32[]


class Protocol(NamedTuple):
    """A protocol as pure functions of one federation, not jitted.

    Attributes:
      init: `(key) -> state`, what travels before the first cycle.
      round: `(state, Federation, order i32[N], cycle i32[]) -> (state, snapshots)`, one cycle; leaves of `snapshots`
        are parameters with a leading axis P, in training order, as the schedule names them. Randomness comes from
        `visit_key`, so that a cycle is the same wherever a run was cut.
    """

    init: Callable[[jax.Array], Any]
    round: Callable[[Any, Federation, jax.Array, jax.Array], tuple[Any, types.Params]]


@dataclasses.dataclass(frozen=True)
class Factory:
    """A protocol in a registry.

    Attributes:
      make: `(options, Node) -> Protocol`.
      schedule: `(order i32[C, N]) -> Schedule` of C * P snapshots.
      options: the group of options that it reads, declared beside it.
    """

    make: Callable[[Any, Node], Protocol]
    schedule: Callable[[np.ndarray], Schedule]
    options: type = options.NoOptions


def visit_key(federation: Federation, cycle: jax.Array, node: jax.Array) -> jax.Array:
    """Returns the key of a node's visit in a cycle."""
    return jax.random.fold_in(jax.random.fold_in(federation.key, cycle), node)


def make_cycles(protocol: Protocol) -> Callable[..., tuple[Any, types.Params]]:
    """Builds some consecutive cycles: a scan over the rounds of a protocol that keeps every snapshot.

    Cycles run one by one, each from the state that the last one left, give what one call over all of them gives.

    Returns:
      `run(state, federation, orders i32[c, N], first_cycle) -> (state, snapshots)` with leading axes [c, P].
    """

    def run(state: Any, federation: Federation, orders: jax.Array, first_cycle: jax.Array) -> tuple[Any, types.Params]:
        def cycle(state: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, types.Params]:
            order, number = inputs
            return protocol.round(state, federation, order, number)

        return jax.lax.scan(cycle, state, (orders, first_cycle + jnp.arange(orders.shape[0])))

    return run


def check(protocol: Protocol, start: types.TrainState, *, nodes: int, num_snapshots: int) -> str | None:
    """Says what is wrong with the shapes of a protocol, before anything is trained.

    Args:
      protocol: made for nodes that train nothing.
      start: an initial model.
      nodes: N.
      num_snapshots: P, as its schedule says.

    Returns:
      What it does and what is expected; None where all is well.
    """
    rows = jnp.zeros((nodes, 1), jnp.int32)
    federation = Federation(
        records=types.Records(jnp.zeros((1, 1), jnp.uint8), jnp.zeros(1, jnp.int32)),
        shards=types.Shard(rows, rows == 0),
        hyper=types.Hyper(jnp.zeros(()), jnp.zeros(())),
        key=jax.random.key(0),
        local_epochs=jnp.int32(0),
    )

    def play(key: jax.Array) -> tuple[Any, Any, types.Params]:
        state = protocol.init(key)
        return state, *protocol.round(state, federation, rows[:, 0], jnp.int32(0))

    before, after, snapshots = jax.eval_shape(play, jax.random.key(0))
    if kinds_of(after) != kinds_of(before):
        return "a round leaves another state than it was given; shapes, dtypes and structure must stay"
    expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_snapshots, *leaf.shape), leaf.dtype), start.params)
    if kinds_of(snapshots) != kinds_of(expected):
        return (
            f"a round gives snapshots of {shapes_of(snapshots)}, expected {shapes_of(expected)}: its schedule says "
            f"{num_snapshots} a cycle"
        )
    return None


def kinds_of(tree: Any) -> Any:
    """Returns structure, shapes and dtypes of a pytree."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def shapes_of(tree: Any) -> str:
    """Returns the shapes of a pytree as text."""
    return ", ".join(str(list(leaf.shape)) for leaf in jax.tree.leaves(tree))


def is_drawn(kind: str, *, nodes: int) -> bool:
    """Returns whether an order of some nodes is left to chance: two nodes that never repeat go in turn."""
    return nodes > 1 and (kind == "random" or (kind == NO_REPEAT and nodes > 2))


def draw_order(kind: str, generator: np.random.Generator, *, nodes: int, cycles: int) -> np.ndarray:
    """Draws who trains when: i32[C, N].

    Args:
      kind: one of `ORDERS`. Without repetition every cycle is drawn evenly from the orders that do not begin with the
        node that the last one ended with; two nodes have one such order, the fixed one.
      generator: of the order alone.
      nodes: N.
      cycles: C.

    Raises:
      InputError: one node, which can but repeat itself.
    """
    if kind == NO_REPEAT and nodes < 2:
        raise errors.InputError(
            f"federation.order={kind!r}: federation.nodes={nodes} would train twice in a row; take two nodes or more, "
            "or another order"
        )
    fixed = np.broadcast_to(np.arange(nodes, dtype=np.int32), (cycles, nodes))
    if not is_drawn(kind, nodes=nodes):
        return fixed
    order = generator.permuted(fixed, axis=1).astype(np.int32)
    for cycle in range(1, cycles if kind == NO_REPEAT else 0):
        while order[cycle, 0] == order[cycle - 1, -1]:
            order[cycle] = generator.permutation(nodes)
    return order
