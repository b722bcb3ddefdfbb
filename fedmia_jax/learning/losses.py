"""What training makes small: the cross-entropy of each record, with what defences add to it, and means over records."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from fedmia_jax import compilation, types
from fedmia_jax.defenses import contract

LossFn = Callable[..., jax.Array]  # (logits f32[B, K], labels i32[B], hyper) -> f32[B]


@jax.custom_jvp
def cross_entropy(logits: Float[types.Array, "*b K"], labels: Int[types.Array, "*b"]) -> Float[Array, "*b"]:
    """Returns the cross-entropy of each record in nats."""
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(_own(logits, labels), logits, 0.0), axis=-1)


@cross_entropy.defjvp
def _slopes(primals: tuple[types.Array, types.Array], tangents: tuple[jax.Array, Any]) -> tuple[jax.Array, jax.Array]:
    """The softmax less the label, and not a look-up turned round: that is a scatter, which is slow on every device."""
    logits, labels = primals
    chances = jax.nn.softmax(logits, axis=-1)
    if compilation.platform() == "gpu":
        # By itself it is one kernel, and what follows joins the sum behind the bias: 16 kernels an update, and not 18.
        chances = jax.lax.optimization_barrier(chances)
    slopes = chances - _own(logits, labels)
    return cross_entropy(logits, labels), jnp.sum(slopes * tangents[0], axis=-1)


def _own(logits: types.Array, labels: types.Array) -> jax.Array:
    """Which answer is that of a record's own label, bool[..., K]."""
    return jnp.arange(logits.shape[-1]) == jnp.expand_dims(labels, -1)


def make_losses(defences: contract.Defended) -> LossFn:
    """Builds the loss of each record with its penalties, `losses(logits f32[B, K], labels i32[B], hyper) -> f32[B]`."""

    def losses(logits: jax.Array, labels: jax.Array, hyper: types.Hyper) -> jax.Array:
        penalties = (hook(logits, labels, hyper.levels[place]) for place, hook in defences.hooks("penalty"))
        return sum(penalties, start=cross_entropy(logits, labels))

    return losses


def shares(mask: Shaped[types.Array, " B"]) -> Float[Array, " B"]:
    """Returns what each record of a minibatch counts in a mean over the unmasked ones; 0 each where there are none."""
    total = jnp.sum(mask, dtype=float)
    return jnp.asarray(mask) * (1.0 / jnp.where(total > 0, total, 1.0))
