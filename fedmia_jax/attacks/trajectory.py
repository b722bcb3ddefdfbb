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

NUM_UPDATES = 48_000  # with half as many, the loss on held-out references of baskets is 1.156 instead of 1.143
NUM_CHECKS = 12
NUM_CHECKED = 32  # minibatches of held-out references
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
    own_too: bool = True,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Builds the draw of a minibatch: half of it members, half of it not, each as some view shows it.

    Args:
      references: whose records are drawn.
      views: masks, each drawn equally often.
      out: mean of each record over the references without it.
      scale: what inputs are divided by.
      nodes: N.
      own_too: whether `out` is a mean over these references; a record's own is then left out of what is expected of it.

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
        expected = jnp.where((owner < 0)[:, None] & own_too, others, expected)
        mask = views[jax.random.randint(keys[1], (BATCH_SIZE,), 0, len(views))]
        return make_inputs(own, expected, mask, scale), jnp.where(owner < 0, nodes, owner)

    return draw


def make_attack(settings: options.NoOptions, setup: contract.Setup) -> contract.ReferenceAttack:
    """Builds the network's fit and score.

    Adam on minibatches of as many members as others, its step size falling to zero. One reference in ten only checks
    the fit: what the network is when the loss on those is least is kept, and `curve` f32[K] is that loss.

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
        num_checked = contract.num_held_out(references.owners.shape[0])
        known, held_out = (
            jax.tree.map(lambda leaf, part=part: leaf[part], references)
            for part in (slice(-num_checked), slice(-num_checked, None))
        )
        out, scale = moments.outside(known.phi, known.owners).mean, jnp.std(known.phi) + 1e-6
        draw = make_draw(known, views, out, scale, nodes=setup.nodes)
        draw_checked = make_draw(held_out, views, out, scale, nodes=setup.nodes, own_too=False)
        check_keys = jax.random.split(jax.random.fold_in(key, NUM_UPDATES + 1), NUM_CHECKED)

        def check(params: types.Params) -> jax.Array:
            return jax.lax.map(lambda check_key: loss(params, *draw_checked(check_key)), check_keys).mean()

        tx = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, NUM_UPDATES))
        update = network.make_update(loss, lambda number: draw(jax.random.fold_in(key, number + 1)), tx)
        start = networks.make_init(module, num_features=3 * out.shape[0])(jax.random.fold_in(key, 0))
        params, curve = network.fit_checked(
            update, check, start, tx, num_updates=NUM_UPDATES, num_checks=min(NUM_CHECKS, NUM_UPDATES)
        )
        everything = moments.outside(references.phi, references.owners).mean
        return {"params": params, "expected": everything, "scale": scale, "curve": curve}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> tuple[contract.Fitted, jax.Array]:
        return fitted, node

    def score(ready: tuple[contract.Fitted, jax.Array], phi: jax.Array, sight: contract.Sight) -> jax.Array:
        fitted, node = ready
        mask = jnp.broadcast_to(sight.mask, phi.T.shape)
        logits = apply_fn(fitted["params"], make_inputs(phi.T, fitted["expected"].T, mask, fitted["scale"]))
        return jnp.take(logits, node, axis=1) - logits[:, -1]  # log odds against no node

    return contract.ReferenceAttack(fit, prepare, score, combine=contract.any_node, names_nodes=True)


TRAJECTORY = contract.ReferenceAttackFactory(make_attack)
