"""Whether an attack gives what its contract says, found out on shapes alone, before anything is trained."""

from typing import Any

import jax
import jax.numpy as jnp

from fedmia_jax import types
from fedmia_jax.attacks import contract

NUM_MODELS, NUM_RECORDS = 4, 5  # shadows or references, and records, of the trial


def check_model_attack(attack: contract.ModelAttack, *, num_classes: int) -> str | None:
    """Says what is wrong with the shapes of an attack on one model.

    Args:
      attack: to be tried.
      num_classes: K.

    Returns:
      What it gives and what is expected; None where all is well.
    """
    shape = (NUM_MODELS, NUM_RECORDS)
    logits, labels = _struct(*shape, num_classes), _struct(*shape, dtype=jnp.int32)

    def give(key: jax.Array, logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[Any, ...]:
        fitted = attack.fit(key, types.Signals(logits, labels), weights > 0, weights)
        score = attack.score(fitted, types.Signals(logits[0], labels[0]))
        return score, attack.threshold(fitted), attack.curve(fitted)

    score, threshold, curve = jax.eval_shape(give, _key(), logits, labels, _struct(*shape))
    if len(curve.shape) != 1:
        return f"curve gives {_named(curve)}, f32[E] expected"
    return _differs("score", score, NUM_RECORDS) or _differs("threshold", threshold)


def check_reference_attack(attack: contract.ReferenceAttack, setup: contract.Setup) -> str | None:
    """Says what is wrong with the shapes of an attack with references.

    Args:
      attack: to be tried.
      setup: nodes and snapshots of the federation.

    Returns:
      What it gives and what is expected; None where all is well.
    """
    length = len(setup.masks[0])
    phi, owners = _struct(NUM_MODELS, length, NUM_RECORDS), _struct(NUM_MODELS, NUM_RECORDS, dtype=jnp.int32)
    snapshots, visits = _struct(length), _struct(max(1, length // setup.nodes), setup.nodes)

    def score(key: jax.Array, phi: jax.Array, owners: jax.Array, snapshots: jax.Array, visits: jax.Array) -> Any:
        ready = attack.prepare(attack.fit(key, contract.KnownRecords(phi, owners)), jnp.int32(0))
        if attack.combine is None:
            return attack.score(ready, phi[0])
        sight = contract.Sight(snapshots > 0, snapshots.astype(jnp.int32), visits.astype(jnp.int32))
        return attack.score(ready, phi[0], sight)

    scores = jax.eval_shape(score, _key(), phi, owners, snapshots, visits)
    if attack.combine is None:
        return _differs("score", scores, length, NUM_RECORDS)
    return _differs("score", scores, NUM_RECORDS) or _differs(
        "combine", jax.eval_shape(attack.combine, _struct(setup.nodes, NUM_RECORDS)), NUM_RECORDS
    )


def _struct(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """An array that is not there."""
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> jax.Array:
    """Some key."""
    return jax.random.key(0)


def _differs(name: str, given: Any, *expected: int) -> str | None:
    """What a function gives, where it is not one floating-point array of a shape."""
    array = isinstance(given, jax.ShapeDtypeStruct) and given.shape == expected
    if array and jnp.issubdtype(given.dtype, jnp.floating):
        return None
    return f"{name} gives {_named(given)}, f32{list(expected)} expected for {NUM_RECORDS} records"


def _named(given: Any) -> str:
    """Dtypes and shapes of what was given."""
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(given)) or "nothing"
