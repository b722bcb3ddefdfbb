"""Shokri's attack: a network for each class, that reads the probabilities of records with this label.

Source: Shokri et al. (2017), section V-E. The networks are those of `network.py` without the label at their input, all
fitted side by side on what the shadows say of their class's records.
"""

import jax
import jax.numpy as jnp

from fedmia_jax import types
from fedmia_jax.attacks import contract, network, shadows
from fedmia_jax.learning import networks

NUM_UPDATES = 2_000
BATCH_SIZE = 32


def make_attack(settings: network.NetworkOptions, num_classes: int) -> contract.ModelAttack:
    """Builds the fit and score of one network a class.

    Args:
      settings: hidden units, peak learning rate.
      num_classes: K.

    Returns:
      The attack; its score is logit(in) - logit(out) and its threshold 0. A class without members or non-members
      among the shadows scores 0.
    """
    margin = network.make_margin(settings.hidden)

    def score(fitted: contract.Fitted, signals: types.Signals) -> jax.Array:
        own = jax.tree.map(lambda leaf: leaf[signals.labels], fitted["params"])
        return jax.vmap(margin)(own, jax.nn.softmax(signals.logits))

    def fit(key: jax.Array, signals: types.Signals, membership: jax.Array, weights: jax.Array) -> contract.Fitted:
        known, checked = shadows.hold_out(signals, membership, weights)
        joined, probabilities = known.joined, jax.nn.softmax(known.signals.logits).reshape(-1, num_classes)
        params = jax.lax.map(
            lambda label: _fit_class(key, label, probabilities, joined, settings), jnp.arange(num_classes)
        )
        right = (score({"params": params}, checked.joined.signals) > 0) == checked.joined.membership
        check_weights = contract.balance(checked.membership, checked.weights).reshape(-1)
        return {"params": params, "curve": jnp.mean(right * check_weights)[None]}

    return contract.ModelAttack(fit, score, lambda fitted: jnp.zeros(()), lambda fitted: fitted["curve"])


def _fit_class(
    key: jax.Array, label: jax.Array, probabilities: jax.Array, known: shadows.Shadows, settings: network.NetworkOptions
) -> types.Params:
    """Fits the network of one class on its records, all shadows joined; zero where they are not of both kinds."""
    margin = network.make_margin(settings.hidden)
    weights = known.weights * (known.signals.labels == label)
    draw = network.make_draw(known.membership, weights, batch_size=BATCH_SIZE)
    tx = network.make_optimizer(settings.learning_rate, num_updates=NUM_UPDATES)

    def batch(number: jax.Array) -> tuple[jax.Array]:
        rows = draw(jax.random.fold_in(jax.random.fold_in(key, label + 1), number))
        return (probabilities[rows],)

    def loss(params: types.Params, inputs: jax.Array) -> jax.Array:
        return network.paired_loss(margin(params, inputs * network.STRETCH))

    update = network.make_update(loss, batch, tx)
    module = network.AttackNetwork(settings.hidden)
    init_fn = networks.make_init(module, num_features=probabilities.shape[-1])
    params = init_fn(jax.random.fold_in(key, 0))
    (params, _), _ = jax.lax.scan(update, (params, tx.init(params)), jnp.arange(NUM_UPDATES))
    enough = jnp.any(weights * known.membership > 0) & jnp.any(weights * ~known.membership > 0)
    params = network.unstretch(params, network.STRETCH)
    return jax.tree.map(lambda leaf: jnp.where(enough, leaf, 0.0), params)


NETWORK_PER_CLASS = contract.ModelAttackFactory(make_attack, network.NetworkOptions)
