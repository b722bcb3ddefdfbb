"""Training of shadows: a plain PyTorch loop and the best that PyTorch can do, one compiled model, many at once.

Every case makes the same updates on the same records (dropout, shuffled minibatches, cross-entropy). PyTorch is
optional and installed by hand; without it its cases are missing.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedmia_jax import options, types
from fedmia_jax.engine import programs
from fedmia_jax.engine.benchmarks import ceiling, peers, records, timing
from fedmia_jax.engine.plans import points
from fedmia_jax.learning import networks

LARGE_BATCH = 128


def make_suites(plans: points.Plans) -> list[timing.Suite]:
    """Returns the cases at the config's batch size and at a large one."""
    return [_make_suite(plans, size) for size in sorted({plans.training.batch_size, LARGE_BATCH})]


def _make_suite(plans: points.Plans, batch_size: int) -> timing.Suite:
    """The cases at one batch size."""
    drawn, cases = records.make(plans), []
    if importlib.util.find_spec("torch"):
        reached = loss_reached(plans, drawn, batch_size=batch_size, epochs=peers.EPOCHS)
        cases = peers.make_cases(plans, drawn, batch_size=batch_size, loss=reached)
    cases += make_cases(plans, drawn, (1, plans.settings.get("shadow.count")), batch_size=batch_size)
    return timing.Suite("shadows", cases, batch_size, ceiling.make_ceiling(plans, batch_size))


def make_cases(
    plans: points.Plans,
    drawn: records.Records,
    sizes: Sequence[int],
    *,
    batch_size: int,
    nbytes: int = 0,
) -> list[timing.Case]:
    """Returns a case for each number of models side by side.

    Args:
      plans: the network, training and defences.
      drawn: features and labels.
      sizes: S of each case.
      batch_size: records per update.
      nbytes: memory of a model in training, where it is to be told.
    """
    devices, steps = tuple(jax.devices()), records.count_steps(drawn, batch_size)

    def make(size: int) -> Callable[[], object]:
        train = make_training(plans, drawn, batch_size=batch_size, num_models=size, devices=devices)
        return lambda: jax.block_until_ready(train(1))  # an epoch

    names = [f"fedmia_jax, {size} model{'s' if size > 1 else ''}" for size in sizes]
    return [
        timing.Case(name, functools.partial(make, size), steps * size, size, nbytes * size)
        for name, size in zip(names, sizes, strict=True)
    ]


def make_training(
    plans: points.Plans,
    drawn: records.Records,
    *,
    batch_size: int,
    num_models: int,
    devices: tuple[jax.Device, ...],
) -> Callable[[int], Any]:
    """Returns `train(epochs) -> (state, finite)`, from the start, by the same programs that experiments use.

    Args:
      plans: the network, training and defences.
      drawn: features and labels.
      batch_size: records per update.
      num_models: S.
      devices: where S is split over.
    """
    learning = programs.Learning(
        networks.make_network(plans.network, num_classes=records.NUM_CLASSES),
        options.static(dataclasses.replace(plans.training, batch_size=batch_size)),
        plans.defences.static,
        drawn[0].shape[1],
    )
    train = programs.make_train(learning, devices=devices)
    placed = types.Records(*map(jnp.asarray, drawn))
    rows = np.broadcast_to(np.arange(len(drawn[1]), dtype=np.int32), (num_models, len(drawn[1])))
    keys = jax.random.split(jax.random.key(0), num_models)
    hyper = jax.tree.map(lambda level: jnp.full(num_models, level, jnp.float32), plans.hyper)
    models = programs.Models(types.Shard(jnp.asarray(rows), jnp.ones(rows.shape, bool)), hyper, keys)
    states = train.start(keys)
    return lambda epochs: train.advance(placed, states, models, (0, epochs))


def loss_reached(plans: points.Plans, drawn: records.Records, *, batch_size: int, epochs: int) -> float:
    """Returns the mean loss over all records that one model reaches, nothing dropped out."""
    state, _ = make_training(plans, drawn, batch_size=batch_size, num_models=1, devices=tuple(jax.devices()))(epochs)
    apply_fn = networks.make_apply(networks.make_network(plans.network, num_classes=records.NUM_CLASSES))
    answers = apply_fn(jax.tree.map(lambda leaf: leaf[0], state.params), jnp.asarray(drawn[0]))
    return float(optax.softmax_cross_entropy_with_integer_labels(answers, jnp.asarray(drawn[1])).mean())
