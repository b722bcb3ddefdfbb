"""What a defence gives: hooks in a node's training and at its hand-off, all of which do nothing unless it says so.

Levels are traced numbers, so that a whole frontier is one compiled program. References and shadows train under the same
defence, since the adversary knows it. A path that cannot honour a hook refuses it; it never skips it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from fedmia_jax import options, types

Levels = Mapping[str, Any]  # the traced options of one defence by name, f32[]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Which defences the nodes use."""

    names: tuple[str, ...] = options.option((), "defences, in the order in which they act: package.module:name")


@dataclasses.dataclass(frozen=True)
class Defense:
    """Hooks of one model's training, pure and not jitted; None is the identity.

    Attributes:
      records: `(batch, rows i32[B], record_key, step_key, levels) -> batch`, on a minibatch of a node's records;
        `record_key` is the same at every step and visit, so that `fold_in(record_key, row)` draws once for a record.
      held_out: one in so many records of a node is held out, and a visit ends with the parameters of the epoch whose
        loss on them is smallest.
      penalty: `(logits f32[B, K], labels i32[B], levels) -> f32[B]`, added to the cross-entropy of each record.
      sampling: batches are drawn record by record, each with chance B / n, and have at most so many times B records.
      weights: `(norms f32[b], levels) -> f32[b]`, what the gradient of each record is multiplied by, given its norm.
      sums: `(sums, key, levels) -> sums`, on the weighted sum of the gradients of a batch, before it is divided by B.
      update: `(levels) -> optax.GradientTransformationExtraArgs`, before the optimizer; its update gets `key=`.
      step: `(step, params, learning_rate, levels) -> step`, on what the optimizer is about to add to the parameters.
      hand_off: `(received, trained, key, levels) -> params`, on the parameters that a node hands off, given those that
        it received.
      publish: `(initial, final, key, levels) -> params`, on the last snapshot of all, which no node trains on any
        more, given the model that the federation began with.
      order: `(generator, order i32[C, N]) -> i32[C, N]`, on the host: who trains when.
      answer: `(logits, levels) -> logits`, what whoever is no participant gets as an answer.
    """

    records: Callable[[types.Records, jax.Array, jax.Array, jax.Array, Levels], types.Records] | None = None
    penalty: Callable[[jax.Array, jax.Array, Levels], jax.Array] | None = None
    sampling: float | None = None
    held_out: int | None = None
    weights: Callable[[jax.Array, Levels], jax.Array] | None = None
    sums: Callable[[types.Params, jax.Array, Levels], types.Params] | None = None
    update: Callable[[Levels], optax.GradientTransformationExtraArgs] | None = None
    step: Callable[[types.Params, types.Params, types.Scalar, Levels], types.Params] | None = None
    hand_off: Callable[[types.Params, types.Params, jax.Array, Levels], types.Params] | None = None
    publish: Callable[[types.Params, types.Params, jax.Array, Levels], types.Params] | None = None
    order: Callable[[np.random.Generator, np.ndarray], np.ndarray] | None = None
    answer: Callable[[jax.Array, Levels], jax.Array] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Use:
    """How a federation uses the records of its nodes; all of it is public.

    Attributes:
      num_features: D.
      node_sizes: records of each node.
      batch_size: B.
      cycles: C, visits of each node.
      local_epochs: of a visit.
      carries_optimizer_state: whether it is handed on with the parameters.
    """

    num_features: int
    node_sizes: tuple[int, ...]
    batch_size: int
    cycles: int
    local_epochs: int
    carries_optimizer_state: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarantee:
    """One statement of differential privacy.

    Attributes:
      protects: the adjacency, what may differ between two federations.
      against: from whom.
      epsilon: at most this, infinite where nothing is promised.
      delta: but for so much probability.
      how: the accountant.
    """

    protects: str
    against: str
    epsilon: float
    delta: float
    how: str


@dataclasses.dataclass(frozen=True)
class Factory:
    """A defence in a registry.

    Attributes:
      make: `(options) -> Defense`; traced options stand at their defaults there, their values come as levels.
      options: the group of options that it reads, declared beside it.
      guarantees: `(options, Use) -> tuple[Guarantee, ...]`, what it promises; None where it promises nothing. It raises
        `InputError` where the use makes its promise void.
      solve: `(options, Uses of all replicates) -> values`, options that follow from others and from the use, by name;
        on the host, before anything is planned.
    """

    make: Callable[[Any], Defense]
    options: type = options.NoOptions
    guarantees: Callable[[Any, Use], tuple[Guarantee, ...]] | None = None
    solve: Callable[[Any, Sequence[Use]], Mapping[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Defended:
    """The defences of one model, in the order in which they act.

    Attributes:
      defences: what they do.
      traced: names of the traced options of each.
    """

    defences: tuple[Defense, ...] = ()
    traced: tuple[tuple[str, ...], ...] = ()

    def hooks(self, name: str) -> list[tuple[int, Any]]:
        """Returns one hook of all defences that have it, each with the place of its levels."""
        pairs = [(place, getattr(defence, name)) for place, defence in enumerate(self.defences)]
        return [(place, hook) for place, hook in pairs if hook is not None]

    def most_records(self, batch_size: int) -> int | None:
        """Returns the most records of a batch where batches are drawn record by record, else None."""
        factors = [factor for _, factor in self.hooks("sampling")]
        return math.ceil(min(factors) * batch_size) if factors else None

    @property
    def held_out(self) -> int | None:
        """One in so many records of a node is held out, None where none is."""
        return min((every for _, every in self.hooks("held_out")), default=None)

    @property
    def zero_levels(self) -> tuple[dict[str, float], ...]:
        """Levels of zero, where only the structure counts."""
        return tuple(dict.fromkeys(names, 0.0) for names in self.traced)

    def refuse(self, names: Sequence[str], *, path: str) -> None:
        """Raises where a path would have to skip a hook.

        Args:
          names: of the hooks that the path cannot honour.
          path: what it is called.

        Raises:
          ValueError: a defence has such a hook.
        """
        for name in names:
            if self.hooks(name):
                raise ValueError(f"{path} cannot honour the hook {name!r} of a defence")


UNDEFENDED = Defended()
DRAWS = 2**31  # where the streams of defences begin, beyond every epoch and step
UPDATE, REST, BATCH = range(3)  # streams behind those of the defences: of updates, far rows of a batch, drawn batches


def draw_key(key: jax.Array, place: int) -> jax.Array:
    """Returns the key of what the defence at a place draws beside the owner of `key`."""
    return jax.random.fold_in(key, DRAWS + place)


def make_hand_off(defended: Defended, *, name: str = "hand_off") -> Callable[..., types.Params]:
    """Builds what all defences do to the parameters that a node hands off, or to those that are published at the end.

    Args:
      defended: the defences.
      name: of the hook, `hand_off` or `publish`.

    Returns:
      `hand_off(received, trained, key, levels) -> params`.
    """

    def hand_off(
        received: types.Params, trained: types.Params, key: jax.Array, levels: Sequence[Levels]
    ) -> types.Params:
        for place, hook in defended.hooks(name):
            trained = hook(received, trained, draw_key(key, place), levels[place])
        return trained

    return hand_off


def make_answer(defended: Defended) -> Callable[..., jax.Array]:
    """Builds what all defences do to the answers that an outsider gets.

    Returns:
      `answer(logits, levels) -> logits`.
    """

    def answer(logits: jax.Array, levels: Sequence[Levels]) -> jax.Array:
        for place, hook in defended.hooks("answer"):
            logits = hook(logits, levels[place])
        return logits

    return answer
