"""Snapshot x record -> what an attack reads: logits, from which every signal comes without saturating."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedmia_jax import types


def make_signals(apply_fn: types.ApplyFn) -> Callable[..., types.Signals]:
    """Builds the query of one model.

    Args:
      apply_fn: the model, see `model.make_apply`.

    Returns:
      `read(params, records, rows i32[M]) -> Signals` with logits f32[M, K].
    """

    def read(params, records, rows):
        return types.Signals(apply_fn(params, records.features[rows]), records.labels[rows])

    return read


def correct(signals: types.Signals) -> jax.Array:
    """Whether the model's most likely class is the label: bool[..., M]."""
    return jnp.argmax(signals.logits, axis=-1) == signals.labels
