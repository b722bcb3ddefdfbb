"""Training against a naive loop in double precision, PyTorch, and the laws of padding and of segments."""

import dataclasses

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import errors, types
from fedmia_jax.learning import losses, training

BATCH_SIZE, EPOCHS, ROWS = 8, 10, np.arange(38)  # five batches an epoch, the last one of six: 50 steps
OPTIMIZERS = ("adam", "sgd")


def naive_training(params, batches, *, optimizer, learning_rate):
    """Adam (Kingma and Ba, 2015, algorithm 1) or plain descent, one parameter array at a time."""
    moments = jax.tree.map(lambda leaf: [np.zeros_like(leaf), np.zeros_like(leaf)], params)

    def update(leaf, grad, moment, step):
        if optimizer == "sgd":
            return leaf - learning_rate * grad
        moment[0] = 0.9 * moment[0] + 0.1 * grad
        moment[1] = 0.999 * moment[1] + 0.001 * grad**2
        mean, square = moment[0] / (1 - 0.9**step), moment[1] / (1 - 0.999**step)
        return leaf - learning_rate * mean / (np.sqrt(square) + 1e-8)

    for step, (features, labels) in enumerate(batches, start=1):
        grads = by_hand.gradients(params, features, labels)
        params = {
            layer: {
                name: update(leaf, grads[layer][name], moments[layer][name], step)
                for name, leaf in params[layer].items()
            }
            for layer in params
        }
    return params


def epoch_orders(key, mask):
    """The order of the slots in every epoch, as the training draws it."""
    epoch_keys = [jax.random.fold_in(jax.random.fold_in(key, epoch), 0) for epoch in range(EPOCHS)]
    return [np.asarray(training.shuffle(epoch_key, mask)) for epoch_key in epoch_keys]


def batches_of(toy, orders):
    """Minibatches in training order, the last of an epoch partial."""
    for order in orders:
        for first in range(0, len(order), BATCH_SIZE):
            rows = ROWS[order[first : first + BATCH_SIZE]]
            yield toy.features[rows].astype(np.float64), toy.labels[rows]


@pytest.fixture(scope="module")
def double_precision(toy):
    """Runs 50 steps in double precision: `(optimizer) -> (start, orders, end)`, params and slot orders."""

    def run(optimizer):
        key, hyper = jax.random.key(1), types.Hyper(np.float64(0.03), np.float64(0.0))
        with jax.enable_x64(True):
            params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), toy.start(jax.random.key(0)).params)
            state = types.TrainState(params, training.fresh_opt_state(params, optimizer=optimizer))
            shard = toy.shard(ROWS)
            end = jax.jit(toy.fit_fn(optimizer=optimizer))(state, toy.records, shard, hyper, key, (0, EPOCHS))
            return params, epoch_orders(key, shard.mask), jax.device_get(end.params)

    return {optimizer: run(optimizer) for optimizer in OPTIMIZERS}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fifty_steps_equal_a_naive_loop(toy, equal, double_precision, optimizer):
    params, orders, end = double_precision[optimizer]
    expected = naive_training(params, batches_of(toy, orders), optimizer=optimizer, learning_rate=0.03)
    equal(end, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fifty_steps_equal_pytorch(toy, double_precision, optimizer):
    torch = pytest.importorskip("torch")
    params, orders, end = double_precision[optimizer]
    layers = [torch.nn.Linear(*params[name]["kernel"].shape, dtype=torch.float64) for name in ("Dense_0", "Dense_1")]
    with torch.no_grad():
        for layer, values in zip(layers, params.values(), strict=True):
            layer.weight.copy_(torch.tensor(values["kernel"].T.copy()))
            layer.bias.copy_(torch.tensor(values["bias"]))
    net = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])
    tx = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer](net.parameters(), lr=0.03)
    for features, labels in batches_of(toy, orders):
        tx.zero_grad()
        logits = net(torch.tensor(features))
        torch.nn.functional.cross_entropy(logits, torch.tensor(labels, dtype=torch.int64)).backward()
        tx.step()
    for layer, values in zip(layers, end.values(), strict=True):
        np.testing.assert_allclose(layer.weight.detach().numpy().T, values["kernel"], rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(layer.bias.detach().numpy(), values["bias"], rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_single_precision_is_close_to_the_naive_loop(toy, equal, optimizer):
    """One epoch, since single precision drifts away from double precision step by step."""
    key, start = jax.random.key(1), toy.start(jax.random.key(0), optimizer=optimizer)
    shard = toy.shard(ROWS)
    end = toy.fit(optimizer=optimizer)(start, toy.records, shard, toy.hyper(), key, (0, 1))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), start.params)
    order = epoch_orders(key, shard.mask)[:1]
    expected = naive_training(params, batches_of(toy, order), optimizer=optimizer, learning_rate=np.float32(0.01))
    equal(end.params, expected, rtol=2e-5, atol=1e-6)


def mean_loss(logits, labels, mask):
    """The mean loss of a minibatch, as a step takes it."""
    return jnp.sum(losses.cross_entropy(jnp.float32(logits), labels) * losses.shares(mask))


def test_partial_batch_averages_over_its_records(toy):
    """Weights count as repetitions, and a batch without a record has loss 0 rather than NaN."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)), rng.integers(4, size=6)
    each = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), labels]
    for mask in ([1, 0, 1, 1, 0, 0], [3, 0, 1, 2, 0, 1]):
        expected = np.dot(each, mask) / np.sum(mask)
        np.testing.assert_allclose(mean_loss(logits, labels, np.array(mask, np.float32)), expected, rtol=1e-6)
    none = np.zeros(6, bool)
    value, grads = jax.value_and_grad(mean_loss)(logits.astype(np.float32), labels, none)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_array_equal(grads, 0.0)


def batch_of(toy, rows):
    """Records by row."""
    return types.Records(toy.records.features[rows], toy.records.labels[rows])


def test_a_step_on_a_partial_batch_follows_the_mean_gradient(toy, equal):
    start, rows = toy.start(jax.random.key(0), optimizer="sgd"), np.arange(BATCH_SIZE)
    mask = np.arange(BATCH_SIZE) < 3
    step = jax.jit(training.make_step(toy.apply, optimizer="sgd", batch_size=3))
    keys = (jax.random.key(1), jax.random.key(2))
    end = step(start, batch_of(toy, rows), rows, mask, toy.hyper(learning_rate=1.0), *keys)
    grads = by_hand.gradients(jax.device_get(start.params), toy.features[:3].astype(np.float64), toy.labels[:3])
    equal(jax.tree.map(np.subtract, start.params, end.params), grads, rtol=1e-4, atol=1e-6)


def test_shuffle_puts_padding_last_and_ignores_it():
    """The real slots of a padded shard come in the order that they have without padding."""
    for seed in range(5):
        alone = np.asarray(training.shuffle(jax.random.key(seed), np.ones(30, bool)))
        assert sorted(alone) == list(range(30))
        for slots in (31, 100, 257):
            padded = np.asarray(training.shuffle(jax.random.key(seed), np.arange(slots) < 30))
            np.testing.assert_array_equal(padded[:30], alone)
            assert sorted(padded) == list(range(slots))
    weights = np.where(np.arange(40) % 4 == 0, 0.0, 0.5).astype(np.float32)
    assert (weights[np.asarray(training.shuffle(jax.random.key(0), weights))][:30] == 0.5).all()


def test_shuffle_is_uniform():
    """The first slot of 4,000 shuffles of 8 is each slot equally often (chi-square, 7 degrees, p = 1e-4: 29.9)."""
    keys = jax.random.split(jax.random.key(0), 4000)
    first = jax.vmap(lambda key: training.shuffle(key, jnp.ones(8, bool))[0])(keys)
    counts = np.bincount(first, minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 29.9


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_padding_changes_nothing(toy, equal, optimizer):
    """Several of the padded shard's batches are wholly empty; Adam's moments and step count must stand still."""
    start, args = toy.start(jax.random.key(0), optimizer=optimizer), (toy.hyper(dropout_rate=0.4), jax.random.key(1))
    alone = toy.fit(optimizer=optimizer)(start, toy.records, toy.shard(ROWS), *args, (0, 3))
    fit_fn = toy.fit(optimizer=optimizer, skip_empty=True)
    padded = fit_fn(start, toy.records, toy.shard(ROWS, slots=90), *args, (0, 3))
    equal(padded, alone, rtol=1e-5, atol=1e-7)
    empty = fit_fn(start, toy.records, toy.shard([], slots=90), *args, (0, 3))
    equal(empty, start)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_segments_equal_one_run(toy, equal, optimizer):
    args = (toy.records, toy.shard(ROWS), toy.hyper(dropout_rate=0.4), jax.random.key(1))
    fit_fn, start = toy.fit(optimizer=optimizer), toy.start(jax.random.key(0), optimizer=optimizer)
    state = start
    for segment in ((0, 1), (1, 1), (1, 4), (4, 7)):
        state = fit_fn(state, *args, segment)
    equal(state, fit_fn(start, *args, (0, 7)))


def test_masked_records_have_no_influence(toy, equal, differ):
    """Rows that only masked slots point to may hold anything."""
    shard = types.Shard(np.concatenate([ROWS, np.full(6, 100)]).astype(np.int32), np.arange(44) < len(ROWS))
    args, start = (toy.hyper(dropout_rate=0.4), jax.random.key(1), (0, 3)), toy.start(jax.random.key(0))
    other = types.Records(toy.records.features.at[100].set(255), toy.records.labels.at[100].set(3))
    fit_fn = toy.fit(skip_empty=True)
    before = fit_fn(start, toy.records, shard, *args)
    equal(fit_fn(start, other, shard, *args), before)
    unmasked = dataclasses.replace(shard, mask=np.ones(44, bool))
    assert differ(fit_fn(start, other, unmasked, *args), before)


def test_training_learns(toy):
    start = toy.start(jax.random.key(0))
    shard = toy.shard(np.arange(120))
    end = toy.fit()(start, toy.records, shard, toy.hyper(), jax.random.key(1), (0, 60))
    right = np.argmax(toy.apply(end.params, toy.records.features[120:]), axis=1) == toy.labels[120:]
    assert right.mean() > 0.85


def test_an_unknown_optimizer_is_one_line():
    with pytest.raises(errors.InputError) as caught:
        training.make_optimizer("adagrad", learning_rate=0.1)
    assert str(caught.value) == "training.optimizer='adagrad': must be one of adam, sgd"
