"""Weight decay against AdamW, label smoothing against smoothed labels, and nothing at level zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedmia_jax import defenses, types
from fedmia_jax.defenses import contract
from fedmia_jax.learning import training

BATCH_SIZE, NUM_STEPS = 8, 3


def rows_of(number):
    """Records of a step."""
    return jnp.arange(BATCH_SIZE) + BATCH_SIZE * number


def make_steps(toy, names, *, optimizer, num_steps=NUM_STEPS):
    """`run(*levels) -> params` after some steps of defences that have no static options, pure."""
    defended = defenses.choose(names, {"weight_decay": 0.0, "label_smoothing": 0.0}).make()
    step = training.make_step(toy.apply, optimizer=optimizer, batch_size=BATCH_SIZE, defences=defended)

    def run(*levels):
        params = toy.start(jax.random.key(0), optimizer=optimizer).params
        state = types.TrainState(params, training.fresh_opt_state(params, optimizer=optimizer, defences=defended))
        hyper = types.Hyper(jnp.float32(0.1), jnp.float32(0.5), levels)
        for number in range(num_steps):
            rows = rows_of(number)
            batch = types.Records(toy.records.features[rows], toy.records.labels[rows])
            state = step(state, batch, rows, rows >= 0, hyper, jax.random.key(number), jax.random.key(9))
        return state.params

    return run


def by_optax(toy, tx, loss_fn):
    """Parameters after the same steps, as an optax user writes them; `loss_fn(logits, labels) -> f32[B]`."""

    @jax.jit
    def step(params, state, rows, key):
        def loss(params):
            logits = toy.apply(params, toy.records.features[rows], dropout_rate=jnp.float32(0.5), key=key)
            return loss_fn(logits, toy.records.labels[rows]).mean()

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = toy.start(jax.random.key(0), optimizer="sgd").params
    state = tx.init(params)
    for number in range(NUM_STEPS):
        params, state = step(params, state, rows_of(number), jax.random.key(number))
    return params


PLAIN = optax.softmax_cross_entropy_with_integer_labels


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_is_that_of_adamw(toy, equal, optimizer):
    decays = {
        "adam": optax.adamw(0.1, weight_decay=0.3),
        "sgd": optax.chain(optax.add_decayed_weights(0.3), optax.sgd(0.1)),
    }
    end = jax.jit(make_steps(toy, ["weight_decay"], optimizer=optimizer))({"weight_decay": jnp.float32(0.3)})
    equal(end, by_optax(toy, decays[optimizer], PLAIN), rtol=1e-4, atol=1e-6)


def test_label_smoothing_is_cross_entropy_with_smoothed_labels(toy, equal):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(4, size=6)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    penalty = defenses.choose(["label_smoothing"], {"label_smoothing": 0.0}).make().defences[0].penalty
    for level in (0.0, 0.1, 1.0):
        expected = [
            -sum(((1 - level) * (k == label) + level / 4) * np.log(share[k]) for k in range(4))
            for share, label in zip(shares, labels, strict=True)
        ]
        smoothed = PLAIN(logits, labels) + penalty(jnp.asarray(logits), jnp.asarray(labels), {"label_smoothing": level})
        np.testing.assert_allclose(smoothed, expected, rtol=1e-5)

    end = jax.jit(make_steps(toy, ["label_smoothing"], optimizer="sgd"))({"label_smoothing": jnp.float32(0.2)})
    equal(end, by_optax(toy, optax.sgd(0.1), of_smoothed), rtol=1e-4, atol=1e-6)


def of_smoothed(logits, labels):
    """Cross-entropy with labels smoothed by a fifth."""
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(labels, 4), 0.2))


def test_level_zero_is_no_defence_and_both_together_are_both(toy, equal):
    """Bit by bit where every operation stands by itself, and but for rounding where a compiler fuses them."""
    names, zero = ["weight_decay", "label_smoothing"], ({"weight_decay": 0.0}, {"label_smoothing": 0.0})
    at_zero, plain = (make_steps(toy, some, optimizer="sgd", num_steps=1) for some in (names, []))
    equal(at_zero(*zero), plain())
    run = jax.jit(make_steps(toy, names, optimizer="adam"))
    equal(run(*zero), by_optax(toy, optax.adam(0.1), PLAIN), rtol=0, atol=1e-6 * NUM_STEPS)
    end = run({"weight_decay": 0.3}, {"label_smoothing": 0.2})
    equal(end, by_optax(toy, optax.adamw(0.1, weight_decay=0.3), of_smoothed), rtol=1e-4, atol=1e-5)


def test_they_act_inside_a_step_only():
    defended = defenses.choose(
        ["weight_decay", "label_smoothing"], {"weight_decay": 0.1, "label_smoothing": 0.1}
    ).make()
    defended.refuse(["records", "weights", "sums", "update", "hand_off", "publish", "order", "answer"], path="here")
    assert contract.make_hand_off(defended)(1, 2, jax.random.key(0), ({}, {})) == 2
