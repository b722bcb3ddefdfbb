"""Many models at once: results do not depend on how many, on the devices, on chunks or on each other."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import defenses, types
from fedmia_jax.defenses import contract
from fedmia_jax.engine import memory, parallel, programs
from fedmia_jax.learning import gradients, networks, training
from fedmia_jax.protocols import sequential

NUM_MODELS, SLOTS, EPOCHS = 10, 24, 3
RTOL = {"rtol": 1e-5, "atol": 1e-6}


def take(tree, rows):
    rows = rows if isinstance(rows, tuple) else np.asarray(rows)
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@pytest.fixture(scope="module")
def models(toy):
    """Ten models, each with its own records, step size, dropout and key."""
    rng = np.random.default_rng(1)
    indices = np.stack([rng.permutation(len(toy.labels))[:SLOTS] for _ in range(NUM_MODELS)]).astype(np.int32)
    hyper = types.Hyper(
        np.linspace(0.005, 0.02, NUM_MODELS, dtype=np.float32), np.linspace(0, 0.5, NUM_MODELS, dtype=np.float32)
    )
    keys = jax.vmap(lambda j: jax.random.fold_in(jax.random.key(3), j))(jnp.arange(NUM_MODELS))
    return programs.Models(types.Shard(indices, np.ones(indices.shape, bool)), hyper, keys)


@pytest.fixture(scope="module")
def train_model(toy):
    """The training of one model, as `make_parallel` takes it."""
    start_fn = training.make_start(networks.make_init(toy.module, num_features=20), optimizer="adam")
    fit_fn = toy.fit_fn()

    def train(records, model):
        state = start_fn(jax.random.fold_in(model.key, programs.START))
        key = jax.random.fold_in(model.key, programs.TRAIN)
        return fit_fn(state, records, model.shard, model.hyper, key, (0, EPOCHS)).params

    return train


@pytest.fixture(scope="module")
def lifted(toy, train_model):
    """`lifted(models)` on all devices."""
    call = parallel.make_parallel(train_model)
    return lambda models: jax.device_get(call(toy.records, models))


@pytest.fixture(scope="module")
def whole(lifted, models):
    return lifted(models)


@pytest.fixture(scope="module")
def learning(toy):
    """What decides the programs."""
    return programs.Learning(toy.module, training.Options(batch_size=8), defenses.Chosen(), 20)


@pytest.fixture(scope="module")
def train_many(toy, learning):
    """`train_many(models, *, epochs)`: parameters, and what was finite after each segment."""
    trainer = programs.make_train(learning, devices=tuple(jax.devices()[:2]))

    def call(models, *, epochs=EPOCHS):
        state, finite_after = trainer.start(models.key), []
        for segment in programs.cut([epochs]):
            state, finite = trainer.advance(toy.records, state, models, segment)
            finite_after.append(np.asarray(finite))
        return jax.device_get(state.params), finite_after

    return call


def test_a_model_alone_equals_itself_among_ten(toy, train_model, whole, models, equal):
    alone = parallel.make_parallel(train_model)
    for j in (0, 7):
        equal(alone(toy.records, take(models, [j])), take(whole, [j]), **RTOL)


def test_one_device_equals_two(toy, train_model, whole, models, equal):
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    single = parallel.make_parallel(train_model, devices=jax.devices()[:1])
    equal(jax.device_get(single(toy.records, models)), whole, **RTOL)


def test_models_are_split_over_the_devices():
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    double = parallel.make_parallel(lambda shared, model: shared * model)
    result = double(2.0, np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(result, [0, 2, 4, 6])
    assert len(result.sharding.device_set) == min(len(jax.devices()), 4)
    odd = double(2.0, np.arange(5, dtype=np.float32))
    np.testing.assert_array_equal(odd, [0, 2, 4, 6, 8])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_is_compiled_quickly_has_the_same_bits(toy, models, equal, as_launched, optimizer):
    learning = programs.Learning(toy.module, training.Options(optimizer=optimizer), defenses.Chosen(), 20)
    start_fn = learning.make_start(learning.defences.make())
    well = jax.jit(jax.vmap(lambda key: start_fn(jax.random.fold_in(key, programs.START))), **as_launched)
    quickly = programs.make_train(learning, devices=tuple(jax.devices())).start(models.key)
    equal(jax.device_get(quickly), jax.device_get(well(models.key)))


def test_static_arguments_decide_shapes():
    call = parallel.make_parallel(lambda shared, model, *, width: jnp.full(width, model))
    assert call((), np.arange(3.0), width=4).shape == (3, 4)
    assert call((), np.arange(3.0), width=2).shape == (3, 2)


def test_a_permuted_model_axis_permutes_the_results(lifted, whole, models, equal):
    order = np.random.default_rng(0).permutation(NUM_MODELS)
    equal(lifted(take(models, order)), take(whole, order), **RTOL)


def test_models_do_not_touch_each_other(lifted, whole, models, equal, differ):
    """Model 4 gets other records and a step size that explodes: the others stay bit-equal."""
    indices, rates = models.shard.indices.copy(), models.hyper.learning_rate.copy()
    indices[4], rates[4] = np.arange(SLOTS), np.inf
    shard = types.Shard(indices, models.shard.mask)
    hyper = dataclasses.replace(models.hyper, learning_rate=rates)
    other = lifted(programs.Models(shard, hyper, models.key))
    rest = [j for j in range(NUM_MODELS) if j != 4]
    equal(take(other, rest), take(whole, rest))
    assert differ(take(other, [4]), take(whole, [4]))


def test_segments_equal_the_whole(train_many, whole, models, equal):
    params, finite_after = train_many(models)
    equal(params, whole, **RTOL)
    assert [finite.shape for finite in finite_after] == [(NUM_MODELS,)] * 3
    assert all(finite.all() for finite in finite_after)


def test_the_second_call_compiles_nothing(train_many, models, compilations):
    """Other numbers, keys, records and more epochs go into the programs that are there."""
    shard = types.Shard(models.shard.indices[::-1].copy(), models.shard.mask)
    other = programs.Models(shard, jax.tree.map(lambda leaf: leaf * 0.5, models.hyper), models.key[::-1])
    train_many(models)
    with compilations() as names:
        train_many(other, epochs=12)
    assert names == []
    with compilations() as names:
        jax.jit(lambda number: number + 1)(1)
    assert names, "the counter counts"


@pytest.mark.parametrize("num_devices", [1, 2])
def test_all_segments_are_one_program(toy, models, compilations, num_devices):
    """Arrays of the host, arrays that a program has left, and a state that a checkpoint has brought back."""
    learning = programs.Learning(
        networks.Mlp(4, 5 + num_devices), training.Options(batch_size=8), defenses.Chosen(), 20
    )
    trainer = programs.make_train(learning, devices=tuple(jax.devices()[:num_devices]))
    three = take(models, range(3))
    with compilations() as names:
        state = trainer.start(three.key)
        for segment in [(0, 1), (1, 2), (2, 3)]:
            state, _ = trainer.advance(toy.records, state, three, segment)
        trainer.advance(toy.records, jax.device_get(state), three, (3, 4))
    assert len([name for name in names if "advance_model" in name]) == 1


def test_training_that_explodes_is_reported(train_many, models):
    rates = models.hyper.learning_rate.copy()
    rates[2] = np.inf
    _, finite_after = train_many(
        dataclasses.replace(models, hyper=dataclasses.replace(models.hyper, learning_rate=rates))
    )
    np.testing.assert_array_equal(np.flatnonzero(~finite_after[-1]), [2])


@pytest.mark.parametrize("carry", [False, True])
def test_federations_cycle_by_cycle_equal_each_alone(toy, learning, models, equal, carry):
    """Snapshots lead with [S, P]; what goes from cycle to cycle is all that the next one needs."""
    settings = sequential.Options(carry_optimizer_state=carry)
    federate = programs.make_federate(learning, "sequential", settings, devices=tuple(jax.devices()[:1]))
    nodes = jax.tree.map(lambda leaf: leaf[:3].reshape(3, 2, SLOTS // 2), models.shard)
    federations = programs.Models(nodes, take(models.hyper, range(3)), models.key[:3])
    orders = np.array([[[0, 1], [1, 0]], [[1, 0], [1, 0]], [[0, 1], [0, 1]]], np.int32)  # [S, C, N]
    state, cycles = federate.start(federations.key), []
    for cycle in range(2):
        now = dataclasses.replace(federations, order=orders[:, cycle : cycle + 1])
        state, snapshots, finite = federate.advance(toy.records, state, now, (2, cycle, False))
        assert finite.shape == (3, 2)
        assert bool(finite.all())
        cycles.append(jax.device_get(snapshots))
        state = jax.device_get(state)  # as a checkpoint would bring it back
    together = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *cycles)

    for j in range(3):
        state = toy.start(jax.random.fold_in(federations.key[j], programs.START))
        for cycle, place in np.ndindex(2, 2):
            node, key = orders[j, cycle, place], jax.random.fold_in(federations.key[j], programs.TRAIN)
            key = jax.random.fold_in(jax.random.fold_in(key, cycle), node)
            fresh = state if carry else types.TrainState(state.params, toy.start(key).opt_state)
            state = toy.fit()(fresh, toy.records, take(nodes, (j, node)), take(federations.hyper, j), key, (0, 2))
            equal(take(together, (j, cycle, place)), jax.device_get(state.params), **RTOL)


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 37, 100, 1001])
def test_cuts_are_gapless_and_about_equal(epochs):
    segments = programs.cut([epochs])
    assert [end for _, end in segments[:-1]] == [first for first, _ in segments[1:]]
    assert (segments[0][0], segments[-1][1]) == (0, epochs)
    lengths = [end - first for first, end in segments]
    assert len(segments) == min(epochs, 10)
    assert max(lengths) - min(lengths) <= 1


def test_training_ends_a_run_at_every_wanted_epoch():
    segments = programs.cut([100, 37])
    assert (segments[0][0], segments[-1][1]) == (0, 100)
    assert 37 in [end for _, end in segments]
    assert [end for _, end in segments[:-1]] == [first for first, _ in segments[1:]]


def test_memory_in_training_counts_the_states():
    """Twelve copies of every parameter in four bytes, and the minibatch."""
    params = 4 * (600 * 128 + 128 + 128 * 100 + 100)
    assert memory.params_nbytes(networks.Mlp(100, 128), num_features=600) == params
    small, large = (
        memory.training_nbytes(networks.Mlp(100, 128), num_features=600, batch_size=size) for size in (32, 1024)
    )
    assert 12 * params < small < 13 * params
    assert large - small >= 4 * 600 * (1024 - 32)


def test_what_is_drawn_for_an_epoch_is_counted_as_it_is_compiled():
    """Within a half of what XLA sets aside, for two sizes of an epoch."""
    module = networks.Mlp(100, 128)
    draw = jax.jit(jax.vmap(lambda key: networks.make_draw(module)(key, 32, 0.5)))
    for steps in (20, 200):
        memory_of = draw.lower(jax.random.split(jax.random.key(0), steps)).compile().memory_analysis()
        measured = memory_of.temp_size_in_bytes + memory_of.output_size_in_bytes
        assert measured / 1.5 < memory.epoch_nbytes(module, num_slots=32 * steps) < 1.5 * measured


class Scaled(nn.Module):
    """A network that is more than dense layers."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return nn.Dense(4)(features * self.param("scale", nn.initializers.ones, (600,)))


def test_memory_in_training_counts_what_defences_add():
    """The best epoch is a copy more, a clipped sum another; records of a network that is not dense come in blocks."""
    stopping = contract.Defended((contract.Defense(held_out=5),), ((),))
    clipping = contract.Defended((contract.Defense(sampling=2.0, weights=lambda norms, levels: norms),), ((),))

    def nbytes(module, defended):
        return memory.training_nbytes(module, num_features=600, batch_size=32, defended=defended)

    dense, other = networks.Mlp(100, 128), Scaled()
    params = memory.params_nbytes(dense, num_features=600)
    plain = nbytes(dense, contract.UNDEFENDED)
    assert nbytes(dense, stopping) == plain + params
    assert nbytes(dense, clipping) - plain - params == 4 * 32 * (600 + 3 * (128 + 128 + 100 + 100))
    more = nbytes(other, clipping) - nbytes(other, contract.UNDEFENDED)
    assert more > (1 + gradients.BLOCK) * memory.params_nbytes(other, num_features=600)


def test_all_finite_looks_at_every_leaf():
    tree = {"a": jnp.ones(3), "b": {"c": jnp.ones((2, 2))}}
    assert bool(programs.all_finite(tree))
    for bad in (np.nan, np.inf, -np.inf):
        assert not bool(programs.all_finite({**tree, "b": {"c": jnp.ones((2, 2)).at[1, 0].set(bad)}}))
