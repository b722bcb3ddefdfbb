"""Toy federations whose best attack is known, and how attacks are asked in tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.metrics

from fedmia_jax import attacks, options
from fedmia_jax.attacks import contract
from fedmia_jax.schedule import Schedule

NODES, CYCLES, REFERENCES, RECORDS = 3, 2, 24, 60
SNAPSHOTS = NODES * CYCLES
SETUP = contract.Setup.of(Schedule.cyclic(nodes=NODES, cycles=SNAPSHOTS // NODES), [np.ones(SNAPSHOTS, bool)])
CYCLIC = Schedule.cyclic(nodes=NODES, cycles=CYCLES)
FOUR = Schedule.cyclic(nodes=1, cycles=4)  # of `gaussian_toy`
SHUFFLED = Schedule.sequential(np.array([[2, 0, 1], [1, 2, 0]]))
EVERYTHING = np.ones(SNAPSHOTS, bool)


def draw_world(seed=0, *, records=RECORDS, references=REFERENCES, shift=2.0, noise=1.0, schedule=CYCLIC):
    """References and one target where a visit to node j lifts its members by `shift`, which halves at each hand-off."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=records)

    def hand_offs(snapshot, node):
        """How many hand-offs after its last visit to a node a snapshot was made; None before the first."""
        visits = [earlier for earlier in range(snapshot + 1) if schedule.trainer[earlier] == node]
        return snapshot - visits[-1] if visits else None

    def say(owners):
        ages = [[hand_offs(snapshot, node) for node in range(NODES)] for snapshot in range(SNAPSHOTS)]
        known = np.array([[0.0 if age is None else 0.5**age for age in row] for row in ages])
        known = np.where(owners >= 0, known[:, owners], 0.0)
        return difficulty + shift * known + noise * rng.normal(size=(SNAPSHOTS, records))

    def deal():
        owners = rng.integers(NODES, size=records)
        owners[rng.permutation(records)[: records // 2]] = -1
        return owners

    owners = np.stack([deal() for _ in range(references)])
    phi, target = np.stack([say(each) for each in owners]), deal()
    return contract.KnownRecords(jnp.asarray(phi), jnp.asarray(owners, jnp.int32)), jnp.asarray(say(target)), target


def gaussian_toy(seed=0, *, records=800, references=128):
    """Trajectories with a known law: record means, one covariance, a shift of every snapshot with membership."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(4, 4)) / 2
    covariance, shift = root @ root.T + 0.5 * np.eye(4), np.array([0.5, 1.0, 0.2, 0.8])
    means = 2 * rng.normal(size=(4, records))

    def say(members):
        noise = rng.multivariate_normal(np.zeros(4), covariance, size=records).T
        return means + shift[:, None] * members + noise

    members = rng.random((references, records)) < 0.5
    phi = np.stack([say(each) for each in members])
    owners = jnp.asarray(np.where(members, 0, -1), jnp.int32)
    known = contract.KnownRecords(jnp.asarray(phi, jnp.float32), owners)
    targets = rng.random((60, records)) < 0.5
    phi = jnp.asarray(np.stack([say(each) for each in targets]), jnp.float32)
    return known, phi, targets, covariance, shift


def look(mask, schedule=CYCLIC):
    """What an adversary sees who sees some snapshots of a federation."""
    return contract.Sight(jnp.asarray(mask), jnp.asarray(schedule.before), jnp.asarray(schedule.visits))


@functools.cache
def compiled(attack):
    """Fit, preparation and score of an attack, compiled once for each shape."""
    return tuple(jax.jit(each) for each in (attack.fit, attack.prepare, attack.score))


def score(attack, references, phi, *, node=NODES, sight=None):
    """What an attack says of a target."""
    fit, prepare, say = compiled(attack)
    ready = prepare(fit(jax.random.key(0), references), jnp.int32(node))
    return np.asarray(say(ready, phi) if sight is None else say(ready, phi, sight))


def score_all(attack, references, phi, sight=None):
    """What an attack says of several targets."""
    ready = attack.prepare(attack.fit(jax.random.key(0), references), jnp.int32(0))
    seen = () if sight is None else (sight,)
    return np.asarray(jax.jit(jax.vmap(lambda of_target: attack.score(ready, of_target, *seen)))(phi))


def auc(scores, members):
    """Area under the ROC of a boolean mask."""
    return sklearn.metrics.roc_auc_score(members.reshape(-1), scores.reshape(-1))


def choose(name, **values):
    """An attack with its default options, but for some."""
    declared = options.declared(*(factory.options for factory in attacks.ATTACKS.values()))
    return attacks.choose((name,), {option: each.default for option, each in declared.items()} | values)


def make_on_one_model(name, *, num_classes, **values):
    """An attack on one model by name."""
    return attacks.make_model_attacks(choose(name, **values), num_classes=num_classes)[name]


@functools.cache
def make(name, **values):
    """An attack with references by name, for the toy federation."""
    return attacks.make_reference_attacks(choose(name, **values), SETUP)[name]
