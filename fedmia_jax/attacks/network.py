"""The paper's attack: a small network that reads a probability vector and the true label.

Source: Pustozerova and Mayer (2020), section III, after Shokri et al. (2017): "a neural network with one hidden layer
of 64 neurons and a Sigmoid activation function", in or out, fitted on what ten shadow models say of records they
trained on and records they did not. One network serves all classes, the label goes in as one-hot.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from fedmia_jax import config, model, training, types
from fedmia_jax.attacks import contract


class AttackNetwork(nn.Module):
    """Inputs f32[B, 2K] -> logits f32[B, 2] of (out, in)."""

    hidden: int

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps attack inputs to the logits of (out, in)."""
        units = nn.sigmoid(nn.Dense(self.hidden, kernel_init=nn.initializers.glorot_uniform())(features))
        return nn.Dense(2, kernel_init=nn.initializers.glorot_uniform())(units)


def make_inputs(signals: types.Signals) -> jax.Array:
    """Concatenates probabilities and one-hot label: logits f32[..., K] -> f32[..., 2K]."""
    one_hot = jax.nn.one_hot(signals.labels, signals.logits.shape[-1], dtype=signals.logits.dtype)
    return jnp.concatenate([jax.nn.softmax(signals.logits), one_hot], axis=-1)


def num_epochs(num_records: int, *, batch_size: int, least_epochs: int = 80, least_updates: int = 15_000) -> int:
    """Returns passes that let the network converge: a small set of shadow outputs needs more of them."""
    return max(least_epochs, -(-least_updates // -(-num_records // batch_size)))


def make_attack(settings: config.Attack, *, num_classes: int) -> contract.Attack:
    """Builds the attack network's fit and score.

    Adam from a peak step size that a cosine takes to zero, over shuffled passes, so that it ends
    converged; the accuracy on held-out shadows after every epoch goes with the result, as the proof.

    Args:
      settings: hidden units, epochs, peak learning rate, batch size.
      num_classes: K.

    Returns:
      The attack; its score is logit(in) - logit(out) and its threshold 0, which is probability one half.
    """
    apply_fn = model.make_apply(AttackNetwork(settings.hidden))
    init_fn = model.make_init(AttackNetwork(settings.hidden), num_features=2 * num_classes)
    start_fn = training.make_start(init_fn, optimizer="adam")
    fit_fn = training.make_fit(apply_fn, optimizer="adam", batch_size=settings.batch_size, skip_empty=True)

    def margin(params: types.Params, inputs: jax.Array) -> jax.Array:
        logits = apply_fn(params, inputs)
        return logits[..., 1] - logits[..., 0]

    def fit(key, signals, membership, weights):
        inputs, held_out = make_inputs(signals), contract.num_held_out(membership.shape[0])
        fitting, checking = slice(None, -held_out), slice(-held_out, None)

        def flat(leaf):  # record by record: padding, last of each shadow, stays last, and moves no other's slot
            return jnp.moveaxis(leaf, 0, 1).reshape(-1, *leaf.shape[2:])

        records = types.Records(flat(inputs[fitting]), flat(membership[fitting].astype(jnp.int32)))
        balanced = flat(contract.balance(membership[fitting], weights[fitting]))
        shard = types.Shard(jnp.arange(balanced.size, dtype=jnp.int32), balanced)
        check_weights = contract.balance(membership[checking], weights[checking])
        epochs = settings.epochs or num_epochs(balanced.size, batch_size=settings.batch_size)
        schedule = optax.cosine_decay_schedule(settings.learning_rate, epochs)

        def epoch(state, number):
            hyper = types.Hyper(schedule(number), jnp.zeros(()))
            state = fit_fn(state, records, shard, hyper, jax.random.fold_in(key, 1), (number, number + 1))
            correct = (margin(state.params, inputs[checking]) > 0) == membership[checking]
            return state, jnp.mean(correct * check_weights)

        state, curve = jax.lax.scan(epoch, start_fn(jax.random.fold_in(key, 0)), jnp.arange(epochs))
        return {"params": state.params, "curve": curve}

    def score(fitted, signals):
        return margin(fitted["params"], make_inputs(signals))

    return contract.Attack(fit, score, lambda fitted: jnp.zeros(()), lambda fitted: fitted["curve"])
