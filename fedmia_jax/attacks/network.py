"""The paper's attack: a small network that reads a probability vector and the true label.

Source: Pustozerova and Mayer (2020), section III, after Shokri et al. (2017): "a neural network with one hidden layer
of 64 neurons and a Sigmoid activation function", in or out, fitted on what ten shadow models say of records they
trained on and records they did not. One network serves all classes, the label goes in as one-hot.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedmia_jax import config, model, types
from fedmia_jax.attacks import contract

NUM_UPDATES = 10_000  # settles on 3,500 shadow outputs as on 180,000, with 10 classes as with 100
NUM_CHECKS = 20  # looks at the held-out shadows in the course of fitting
STRETCH = 4.0  # of the probabilities while fitting, see `make_attack`
SPREAD = 1.0  # standard deviation of the first weights; with Glorot's, smaller, it takes half as many updates again
MEMORY = 0.95  # decay of Adam's second moment; the usual 0.999 follows too slowly in so few updates


class AttackNetwork(nn.Module):
    """Inputs f32[B, 2K] -> logits f32[B, 2] of (out, in)."""

    hidden: int

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps attack inputs to the logits of (out, in)."""
        units = nn.sigmoid(nn.Dense(self.hidden, kernel_init=nn.initializers.normal(SPREAD))(features))
        return nn.Dense(2, kernel_init=nn.initializers.glorot_uniform())(units)


def make_inputs(signals: types.Signals) -> jax.Array:
    """Concatenates probabilities and one-hot label: logits f32[..., K] -> f32[..., 2K]."""
    one_hot = jax.nn.one_hot(signals.labels, signals.logits.shape[-1], dtype=signals.logits.dtype)
    return jnp.concatenate([jax.nn.softmax(signals.logits), one_hot], axis=-1)


def make_draw(membership: jax.Array, weights: jax.Array, *, batch_size: int):
    """Builds the draw of a minibatch: half of it members, half of it not, each with replacement.

    Args:
      membership: bool[n].
      weights: f32[n], 0 for padding, which is never drawn and changes no draw of the others.
      batch_size: records of a minibatch; an odd number is rounded up.

    Returns:
      `draw(key) -> i32[B]`, slots of B/2 members, then of B/2 others.
    """
    groups = jnp.where(weights == 0, 2, jnp.where(membership, 0, 1))
    order = jnp.argsort(groups, stable=True)
    sizes = jnp.stack([jnp.sum(groups == 0), jnp.sum(groups == 1)]).astype(jnp.uint32)
    first = jnp.stack([jnp.zeros((), jnp.uint32), sizes[0]])

    def draw(key: jax.Array) -> jax.Array:
        bits = jax.random.bits(key, (2, -(-batch_size // 2)))
        return jnp.take(order, (first[:, None] + bits % sizes[:, None]).reshape(-1), mode="clip")

    return draw


def make_attack(settings: config.Attack, *, num_classes: int) -> contract.Attack:
    """Builds the attack network's fit and score.

    Adam on minibatches of as many members as others, from a peak step size that falls to zero as (1 - t)^4, so that
    it ends settled; the accuracy on held-out shadows in the course of it goes with the result, as the proof. Members
    are often told by a probability of 0.9999 rather than 0.99, which takes large weights: fitting sees probabilities
    stretched, and the stretch then goes into the weights, so that the network reads plain ones.

    Args:
      settings: hidden units, epochs (unset: what makes `NUM_UPDATES`), peak learning rate, batch size.
      num_classes: K.

    Returns:
      The attack; its score is logit(in) - logit(out) and its threshold 0, which is probability one half.
    """
    apply_fn = model.make_apply(AttackNetwork(settings.hidden))
    init_fn = model.make_init(AttackNetwork(settings.hidden), num_features=2 * num_classes)
    stretch = np.repeat(np.array([STRETCH, 1.0], np.float32), num_classes)

    def margin(params: types.Params, inputs: jax.Array) -> jax.Array:
        logits = apply_fn(params, inputs)
        return logits[..., 1] - logits[..., 0]

    def loss(params: types.Params, inputs: jax.Array) -> jax.Array:
        members, others = jnp.split(margin(params, inputs * stretch), 2)
        return jnp.mean(jax.nn.softplus(-members)) + jnp.mean(jax.nn.softplus(others))  # twice the cross-entropy

    def unstretch(params: types.Params) -> types.Params:
        first = params["Dense_0"]
        return params | {"Dense_0": first | {"kernel": first["kernel"] * stretch[:, None]}}

    def fit(key, signals, membership, weights):
        held_out = contract.num_held_out(membership.shape[0])
        known = jax.tree.map(lambda leaf: leaf[:-held_out].reshape(-1, *leaf.shape[2:]), signals)
        checked = jax.tree.map(lambda leaf: leaf[-held_out:], signals)
        check_weights = contract.balance(membership[-held_out:], weights[-held_out:])
        draw = make_draw(
            membership[:-held_out].reshape(-1), weights[:-held_out].reshape(-1), batch_size=settings.batch_size
        )
        per_epoch = -(-known.labels.size // settings.batch_size)
        per_check = -(-(settings.epochs * per_epoch if settings.epochs else NUM_UPDATES) // NUM_CHECKS)
        schedule = optax.polynomial_schedule(settings.learning_rate, 0.0, 4, NUM_CHECKS * per_check)
        tx = optax.adam(schedule, b2=MEMORY)

        def update(state, number):
            params, opt_state = state
            rows = draw(jax.random.fold_in(jax.random.fold_in(key, 1), number))
            batch = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), known)
            updates, opt_state = tx.update(jax.grad(loss)(params, make_inputs(batch)), opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        def until_check(state, number):
            state, _ = jax.lax.scan(update, state, number * per_check + jnp.arange(per_check))
            correct = (margin(state[0], make_inputs(checked) * stretch) > 0) == membership[-held_out:]
            return state, jnp.mean(correct * check_weights)

        params = init_fn(jax.random.fold_in(key, 0))
        (params, _), curve = jax.lax.scan(until_check, (params, tx.init(params)), jnp.arange(NUM_CHECKS))
        return {"params": unstretch(params), "curve": curve}

    def score(fitted, signals):
        return margin(fitted["params"], make_inputs(signals))

    return contract.Attack(fit, score, lambda fitted: jnp.zeros(()), lambda fitted: fitted["curve"])
