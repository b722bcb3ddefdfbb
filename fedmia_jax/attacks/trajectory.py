"""A network on the trajectory: who, if anyone, trained on this record?

It reads phi at the seen snapshots and how far that is from what references without the record say, and answers with a
probability for each node and for none. Source: Liu et al. (2022), TrajectoryMIA (a network on the losses along
training); Li et al. (2024), SeqMIA (several signals of a sequence). Departure: fitted on whole reference federations,
whose hand-offs take the place of distilled models; one network serves every view, since fitting hides snapshots as the
views do, and every attacked node, since it names the node.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from fedmia_jax import options, types
from fedmia_jax.attacks import contract, moments, network
from fedmia_jax.learning import networks

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


def make_inputs(
    phi: Float[Array, "B T"],
    expected: Float[Array, "B T"],
    mask: Bool[Array, "B T"],
    scale: Float[Array, ""],
) -> Float[Array, "B 3*T"]:
    """Returns the trajectory, its distance from what is expected, and what is seen, one behind the other."""
    seen = mask.astype(phi.dtype)
    return jnp.concatenate([phi * seen / scale, (phi - expected) * seen / scale, seen], axis=-1)


def make_draw(
    references: contract.KnownRecords,
    views: Bool[Array, "V T"],
    out: Float[Array, "T M"],
    scale: jax.Array,
    *,
    nodes: int,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Builds the draw of a minibatch: half of it members, half of it not, each as some view shows it.

    A record's own reference is left out of what is expected of it.

    Args:
      references: what the network is fitted on.
      views: masks, each drawn equally often.
      out: mean of each record over the references without it.
      scale: what inputs are divided by.
      nodes: N.

    Returns:
      `draw(key) -> (inputs f32[B, 3T], labels i32[B])`, label N for a record of no node.
    """
    phi, owners = references.phi, references.owners
    num_records, outside = phi.shape[2], (owners < 0).sum(axis=0)
    held = (owners >= 0).reshape(-1)
    draw_pairs = network.make_draw(held, jnp.ones(held.shape), batch_size=BATCH_SIZE)

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 2)
        pairs = draw_pairs(keys[0])
        reference, record = pairs // num_records, pairs % num_records
        own, owner, count = phi[reference, :, record], owners[reference, record], outside[record][:, None]
        expected = out[:, record].T
        others = (expected * count - own) / jnp.maximum(count - 1, 1)
        expected = jnp.where((owner < 0)[:, None], others, expected)
        mask = views[jax.random.randint(keys[1], (BATCH_SIZE,), 0, len(views))]
        return make_inputs(own, expected, mask, scale), jnp.where(owner < 0, nodes, owner)

    return draw


def make_attack(settings: options.NoOptions, setup: contract.Setup) -> contract.ReferenceAttack:
    """Builds the network's fit and score.

    Adam on minibatches of as many members as others, its step size falling to zero.

    Args:
      settings: nothing to set.
      setup: the number of nodes, and the views to learn for.
    """
    del settings
    module = TrajectoryNetwork(setup.nodes)
    apply_fn, views = networks.make_apply(module), jnp.asarray(np.stack(list(setup.masks)))

    def loss(params: types.Params, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply_fn(params, inputs), labels).mean()

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        out = moments.outside(references.phi, references.owners).mean
        scale = jnp.std(references.phi) + 1e-6
        draw = make_draw(references, views, out, scale, nodes=setup.nodes)
        tx = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, NUM_UPDATES))
        update = network.make_update(loss, lambda number: draw(jax.random.fold_in(key, number + 1)), tx)
        init_fn = networks.make_init(module, num_features=3 * out.shape[0])
        params = init_fn(jax.random.fold_in(key, 0))
        (params, _), _ = jax.lax.scan(update, (params, tx.init(params)), jnp.arange(NUM_UPDATES))
        return {"params": params, "expected": out, "scale": scale}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> tuple[contract.Fitted, jax.Array]:
        return fitted, node

    def score(ready: tuple[contract.Fitted, jax.Array], phi: jax.Array, sight: contract.Sight) -> jax.Array:
        fitted, node = ready
        mask = jnp.broadcast_to(sight.mask, phi.T.shape)
        logits = apply_fn(fitted["params"], make_inputs(phi.T, fitted["expected"].T, mask, fitted["scale"]))
        return jnp.take(logits, node, axis=1) - logits[:, -1]  # log odds against no node

    return contract.ReferenceAttack(fit, prepare, score, combine=contract.any_node, names_nodes=True)


TRAJECTORY = contract.ReferenceAttackFactory(make_attack)
