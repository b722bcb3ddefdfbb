"""The registry, and what every attack in it must do; `trajectory` and `network_per_class` have no other tests."""

import dataclasses
import sys
import types as modules

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
import worlds

from fedmia_jax import attacks, errors, options, types
from fedmia_jax.attacks import contract, lira, network, signals

pytestmark = pytest.mark.usefixtures("short_fits")
NAMES = tuple(attacks.ATTACKS)
ON_ONE_MODEL, WITH_REFERENCES = attacks.on_one_model(NAMES), attacks.with_references(NAMES)
TOGETHER = ("delta_loss", "delta_phi", "delta_ratio", "peers", "sequence_lira", "trajectory", "stacked")


def test_an_attack_is_of_one_kind_and_its_options_are_documented():
    assert (*ON_ONE_MODEL, *WITH_REFERENCES) == NAMES
    assert ON_ONE_MODEL
    assert WITH_REFERENCES
    for name, factory in attacks.ATTACKS.items():
        assert attacks.find(name) is factory
        assert dataclasses.is_dataclass(factory.options)
        for declaration in options.declared(factory.options).values():
            assert declaration.metadata["help"]
    every = options.declared(*(factory.options for factory in attacks.ATTACKS.values()))
    of_rmia_and_base = {"rmia_temperature", "rmia_softmax", "gamma", "offline_a", "base_temperature", "base_scale"}
    assert set(every) == {"hidden", "epochs", "learning_rate", "batch_size", "variance", *of_rmia_and_base}


def test_the_attacks_that_read_snapshots_together_combine_nodes():
    for name in WITH_REFERENCES:
        assert (worlds.make(name).combine is not None) == (name in TOGETHER)
        assert worlds.make(name).names_nodes == (name in ("delta_phi", "sequence_lira", "trajectory", "stacked"))


def test_names_that_stand_for_nothing():
    with pytest.raises(errors.InputError, match=r"attack.names='lira2': must be one of network, .*package.module:name"):
        attacks.check(("network", "lira2"))
    with pytest.raises(
        errors.InputError,
        match=r"function, not attacks\.contract\.ModelAttackFactory or attacks\.contract\.ReferenceAttackFactory",
    ):
        attacks.find("json:loads")
    with pytest.raises(errors.InputError, match=r"attack.names=\('peers',\): name one on one model, such as network"):
        attacks.check(("peers",))
    attacks.check(("peers", "loss"))


def test_an_attack_from_elsewhere(monkeypatch):
    module = modules.ModuleType("attacks_from_elsewhere")
    module.OURS = contract.ReferenceAttackFactory(attacks.ATTACKS["calibration"].make)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    name = f"{module.__name__}:OURS"
    assert attacks.with_references((name, "loss")) == (name,)
    made = attacks.make_reference_attacks(attacks.choose((name, "loss"), {}), worlds.SETUP)
    assert set(made) == {name}
    assert attacks.signals_read(attacks.choose((name, "loss"), {})) == {name: signals.PHI}


def test_an_attack_from_elsewhere_reads_a_signal_of_its_own(monkeypatch):
    module, margin = modules.ModuleType("attacks_from_elsewhere"), signals.Signal("margin", lambda seen: seen.logits[0])
    make = attacks.ATTACKS["calibration"].make
    module.OURS = contract.ReferenceAttackFactory(make, signal=lambda settings: margin)
    module.WRONG = contract.ReferenceAttackFactory(make, signal=lambda settings: "margin")
    module.BROKEN = contract.ReferenceAttackFactory(make, signal=lambda settings: 1 / 0)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    read = attacks.signals_read(attacks.Chosen((f"{module.__name__}:OURS", "peers", "loss")))
    assert read == {f"{module.__name__}:OURS": margin, "peers": signals.PHI}
    with pytest.raises(errors.InputError, match=r"attack.names='.*:WRONG': its signal is a str, not Signal"):
        attacks.signals_read(attacks.Chosen((f"{module.__name__}:WRONG",)))
    with pytest.raises(errors.InputError, match=r"attack.names='.*:BROKEN': it raised ZeroDivisionError"):
        attacks.signals_read(attacks.Chosen((f"{module.__name__}:BROKEN",)))


def test_attacks_name_what_they_read():
    read = {name: attacks.signals_read(worlds.choose(name))[name].name for name in WITH_REFERENCES}
    apart = dict.fromkeys(("rmia_online", "rmia_offline", "base_online", "base_offline"), "phi@2.0")
    assert read == dict.fromkeys(WITH_REFERENCES, "phi") | apart
    chosen = worlds.choose("rmia_online", rmia_temperature=1.0)
    assert attacks.signals_read(chosen) == {"rmia_online": signals.PHI}
    chosen = worlds.choose("rmia_online", rmia_temperature=1.5, rmia_softmax="sm_taylor")
    assert attacks.signals_read(chosen)["rmia_online"].name == "sm_taylor@1.5"


def test_only_options_that_an_attack_declares_are_chosen():
    values = {"gamma": 1.5, "variance": "pooled", "hidden": 8, "learning_rate": 0.1, "unknown": [3]}
    chosen = attacks.choose(("network_per_class", "lira_online"), values)
    assert chosen.names == ("network_per_class", "lira_online")
    assert chosen.values == (("hidden", 8), ("learning_rate", 0.1), ("variance", "pooled"))
    assert hash(chosen) == hash(attacks.choose(chosen.names, values | {"gamma": 2.0}))
    assert attacks.choose(("loss",), values) == attacks.Chosen(("loss",))
    assert list(attacks.make_model_attacks(chosen, num_classes=3)) == ["network_per_class"]
    assert list(attacks.make_reference_attacks(chosen, worlds.SETUP)) == ["lira_online"]
    assert options.read(lira.Options, values).variance == "pooled"
    assert network.Options().epochs is None


@pytest.mark.parametrize("schedule", [worlds.CYCLIC, worlds.SHUFFLED], ids=["cyclic", "shuffled"])
@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_every_attack_with_references_tells_members_and_nothing_of_strangers(name, schedule):
    attack = worlds.make(name)
    sight = None if attack.combine is None else worlds.look(worlds.EVERYTHING, schedule)
    # A large effect under small noise: every attack must see it; without an effect none may.
    for shift, low, high in ((4.0, 0.85, 1.0), (0.0, 0.4, 0.6)):
        references, target, owners = worlds.draw_world(records=400, shift=shift, noise=0.5, schedule=schedule)
        scores = worlds.score(attack, references, target.astype(np.float32), node=1, sight=sight)
        scores = scores if sight is not None else scores[schedule.visits[1, 1]]  # the second time that node 2 trained
        some = (owners == 1) | (owners < 0)
        assert low <= worlds.auc(scores[some], (owners == 1)[some]) <= high


@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_every_attack_with_references_tells_members_of_the_union(name):
    attack, schedule = worlds.make(name), worlds.SHUFFLED
    references, target, owners = worlds.draw_world(records=400, shift=4.0, noise=0.5, schedule=schedule)
    target = target.astype(np.float32)
    if attack.combine is None:
        scores = worlds.score(attack, references, target, node=worlds.NODES)[-1]
    else:
        sight = worlds.look(worlds.EVERYTHING, schedule)
        nodes = [worlds.score(attack, references, target, node=node, sight=sight) for node in range(worlds.NODES)]
        scores = np.asarray(attack.combine(jnp.stack(nodes)))
    # Less than for a node: the largest over nodes is also that of the noise.
    assert worlds.auc(scores, owners >= 0) > 0.75


def draw_signals(seed, shape, membership, *, shift):
    """Logits of models that know members by a shift of the label's logit, larger in later classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=shape).astype(np.int32)
    logits = rng.normal(size=(*shape, 3)) + (labels / 2)[..., None] * np.eye(3)[labels]
    logits += shift * np.eye(3)[labels] * membership[..., None]
    return types.Signals(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))


@pytest.mark.parametrize("name", [name for name in ON_ONE_MODEL if name != "network"])
def test_every_attack_on_one_model_tells_members(name):
    membership = np.broadcast_to(np.arange(400) % 2 == 0, (10, 400))
    attack = worlds.make_on_one_model(name, num_classes=3)
    known = draw_signals(0, (10, 400), membership, shift=3.0)
    fitted = attack.fit(jax.random.key(0), known, jnp.asarray(membership), jnp.ones((10, 400)))
    scores = np.asarray(attack.score(fitted, draw_signals(1, (400,), membership[0], shift=3.0)))
    accuracy = ((scores > float(attack.threshold(fitted))) == membership[0]).mean()
    assert naive.auc(scores[membership[0]], scores[~membership[0]]) > 0.7
    assert accuracy > 0.65
    assert abs(float(attack.curve(fitted)[-1]) - accuracy) < 0.1
