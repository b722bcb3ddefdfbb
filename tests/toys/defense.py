"""A toy defence that shifts what is handed off, and one of what an outsider is answered."""

import dataclasses

import jax

from fedmia_jax import options
from fedmia_jax.defenses import contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How far parameters are moved."""

    toy_shift: float = options.option(0.0, "added to every parameter that a node hands off", traced=True)


def make_defense(settings: Options) -> contract.Defense:
    """Builds the shift; its level comes with the call."""
    del settings

    def hand_off(received, trained, key, levels):
        del received, key
        return jax.tree.map(lambda leaf: leaf + levels["toy_shift"], trained)

    return contract.Defense(hand_off=hand_off)


SHIFT = contract.Factory(make_defense, Options)
ROUNDING = contract.Factory(lambda settings: contract.Defense(answer=lambda logits, levels: logits.round()))
