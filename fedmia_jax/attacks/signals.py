"""What an attack reads of a record at a snapshot: logits, from which every signal comes without saturating.

All of `phi`, `loss`, `entropy` and `modified_entropy` are sums of terms computed from log-probabilities, so that a
probability that rounds to one still tells records apart.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fedmia_jax import types


def make_signals(apply_fn: types.ApplyFn) -> Callable[..., types.Signals]:
    """Builds the query of one model.

    Args:
      apply_fn: the model, see `networks.make_apply`.

    Returns:
      `read(params, records, rows i32[M]) -> Signals` with logits f32[M, K].
    """

    def read(params: types.Params, records: types.Records, rows: jax.Array) -> types.Signals:
        return types.Signals(apply_fn(params, records.features[rows]), records.labels[rows])

    return read


def correct(signals: types.Signals) -> Bool[Array, "..."]:
    """Returns whether the model's most likely class is the label, for each record."""
    return jnp.argmax(signals.logits, axis=-1) == signals.labels


def phi(signals: types.Signals) -> Float[Array, "..."]:
    """Returns the logit of the label's probability, log p_y - log sum_{k != y} p_k; higher means member.

    Source: Carlini et al. (2022), section VI, the stable form.
    """
    label = jax.nn.one_hot(signals.labels, signals.logits.shape[-1], dtype=bool)
    own = jnp.take_along_axis(signals.logits, signals.labels[..., None], axis=-1)[..., 0]
    return own - jax.nn.logsumexp(jnp.where(label, -jnp.inf, signals.logits), axis=-1)


def loss(phi: Float[types.Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the cross-entropy in nats from `phi`: -log sigmoid(phi)."""
    return jax.nn.softplus(-phi)


def entropy(signals: types.Signals) -> Float[Array, "..."]:
    """Returns the entropy of the answer in nats; lower means member."""
    logs = jax.nn.log_softmax(signals.logits)
    return -jnp.sum(jnp.exp(logs) * logs, axis=-1)


def modified_entropy(signals: types.Signals) -> Float[Array, "..."]:
    """Returns the entropy that knows the label; lower means member.

    -(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k). Source: Song and Mittal (2021), section 3.3.
    """
    logs = jax.nn.log_softmax(signals.logits)
    label = jax.nn.one_hot(signals.labels, logs.shape[-1], dtype=bool)
    top = jax.nn.one_hot(jnp.argmax(logs, axis=-1), logs.shape[-1], dtype=bool)
    # -log(1 - p_k); only the most likely class can have a probability that rounds to one.
    wrong = -jnp.log1p(-jnp.where(top, 0.0, jnp.exp(logs)))
    rest = -jax.nn.logsumexp(jnp.where(top, -jnp.inf, logs), axis=-1, keepdims=True)
    wrong = jnp.where(top, rest, wrong)
    odds = phi(signals)
    return jax.nn.sigmoid(-odds) * loss(odds) + jnp.sum(jnp.where(label, 0.0, jnp.exp(logs) * wrong), axis=-1)
