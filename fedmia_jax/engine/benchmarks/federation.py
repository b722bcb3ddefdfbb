"""A federation's cycle: one model that goes from node to node, and as many federations side by side as shadows."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import options, types
from fedmia_jax.engine import programs
from fedmia_jax.engine.benchmarks import ceiling, records, timing
from fedmia_jax.engine.plans import points
from fedmia_jax.learning import networks


def make_suites(plans: points.Plans) -> list[timing.Suite]:
    """Returns a case for one federation and for several; records are dealt to the nodes evenly."""
    drawn, batch_size, nodes = records.make(plans), plans.training.batch_size, plans.rounds.nodes
    visits = nodes * -(-(len(drawn[1]) // nodes) // batch_size)
    cases = [
        timing.Case(
            f"{size} federation{'s' if size > 1 else ''}",
            functools.partial(make_cycle, plans, size),
            visits * size,
            size,
        )
        for size in sorted({1, plans.settings.get("shadow.count")})
    ]
    return [timing.Suite("federation", cases, batch_size, ceiling.make_ceiling(plans, batch_size))]


def make_cycle(plans: points.Plans, num_federations: int) -> Callable[[], object]:
    """Returns a call that trains one cycle of one local epoch, by the programs that experiments use."""
    drawn, nodes = records.make(plans), plans.rounds.nodes
    learning = programs.Learning(
        networks.make_network(plans.network, num_classes=records.NUM_CLASSES),
        options.static(plans.training),
        plans.defences.static,
        drawn[0].shape[1],
    )
    federate = programs.make_federate(
        learning, plans.rounds.kind, options.static(plans.protocol_options), devices=tuple(jax.devices())
    )
    each = len(drawn[1]) // nodes
    rows = np.broadcast_to(np.arange(nodes * each, dtype=np.int32).reshape(nodes, each), (num_federations, nodes, each))
    keys = jax.random.split(jax.random.key(0), num_federations)
    hyper = jax.tree.map(lambda level: jnp.full(num_federations, level, jnp.float32), plans.hyper)
    order = np.broadcast_to(np.arange(nodes, dtype=np.int32), (num_federations, 1, nodes))
    models = programs.Models(types.Shard(jnp.asarray(rows), jnp.ones(rows.shape, bool)), hyper, keys, order)
    placed, state = types.Records(*map(jnp.asarray, drawn)), federate.start(keys)
    return lambda: jax.block_until_ready(federate.advance(placed, state, models, (1, 0, False)))
