"""The stacked attack: likelihood ratios of a trajectory under several laws, weighed by a network.

A law of trajectories (see `trajectories`) says how members of a node and non-members differ; no law is right in every
tail. So a network learns from the references how much each ratio is worth: of all that is seen and of what surrounds
the node's visits, by t, by normal and by component, beside the distances that they are made of, the terms of single
snapshots, and how much is known of the record. A reference is read by a law that was fitted on others, and what the
network adds to the ratio by t is kept only where it helps on references that it has not seen. One network serves every
view and every node. Source: Wolpert (1992), stacked generalization; the ratios as in Carlini et al. (2022).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from fedmia_jax import options, types
from fedmia_jax.attacks import contract, network, trajectories
from fedmia_jax.learning import networks

MOST_MASKS = 48  # views that are learnt for
NUM_EXAMPLES = 200_000  # of members, over all nodes and views; as many of others
NUM_UPDATES = 3_000
BATCH_SIZE = 1_024
LEARNING_RATE = 0.003
HIDDEN = 48
MOST_CERTAIN = 10.0  # a ratio by t of more than e to this counts by its logarithm
FREEDOMS = (3.0, 10.0)  # of the ratios by component
NUM_CHECKS = 10
NUM_FOLDS = 4  # of references: what a law says of one was fitted on the others; the last only checks the network


class StackedNetwork(nn.Module):
    """Inputs f32[B, F] -> f32[B, 1], what is to be added to the ratio by t; nothing before it is fitted."""

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps inputs to log odds."""
        units = nn.relu(nn.Dense(HIDDEN)(features))
        units = nn.relu(nn.Dense(HIDDEN)(units))
        return nn.Dense(1, kernel_init=nn.initializers.zeros)(units)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Residuals:
    """How far some trajectories are from the means of their records, and what is known of those."""

    inside: jax.Array  # f32[T, M], from the mean of members
    outside: jax.Array  # f32[T, M], from the mean of non-members
    scale: jax.Array  # f32[M]
    counts: jax.Array  # f32[2, M], references that are members, and that are not


def make_inputs(
    law: trajectories.Law, residuals: Residuals, sight: contract.Sight, node: Int[Array, ""]
) -> Float[Array, "M F"]:
    """Returns what the network reads of each record.

    Args:
      law: of the node.
      residuals: of the records.
      sight: what is seen.
      node: index of the node.
    """
    own = sight.visits[:, node]  # [C]
    before = jnp.where(own >= 0, sight.before[own], -1)
    near = sight.mask & (_places(own, sight.mask) | _places(before, sight.mask))
    columns = [*_ratios(law, residuals, sight.mask), *_ratios(law, residuals, near)]
    for snapshots in (own, before):
        seen = (snapshots >= 0) & sight.mask[snapshots]
        for scatter, values in ((law.of_inside, residuals.inside), (law.of_outside, residuals.outside)):
            deviation = jnp.sqrt(jnp.diag(scatter)[snapshots][:, None] * residuals.scale)
            columns += list(jnp.where(seen[:, None], values[snapshots] / deviation, 0.0))
        columns += [jnp.broadcast_to(each, residuals.scale.shape) for each in seen.astype(residuals.scale.dtype)]
    gap = residuals.outside - residuals.inside  # members' mean less non-members'
    columns += [jnp.log(residuals.scale), *jnp.log1p(residuals.counts)]
    columns += [jnp.where(_places(own, sight.mask)[:, None], gap, 0.0).sum(axis=0) / jnp.maximum(sight.mask.sum(), 1)]
    columns += [jnp.broadcast_to(jnp.log(each.sum() + 1.0), residuals.scale.shape) for each in (sight.mask, near)]
    return jnp.arcsinh(jnp.stack(columns, axis=1))


def _places(snapshots: Int[Array, "C"], mask: Bool[Array, "T"]) -> Bool[Array, "T"]:
    """Marks some snapshots, -1 for none."""
    return jnp.zeros(len(mask), bool).at[jnp.where(snapshots < 0, len(mask), snapshots)].set(True, mode="drop")


def _ratios(law: trajectories.Law, residuals: Residuals, mask: Bool[Array, "T"]) -> list[jax.Array]:
    """Log ratios of member against non-member of the seen snapshots, and both distances by snapshot."""
    size, seen = mask.sum(), mask[:, None]
    whites, volumes = [], []
    for scatter, values in ((law.of_inside, residuals.inside), (law.of_outside, residuals.outside)):
        root = jnp.linalg.cholesky(jnp.where(seen & mask, scatter, jnp.eye(len(mask), dtype=scatter.dtype)))
        white = trajectories.whiten(root, jnp.where(seen, values, 0.0).T)
        whites.append(white / jnp.sqrt(residuals.scale)[:, None])
        volumes.append(jnp.log(jnp.diag(root)).sum())
    squares = [(white**2).sum(axis=1) for white in whites]
    volume, freedom = volumes[1] - volumes[0], law.freedom
    by_t = -0.5 * (freedom + size) * (jnp.log1p(squares[0] / freedom) - jnp.log1p(squares[1] / freedom))
    ratios = [by_t + volume, 0.5 * (squares[1] - squares[0]) + volume]
    for degrees in FREEDOMS:
        terms = jnp.log1p(whites[1] ** 2 / degrees) - jnp.log1p(whites[0] ** 2 / degrees)
        ratios.append(0.5 * (degrees + 1) * jnp.where(mask, terms, 0.0).sum(axis=1) + volume)
    return [*ratios, *(square / jnp.maximum(size, 1) for square in squares)]


def _count(owners: Int[Array, "J M"], node: Int[Array, ""]) -> Float[Array, "2 M"]:
    """How many references hold each record at the node, and how many nowhere."""
    return jnp.stack([(owners == node).sum(axis=0), (owners < 0).sum(axis=0)]).astype(jnp.float32)


def split(num_references: int) -> tuple[Int[np.ndarray, "K a"], Int[np.ndarray, "K b"]]:
    """Returns for each fold the references that a law is fitted on, and those that are then read by it."""
    each = num_references // NUM_FOLDS
    folds = np.arange(NUM_FOLDS * each).reshape(each, NUM_FOLDS).T
    return np.stack([np.setdiff1d(folds, fold) for fold in folds]), folds


def make_examples(
    key: jax.Array,
    references: contract.KnownRecords,
    law: trajectories.Law,
    counts: Float[Array, "2 M"],
    node: Int[Array, ""],
    setup: contract.Setup,
) -> tuple[Float[Array, "E F"], Bool[Array, "E"]]:
    """Returns inputs and membership of examples of one node under every view, half of them members.

    Args:
      key: of the draw.
      references: whose records are drawn, not those that the law was fitted on.
      law: of the node.
      counts: references of the law that hold each record at the node, and that do not hold it.
      node: its index.
      setup: the views.
    """
    masks = distinct(setup)
    each = max(16, NUM_EXAMPLES // (NUM_FOLDS * setup.nodes * len(masks)))
    num_records, held = references.owners.shape[1], references.owners.reshape(-1)
    draw = network.make_draw(held == node, ((held == node) | (held < 0)).astype(jnp.float32), batch_size=2 * each)

    def under(key: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        pairs = draw(key)
        reference, record = pairs // num_records, pairs % num_records
        values, scale = references.phi[reference, :, record].T, law.scale[record]
        inside, outside = values - law.inside[:, record], values - law.outside[:, record]
        sight = contract.Sight(mask, jnp.asarray(setup.before), jnp.asarray(setup.visits))
        inputs = make_inputs(law, Residuals(inside, outside, scale, counts[:, record]), sight, node)
        return inputs, jnp.arange(2 * each) < each

    examples = jax.lax.map(lambda pair: under(*pair), (jax.random.split(key, len(masks)), jnp.asarray(masks)))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), examples)


def distinct(setup: contract.Setup) -> Bool[np.ndarray, "V T"]:
    """Returns the first different masks of a setup, those of single parties before coalitions by the dozen."""
    masks = {np.asarray(mask).tobytes(): np.asarray(mask) for mask in setup.masks}
    return np.stack(list(masks.values())[:MOST_MASKS])


def make_attack(settings: options.NoOptions, setup: contract.Setup) -> contract.ReferenceAttack:
    """Builds the network on likelihood ratios.

    Args:
      settings: nothing to set.
      setup: nodes, views and schedule.
    """
    del settings

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        def find(rows: Any, node: jax.Array) -> tuple[trajectories.Law, jax.Array]:
            owners = references.owners[rows]
            return trajectories.find_law(references.phi[rows], owners, node, most=setup.most), _count(owners, node)

        def of_fold(fold: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
            node, number, known, read = fold
            fold_key = jax.random.fold_in(jax.random.fold_in(key, node), number)
            others = jax.tree.map(lambda leaf: leaf[read], references)
            inputs, members = make_examples(fold_key, others, *find(known, node), node, setup)
            return inputs, members, jnp.broadcast_to(number == NUM_FOLDS - 1, members.shape)

        known, read = split(references.owners.shape[0])
        nodes, numbers = (each.reshape(-1) for each in np.indices((setup.nodes, NUM_FOLDS)))
        examples = jax.lax.map(of_fold, (nodes, numbers, known[numbers], read[numbers]))
        inputs, members, checked = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in examples)
        laws, counts = jax.lax.map(lambda node: find(slice(None), node), jnp.arange(setup.nodes))
        network_key = jax.random.fold_in(key, setup.nodes)
        return {"laws": laws, "counts": counts, **_fit(network_key, inputs, members, checked)}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> Any:
        law = jax.tree.map(lambda leaf: leaf[node], fitted["laws"])
        return law, fitted["counts"][node], node, {name: fitted[name] for name in ("params", "centre", "spread")}

    def score(ready: Any, phi: jax.Array, sight: contract.Sight) -> jax.Array:
        law, counts, node, fitted = ready
        residuals = Residuals(phi - law.inside, phi - law.outside, law.scale, counts)
        return _log_odds(fitted, make_inputs(law, residuals, sight, node))

    return contract.ReferenceAttack(
        fit, prepare, score, combine=contract.any_node, names_nodes=True, by_the_dozen=False
    )


def _log_odds(fitted: contract.Fitted, inputs: Float[Array, "M F"]) -> Float[Array, "M"]:
    """The ratio by t, the first of the inputs, and what the network adds."""
    standard = (inputs - fitted["centre"]) / fitted["spread"]
    added = networks.make_apply(StackedNetwork())(fitted["params"], standard)[:, 0]
    return MOST_CERTAIN * jnp.arcsinh(jnp.sinh(inputs[:, 0]) / MOST_CERTAIN) + added


def _fit(
    key: jax.Array, inputs: Float[Array, "E F"], members: Bool[Array, "E"], checked: Bool[Array, "E"]
) -> dict[str, Any]:
    """Fits the network on some examples, and keeps what it was when its loss on others, `curve` f32[K], was least."""
    known = ~checked
    draw = network.make_draw(members, known.astype(jnp.float32), batch_size=BATCH_SIZE)
    centre = jnp.mean(inputs, axis=0, where=known[:, None])
    spread = jnp.std(inputs, axis=0, where=known[:, None]) + 1e-3
    tx = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, NUM_UPDATES))
    weights = contract.balance(members, checked.astype(jnp.float32))

    def log_odds(params: types.Params, inputs: jax.Array) -> jax.Array:
        return _log_odds({"params": params, "centre": centre, "spread": spread}, inputs)

    def check(params: types.Params) -> jax.Array:
        odds = log_odds(params, inputs)
        return jnp.mean(weights * jax.nn.softplus(jnp.where(members, -odds, odds)))

    def loss(params: types.Params, rows: jax.Array) -> jax.Array:
        return network.paired_loss(log_odds(params, inputs[rows]))

    update = network.make_update(loss, lambda number: (draw(jax.random.fold_in(key, number + 1)),), tx)

    init_fn = networks.make_init(StackedNetwork(), num_features=inputs.shape[1])
    start = init_fn(jax.random.fold_in(key, 0))
    params, curve = network.fit_checked(update, check, start, tx, num_updates=NUM_UPDATES, num_checks=NUM_CHECKS)
    return {"params": params, "centre": centre, "spread": spread, "curve": curve}


STACKED = contract.ReferenceAttackFactory(make_attack)
