"""What a step costs with differential privacy: batches drawn record by record, gradients clipped, noise added.

The normal numbers of a step are timed apart as well: a network of 90,000 parameters draws as many in every step. Where
Opacus is installed its loop is measured beside ours.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedmia_jax import randomness
from fedmia_jax.config import schema
from fedmia_jax.engine import memory, parallel
from fedmia_jax.engine.benchmarks import peers, pytorch, records, shadows, timing
from fedmia_jax.engine.plans import points
from fedmia_jax.learning import networks

CASES: dict[str, dict[str, Any]] = {  # settings over those of the config
    "no defence": {},
    "dp_training": {"defense.names": ("dp_training",), "defense.noise_multiplier": 1.0},
}
NORMALS = "the normals of dp_training alone"
REPEATS = 80  # of a step's normals, in one call


def make_suites(plans: points.Plans) -> list[timing.Suite]:
    """Returns the cases at a large batch size, as many models side by side as there are shadows."""
    size, drawn, cases = plans.settings.get("shadow.count"), records.make(plans), []
    for name, changes in CASES.items():
        changed = points.Plans(schema.Settings(tuple((dict(plans.settings.flat) | changes).items())))
        (case,) = shadows.make_cases(changed, drawn, [size], batch_size=shadows.LARGE_BATCH)
        cases.append(dataclasses.replace(case, name=name))
    if importlib.util.find_spec("opacus"):
        cases.append(_make_peer(changed, drawn))
    cases.append(timing.Case(NORMALS, functools.partial(make_normals, plans, size), REPEATS * size, size))
    return [timing.Suite("defenses", cases, shadows.LARGE_BATCH)]


def _make_peer(plans: points.Plans, drawn: records.Records) -> timing.Case:
    """The same training by Opacus, once it has been seen to reach the loss that ours reaches."""
    asked = {name: plans.settings.get(f"defense.{name}") for name in ("clip", "noise_multiplier")}
    make = functools.partial(pytorch.make_private, plans, drawn, batch_size=shadows.LARGE_BATCH, **asked)
    peers.check(
        "Opacus", make(), shadows.loss_reached(plans, drawn, batch_size=shadows.LARGE_BATCH, epochs=peers.EPOCHS)
    )
    name = f"Opacus {importlib.metadata.version('opacus')}, 1 model"
    return timing.Case(name, lambda: make().epoch, records.count_steps(drawn, shadows.LARGE_BATCH))


def make_normals(plans: points.Plans, num_models: int) -> Callable[[], object]:
    """Returns a call that adds noise to the gradients of several models, as often as in so many steps."""
    module = networks.make_network(plans.network, num_classes=records.NUM_CLASSES)
    shapes = memory.param_shapes(module, num_features=plans.settings.get("data.num_features"))

    def repeat(shared: tuple[()], key: jax.Array) -> list[jax.Array]:
        del shared

        def add(number: jax.Array, leaves: list[jax.Array]) -> list[jax.Array]:
            keys = jax.random.split(jax.random.fold_in(key, number), len(leaves))
            return [randomness.add_normals(own, leaf, 1.0) for own, leaf in zip(keys, leaves, strict=True)]

        return jax.lax.fori_loop(0, REPEATS, add, [jnp.zeros(shape) for shape in shapes])

    program = parallel.make_parallel(repeat, devices=tuple(jax.devices()))
    keys = jax.random.split(jax.random.key(0), num_models)
    return lambda: jax.block_until_ready(program((), keys))
