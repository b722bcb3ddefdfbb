"""What defences promise: stated as their formulas say, for the worst replicate, and refused where it is void."""

import math

import numpy as np
import polars as pl
import pytest
import scipy.stats

from fedmia_jax import errors
from fedmia_jax.config import parsing, sweeps
from fedmia_jax.engine import guarantees
from fedmia_jax.engine.plans import runs
from fedmia_jax.report import guarantees as reported

SMALL = {
    "data": {"num_records": 400, "num_features": 12, "num_classes": 4, "num_federation": 120, "num_test": 100},
    "federation": {"nodes": 3, "cycles": 2, "local_epochs": 4},
    "shadow": {"count": 2},
}


def state(names, sweep=None, **values):
    """The guarantees of a sweep over `SMALL`."""
    flat = parsing.flat(SMALL) | {"defense.names": names} | values
    return guarantees.tabulate(runs.prepare(sweeps.expand({**parsing.nest(flat), "sweep": sweep}).points))


def gaussian_delta(epsilon, noise_multiplier):
    """Delta of one release of a sum that a difference moves by 1; Balle and Wang (2018), Theorem 8."""
    shift, slope = 0.5 / noise_multiplier, epsilon * noise_multiplier
    normal = scipy.stats.norm.cdf
    return normal(shift - slope) - math.exp(epsilon) * normal(-shift - slope)


def test_noise_on_hand_offs_protects_a_node_over_its_visits():
    """Two updates within a norm are twice the norm apart; two releases are one with less noise."""
    stated = state(("update_noise",), {"defense.update_noise": [0.0, 2.0, 8.0]}, replicates=2)
    assert stated["protects"].to_list() == ["the records of a node"] * 3
    assert stated["epsilon"][0] == np.inf
    for row, noise in zip(stated.rows(named=True)[1:], (2.0, 8.0), strict=True):
        assert row["delta"] == 1e-5
        np.testing.assert_allclose(gaussian_delta(row["epsilon"], noise / 2 / math.sqrt(2)), 1e-5, rtol=1e-4)
    table = reported.make_table(stated, swept=("defense.update_noise",))
    assert [row[0] for row in table.rows] == ["0.0", "2.0", "8.0"]
    assert table.rows[0][4] == "infinite"


def test_noise_on_the_last_model_protects_everybody_against_who_sees_it_alone():
    (row,) = state(("output_perturbation",), **{"defense.output_noise": 6.0}).rows(named=True)
    np.testing.assert_allclose(gaussian_delta(row["epsilon"], 3.0), 1e-5, rtol=1e-4)
    assert state(("output_perturbation",), **{"federation.cycles": 0}).is_empty()


@pytest.mark.parametrize(("fresh", "draws"), [(False, 1), (True, 8)])
def test_flips_protect_bits_and_records(fresh, draws):
    values = {"defense.flip_probability": 0.25, "defense.fresh_noise": fresh}
    bit, record = state(("randomised_response",), **values).rows(named=True)
    np.testing.assert_allclose([bit["epsilon"], record["epsilon"]], draws * np.log(3.0) * np.array([1, 12]))
    assert bit["delta"] == 0.0


def test_noise_is_solved_for_a_stated_epsilon():
    """Once for all replicates of a point; it is a setting like any other from there on."""
    values = {
        "defense.names": ("dp_training",),
        "data.partition": "dirichlet",
        "training.batch_size": 4,
        "replicates": 2,
    }
    flat = parsing.flat(SMALL) | values
    points = sweeps.expand({**parsing.nest(flat), "sweep": {"defense.target_epsilon": [2.0, 8.0]}}).points
    every_run = runs.prepare(points)
    stated = guarantees.tabulate(every_run)
    np.testing.assert_allclose(stated["epsilon"], [2.0, 8.0], rtol=0.02)
    assert (stated["epsilon"] <= np.array([2.0, 8.0])).all()
    noises = [run.settings.get("defense.noise_multiplier") for run in every_run]
    assert noises[0] == noises[1] > noises[2] == noises[3]
    assert [float(noise) for noise in runs.hyper(every_run).levels[0]["noise_multiplier"]] == pytest.approx(noises)


def test_what_promises_nothing_says_nothing():
    assert state(("weight_decay", "label_smoothing", "feature_noise")).is_empty()
    assert state(()).is_empty()


REFUSED = [
    (
        ("update_noise",),
        {"federation.carry_optimizer_state": True},
        "federation.carry_optimizer_state=True: defense.na",
    ),
    (("feature_noise", "randomised_response"), {}, "defense.names='randomised_response': flips bits, and the features"),
    (
        ("randomised_response",),
        {"defense.flip_probability": 0.6},
        "defense.flip_probability=0.6: must be between 0 and",
    ),
    (("feature_noise",), {"defense.feature_noise": -1.0}, "defense.feature_noise=-1.0: must be at least 0"),
    (("update_noise",), {"defense.update_clip": 0.0}, "defense.update_clip=0.0: must be greater than 0"),
    (("update_noise",), {"defense.update_noise": -0.1}, "defense.update_noise=-0.1: must be at least 0"),
    (("output_perturbation",), {"defense.output_clip": -1.0}, "defense.output_clip=-1.0: must be greater than 0"),
    (("dp_training",), {"defense.target_epsilon": 0.0}, "defense.target_epsilon=0.0: must be between 0.01 and 100"),
    (("dp_training",), {"defense.target_epsilon": -1.0}, "defense.target_epsilon=-1.0: must be between 0.01 and 100"),
    (("dp_training",), {"defense.delta": 1.0}, "defense.delta=1.0: must be between"),
    (("dp_training",), {"defense.noise_multiplier": -1.0}, "defense.noise_multiplier=-1.0: must be at least 0"),
    (("dp_training",), {"defense.clip": 0.0}, "defense.clip=0.0: must be greater than 0"),
    (("dp_training",), {"training.batch_size": 64}, "training.batch_size=64: defense.names='dp_training' draws each"),
    (
        ("dp_training",),
        {"defense.target_epsilon": 1.0, "defense.batches": "shuffled"},
        "defense.target_epsilon=1.0: no epsilon is stated for defense.batches='shuffled'",
    ),
    (("update_noise",), {"defense.delta": 0.0}, "defense.delta=0.0: must be between"),
    (("label_smoothing",), {"defense.label_smoothing": 1.5}, "defense.label_smoothing=1.5: must be between 0 and 1"),
    (("early_stopping",), {"defense.held_out_every": 1}, "defense.held_out_every=1: must be at least 2"),
    (("early_stopping",), {"defense.held_out_every": 50}, "defense.held_out_every=50: a node has 40 records, of which"),
    (("early_stopping",), {"data.canary_rate": 0.5}, "data.canary_rate=0.5: coins say which records are trained on"),
    (("weight_decay",), {"defense.weight_decay": -1.0}, "defense.weight_decay=-1.0: must be at least 0"),
]


@pytest.mark.parametrize(
    ("names", "values", "line"), REFUSED, ids=[f"{'+'.join(names)}-{n}" for n, (names, *_) in enumerate(REFUSED)]
)
def test_bad_settings_are_one_line(names, values, line):
    with pytest.raises(errors.InputError) as caught:
        state(names, **values)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_levels_of_many_fields_are_told_in_one_column():
    """What a row sets otherwise than most rows; the defence has a column of its own."""
    fields = ("defense.names", "defense.clip_norm", "defense.noise_multiplier", "defense.flip_probability")
    usual = {"defense.names": "('a',)", "defense.clip_norm": 1.0, "defense.noise_multiplier": 1.0}
    usual |= {"defense.flip_probability": 0.0, **dict.fromkeys(reported.COLUMNS, "x")}
    rows = [usual, usual, usual | {"defense.noise_multiplier": 0.5}, usual | {"defense.flip_probability": 0.1}]
    table = reported.make_table(pl.DataFrame(rows), swept=fields)
    assert table.header == ["level", *reported.COLUMNS]
    assert [row[0] for row in table.rows] == ["", "", "noise_multiplier 0.5", "flip_probability 0.1"]
    few = reported.make_table(pl.DataFrame(rows), swept=fields[:2])
    assert few.header == [*fields[:2], *reported.COLUMNS]
