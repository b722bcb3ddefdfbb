"""Attacks that give other shapes than their contract says; those of the package give the right ones."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import attacks, options
from fedmia_jax.attacks import contract, shapes
from fedmia_jax.schedule import Schedule

SETUP = contract.Setup.of(Schedule.cyclic(nodes=2, cycles=2), [np.ones(4, bool)])
DECLARED = options.declared(*(factory.options for factory in attacks.ATTACKS.values()))
VALUES = {name: declaration.default for name, declaration in DECLARED.items()}


@pytest.mark.parametrize("name", ["loss", "confidence_per_class", "lira_online", "delta_phi", "sequence_lira"])
def test_attacks_of_the_package_keep_their_contract(name):
    chosen = attacks.choose((name,), VALUES)
    for attack in attacks.make_model_attacks(chosen, num_classes=3).values():
        assert shapes.check_model_attack(attack, num_classes=3) is None
    for attack in attacks.make_reference_attacks(chosen, SETUP).values():
        assert shapes.check_reference_attack(attack, SETUP) is None


def model_attack(**changed):
    """An attack that says nothing, some of its functions exchanged."""
    made = {
        "fit": lambda key, seen, membership, weights: {},
        "score": lambda fitted, seen: seen.logits[..., 0],
        "threshold": lambda fitted: jnp.zeros(()),
        "curve": lambda fitted: jnp.zeros(1),
    }
    return contract.ModelAttack(**made | changed)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"score": lambda fitted, seen: seen.logits}, "score gives float32[5, 3], f32[5] expected for 5 records"),
        ({"score": lambda fitted, seen: seen.labels}, "score gives int32[5], f32[5]"),
        ({"score": lambda fitted, seen: None}, "score gives nothing, f32[5]"),
        ({"threshold": lambda fitted: jnp.zeros(2)}, "threshold gives float32[2], f32[] expected"),
        ({"curve": lambda fitted: jnp.zeros(())}, "curve gives float32[], f32[E] expected"),
    ],
)
def test_an_attack_on_one_model_that_gives_other_shapes(changed, line):
    assert shapes.check_model_attack(model_attack(), num_classes=3) is None
    assert shapes.check_model_attack(model_attack(**changed), num_classes=3).startswith(line)


def test_attacks_with_references_that_give_other_shapes():
    def make(score, combine=None):
        prepare = lambda fitted, node: ()  # noqa: E731
        return contract.ReferenceAttack(contract.no_fit, prepare, score, combine=combine)

    def check(attack):
        return shapes.check_reference_attack(attack, SETUP)

    assert check(make(lambda ready, phi: phi)) is None
    assert check(make(lambda ready, phi: phi[0])).startswith("score gives float32[5], f32[4, 5] expected")
    assert check(make(lambda ready, phi, sight: phi[0], contract.largest)) is None
    assert check(make(lambda ready, phi, sight: phi, contract.largest)).startswith("score gives float32[4, 5], f32[5]")
    assert check(make(lambda ready, phi, sight: phi[0], lambda scores: scores)).startswith(
        "combine gives float32[2, 5]"
    )
