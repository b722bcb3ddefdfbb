"""The paper's attack: a small network that reads a probability vector and the true label.

Source: Pustozerova and Mayer (2020), section III, after Shokri et al. (2017): "a neural network with one hidden layer
of 64 neurons and a Sigmoid activation function", in or out, fitted on what ten shadow models say of records they
trained on and records they did not. One network serves all classes, the label goes in as one-hot.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from fedmia_jax import options, types
from fedmia_jax.attacks import contract, grouping, shadows
from fedmia_jax.learning import networks

NUM_UPDATES = 10_000  # settles on 3,500 shadow outputs as on 180,000, with 10 classes as with 100
NUM_CHECKS = 20  # looks at the held-out shadows in the course of fitting
STRETCH = 4.0  # of the probabilities while fitting, see `make_attack`
SPREAD = 1.0  # standard deviation of the first weights; with Glorot's, smaller, it takes half as many updates again
MEMORY = 0.95  # decay of Adam's second moment; the usual 0.999 follows too slowly in so few updates


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The attack network and its optimizer; also of the attack with a network for each class."""

    hidden: int = options.option(64, "sigmoid units of the attack network", low=1)
    learning_rate: float = options.option(0.1, "peak step size of its Adam, decayed to zero", above=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(NetworkOptions):
    """How long the one network for all classes is fitted."""

    epochs: int | None = options.option(
        None, "passes over the shadows' outputs; unset: what makes 10,000 updates", low=1
    )
    batch_size: int = options.option(256, "shadow outputs per update", low=1, high=65_536)


class AttackNetwork(nn.Module):
    """Inputs f32[B, 2K] -> logits f32[B, 2] of (out, in)."""

    hidden: int

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps attack inputs to the logits of (out, in)."""
        units = nn.sigmoid(nn.Dense(self.hidden, kernel_init=nn.initializers.normal(SPREAD))(features))
        return nn.Dense(2, kernel_init=nn.initializers.glorot_uniform())(units)


def make_inputs(signals: types.Signals) -> Float[Array, "..."]:
    """Concatenates probabilities and one-hot label: logits f32[..., K] -> f32[..., 2K]."""
    one_hot = jax.nn.one_hot(signals.labels, signals.logits.shape[-1], dtype=signals.logits.dtype)
    return jnp.concatenate([jax.nn.softmax(signals.logits), one_hot], axis=-1)


def make_draw(
    membership: Bool[Array, "n"], weights: Float[Array, "n"], *, batch_size: int
) -> Callable[[jax.Array], jax.Array]:
    """Builds the draw of a minibatch: half of it members, half of it not, each with replacement.

    Args:
      membership: whether each slot holds a member.
      weights: 0 for padding, which is never drawn and changes no draw of the others.
      batch_size: records of a minibatch; an odd number is rounded up.

    Returns:
      `draw(key) -> i32[B]`, slots of B/2 members, then of B/2 others.
    """
    groups = jnp.where(weights == 0, 2, jnp.where(membership, 0, 1))
    order = grouping.order(groups, num_groups=3)
    sizes = jnp.stack([jnp.sum(groups == 0), jnp.sum(groups == 1)]).astype(jnp.uint32)
    first = jnp.stack([jnp.zeros((), jnp.uint32), sizes[0]])

    def draw(key: jax.Array) -> jax.Array:
        bits = jax.random.bits(key, (2, -(-batch_size // 2)))
        return jnp.take(order, (first[:, None] + bits % sizes[:, None]).reshape(-1), mode="clip")

    return draw


def make_margin(hidden: int) -> Callable[[types.Params, jax.Array], jax.Array]:
    """Returns `margin(params, inputs f32[..., F]) -> f32[...]`, logit(in) - logit(out) of a network."""
    apply_fn = networks.make_apply(AttackNetwork(hidden))

    def margin(params: types.Params, inputs: jax.Array) -> jax.Array:
        logits = apply_fn(params, inputs)
        return logits[..., 1] - logits[..., 0]

    return margin


def paired_loss(margins: Float[Array, "B"]) -> Float[Array, ""]:
    """Returns twice the mean cross-entropy of a minibatch whose first half are members, and whose second are not."""
    members, others = jnp.split(margins, 2)
    return jnp.mean(jax.nn.softplus(-members)) + jnp.mean(jax.nn.softplus(others))


def make_optimizer(learning_rate: float, *, num_updates: int) -> optax.GradientTransformation:
    """Returns Adam with a step size that falls from its peak to zero as (1 - t)^4."""
    return optax.adam(optax.polynomial_schedule(learning_rate, 0.0, 4, num_updates), b2=MEMORY)


def make_update(
    loss_fn: Callable[..., jax.Array], batch_fn: Callable[[jax.Array], tuple], tx: optax.GradientTransformation
) -> Callable[[Any, jax.Array], tuple[Any, None]]:
    """Builds one update, as a scan's step.

    Args:
      loss_fn: `(params, *batch) -> f32[]`.
      batch_fn: `(number i32[]) -> batch` of the update with that number.
      tx: optimizer.

    Returns:
      `update((params, opt_state), number) -> ((params, opt_state), None)`.
    """

    def update(state: Any, number: jax.Array) -> tuple[Any, None]:
        params, opt_state = state
        updates, opt_state = tx.update(jax.grad(loss_fn)(params, *batch_fn(number)), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    return update


def fit_checked(
    update: Callable[[Any, jax.Array], tuple[Any, None]],
    check: Callable[[types.Params], jax.Array],
    start: types.Params,
    tx: optax.GradientTransformation,
    *,
    num_updates: int,
    num_checks: int,
) -> tuple[types.Params, Float[Array, "K"]]:
    """Fits a network, looks now and then at examples that it does not learn from, and keeps its best state.

    Args:
      update: see `make_update`.
      check: `(params) -> f32[]`, the loss on other examples.
      start: parameters before the first update.
      tx: the optimizer.
      num_updates: in all.
      num_checks: looks, evenly spaced, beside one at the start.

    Returns:
      The parameters where the loss was least, and the loss at the start and at every look.
    """
    per_check = num_updates // num_checks

    def until_check(state: Any, number: jax.Array) -> tuple[Any, tuple[jax.Array, types.Params]]:
        state, _ = jax.lax.scan(update, state, number * per_check + jnp.arange(per_check))
        return state, (check(state[0]), state[0])

    _, (curve, kept) = jax.lax.scan(until_check, (start, tx.init(start)), jnp.arange(num_checks))
    best, first = jnp.argmin(curve), check(start)
    params = jax.tree.map(lambda leaf, old: jnp.where(first <= curve[best], old, leaf[best]), kept, start)
    return params, jnp.append(first, curve)


def unstretch(params: types.Params, stretch: np.ndarray | float) -> types.Params:
    """Returns the network that answers to plain inputs what this one answers to stretched ones."""
    first = params["Dense_0"]
    return params | {"Dense_0": first | {"kernel": first["kernel"] * stretch}}


def make_attack(settings: Options, num_classes: int) -> contract.ModelAttack:
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
    margin = make_margin(settings.hidden)

    def fit(key: jax.Array, signals: types.Signals, membership: jax.Array, weights: jax.Array) -> contract.Fitted:
        return _fit(key, *shadows.hold_out(signals, membership, weights), settings, num_classes)

    def score(fitted: contract.Fitted, signals: types.Signals) -> jax.Array:
        return margin(fitted["params"], make_inputs(signals))

    return contract.ModelAttack(fit, score, lambda fitted: jnp.zeros(()), lambda fitted: fitted["curve"])


def _fit(
    key: jax.Array, known: shadows.Shadows, checked: shadows.Shadows, settings: Options, num_classes: int
) -> contract.Fitted:
    """Fits the network on some shadows, with an eye on others."""
    margin, stretch = make_margin(settings.hidden), np.repeat(np.array([STRETCH, 1.0], np.float32), num_classes)
    known, check_weights = known.joined, contract.balance(checked.membership, checked.weights)
    draw = make_draw(known.membership, known.weights, batch_size=settings.batch_size)
    per_epoch = -(-known.membership.size // settings.batch_size)
    per_check = -(-(settings.epochs * per_epoch if settings.epochs else NUM_UPDATES) // NUM_CHECKS)
    tx = make_optimizer(settings.learning_rate, num_updates=NUM_CHECKS * per_check)

    def batch(number: jax.Array) -> tuple[jax.Array]:
        rows = draw(jax.random.fold_in(jax.random.fold_in(key, 1), number))
        return (make_inputs(types.take(known.signals, rows)),)

    def loss(params: types.Params, inputs: jax.Array) -> jax.Array:
        return paired_loss(margin(params, inputs * stretch))

    update = make_update(loss, batch, tx)

    def until_check(state: Any, number: jax.Array) -> tuple[Any, jax.Array]:
        state, _ = jax.lax.scan(update, state, number * per_check + jnp.arange(per_check))
        correct = (margin(state[0], make_inputs(checked.signals) * stretch) > 0) == checked.membership
        return state, jnp.mean(correct * check_weights)

    init_fn = networks.make_init(AttackNetwork(settings.hidden), num_features=2 * num_classes)
    params = init_fn(jax.random.fold_in(key, 0))
    (params, _), curve = jax.lax.scan(until_check, (params, tx.init(params)), jnp.arange(NUM_CHECKS))
    return {"params": unstretch(params, stretch[:, None]), "curve": curve}


NETWORK = contract.ModelAttackFactory(make_attack, Options)
