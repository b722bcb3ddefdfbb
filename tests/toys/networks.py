"""Toy networks that cannot be used, each for a reason of its own."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Base(nn.Module):
    """One dense layer."""

    num_classes: int
    hidden: int

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps features to logits."""
        return nn.Dense(self.num_classes)(features)


class OneMore(Base):
    """Answers K + 1 logits."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return nn.Dense(self.num_classes + 1)(features)


class Flat(Base):
    """Answers one number a record."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return nn.Dense(self.num_classes)(features)[:, 0]


class Normalised(Base):
    """Keeps statistics beside its parameters."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return nn.Dense(self.num_classes)(nn.BatchNorm(use_running_average=not train)(features))


class Nothing(Base):
    """Has no parameters."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return jnp.zeros((features.shape[0], self.num_classes)) + features.sum()


class Half(Base):
    """Has parameters of half precision."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return nn.Dense(self.num_classes, param_dtype=jnp.float16)(features)


class NotANumber(Base):
    """Answers NaN."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        return jnp.log(-1.0 - nn.Dense(self.num_classes)(features) ** 2)


class Raises(Base):
    """Raises inside."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        raise KeyError("layer")


class Untrained(Base):
    """Knows no training."""

    @nn.compact
    def __call__(self, features):
        return nn.Dense(self.num_classes)(features)


class DrawsAnother(Base):
    """Draws other units beforehand than in its call."""

    def draw(self, num_records, dropout_rate):
        return jnp.zeros((num_records, self.num_classes), bool)

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False, drawn=None):
        if train and drawn is None:
            drawn = jax.random.bernoulli(self.make_rng("dropout"), 0.5, (features.shape[0], self.num_classes))
        logits = nn.Dense(self.num_classes)(features)
        return jnp.where(drawn, 0.0, logits) if train else logits


class ForgetsWhatIsDrawn(Base):
    """Says what it draws, and does not take it."""

    def draw(self, num_records, dropout_rate):
        return jax.random.bernoulli(self.make_rng("dropout"), 0.5, (num_records, self.num_classes))

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        logits = nn.Dense(self.num_classes)(features)
        return jnp.where(self.draw(features.shape[0], dropout_rate), 0.0, logits) if train else logits


class NoHidden(nn.Module):
    """Has no field for hidden units."""

    num_classes: int


class OnlyOnCpu(Base):
    """Takes eigenvalues as if of a matrix that need not be symmetric, for which no accelerator has a program."""

    @nn.compact
    def __call__(self, features, *, dropout_rate=0.0, train=False):
        logits = nn.Dense(self.num_classes)(features)
        shift = jnp.linalg.eigvals(jax.lax.stop_gradient(logits.T @ logits)).real
        return logits + 1e-9 * shift


class Centred(Base):
    """Its answers depend on each other, and it says that they do not."""

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps f32[B, D] to logits f32[B, K] whose mean is zero."""
        answers = nn.Dense(self.num_classes, name="last")(features)
        return answers - answers.mean(axis=-1, keepdims=True)

    @nn.nowrap
    def answer_bias(self) -> tuple[str, ...]:
        """Where the bias lies."""
        return "last", "bias"


class NoSuchBias(Centred):
    """Its bias lies elsewhere than it says."""

    @nn.compact
    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps f32[B, D] to logits f32[B, K]."""
        return nn.Dense(self.num_classes, name="other")(features)

    @nn.nowrap
    def answer_bias(self) -> tuple[str, ...]:
        """Where no bias lies."""
        return "last", "bias"
