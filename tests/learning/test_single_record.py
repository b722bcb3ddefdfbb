"""Descent on single records in blocks against a naive loop, the way of one by one, and the laws of training."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedmia_jax import types
from fedmia_jax.defenses import contract
from fedmia_jax.engine import parallel
from fedmia_jax.learning import networks, single_record, training

EPOCHS, ROWS = 3, np.arange(150)  # two blocks and a partial one an epoch


class Plain(nn.Module):
    """A network of one layer that says nothing about a split."""

    num_classes: int
    hidden: int = 8

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return nn.Dense(self.num_classes)(features)


class Doubled(networks.Mlp):
    """Inherits a split that is not its own."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return 2.0 * nn.Dense(self.num_classes)(nn.Dense(self.hidden)(features))


def naive_training(params, records, factors, *, learning_rate):
    """One update after another of a tanh network, differentiated by hand, dropout factors given."""
    inner, outer = params["Dense_0"]["kernel"].copy(), params["Dense_1"]["kernel"].copy()
    inner_bias, outer_bias = params["Dense_0"]["bias"].copy(), params["Dense_1"]["bias"].copy()
    for (features, label), factor in zip(records, factors, strict=True):
        units = np.tanh(features @ inner + inner_bias)
        logits = (units * factor) @ outer + outer_bias
        d_logits = np.exp(logits - logits.max())
        d_logits /= d_logits.sum()
        d_logits[label] -= 1
        d_inner = (outer @ d_logits) * factor * (1 - units**2)
        outer -= learning_rate * np.outer(units * factor, d_logits)
        outer_bias -= learning_rate * d_logits
        inner -= learning_rate * np.outer(features, d_inner)
        inner_bias -= learning_rate * d_inner
    return {
        "Dense_0": {"bias": inner_bias, "kernel": inner},
        "Dense_1": {"bias": outer_bias, "kernel": outer},
    }


def orders_and_factors(split, key, shard, *, dropout_rate):
    """The rows of every step and its dropout factors, as the training draws them."""
    rows, factors = [], []
    for epoch in range(EPOCHS):
        epoch_key = jax.random.fold_in(key, epoch)
        rows += list(shard.indices[np.asarray(training.shuffle(jax.random.fold_in(epoch_key, 0), shard.mask))])
        noise_key = jax.random.fold_in(epoch_key, 1)
        keys = jax.vmap(lambda step, key=noise_key: jax.random.fold_in(key, step))(np.arange(len(shard.indices)))
        factors += list(np.asarray(jax.vmap(lambda key: split.draw(key, jnp.asarray(dropout_rate)))(keys)))
    return rows, factors


def make_fit(module, *, with_split=True):
    """Plain descent on single records."""
    split = networks.make_split(module) if with_split else None
    fit_fn = training.make_fit(networks.make_apply(module), optimizer="sgd", batch_size=1, split=split)
    return functools.partial(fit_fn, record_key=jax.random.key(0))  # read by defences only


@pytest.fixture(scope="module")
def fit(toy):
    """The fast way, jitted once."""
    return jax.jit(make_fit(toy.module))


@pytest.fixture
def start(toy):
    return toy.start(jax.random.key(0), optimizer="sgd")


@pytest.mark.parametrize("dropout_rate", [0.0, 0.5])
def test_three_epochs_equal_a_naive_loop(toy, equal, start, fit, dropout_rate):
    key, shard, split = jax.random.key(1), toy.shard(ROWS), networks.make_split(toy.module)
    hyper = types.Hyper(np.float64(0.1), np.float64(dropout_rate))
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), start.params)
        state = types.TrainState(params, start.opt_state)
        end = jax.device_get(fit(state, toy.records, shard, hyper, key, (0, EPOCHS)).params)
        rows, factors = orders_and_factors(split, key, shard, dropout_rate=hyper.dropout_rate)
    dropped = np.mean(np.asarray(factors) == 0)
    assert abs(dropped - dropout_rate) < 0.05
    records = [(toy.features[row].astype(np.float64), toy.labels[row]) for row in rows]
    equal(end, naive_training(params, records, factors, learning_rate=0.1), rtol=1e-9, atol=1e-12)


def test_without_dropout_both_ways_agree(toy, equal, start, fit):
    """Bits may also come as floats."""
    args = (toy.shard(ROWS), toy.hyper(learning_rate=0.03), jax.random.key(1), (0, EPOCHS))
    one_by_one = jax.jit(make_fit(toy.module, with_split=False))(start, toy.records, *args)
    equal(fit(start, toy.records, *args), one_by_one, rtol=1e-4, atol=1e-5)
    floats = types.Records(toy.records.features.astype(np.float32), toy.records.labels)
    equal(fit(start, floats, *args), one_by_one, rtol=1e-4, atol=1e-5)


def test_segments_equal_one_run(toy, equal, start, fit):
    args = (toy.records, toy.shard(ROWS), toy.hyper(dropout_rate=0.4), jax.random.key(1))
    state = start
    for segment in ((0, 1), (1, 1), (1, 4), (4, 7)):
        state = fit(state, *args, segment)
    equal(state, fit(start, *args, (0, 7)))


def test_padding_changes_nothing(toy, equal, start, fit):
    """Nor do weights, nor what is in the rows that only masked slots point to; without records nothing moves."""
    args = (toy.hyper(dropout_rate=0.4), jax.random.key(1), (0, EPOCHS))
    alone, padded = fit(start, toy.records, toy.shard(ROWS), *args), toy.shard(ROWS, slots=400)
    odd = types.Shard(np.where(padded.mask, padded.indices, 155).astype(np.int32), padded.mask * np.float32(0.5))
    records = types.Records(toy.records.features.at[155].set(255), toy.records.labels.at[155].set(3))
    equal(fit(start, toy.records, padded, *args), alone, rtol=1e-6, atol=1e-8)
    equal(fit(start, records, odd, *args), alone, rtol=1e-6, atol=1e-8)
    equal(fit(start, toy.records, toy.shard([], slots=400), *args), start)


def test_the_block_size_changes_nothing(toy, equal, start):
    """Draws least of all: with other masks the results would be far apart."""
    shard, split = toy.shard(ROWS, slots=160), networks.make_split(toy.module)
    args = (toy.records, shard, toy.hyper(learning_rate=0.03, dropout_rate=0.5), jax.random.key(1), jax.random.key(0))
    usual, other = (jax.jit(single_record.make_epoch(split, block_size=size))(start, *args) for size in (48, 7))
    equal(other, usual, rtol=1e-4, atol=1e-5)


def test_many_models_equal_each_alone(toy, equal, fit):
    """On two devices, vmapped on each; shards of unequal length, learning rates and dropout rates of their own."""
    starts = [toy.start(jax.random.key(seed), optimizer="sgd") for seed in range(3)]
    shards = [toy.shard(ROWS[:count], slots=150) for count in (150, 70, 20)]
    hypers = [toy.hyper(learning_rate=rate, dropout_rate=10 * rate) for rate in (0.01, 0.02, 0.05)]
    keys = jax.random.split(jax.random.key(2), 3)
    alone = [
        fit(start, toy.records, shard, hyper, key, (0, 2))
        for start, shard, hyper, key in zip(starts, shards, hypers, keys, strict=True)
    ]
    fit_fn = make_fit(toy.module)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *zip(starts, shards, hypers, strict=True))

    def run(shared, model):
        (state, shard, hyper), key = model
        return fit_fn(state, shared, shard, hyper, key, (0, 2))

    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    equal(parallel.make_parallel(run)(toy.records, (stacked, keys)), expected, rtol=1e-5, atol=1e-6)


def test_the_second_call_compiles_nothing(toy, start, fit, compilations):
    args = (toy.records, toy.shard(ROWS))
    fit(start, *args, toy.hyper(), jax.random.key(1), (0, 2))
    with compilations() as names:
        fit(start, *args, toy.hyper(learning_rate=0.1, dropout_rate=0.3), jax.random.key(2), (5, 9))
    assert names == []


def test_the_split_is_the_network(toy):
    """Without dropout, the rest behind the first layer answers what the module answers."""
    params, split = toy.start(jax.random.key(0)).params, networks.make_split(toy.module)
    first, others = params[split.first], {"Dense_1": params["Dense_1"]}
    factors = split.draw(jax.random.key(0), jnp.zeros(()))
    logits = jax.vmap(lambda row: split.rest(others, row @ first["kernel"] + first["bias"], factors))(
        jnp.float32(toy.features)
    )
    np.testing.assert_allclose(logits, toy.apply(params, toy.records.features), rtol=1e-5, atol=1e-6)


def test_a_module_without_a_split_goes_one_by_one(toy, equal):
    """Also one that inherits the split of another network."""
    assert networks.make_split(Doubled(num_classes=4, hidden=8)) is None
    module = Plain(num_classes=4)
    assert networks.make_split(module) is None
    init_fn = jax.jit(networks.make_init(module, num_features=toy.features.shape[1]))
    start = training.make_start(init_fn, optimizer="sgd")(jax.random.key(0))
    args = (toy.records, toy.shard(ROWS[:30]), toy.hyper(), jax.random.key(1), (0, 1))
    end = jax.jit(make_fit(module))(start, *args)
    kernel, bias = (np.asarray(start.params["Dense_0"][name], np.float64) for name in ("kernel", "bias"))
    order_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), 0), 0)
    for row in np.asarray(training.shuffle(order_key, jnp.ones(30, bool))):
        shares = np.exp(toy.features[row] @ kernel + bias)
        slopes = shares / shares.sum() - np.eye(4)[toy.labels[row]]
        kernel, bias = kernel - 0.01 * np.outer(toy.features[row], slopes), bias - 0.01 * slopes
    equal(end.params, {"Dense_0": {"bias": bias, "kernel": kernel}}, rtol=1e-4, atol=1e-5)


HOOKS = {
    "records": lambda batch, rows, record_key, step_key, levels: batch,
    "sampling": 2.0,
    "weights": lambda norms, levels: 0.5 * norms,
    "sums": lambda sums, key, levels: jax.tree.map(lambda leaf: 0.5 * leaf, sums),
    "penalty": lambda logits, labels, levels: logits[:, 0],
    "update": lambda levels: optax.with_extra_args_support(optax.scale(0.5)),
    "step": lambda step, params, learning_rate, levels: jax.tree.map(lambda leaf: 0.5 * leaf, step),
    "hand_off": lambda received, trained, key, levels: trained,
}


def defended(name):
    """One defence that has one hook."""
    return contract.Defended((contract.Defense(**{name: HOOKS[name]}),), ((),))


@pytest.mark.parametrize("name", single_record.UNHEARD)
def test_what_acts_inside_a_step_is_refused(toy, name):
    split = networks.make_split(toy.module)
    assert not single_record.honours(defended(name))
    with pytest.raises(ValueError, match=f"plain descent on single records cannot honour the hook '{name}'"):
        single_record.make_epoch(split, defences=defended(name))


@pytest.mark.parametrize("name", ["records", "sampling", "weights", "update", "hand_off"])
def test_a_defence_goes_the_fast_way_only_where_that_honours_it(toy, equal, start, name):
    """A hook inside a step takes the general way, bit by bit; the two ways differ in their draws."""
    apply_fn, split = networks.make_apply(toy.module), networks.make_split(toy.module)
    make = functools.partial(training.make_fit, apply_fn, optimizer="sgd", batch_size=1)
    fast = single_record.honours(defended(name))
    assert fast == (name == "hand_off")
    hyper = types.Hyper(np.float32(0.03), np.float32(0.5), ({},))
    defences = contract.Defended() if fast else defended(name)
    state = types.TrainState(
        start.params, training.fresh_opt_state(start.params, optimizer="sgd", defences=defended(name))
    )
    args = (state, toy.records, toy.shard(ROWS[:9]), hyper, jax.random.key(1), (0, 1), jax.random.key(0))
    chosen = jax.jit(make(split=split, defences=defended(name)))(*args)
    expected = jax.jit(make(split=split if fast else None, defences=defences))(*args)
    equal(chosen.params, expected.params)
