"""Drawn batches: the rate of every record, their independence, what is cut, and the updates of an epoch."""

import functools

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedmia_jax import types
from fedmia_jax.defenses import contract
from fedmia_jax.learning import sampling, training

NUM_RECORDS, BATCH_SIZE, NUM_DRAWS = 40, 8, 4_000


@functools.cache
def drawn(most=NUM_RECORDS, slots=NUM_RECORDS + 5):
    """Which records each of many batches has, bool[draws, slots], and their numbers."""

    def draw(key):
        rows, real = sampling.draw_batch(key, jnp.arange(slots) < NUM_RECORDS, batch_size=BATCH_SIZE, most=most)
        return jnp.zeros(slots, bool).at[jnp.where(real, rows, slots)].set(True, mode="drop"), jnp.sum(real)

    return jax.device_get(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), NUM_DRAWS)))


def test_every_record_is_drawn_at_rate_and_independently():
    """Rates, pairs, successive batches and sizes, each within five standard errors; padding never."""
    inside, sizes = drawn()
    rate = BATCH_SIZE / NUM_RECORDS
    assert not inside[:, NUM_RECORDS:].any()
    np.testing.assert_array_equal(inside.sum(axis=1), sizes)
    inside = inside[:, :NUM_RECORDS]
    assert np.abs(inside.mean(axis=0) - rate).max() < 5 * np.sqrt(rate * (1 - rate) / NUM_DRAWS)
    pairs = np.corrcoef(inside.T)[np.triu_indices(NUM_RECORDS, 1)]
    assert np.abs(pairs).max() < 5 / np.sqrt(NUM_DRAWS)
    assert abs(np.corrcoef(inside[:-1].ravel(), inside[1:].ravel())[0, 1]) < 5 / np.sqrt(inside.size)
    expected = NUM_DRAWS * stats.binom.pmf(np.arange(4, 13), NUM_RECORDS, rate)
    counts = np.bincount(sizes, minlength=NUM_RECORDS)[4:13]
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_of_too_many_a_random_choice_stays():
    """Batches are those without a limit, cut to it; every record is cut alike."""
    free, sizes = drawn()
    inside, cut = drawn(most=9)
    np.testing.assert_array_equal(cut, np.minimum(sizes, 9))
    assert not (inside & ~free).any()
    np.testing.assert_array_equal(inside[sizes <= 9], free[sizes <= 9])
    crowded = sizes > 9
    stayed = inside[crowded, :NUM_RECORDS].sum(axis=0) / free[crowded, :NUM_RECORDS].sum(axis=0)
    mean = cut[crowded].sum() / sizes[crowded].sum()
    assert crowded.sum() > 500
    assert np.abs(stayed - mean).max() < 5 * np.sqrt(mean * (1 - mean) / free[crowded, :NUM_RECORDS].sum(axis=0).min())


def test_padding_changes_no_batch():
    np.testing.assert_array_equal(drawn()[0][:, :NUM_RECORDS], drawn(slots=NUM_RECORDS)[0])


def test_all_are_drawn_where_there_are_no_more_than_a_batch():
    slots, real = sampling.draw_batch(jax.random.key(0), jnp.arange(9) < 6, batch_size=8, most=9)
    np.testing.assert_array_equal(slots[real], np.arange(6))


@pytest.mark.parametrize("skip_empty", [False, True])
def test_an_epoch_has_as_many_updates_as_there_would_be_batches(toy, skip_empty):
    """Of its own records, not of the padding, where shards of other sizes share the shape; empty batches count."""
    seen = []

    def step(state, batch, rows, mask, hyper, key, record_key):
        jax.debug.callback(lambda *pair: seen.append(pair), rows, mask)
        return types.TrainState(state.params + 1, state.opt_state)

    epoch = sampling.make_epoch(step, batch_size=2, most=4, skip_empty=skip_empty)
    shard = toy.shard(np.arange(20, 27), slots=13)
    state = types.TrainState(jnp.zeros(()), ())
    end = epoch(state, toy.records, shard, toy.hyper(), jax.random.key(3), jax.random.key(0))
    jax.effects_barrier()
    assert end.params == (4 if skip_empty else 7)
    assert len(seen) == 7
    assert min(int(mask.sum()) for _, mask in seen) == 0
    assert {int(row) for rows, mask in seen for row in rows[mask]} <= set(range(20, 27))


def test_training_draws_batches_where_a_defence_says_so(toy, equal):
    """Two epochs of plain descent are the same steps by hand, sums over B of the batches that were drawn."""
    defences = contract.Defended((contract.Defense(sampling=2.0),), ((),))
    hyper = types.Hyper(np.float32(0.1), np.float32(0.0), ({},))
    shard, key = toy.shard(np.arange(30)), jax.random.key(5)
    fit = training.make_fit(toy.apply, optimizer="sgd", batch_size=BATCH_SIZE, defences=defences)
    state = toy.start(jax.random.key(0), optimizer="sgd")
    end = jax.jit(fit)(state, toy.records, shard, hyper, key, (0, 2), jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    for epoch in range(2):
        epoch_key = jax.random.fold_in(key, epoch)
        order = training.shuffle(jax.random.fold_in(epoch_key, 0), shard.mask)
        for number in range(4):
            step_key = jax.random.fold_in(jax.random.fold_in(epoch_key, 1), number)
            draw_key = contract.draw_key(step_key, 1 + contract.BATCH)
            slots, real = sampling.draw_batch(draw_key, shard.mask, batch_size=BATCH_SIZE, most=16)
            rows = np.asarray(order[slots[real]])
            grads = by_hand.gradients(params, toy.features[rows].astype(np.float64), toy.labels[rows])
            factor = 0.1 * len(rows) / BATCH_SIZE
            params = jax.tree.map(lambda leaf, grad, factor=factor: leaf - factor * grad, params, grads)
    equal(end.params, params, rtol=1e-4, atol=1e-6)
