"""What a machine could do at best: the larger of two floors under a training step, measured on the machine itself.

The products of a step cannot be done faster than products of the same shapes that follow upon each other, nor can the
optimizer change the parameters faster than it takes to read and write them and two moments of each: six passes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedmia_jax.engine import parallel
from fedmia_jax.engine.benchmarks import records, timing
from fedmia_jax.engine.plans import points

REPEATS = 200  # of a step, in one call


def make_ceiling(plans: points.Plans, batch_size: int) -> timing.Ceiling | None:
    """Returns the floors of a step of one model, all devices at work, and what it computes and moves at least.

    Args:
      plans: the number of features, network and optimizer; None for a network that is not the package's own, or
        another optimizer than Adam, which has no moments to move.
      batch_size: records of a step.
    """
    if plans.network.name != "mlp" or plans.training.optimizer != "adam":
        return None
    sizes = batch_size, plans.settings.get("data.num_features"), plans.network.hidden, records.NUM_CLASSES
    _, features, hidden, classes = sizes
    devices, state = tuple(jax.devices()), _state(sizes)
    calls = [_make_call(step, start, devices) for step, start in ((_products, _factors(sizes)), (_passes, state))]

    def measure() -> float:
        # A step of each device's model is done at the same time.
        return max(timing.seconds_of(call) for call in calls) / (REPEATS * len(devices))

    measure()  # compiles
    flops = batch_size * hidden * (4 * features + 6 * classes)
    return timing.Ceiling(measure, flops=flops, moved_nbytes=2 * sum(leaf.nbytes for leaf in state.values()))


def _make_call(step: Callable[[Any], Any], start: Any, devices: tuple[jax.Device, ...]) -> Callable[[], Any]:
    """A call that makes many steps, one upon the other, on every device."""

    def repeat(shared: tuple[()], value: Any) -> Any:
        del shared
        return jax.lax.fori_loop(0, REPEATS, lambda _, value: step(value), value)

    program = parallel.make_parallel(repeat, devices=devices)
    batched = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(devices), *leaf.shape)), start)
    return lambda: jax.block_until_ready(program((), batched))


def _factors(sizes: tuple[int, int, int, int]) -> dict[str, jax.Array]:
    """Inputs and weights of the products of a step, the slopes behind them, and room for what comes of them."""
    batch, features, hidden, classes = sizes
    shapes = {"inputs": (batch, features), "first": (features, hidden), "second": (hidden, classes)}
    shapes |= {"slopes": (batch, classes), "answers": (batch, classes)}
    shapes |= {"of_first": (features, hidden), "of_second": (hidden, classes)}
    return {name: jnp.full(shape, 0.01, jnp.float32) for name, shape in shapes.items()}


def _products(value: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Forward through two layers, and the gradients of both: five products.

    Inputs and slopes move by next to nothing with what the step before has left, so that no step can be left out.
    """
    nudge = 1e-30 * (value["answers"][0, 0] + value["of_first"][0, 0] + value["of_second"][0, 0])
    inputs, slopes = value["inputs"] + nudge, value["slopes"] + nudge
    hidden = inputs @ value["first"]
    of_first = inputs.T @ (slopes @ value["second"].T)
    return value | {"answers": hidden @ value["second"], "of_first": of_first, "of_second": hidden.T @ slopes}


def _state(sizes: tuple[int, int, int, int]) -> dict[str, jax.Array]:
    """Parameters and two moments of each."""
    _, features, hidden, classes = sizes
    count = features * hidden + hidden + hidden * classes + classes
    return {name: jnp.full(count, 0.01, jnp.float32) for name in ("parameters", "first", "second")}


def _passes(value: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Reads and writes parameters and moments once."""
    first, second = 0.9 * value["first"] + 1e-6, 0.999 * value["second"] + 1e-6
    return {"parameters": value["parameters"] - 1e-3 * first, "first": first, "second": second}
