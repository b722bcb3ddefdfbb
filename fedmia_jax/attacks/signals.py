"""What an attack reads of a record at a snapshot: logits, from which every signal comes without saturating.

All of `phi`, `loss`, `entropy` and `modified_entropy` are sums of terms computed from log-probabilities, so that a
probability that rounds to one still tells records apart.

A `Signal` is one number for each record under the name that it is kept by. An attack with references says which one it
reads; most read `PHI`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fedmia_jax import types

TAYLOR_ORDER = 4  # of the exponential function in `sm_taylor`; even, so that it is positive everywhere
SOFT_MARGIN = 0.6  # that `sm_taylor` takes off the label's logit


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


def phi_of_taylor(signals: types.Signals) -> Float[Array, "..."]:
    """Returns the logit of the label's probability under the soft-margin Taylor softmax; higher means member.

    With t the Taylor polynomial of exp, p_y = t(z_y - m) / (t(z_y - m) + sum_{k != y} t(z_k)). Source: Zarifzadeh, Liu
    and Shokri (2024), SM-Taylor-Softmax, order 4 and margin m = 0.6. Departure: their code stops at the third power,
    which is negative below -1.6; the fourth, of their formula, is not.
    """
    label = jax.nn.one_hot(signals.labels, signals.logits.shape[-1], dtype=bool)
    own = jnp.take_along_axis(signals.logits, signals.labels[..., None], axis=-1)[..., 0]
    others = jnp.sum(jnp.where(label, 0.0, _taylor(signals.logits)), axis=-1)
    return jnp.log(_taylor(own - SOFT_MARGIN)) - jnp.log(others)


def _taylor(values: jax.Array) -> jax.Array:
    """The first terms of exp(values), by Horner's rule."""
    total = jnp.ones_like(values)
    for power in range(TAYLOR_ORDER, 0, -1):
        total = 1 + values / power * total
    return total


SOFTMAXES: dict[str, Callable[[types.Signals], jax.Array]] = {"softmax": phi, "sm_taylor": phi_of_taylor}


@dataclasses.dataclass(frozen=True)
class Signal:
    """A number for each record and snapshot that is kept for attacks with references.

    Attributes:
      name: what evidence calls it; signals of one name are one signal.
      read: `(Signals) -> f32[...]`, pure.
    """

    name: str
    read: Callable[[types.Signals], jax.Array] = dataclasses.field(compare=False)


PHI = Signal("phi", phi)


def at_temperature(temperature: float, *, softmax: str = "softmax") -> Signal:
    """Returns the logit of the label's probability when all logits are divided by a temperature.

    Args:
      temperature: above 0; at 1 the plain softmax gives `PHI`.
      softmax: a name in `SOFTMAXES`.

    Returns:
      The signal, named like `phi@2.0` or `sm_taylor@2.0`.
    """
    if softmax == "softmax" and temperature == 1:
        return PHI

    def read(signals: types.Signals) -> jax.Array:
        return SOFTMAXES[softmax](types.Signals(signals.logits / temperature, signals.labels))

    return Signal(f"{'phi' if softmax == 'softmax' else softmax}@{float(temperature)}", read)
