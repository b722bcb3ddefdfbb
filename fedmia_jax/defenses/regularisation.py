"""Regularisation: weight decay and label smoothing; what a model has not learnt by heart it cannot give away.

Dropout, the third of the family, is no defence by name but a setting of the network, `model.dropout_rate`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from fedmia_jax import options, types
from fedmia_jax.defenses import contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decay:
    """How much weights decay."""

    weight_decay: float = options.option(
        0.0, "share of every parameter taken off at each step, times the learning rate", low=0.0, traced=True
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How soft labels are."""

    label_smoothing: float = options.option(
        0.0, "share of the loss that goes to all classes alike instead of the label", low=0.0, high=1.0, traced=True
    )


def make_weight_decay(settings: Decay) -> contract.Defense:
    """Builds decoupled weight decay: a step also takes off a share of the parameters, past the optimizer's moments.

    Source: Loshchilov and Hutter (2019), algorithm 2 (AdamW), all parameters alike.
    """
    del settings

    def step(
        updates: types.Params, params: types.Params, learning_rate: types.Scalar, levels: contract.Levels
    ) -> types.Params:
        factor = learning_rate * levels["weight_decay"]
        return jax.tree.map(lambda update, param: update - factor * param, updates, params)

    return contract.Defense(step=step)


def make_label_smoothing(settings: Smoothing) -> contract.Defense:
    """Builds label smoothing: cross-entropy with a label that gives a share a of itself to all K classes alike.

    With z the logits, that is logsumexp(z) - (1 - a) z_y - a mean(z), the plain cross-entropy plus a (z_y - mean(z)).

    Source: Szegedy et al. (2016), section 7.
    """
    del settings

    def penalty(logits: jax.Array, labels: jax.Array, levels: contract.Levels) -> jax.Array:
        # A sum, since the derivative of `logits[label]` is a scatter, which is slow.
        label = jnp.arange(logits.shape[-1]) == labels[:, None]
        own = jnp.sum(jnp.where(label, logits, 0.0), axis=-1)
        return levels["label_smoothing"] * (own - jnp.mean(logits, axis=-1))

    return contract.Defense(penalty=penalty)


WEIGHT_DECAY = contract.Factory(make_weight_decay, Decay)
LABEL_SMOOTHING = contract.Factory(make_label_smoothing, Smoothing)
