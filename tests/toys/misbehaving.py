"""Toy things that load, and then do not do what their contract says."""

import jax.numpy as jnp
import numpy as np

from fedmia_jax import options, schedule
from fedmia_jax.attacks import contract as attacks_contract
from fedmia_jax.data import contract as data_contract
from fedmia_jax.data import records
from fedmia_jax.protocols import contract as protocols_contract

TEXT = "no factory"
NOTHING = None


def read_none(settings, /, *, name, seed):
    return None


def read_nan(settings, /, *, name, seed):
    features, labels = np.full((300, 10), np.nan, np.float32), np.arange(300, dtype=np.int32) % 3
    return records.RawRecords(features=features, labels=labels, num_classes=3, title=name)


def read_other_labels(settings, /, *, name, seed):
    features, labels = np.ones((300, 10), np.float32), np.arange(300, dtype=np.int32)
    return records.RawRecords(features=features, labels=labels, num_classes=3, title=name)


def no_protocol(settings, node):
    return None


def no_schedule(order):
    return None


def wrong_schedule(order):
    return schedule.Schedule.cyclic(nodes=2, cycles=1)


READS_NONE = data_contract.Factory(read_none, options.NoOptions)
READS_NAN = data_contract.Factory(read_nan, options.NoOptions)
OTHER_LABELS = data_contract.Factory(read_other_labels, options.NoOptions)
NO_ROUNDS = protocols_contract.Factory(no_protocol, no_schedule)
WRONG_SCHEDULE = protocols_contract.Factory(no_protocol, wrong_schedule)


def wide_scores(settings, num_classes):
    return attacks_contract.ModelAttack(
        fit=lambda key, seen, membership, weights: {},
        score=lambda fitted, seen: seen.logits,
        threshold=lambda fitted: jnp.zeros(()),
        curve=lambda fitted: jnp.zeros(1),
    )


WIDE_SCORES = attacks_contract.ModelAttackFactory(wide_scores)
