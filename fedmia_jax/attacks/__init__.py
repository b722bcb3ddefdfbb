"""The attacks: one file a family, one contract, one line each in `ATTACKS`.

An attack is a fit and a score. `fit` sees the adversary's own shadows, whose membership it knows; `score` then reads
the signals of any snapshot. Thresholds come from the shadows, never from the records under attack.
"""

from collections.abc import Callable

from fedmia_jax import config, errors
from fedmia_jax.attacks import contract, network

ATTACKS: dict[str, Callable[..., contract.Attack]] = {"network": network.make_attack}


def make_attacks(settings: config.Attack, *, num_classes: int) -> dict[str, contract.Attack]:
    """Returns the attacks that the settings name, in their order.

    Raises:
      InputError: a name that is not in `ATTACKS`, or no name at all.
    """
    known = f"must be some of {', '.join(ATTACKS)}"
    if not settings.names:
        raise errors.InputError(f"attack.names={settings.names!r}: {known}")
    for name in settings.names:
        if name not in ATTACKS:
            raise errors.InputError(f"attack.names={settings.names!r}: no attack {name!r}; {known}")
    return {name: ATTACKS[name](settings, num_classes=num_classes) for name in settings.names}
