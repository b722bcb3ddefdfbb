"""What a machine could do at best: the larger of two floors under a training step, measured on the machine itself.

The products of a step cannot be done faster than products of the same shapes that follow upon each other, nor can the
optimizer change the parameters faster than it takes to read and write them and two moments of each: six passes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedmia_jax.engine import parallel, points
from fedmia_jax.engine.benchmarks import timing

REPEATS = 200  # of a step, in one call
NUM_CLASSES = 100


def make_floor(plans: points.Plans, batch_size: int) -> Callable[[], float] | None:
    """Returns a call that measures the seconds that a step of one model takes at least, all devices at work.

    Args:
      plans: the network, which must be the package's own, and the number of features.
      batch_size: records of a step.
    """
    if plans.network.name != "mlp":
        return None
    sizes = batch_size, plans.settings.get("data.num_features"), plans.network.hidden, NUM_CLASSES
    devices = tuple(jax.devices())
    calls = [
        _make_call(step, start, devices) for step, start in ((_products, _factors(sizes)), (_passes, _state(sizes)))
    ]

    def measure() -> float:
        # A step of each device's model is done at the same time.
        return max(timing.seconds_of(call) for call in calls) / (REPEATS * len(devices))

    measure()  # compiles
    return measure


def _make_call(step: Callable[[Any], Any], start: Any, devices: tuple[jax.Device, ...]) -> Callable[[], Any]:
    """A call that makes many steps, one upon the other, on every device."""

    def repeat(shared: tuple[()], value: Any) -> Any:
        del shared
        return jax.lax.fori_loop(0, REPEATS, lambda _, value: step(value), value)

    program = parallel.make_parallel(repeat, devices=devices)
    batched = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(devices), *leaf.shape)), start)
    return lambda: jax.block_until_ready(program((), batched))


def _factors(sizes: tuple[int, int, int, int]) -> dict[str, jax.Array]:
    """Inputs of the products of a step, and room for what comes of them."""
    batch, features, hidden, classes = sizes
    shapes = {"x": (batch, features), "a": (features, hidden), "b": (hidden, classes), "d": (batch, classes)}
    return {name: jnp.full(shape, 0.01, jnp.float32) for name, shape in shapes.items()}


def _products(value: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Forward through two layers, and the gradients of both: five products, the weights replaced by their gradients."""
    hidden = value["x"] @ value["a"]
    answers = hidden @ value["b"]
    slopes = value["d"] @ value["b"].T
    return value | {"a": value["x"].T @ slopes, "b": hidden.T @ value["d"], "d": answers}


def _state(sizes: tuple[int, int, int, int]) -> dict[str, jax.Array]:
    """Parameters and two moments of each."""
    _, features, hidden, classes = sizes
    count = features * hidden + hidden + hidden * classes + classes
    return {name: jnp.full(count, 0.01, jnp.float32) for name in ("parameters", "first", "second")}


def _passes(value: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Reads and writes parameters and moments once."""
    first, second = 0.9 * value["first"] + 1e-6, 0.999 * value["second"] + 1e-6
    return {"parameters": value["parameters"] - 1e-3 * first, "first": first, "second": second}
