"""What an outsider is answered: probabilities made softer, rounded, or cut down to the likeliest classes.

Nothing here changes how models are trained or what participants hold; whoever only asks the finished model reads less.
Source: Shokri et al. (2017), section VIII: raise the entropy of the answer, coarsen it, restrict it to the top classes.

An answer is given as logits, the logarithms of the answered probabilities up to a constant, so that every signal of an
attack is defined on it. A probability that is rounded to zero is known to lie below half a step, and counts as that;
classes beyond the top ones share the probability that is left over, which is all that is known of them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fedmia_jax import options, types
from fedmia_jax.defenses import contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Softening:
    """How soft answers are."""

    answer_temperature: float = options.option(
        1.0, "number that the logits of an answer are divided by; 1 changes nothing", above=0.0, traced=True
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounding:
    """How coarse answers are."""

    answer_digits: float = options.option(
        0.0,
        "decimal places of the probabilities of an answer; 0 leaves them as they are",
        low=0.0,
        high=7.0,
        traced=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Top:
    """How many classes are answered."""

    answer_classes: float = options.option(
        0.0, "classes whose probabilities an answer holds, the likeliest; 0 leaves all of them", low=0.0, traced=True
    )


def soften(logits: Float[Array, "*M K"], temperature: types.Scalar) -> Float[Array, "*M K"]:
    """Returns logits divided by a temperature."""
    return logits / temperature


def round_probabilities(logits: Float[Array, "*M K"], digits: types.Scalar) -> Float[Array, "*M K"]:
    """Returns the logarithms of probabilities that are rounded to some decimal places, zeros as half a step.

    Args:
      logits: of the model.
      digits: f32[], decimal places; 0 gives the logits themselves.
    """
    step = 10.0**-digits
    rounded = jnp.round(jax.nn.softmax(logits) / step) * step
    return jnp.where(digits > 0, jnp.log(jnp.maximum(rounded, step / 2)), logits)


def keep_top(logits: Float[Array, "*M K"], count: types.Scalar) -> Float[Array, "*M K"]:
    """Returns the logits of the likeliest classes, the first of equal ones, and what is left evenly for all others.

    Args:
      logits: of the model.
      count: f32[], how many classes are answered; 0 gives the logits themselves.
    """
    rank = jnp.argsort(jnp.argsort(-logits, axis=-1), axis=-1)
    hidden = (rank >= count) & (count > 0)
    number = jnp.maximum(hidden.sum(axis=-1, keepdims=True), 1)
    rest = jax.nn.logsumexp(jnp.where(hidden, logits, -np.inf), axis=-1, keepdims=True) - jnp.log(number)
    return jnp.where(hidden, rest, logits)


def make_temperature(settings: Softening) -> contract.Defense:
    """Builds softer answers."""
    del settings
    return contract.Defense(answer=lambda logits, levels: soften(logits, levels["answer_temperature"]))


def make_rounding(settings: Rounding) -> contract.Defense:
    """Builds coarser answers."""
    del settings
    return contract.Defense(answer=lambda logits, levels: round_probabilities(logits, levels["answer_digits"]))


def make_top_classes(settings: Top) -> contract.Defense:
    """Builds answers of the likeliest classes alone."""
    del settings
    return contract.Defense(answer=lambda logits, levels: keep_top(logits, levels["answer_classes"]))


TEMPERATURE = contract.Factory(make_temperature, Softening)
ROUNDING = contract.Factory(make_rounding, Rounding)
TOP_CLASSES = contract.Factory(make_top_classes, Top)
