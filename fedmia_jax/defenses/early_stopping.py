"""Early stopping by a node's own held-out records: a visit hands off the model of its best epoch.

A node trains all its local epochs, so that a visit has one length, and hands off the parameters of the epoch after
which the mean loss on the records that it holds out was smallest. Those records are neither members nor non-members: no
gradient is taken of them, and the choice of the epoch reads them.

Source: Prechelt (1998), early stopping by a validation set. Departure: the best of all epochs, without patience.
"""

import dataclasses

from fedmia_jax import options
from fedmia_jax.defenses import contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How many records are held out."""

    held_out_every: int = options.option(10, "one in so many records of a node is held out to stop by", low=2)


def make_defense(settings: Options) -> contract.Defense:
    """Builds the hold-out; training and choice stand in `learning/stopping.py`."""
    return contract.Defense(held_out=settings.held_out_every)


EARLY_STOPPING = contract.Factory(make_defense, Options)
