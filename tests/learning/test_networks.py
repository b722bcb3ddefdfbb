"""The network: its shape and first weights, what a class from outside must be, and dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import errors
from fedmia_jax.learning import networks, training


class Outside(nn.Module):
    """A network from outside the package."""

    num_classes: int
    hidden: int

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return nn.Dense(self.num_classes)(features)


class NoModule:
    """A class that is no network."""


def test_dropout_keeps_the_mean_and_may_be_traced():
    """Kept units are scaled by 1 / (1 - rate); the share of zeros is the rate; rate 0 is the identity."""
    units = jax.random.normal(jax.random.key(0), (500, 400)) + 2.0
    drop = jax.jit(networks.dropout)
    for rate in (0.1, 0.5, 0.9):
        dropped = np.asarray(drop(jax.random.key(1), units, rate=rate))
        kept = dropped != 0
        assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / units.size)
        np.testing.assert_allclose(dropped[kept], np.asarray(units)[kept] / (1 - rate), rtol=1e-5)
        assert abs(dropped.mean() / units.mean() - 1) < 0.03
    np.testing.assert_array_equal(drop(jax.random.key(1), units, rate=0.0), units)


def test_dropout_is_only_for_training(toy, differ):
    """Without a key the network answers with all units; with a key and rate 0 likewise."""
    params = toy.start(jax.random.key(0)).params
    answer = toy.apply(params, toy.records.features)
    np.testing.assert_array_equal(answer, toy.apply(params, toy.records.features, dropout_rate=0.9))
    np.testing.assert_allclose(
        answer, toy.apply(params, toy.records.features, dropout_rate=0.0, key=jax.random.key(0)), rtol=1e-6
    )
    assert differ(answer, toy.apply(params, toy.records.features, dropout_rate=0.5, key=jax.random.key(0)))


def test_dropout_draws_for_every_unit_by_its_own(differ):
    """Units of one batch, of another shape and of another key are dropped independently of each other."""
    units = jnp.ones((64, 33))
    dropped = np.asarray(networks.dropout(jax.random.key(1), units, rate=0.5)) == 0
    assert len({row.tobytes() for row in dropped}) == 64
    correlation = np.corrcoef(dropped.astype(float))[np.triu_indices(64, 1)]
    assert abs(correlation.mean()) < 4 / np.sqrt(33 * len(correlation))
    assert differ(dropped, np.asarray(networks.dropout(jax.random.key(2), units, rate=0.5)) == 0)


def test_the_network_is_the_papers(toy):
    """One hidden tanh layer: what NumPy makes of the same parameters; bits may come as bytes."""
    params = jax.device_get(toy.start(jax.random.key(0)).params)
    units = np.tanh(toy.features @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    logits = units @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    np.testing.assert_allclose(toy.apply(params, toy.records.features), logits, rtol=1e-5, atol=1e-6)
    assert toy.records.features.dtype == np.uint8


def test_first_weights_are_glorots_and_biases_zero():
    """Uniform in plus and minus the root of 6 over the sum of a layer's inputs and outputs."""
    params = networks.make_init(networks.Mlp(100, 128), num_features=600)(jax.random.key(0))
    for name, (inputs, outputs) in {"Dense_0": (600, 128), "Dense_1": (128, 100)}.items():
        kernel, bound = np.asarray(params[name]["kernel"]), np.sqrt(6 / (inputs + outputs))
        assert kernel.shape == (inputs, outputs)
        assert 0.99 * bound < np.abs(kernel).max() <= bound
        assert abs(kernel.std() / (bound / np.sqrt(3)) - 1) < 0.02
        np.testing.assert_array_equal(params[name]["bias"], 0.0)


@pytest.mark.parametrize("name", ["mlp", f"{__name__}:Outside"])
def test_a_network_is_found_by_name(name):
    module = networks.make_network(networks.Options(name=name, hidden=7), num_classes=3)
    assert (module.num_classes, module.hidden) == (3, 7)
    params = networks.make_init(module, num_features=5)(jax.random.key(0))
    assert networks.make_apply(module)(params, jnp.ones((2, 5), jnp.uint8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cnn", "model.name='cnn': must be one of mlp, or package.module:name"),
        (f"{__name__}:NoModule", f"model.name='{__name__}:NoModule': not a flax module class; must be one of mlp, or"),
        (f"{__name__}:jnp", f"model.name='{__name__}:jnp': module, not type; must be one of mlp, or"),
        (f"{__name__}:Gone", f"model.name='{__name__}:Gone': module '{__name__}' has no attribute 'Gone'; must be one"),
    ],
)
def test_what_is_no_network_is_one_line(name, line):
    with pytest.raises(errors.InputError) as caught:
        networks.make_network(networks.Options(name=name), num_classes=3)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


class Inherits(networks.Mlp):
    """Another network, which has not said what it draws."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        units = nn.Dense(self.hidden)(features)
        units = networks.dropout(self.make_rng("dropout"), units, rate=dropout_rate) if train else units
        return nn.Dense(self.num_classes)(jax.nn.relu(units))


@pytest.mark.parametrize("kind", [networks.Mlp, Inherits])
def test_what_is_drawn_before_stands_for_the_key(equal, kind):
    """To the same bits, whether the module says what it draws or not."""
    module, key = kind(num_classes=3, hidden=8), jax.random.key(3)
    params = networks.make_init(module, num_features=5)(jax.random.key(0))
    apply_fn, drawn = networks.make_apply(module), networks.make_draw(module)(key, 7, 0.5)
    assert (drawn is key) == (kind is Inherits)
    features = jnp.ones((7, 5), jnp.uint8)
    answers = [apply_fn(params, features, dropout_rate=0.5, key=given) for given in (key, drawn)]
    equal(*answers)
    assert float(jnp.abs(answers[0] - apply_fn(params, features)).max()) > 0.01


def test_an_epoch_is_the_same_whether_it_is_drawn_before_or_step_by_step(toy, equal):
    """Each step draws from its own key either way."""
    state, shard, args = toy.start(jax.random.key(0)), toy.shard(range(30)), (toy.hyper(dropout_rate=0.5),)
    ends = [
        jax.jit(training.make_fit(toy.apply, optimizer="adam", batch_size=8, draw=draw))(
            state, toy.records, shard, *args, jax.random.key(1), (0, 2), jax.random.key(2)
        )
        for draw in (networks.make_draw(toy.module), networks.keep_key)
    ]
    equal(*(end.params for end in ends), rtol=1e-6, atol=1e-7)
