"""Shadow models, whose training records the adversary knows: those to learn from, and those that only check."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float

from fedmia_jax import types
from fedmia_jax.attacks import contract


class Shadows(NamedTuple):
    """What J shadow models answer to m records each, and which of these they trained on."""

    signals: types.Signals  # logits f32[J, m, K], or f32[J * m, K] once they are joined
    membership: jax.Array  # bool[J, m] or bool[J * m]
    weights: jax.Array  # f32[J, m] or f32[J * m], 0 for padding

    @property
    def joined(self) -> "Shadows":
        """The same with the records of all shadows behind each other."""
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), self)


def hold_out(
    signals: types.Signals, membership: Bool[Array, "J m"], weights: Float[Array, "J m"]
) -> tuple[Shadows, Shadows]:
    """Returns the shadows to learn from, and the last ones, which only check, see `contract.num_held_out`."""
    shadows, held_out = Shadows(signals, membership, weights), contract.num_held_out(membership.shape[0])
    known = jax.tree.map(lambda leaf: leaf[:-held_out], shadows)
    return known, jax.tree.map(lambda leaf: leaf[-held_out:], shadows)
