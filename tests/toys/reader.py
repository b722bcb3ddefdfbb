"""A toy data set with an option of its own: bits whose chance depends on the class, more or less."""

import dataclasses

import numpy as np

from fedmia_jax import options
from fedmia_jax.data import contract, records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How the records are made."""

    toy_contrast: float = options.option(0.4, "how far the chances of a bit lie apart", low=0.0, high=0.5)


def read(settings: Options, /, *, name: str, seed: int) -> records.RawRecords:
    """Draws 400 records of 12 bits in three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=400).astype(np.int32)
    chances = 0.5 + settings.toy_contrast * rng.choice([-1, 1], size=(3, 12))
    bits = (rng.uniform(size=(400, 12)) < chances[labels]).astype(np.uint8)
    title = f"{name} of contrast {settings.toy_contrast:g}"
    return records.RawRecords(features=bits, labels=labels, num_classes=3, title=title)


TOY = contract.Factory(read, Options)
