"""A toy network of one's own: no hidden layer at all."""

from typing import Any

import flax.linen as nn
import jax


class Other(nn.Module):
    """Features f32[B, D] -> logits f32[B, K]."""

    num_classes: int
    hidden: int

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps features to logits."""
        return nn.Dense(self.num_classes)(features)
