"""The cross-entropy, its slopes, and means over the records that are there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedmia_jax.learning import losses

LABELS = np.array([0, 3, 2, 3, 1])
LOGITS = np.random.default_rng(0).normal(scale=3.0, size=(5, 4)).astype(np.float32)


def test_cross_entropy_and_its_slopes_are_optax_own(equal):
    """And where probabilities saturate: nothing is taken from `log(p)`."""
    shares = jnp.linspace(0.1, 0.5, 5)
    for logits in (LOGITS, LOGITS * 40, LOGITS - 1e4):
        pairs = [
            jax.value_and_grad(lambda logits, fn=fn: jnp.sum(fn(logits, LABELS) * shares))(logits)
            for fn in (losses.cross_entropy, optax.softmax_cross_entropy_with_integer_labels)
        ]
        equal(*pairs, rtol=1e-6, atol=1e-7)


def test_cross_entropy_of_one_record_and_of_many_models(equal):
    many = jnp.stack([LOGITS, 2 * LOGITS])
    each = [[losses.cross_entropy(row, label) for row, label in zip(model, LABELS, strict=True)] for model in many]
    equal(jax.vmap(losses.cross_entropy, (0, None))(many, LABELS), np.array(each), rtol=1e-6)
    equal(jax.jit(jax.grad(losses.cross_entropy))(LOGITS[0], 2).sum(), np.float32(0), atol=1e-6)


def test_shares_are_those_of_a_mean():
    np.testing.assert_allclose(losses.shares(np.array([True, False, True])), [0.5, 0, 0.5])
    np.testing.assert_allclose(losses.shares(np.array([1.0, 3.0, 0.0])), [0.25, 0.75, 0])
    np.testing.assert_array_equal(losses.shares(np.zeros(3, bool)), 0.0)
