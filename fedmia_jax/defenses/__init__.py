"""Defences by name: what nodes do to leak less. A new one is one file and one line in `DEFENSES`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fedmia_jax import options, registry
from fedmia_jax.defenses import answers, contract, dp_training, early_stopping, hand_off, record_noise, regularisation

DEFENSES: dict[str, contract.Factory] = {
    "randomised_response": record_noise.RANDOMISED_RESPONSE,
    "feature_noise": record_noise.FEATURE_NOISE,
    "update_noise": hand_off.UPDATE_NOISE,
    "output_perturbation": hand_off.OUTPUT_PERTURBATION,
    "weight_decay": regularisation.WEIGHT_DECAY,
    "label_smoothing": regularisation.LABEL_SMOOTHING,
    "dp_training": dp_training.DP_TRAINING,
    "early_stopping": early_stopping.EARLY_STOPPING,
    "temperature": answers.TEMPERATURE,
    "rounding": answers.ROUNDING,
    "top_classes": answers.TOP_CLASSES,
}


def find(name: str) -> contract.Factory:
    """Returns the factory of a defence by its name here, or by `package.module:name`.

    Raises:
      InputError: no such defence.
    """
    return registry.find(name, DEFENSES, contract.Factory, field="defense.names")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Defences by name with the values of all of their options, static and traced; hashable.

    Attributes:
      names: in the order in which they act.
      groups: the options of each, as its factory declares them.
    """

    names: tuple[str, ...] = ()
    groups: tuple[Any, ...] = ()

    @property
    def static(self) -> "Chosen":
        """The same with traced options at their defaults: what decides a program."""
        return Chosen(self.names, tuple(options.static(group) for group in self.groups))

    @property
    def levels(self) -> tuple[dict[str, float], ...]:
        """The traced options of each defence by name, 0 for those that are unset."""
        return tuple(
            {name: getattr(group, name) or 0.0 for name in options.traced(type(group))} for group in self.groups
        )

    def solve(self, uses: Sequence[contract.Use]) -> dict[str, Any]:
        """Returns the options that follow from others and from how the federations of a point use their records.

        Raises:
          InputError: there is no answer.
        """
        solved: dict[str, Any] = {}
        for name, group in zip(self.names, self.groups, strict=True):
            solve = find(name).solve
            with registry.calling(name, field="defense.names"):
                solved |= solve(group, uses) if solve else {}
        return solved

    def guarantees(self, use: contract.Use) -> list[tuple[str, contract.Guarantee]]:
        """Returns what each defence promises, with its name.

        Raises:
          InputError: the use makes a promise void.
        """
        stated: list[tuple[str, contract.Guarantee]] = []
        for name, group in zip(self.names, self.groups, strict=True):
            state = find(name).guarantees
            with registry.calling(name, field="defense.names"):
                stated += [(name, guarantee) for guarantee in (state(group, use) if state else ())]
        return stated

    def make(self) -> contract.Defended:
        """Returns the defences, made from their static options."""
        static, made = self.static.groups, []
        for name, group in zip(self.names, static, strict=True):
            with registry.calling(name, field="defense.names"):
                made.append(find(name).make(group))
        return contract.Defended(tuple(made), tuple(tuple(options.traced(type(group))) for group in static))


def choose(names: Sequence[str], values: Mapping[str, Any]) -> Chosen:
    """Picks the options of some defences out of a mapping that may hold more.

    Raises:
      InputError: no such defence.
    """
    return Chosen(tuple(names), tuple(options.read(find(name).options, values) for name in names))
