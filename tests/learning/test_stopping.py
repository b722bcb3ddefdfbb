"""Early stopping against a loop over epochs; who is held out is neither a member nor trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedmia_jax import types
from fedmia_jax.config import parsing, sweeps
from fedmia_jax.data import pools
from fedmia_jax.engine.plans import runs
from fedmia_jax.learning import stopping, training

EVERY, NUM_EPOCHS = 4, 12


@pytest.fixture(scope="module")
def fit(toy):
    """The toy's training with early stopping."""
    fit_fn = training.make_fit(toy.apply, optimizer="adam", batch_size=8)
    return jax.jit(stopping.make_fit(fit_fn, toy.apply, every=EVERY))


def test_the_best_epoch_is_handed_off(toy, equal, fit):
    rows = np.arange(35)
    key, start, shard = jax.random.key(1), toy.start(jax.random.key(0)), toy.shard(rows, slots=40)
    hyper = toy.hyper(learning_rate=0.3)  # overfits in a few epochs
    end = fit(start, toy.records, shard, hyper, key, (0, NUM_EPOCHS), jax.random.key(0))

    dealt = pools.Shards(shard.indices[None], shard.mask[None])
    trained = jax.tree.map(lambda leaf: leaf[0], (dealt.without(EVERY).indices, dealt.without(EVERY).mask))
    held = np.setdiff1d(rows, trained[0][trained[1]])
    np.testing.assert_array_equal(held, rows[EVERY - 1 :: EVERY])
    train = toy.fit()
    losses, params, state = [], [], start
    for epoch in range(NUM_EPOCHS):
        state = train(state, toy.records, types.Shard(*trained), hyper, key, (epoch, epoch + 1))
        logits = toy.apply(state.params, toy.records.features[held])
        losses.append(float(optax.softmax_cross_entropy_with_integer_labels(logits, toy.labels[held]).mean()))
        params.append(state.params)
    best = int(np.argmin(losses))
    assert 0 < best < NUM_EPOCHS - 1
    equal(end.params, params[best], rtol=1e-3, atol=1e-4)
    equal(end.opt_state[0].mu, state.opt_state[0].mu, rtol=1e-2, atol=1e-4)


def test_held_out_records_are_neither_members_nor_non_members():
    values = {
        "data": {"num_records": 400, "num_features": 12, "num_classes": 4, "num_federation": 80, "num_test": 80},
        "federation": {"nodes": 2, "cycles": 2, "local_epochs": 4},
        "shadow": {"count": 2, "federations": 8},
        "defense": {"names": ("early_stopping",), "held_out_every": 5},
    }
    (run,) = runs.prepare([sweeps.Point(parsing.from_config(values), {})])
    for node in range(2):
        own = run.shards.indices[node][run.shards.mask[node]]
        owners = run.owners[[run.scored.tolist().index(row) for row in own]]
        held = np.arange(len(own)) % 5 == 4
        np.testing.assert_array_equal(owners, np.where(held, -2, node))
    assert set(run.reference_owners.reshape(-1)) == {-1, 0, 1}
    assert run.use.node_sizes == tuple((run.owners == node).sum() for node in range(2))


def test_what_is_held_out_moves_nothing(toy, fit):
    """Other features of held-out records change which epoch is chosen, but not the path: the optimizer's state."""
    shard = toy.shard(np.arange(35), slots=40)
    features = toy.records.features.at[jnp.arange(3, 35, EVERY)].set(1)
    ends = []
    for each in (toy.records.features, features):
        records, keys = types.Records(each, toy.records.labels), [jax.random.key(seed) for seed in range(2)]
        ends.append(fit(toy.start(keys[0]), records, shard, toy.hyper(), keys[1], (0, NUM_EPOCHS), keys[0]))
    for leaf, twin in zip(*(jax.tree.leaves(end.opt_state) for end in ends), strict=True):
        np.testing.assert_array_equal(leaf, twin)
