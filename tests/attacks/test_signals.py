"""Signals against their formulas in float64, and where probabilities round to one."""

import jax.numpy as jnp
import naive
import numpy as np
import pytest

from fedmia_jax import types
from fedmia_jax.attacks import signals


def test_signals_are_the_formulas(double):
    rng = np.random.default_rng(0)
    logits, labels = 4 * rng.normal(size=(50, 6)), rng.integers(6, size=50)
    seen = types.Signals(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(signals.phi(seen), naive.phi(logits, labels), atol=1e-8)
    np.testing.assert_allclose(signals.entropy(seen), naive.entropy(logits), atol=1e-8)
    np.testing.assert_allclose(signals.modified_entropy(seen), naive.modified_entropy(logits, labels), atol=1e-8)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        signals.loss(signals.phi(seen)), -np.log(probabilities[np.arange(50), labels]), atol=1e-8
    )
    np.testing.assert_array_equal(signals.correct(seen), logits.argmax(axis=1) == labels)


def test_signals_do_not_saturate():
    for gap in (30.0, 60.0, 200.0):
        right = types.Signals(jnp.array([[gap, 0.0, -1.0]]), jnp.array([0]))
        wrong = types.Signals(right.logits, jnp.array([1]))
        for seen in (right, wrong):
            values = [signals.phi(seen), signals.entropy(seen), signals.modified_entropy(seen)]
            assert np.isfinite(np.array(values)).all()
        assert signals.phi(right)[0] == pytest.approx(gap - np.logaddexp(0, -1), rel=1e-5)
        assert signals.modified_entropy(wrong)[0] > gap  # -log(1 - p) of the wrong class that it is sure of


def test_a_model_is_asked_for_the_rows_that_are_scored():
    rng = np.random.default_rng(0)
    records = types.Records(jnp.asarray(rng.normal(size=(9, 4))), jnp.asarray(rng.integers(3, size=9)))
    read = signals.make_signals(lambda params, features: features @ params)
    params, rows = jnp.asarray(rng.normal(size=(4, 3))), jnp.array([7, 2, 2])
    seen = read(params, records, rows)
    np.testing.assert_array_equal(seen.labels, records.labels[rows])
    np.testing.assert_allclose(seen.logits, records.features[rows] @ params, rtol=1e-6)


@pytest.mark.parametrize("softmax", ["softmax", "sm_taylor"])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.7])
def test_the_probability_at_a_temperature_is_the_formula(double, temperature, softmax):
    rng = np.random.default_rng(1)
    logits, labels = 4 * rng.normal(size=(40, 5)), rng.integers(5, size=40)
    signal = signals.at_temperature(temperature, softmax=softmax)
    phi = signal.read(types.Signals(jnp.asarray(logits), jnp.asarray(labels)))
    expected = naive.label_probability(logits, labels, temperature, softmax)
    np.testing.assert_allclose(np.exp(-signals.loss(phi)), expected, rtol=1e-9)


def test_signals_are_known_by_their_names():
    assert signals.at_temperature(1.0) is signals.PHI
    assert signals.at_temperature(2) == signals.at_temperature(2.0)
    names = [signals.at_temperature(2.0).name, signals.at_temperature(1.0, softmax="sm_taylor").name]
    assert names == ["phi@2.0", "sm_taylor@1.0"]


def test_temperature_does_not_saturate():
    seen = types.Signals(jnp.array([[200.0, 0.0, -1.0]]), jnp.array([0]))
    assert signals.at_temperature(2.0).read(seen)[0] == pytest.approx(100 - np.logaddexp(0, -0.5), rel=1e-5)
    assert np.isfinite(signals.at_temperature(2.0, softmax="sm_taylor").read(seen)[0])
