"""Many models at once: results do not depend on how many, on the devices, on chunks or on each other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import config, federation, model, shadow, training, types

NUM_MODELS, SLOTS, EPOCHS = 10, 24, 3
RTOL = {"rtol": 1e-5, "atol": 1e-6}


def take(tree, rows):
    return jax.tree.map(lambda leaf: leaf[np.asarray(rows)], tree)


@pytest.fixture(scope="module")
def batched(toy):
    """Ten models, each with its own records, step size, dropout and key."""
    rng = np.random.default_rng(1)
    indices = np.stack([rng.permutation(len(toy.labels))[:SLOTS] for _ in range(NUM_MODELS)]).astype(np.int32)
    hyper = types.Hyper(
        np.linspace(0.005, 0.02, NUM_MODELS, dtype=np.float32), np.linspace(0, 0.5, NUM_MODELS, dtype=np.float32)
    )
    keys = jax.vmap(lambda j: jax.random.fold_in(jax.random.key(3), j))(jnp.arange(NUM_MODELS))
    return {"shard": types.Shard(indices, np.ones(indices.shape, bool)), "hyper": hyper, "key": keys}


@pytest.fixture(scope="module")
def train_one(toy):
    """The training of one model, as `make_parallel` takes it."""
    start_fn = training.make_start(model.make_init(toy.module, num_features=20), optimizer="adam")
    fit_fn = toy.fit_fn()

    def one(records, part):
        state = start_fn(jax.random.fold_in(part["key"], 0))
        key = jax.random.fold_in(part["key"], 1)
        return fit_fn(state, records, part["shard"], part["hyper"], key, (0, EPOCHS)).params

    return one


@pytest.fixture(scope="module")
def parallel(toy, train_one):
    """`parallel(batched)` on all devices."""
    call = shadow.make_parallel(train_one)
    return lambda batched: jax.device_get(call(toy.records, batched))


@pytest.fixture(scope="module")
def whole(parallel, batched):
    return parallel(batched)


@pytest.fixture(scope="module")
def programs(toy):
    """The compiled programs of central training."""
    return shadow.make_train(
        toy.module, config.Training(batch_size=8), num_features=20, devices=tuple(jax.devices()[:2])
    )


@pytest.fixture(scope="module")
def train_many(toy, programs):
    """`train_many(batched, *, epochs)`: parameters, and what was finite after each segment."""

    def call(batched, *, epochs=EPOCHS):
        state, told = programs.start(batched["key"]), []
        for segment in shadow.cut([epochs]):
            state, finite = programs.advance(toy.records, state, batched, segment)
            told.append(np.asarray(finite))
        return jax.device_get(state.params), told

    return call


def test_a_model_alone_equals_itself_among_ten(toy, train_one, whole, batched, equal):
    alone = shadow.make_parallel(train_one)
    for j in (0, 7):
        equal(alone(toy.records, take(batched, [j])), take(whole, [j]), **RTOL)


def test_one_device_equals_two(toy, train_one, whole, batched, equal):
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    single = shadow.make_parallel(train_one, devices=jax.devices()[:1])
    equal(jax.device_get(single(toy.records, batched)), whole, **RTOL)


def test_models_are_split_over_the_devices(batched):
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    double = shadow.make_parallel(lambda shared, one: shared * one)
    result = double(2.0, np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(result, [0, 2, 4, 6])
    assert len(result.sharding.device_set) == min(len(jax.devices()), 4)
    odd = double(2.0, np.arange(5, dtype=np.float32))
    np.testing.assert_array_equal(odd, [0, 2, 4, 6, 8])


def test_static_arguments_decide_shapes():
    call = shadow.make_parallel(lambda shared, one, *, width: jnp.full(width, one))
    assert call((), np.arange(3.0), width=4).shape == (3, 4)
    assert call((), np.arange(3.0), width=2).shape == (3, 2)


def test_a_permuted_model_axis_permutes_the_results(parallel, whole, batched, equal):
    order = np.random.default_rng(0).permutation(NUM_MODELS)
    equal(parallel(take(batched, order)), take(whole, order), **RTOL)


def test_models_do_not_touch_each_other(parallel, whole, batched, equal, differ):
    """Model 4 gets other records and a step size that explodes: the others stay bit-equal."""
    indices, rates = batched["shard"].indices.copy(), batched["hyper"].learning_rate.copy()
    indices[4], rates[4] = np.arange(SLOTS), np.inf
    shard = types.Shard(indices, batched["shard"].mask)
    hyper = dataclasses.replace(batched["hyper"], learning_rate=rates)
    other = parallel({**batched, "shard": shard, "hyper": hyper})
    rest = [j for j in range(NUM_MODELS) if j != 4]
    equal(take(other, rest), take(whole, rest))
    assert differ(take(other, [4]), take(whole, [4]))


def test_segments_equal_the_whole(train_many, whole, batched, equal):
    params, told = train_many(batched)
    equal(params, whole, **RTOL)
    assert [finite.shape for finite in told] == [(NUM_MODELS,)] * 3
    assert all(finite.all() for finite in told)


def test_the_second_call_compiles_nothing(train_many, batched, compilations):
    """Other numbers, keys, records and more epochs go into the programs that are there."""
    other = {
        "shard": types.Shard(batched["shard"].indices[::-1].copy(), batched["shard"].mask),
        "hyper": jax.tree.map(lambda leaf: leaf * 0.5, batched["hyper"]),
        "key": batched["key"],
    }
    train_many(batched)
    with compilations() as names:
        train_many(other, epochs=12)
    assert names == []
    with compilations() as names:
        jax.jit(lambda number: number + 1)(1)
    assert names, "the counter counts"


def test_training_that_explodes_is_told(train_many, batched):
    rates = batched["hyper"].learning_rate.copy()
    rates[2] = np.inf
    hyper = dataclasses.replace(batched["hyper"], learning_rate=rates)
    _, told = train_many({**batched, "hyper": hyper})
    np.testing.assert_array_equal(np.flatnonzero(~told[-1]), [2])


@pytest.mark.parametrize("carry", [False, True])
def test_federations_cycle_by_cycle_equal_each_alone(toy, batched, equal, carry):
    """Snapshots lead with [S, N]; what goes from cycle to cycle is all that the next one needs."""
    programs = shadow.make_federate(
        toy.module,
        config.Training(batch_size=8),
        num_features=20,
        devices=tuple(jax.devices()[:1]),
        carry_optimizer_state=carry,
    )
    nodes = jax.tree.map(lambda leaf: leaf[:3].reshape(3, 2, SLOTS // 2), batched["shard"])
    part = {"shard": nodes, "hyper": take(batched["hyper"], range(3)), "key": batched["key"][:3]}
    state, cycles = programs.start(part["key"]), []
    for cycle in range(2):
        state, snapshots, finite = programs.advance(toy.records, state, part, 2, cycle)
        assert finite.shape == (3, 2)
        assert bool(finite.all())
        cycles.append(jax.device_get(snapshots))
        state = jax.device_get(state)  # as a checkpoint would bring it back
    found = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *cycles)
    make = federation.make_cycles(toy.fit_fn(), optimizer="adam", carry_optimizer_state=carry)
    one = jax.jit(functools.partial(make, num_cycles=2))
    for j in range(3):
        start = toy.start(jax.random.fold_in(part["key"][j], 0))
        key = jax.random.fold_in(part["key"][j], 1)
        expected = one(start, toy.records, take(nodes, j), take(part["hyper"], j), key, 2, 0)[1]
        equal(take(found, j), jax.device_get(expected), **RTOL)


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 37, 100, 1001])
def test_cuts_are_gapless_and_about_equal(epochs):
    segments = shadow.cut([epochs])
    assert [end for _, end in segments[:-1]] == [first for first, _ in segments[1:]]
    assert (segments[0][0], segments[-1][1]) == (0, epochs)
    lengths = [end - first for first, end in segments]
    assert len(segments) == min(epochs, 10)
    assert max(lengths) - min(lengths) <= 1


def test_training_ends_a_run_at_every_wanted_epoch():
    segments = shadow.cut([100, 37])
    assert (segments[0][0], segments[-1][1]) == (0, 100)
    assert 37 in [end for _, end in segments]
    assert [end for _, end in segments[:-1]] == [first for first, _ in segments[1:]]


def test_memory_in_training_counts_the_states():
    """Twelve copies of every parameter in four bytes, and the minibatch."""
    params = 4 * (600 * 128 + 128 + 128 * 100 + 100)
    assert shadow.params_nbytes(model.Mlp(100, 128), num_features=600) == params
    small, large = (
        shadow.training_nbytes(model.Mlp(100, 128), num_features=600, batch_size=size) for size in (32, 1024)
    )
    assert 12 * params < small < 13 * params
    assert large - small >= 4 * 600 * (1024 - 32)


def test_all_finite_looks_at_every_leaf():
    tree = {"a": jnp.ones(3), "b": {"c": jnp.ones((2, 2))}}
    assert bool(shadow.all_finite(tree))
    for bad in (np.nan, np.inf, -np.inf):
        assert not bool(shadow.all_finite({**tree, "b": {"c": jnp.ones((2, 2)).at[1, 0].set(bad)}}))
