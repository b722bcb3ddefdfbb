"""A network on the trajectory: who, if anyone, trained on this record?

It reads phi at the seen snapshots and how far that is from what references without the record say, and answers with a
probability for each node and for none. Source: Liu et al. (2022), TrajectoryMIA (a network on the losses along
training); Li et al. (2024), SeqMIA (several signals of a sequence). Departure: fitted on whole reference federations,
whose hand-offs take the place of distilled models; one network serves every view, since fitting hides snapshots as the
views do, and every attacked node, since it names the node.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedmia_jax import config, model
from fedmia_jax.attacks import contract, moments

NUM_UPDATES = 6_000
BATCH_SIZE = 256
LEARNING_RATE = 0.002
HIDDEN = 96


class TrajectoryNetwork(nn.Module):
    """Inputs f32[B, 3T] -> logits f32[B, N + 1], the last for no node."""

    num_nodes: int

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps trajectories to the logits of (N1, .., NN, none)."""
        units = nn.relu(nn.Dense(HIDDEN)(features))
        units = nn.relu(nn.Dense(HIDDEN)(units))
        return nn.Dense(self.num_nodes + 1)(units)


def make_inputs(phi: jax.Array, expected: jax.Array, mask: jax.Array, scale: jax.Array) -> jax.Array:
    """Trajectory, its distance from what is expected, and what is seen: f32[B, T] each -> f32[B, 3T]."""
    seen = mask.astype(phi.dtype)
    return jnp.concatenate([phi * seen / scale, (phi - expected) * seen / scale, seen], axis=-1)


def make_attack(settings: config.Attack, *, nodes: int, masks: Sequence[np.ndarray]) -> contract.Comparison:
    """Builds the network's fit and score.

    Adam on minibatches of as many members as others, its step size falling to zero. A record's own reference is left
    out of what is expected of it.

    Args:
      settings: unused.
      nodes: N.
      masks: bool[T] each, the views to learn for; one that is there twice is drawn twice as often.
    """
    del settings
    network = TrajectoryNetwork(nodes)
    apply_fn = model.make_apply(network)
    views = jnp.asarray(np.stack(masks))

    def fit(key, references):
        phi, owners = references.phi, references.owners
        _, num_snapshots, num_records = phi.shape
        out = moments.outside(phi, owners).mean
        outside = (owners < 0).sum(axis=0)
        scale = jnp.std(phi) + 1e-6
        held = (owners >= 0).reshape(-1)
        order, num_members = jnp.argsort(~held, stable=True), jnp.sum(held)

        def draw(key):
            keys = jax.random.split(key, 2)
            bits = (
                jax.random.bits(keys[0], (2, BATCH_SIZE // 2))
                % jnp.stack([num_members, held.size - num_members]).astype(jnp.uint32)[:, None]
            )
            pairs = order[(bits + jnp.array([[0], [1]], jnp.uint32) * num_members.astype(jnp.uint32)).reshape(-1)]
            reference, record = pairs // num_records, pairs % num_records
            own, owner, count = phi[reference, :, record], owners[reference, record], outside[record][:, None]
            expected = out[:, record].T
            others = (expected * count - own) / jnp.maximum(count - 1, 1)
            expected = jnp.where((owner < 0)[:, None], others, expected)
            mask = views[jax.random.randint(keys[1], (BATCH_SIZE,), 0, len(views))]
            return make_inputs(own, expected, mask, scale), jnp.where(owner < 0, nodes, owner)

        def loss(params, inputs, labels):
            return optax.softmax_cross_entropy_with_integer_labels(apply_fn(params, inputs), labels).mean()

        tx = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, NUM_UPDATES))

        def update(state, number):
            params, opt_state = state
            inputs, labels = draw(jax.random.fold_in(key, number + 1))
            updates, opt_state = tx.update(jax.grad(loss)(params, inputs, labels), opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        params = model.make_init(network, num_features=3 * num_snapshots)(jax.random.fold_in(key, 0))
        (params, _), _ = jax.lax.scan(update, (params, tx.init(params)), jnp.arange(NUM_UPDATES))
        return {"params": params, "expected": out, "scale": scale}

    def prepare(fitted, node):
        return fitted, node

    def score(ready, phi, mask):
        fitted, node = ready
        inputs = make_inputs(phi.T, fitted["expected"].T, jnp.broadcast_to(mask, phi.T.shape), fitted["scale"])
        logits = apply_fn(fitted["params"], inputs)
        return jnp.take(logits, node, axis=1) - logits[:, -1]  # log odds against no node

    return contract.Comparison(fit, prepare, score, combine=contract.any_node)
