"""Shokri's attack: a network for each class, that reads the probabilities of records with this label.

Source: Shokri et al. (2017), section V-E. The networks are those of `network.py` without the label at their input, all
fitted side by side on what the shadows say of their class's records.
"""

import jax
import jax.numpy as jnp
import optax

from fedmia_jax import config, model
from fedmia_jax.attacks import contract, network

NUM_UPDATES = 2_000
BATCH_SIZE = 32


def make_attack(settings: config.Attack, *, num_classes: int) -> contract.Attack:
    """Builds the fit and score of one network a class.

    Args:
      settings: hidden units, peak learning rate.
      num_classes: K.

    Returns:
      The attack; its score is logit(in) - logit(out) and its threshold 0. A class without members or non-members
      among the shadows scores 0.
    """
    module = network.AttackNetwork(settings.hidden)
    apply_fn, init_fn = model.make_apply(module), model.make_init(module, num_features=num_classes)
    schedule = optax.polynomial_schedule(settings.learning_rate, 0.0, 4, NUM_UPDATES)
    tx = optax.adam(schedule, b2=network.MEMORY)

    def margin(params, inputs):
        logits = apply_fn(params, inputs)
        return logits[..., 1] - logits[..., 0]

    def loss(params, inputs):
        members, others = jnp.split(margin(params, inputs * network.STRETCH), 2)
        return jnp.mean(jax.nn.softplus(-members)) + jnp.mean(jax.nn.softplus(others))

    def fit_class(key, label, probabilities, labels, membership, weights):
        mine = weights * (labels == label)
        draw = network.make_draw(membership, mine, batch_size=BATCH_SIZE)

        def update(state, number):
            params, opt_state = state
            rows = draw(jax.random.fold_in(jax.random.fold_in(key, label + 1), number))
            updates, opt_state = tx.update(jax.grad(loss)(params, probabilities[rows]), opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        params = init_fn(jax.random.fold_in(key, 0))
        (params, _), _ = jax.lax.scan(update, (params, tx.init(params)), jnp.arange(NUM_UPDATES))
        enough = jnp.any(mine * membership > 0) & jnp.any(mine * ~membership > 0)
        first = params["Dense_0"]
        params |= {"Dense_0": first | {"kernel": first["kernel"] * network.STRETCH}}
        return jax.tree.map(lambda leaf: jnp.where(enough, leaf, 0.0), params)

    def score(fitted, signals):
        own = jax.tree.map(lambda leaf: leaf[signals.labels], fitted["params"])
        return jax.vmap(margin)(own, jax.nn.softmax(signals.logits))

    def fit(key, signals, membership, weights):
        held_out = contract.num_held_out(membership.shape[0])
        probabilities = jax.nn.softmax(signals.logits[:-held_out]).reshape(-1, num_classes)
        known = (array[:-held_out].reshape(-1) for array in (signals.labels, membership, weights))
        labels, members, counted = known
        params = jax.lax.map(
            lambda label: fit_class(key, label, probabilities, labels, members, counted), jnp.arange(num_classes)
        )
        checked = jax.tree.map(lambda leaf: leaf[-held_out:].reshape(-1, *leaf.shape[2:]), signals)
        right = (score({"params": params}, checked) > 0) == membership[-held_out:].reshape(-1)
        check_weights = contract.balance(membership[-held_out:], weights[-held_out:]).reshape(-1)
        return {"params": params, "curve": jnp.mean(right * check_weights)[None]}

    return contract.Attack(fit, score, lambda fitted: jnp.zeros(()), lambda fitted: fitted["curve"])
