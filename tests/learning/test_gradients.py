"""Weighted sums of gradients against a NumPy loop, in both ways; who is divided by what; the plain mean."""

import by_hand
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedmia_jax import types
from fedmia_jax.defenses import contract
from fedmia_jax.learning import dense, gradients, networks

BATCH_SIZE = 8  # drawn batches have room for 40: 14 are looked at first, the others where there are any
CLIP = 3.0  # between the norms of these records


def clip(norms, levels):
    """A record's weight under clipping."""
    return jnp.minimum(1.0, levels["clip"] / norms)


CLIPPED = contract.Defended((contract.Defense(weights=clip),), (("clip",),))


def hyper(*, dropout_rate=0.0, level=CLIP):
    """Numbers of training."""
    return types.Hyper(np.float32(0.1), np.float32(dropout_rate), ({"clip": np.float32(level)},))


def batch_of(toy, size):
    """The first records."""
    return types.Records(toy.records.features[:size], toy.records.labels[:size])


def norm_of(tree):
    """The norm of all leaves together, in double precision."""
    return np.sqrt(sum(np.sum(np.square(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(tree)))


def naive_sum(params, features, labels, mask, *, level=CLIP):
    """Gradients of one record after the other, clipped, added up, in double precision."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    total = jax.tree.map(np.zeros_like, params)
    for row in np.flatnonzero(mask):
        grads = by_hand.gradients(params, features[row : row + 1].astype(np.float64), labels[row : row + 1])
        factor = min(1.0, level / norm_of(grads))
        total = jax.tree.map(lambda leaf, grad, factor=factor: leaf + factor * grad, total, grads)
    return total


@pytest.mark.parametrize("make", [gradients.make_dense_sum, gradients.make_record_sum])
def test_clipped_sums_are_those_of_a_loop(toy, equal, make):
    params, mask = toy.start(jax.random.key(0)).params, jnp.arange(40) % 3 != 0
    add_up = jax.jit(make(toy.apply, CLIPPED))
    sums = add_up(params, batch_of(toy, 40), mask, hyper(), jax.random.key(1))
    equal(sums, naive_sum(params, toy.features[:40], toy.labels[:40], mask), rtol=1e-5, atol=1e-6)


def test_units_are_dropped_as_they_were_drawn_for_the_batch(toy, equal):
    """Norms and sums are those of each record's loss in one pass over the whole batch."""
    params, batch, key = toy.start(jax.random.key(0)).params, batch_of(toy, 12), jax.random.key(1)

    def losses(params):
        logits = toy.apply(params, batch.features, dropout_rate=0.5, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)

    each = jax.device_get(jax.jit(jax.jacrev(losses))(params))
    norms = [norm_of(jax.tree.map(lambda leaf, row=row: leaf[row], each)) for row in range(12)]
    factors = np.minimum(1.0, CLIP / np.array(norms))
    assert 0 < np.sum(factors < 1) < 12
    expected = jax.tree.map(lambda leaf: np.tensordot(factors, leaf, 1), each)
    add_up = jax.jit(gradients.make_dense_sum(toy.apply, CLIPPED))
    equal(add_up(params, batch, jnp.ones(12, bool), hyper(dropout_rate=0.5), key), expected, rtol=1e-5, atol=1e-6)


def whole_gradient(toy, defences):
    """`(params, batch, mask, hyper, key) -> grads`, both parts of a gradient one after the other."""
    prepare, take = gradients.make_gradient(toy.apply, defences, batch_size=BATCH_SIZE)
    return lambda params, batch, mask, hyper, key: take(params, batch, prepare(mask, hyper, key), hyper)


@pytest.fixture(scope="module")
def clipped_gradient(toy):
    """`(params, batch of 40, mask, hyper, key) -> grads`, clipped."""
    return jax.jit(whole_gradient(toy, CLIPPED))


@pytest.mark.parametrize("drawn", [0, 3, 8, 14, 15, 40])
def test_a_sum_is_divided_by_the_public_batch_size(toy, equal, clipped_gradient, drawn):
    """By B, never by the number of records that were drawn; far rows count too."""
    params, mask = toy.start(jax.random.key(0)).params, np.arange(40) < drawn
    grads = clipped_gradient(params, batch_of(toy, 40), mask, hyper(), jax.random.key(1))
    sums = naive_sum(params, toy.features[:40], toy.labels[:40], mask)
    equal(grads, jax.tree.map(lambda leaf: leaf / BATCH_SIZE, sums), rtol=1e-5, atol=1e-6)
    mean = jax.tree.map(lambda leaf: leaf / max(drawn, 1), sums)
    if drawn not in (0, BATCH_SIZE):
        assert abs(norm_of(grads) / norm_of(mean) - 1) > 0.1


def test_far_rows_count_for_each_of_many_models(toy, equal):
    """Also where only some of the models have any."""
    params = toy.start(jax.random.key(0)).params
    masks = np.arange(40) < np.array([[3], [20], [8]])
    gradient = whole_gradient(toy, CLIPPED)
    together = jax.jit(jax.vmap(lambda mask: gradient(params, batch_of(toy, 40), mask, hyper(), jax.random.key(1))))
    every = together(masks)
    for number, mask in enumerate(masks):
        expected = naive_sum(params, toy.features[:40], toy.labels[:40], mask)
        grads = jax.tree.map(lambda leaf, number=number: BATCH_SIZE * leaf[number], every)
        equal(grads, expected, rtol=1e-5, atol=1e-6)


def test_defences_weigh_one_after_another_and_act_on_the_sum(toy, equal):
    """Halved and then clipped is not clipped and then halved."""
    params, mask = toy.start(jax.random.key(0)).params, jnp.ones(BATCH_SIZE, bool)
    halve = contract.Defense(weights=lambda norms, levels: jnp.full(norms.shape, 0.5))
    shift = contract.Defense(sums=lambda sums, key, levels: jax.tree.map(lambda leaf: leaf + levels["clip"], sums))
    levels = ({"clip": np.float32(CLIP)},) * 3
    for order in ((halve, CLIPPED.defences[0]), (CLIPPED.defences[0], halve)):
        defences = contract.Defended((*order, shift), (("clip",),) * 3)
        gradient = jax.jit(whole_gradient(toy, defences))
        numbers = types.Hyper(np.float32(0.1), np.float32(0.0), levels)
        grads = gradient(params, batch_of(toy, BATCH_SIZE), mask, numbers, jax.random.key(1))
        level = 2 * CLIP if order[0] is halve else CLIP  # half a gradient is clipped at twice its norm
        sums = naive_sum(params, toy.features[:BATCH_SIZE], toy.labels[:BATCH_SIZE], mask, level=level)
        equal(grads, jax.tree.map(lambda leaf: (0.5 * leaf + CLIP) / BATCH_SIZE, sums), rtol=1e-5, atol=1e-6)


class Tied(nn.Module):
    """Reads the kernel of its dense layer once more."""

    num_classes: int
    hidden: int

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        layer = nn.Dense(self.hidden, use_bias=False)
        units = jnp.tanh(layer(features))
        return nn.Dense(self.num_classes)(units @ layer.variables["params"]["kernel"].T)


class Convolved(nn.Module):
    """Has another layer than dense ones."""

    num_classes: int
    hidden: int

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        units = nn.Conv(3, (5,))(features[:, :, None])
        units = networks.dropout(self.make_rng("dropout"), units, rate=dropout_rate) if train else units
        return nn.Dense(self.num_classes)(units.reshape(len(features), -1))


class Unbiased(nn.Module):
    """Dense layers, one of them without a bias."""

    num_classes: int
    hidden: int

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return nn.Dense(self.num_classes)(nn.relu(nn.Dense(self.hidden, use_bias=False)(features)))


@pytest.mark.parametrize(("kind", "only_dense"), [(Tied, False), (Convolved, False), (Unbiased, True)])
def test_every_network_is_clipped(toy, equal, kind, only_dense):
    """Those that are not just dense layers record by record, against one gradient after the other."""
    module = kind(4, 6)
    apply_fn = networks.make_apply(module)
    params = networks.make_init(module, num_features=20)(jax.random.key(0))
    assert (dense.find_layers(apply_fn, params, toy.records.features[:20]) is not None) == only_dense
    add_up, mask = jax.jit(gradients.make_sum(apply_fn, CLIPPED)), jnp.ones(20, bool)
    sums = add_up(params, batch_of(toy, 20), mask, hyper(), jax.random.key(1))

    def losses(params):
        logits = apply_fn(params, toy.records.features[:20])
        return optax.softmax_cross_entropy_with_integer_labels(logits, toy.records.labels[:20])

    each = jax.jacrev(losses)(params)
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), params)
    for row in range(20):
        grads = jax.tree.map(lambda leaf, row=row: leaf[row], each)
        factor = min(1.0, CLIP / norm_of(grads))
        total = jax.tree.map(lambda leaf, grad, factor=factor: leaf + factor * np.asarray(grad), total, grads)
    equal(sums, total, rtol=1e-5, atol=1e-6)
