"""The configs of the repository: every form is a sweep of distinct points, and forms compare what they say."""

import importlib
import pathlib

import pytest

from fedmia_jax.config import sweeps

ROOT = pathlib.Path(__file__).resolve().parents[2]
MITIGATIONS = importlib.import_module("configs.mitigations")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_config_is_a_sweep(path):
    assert sweeps.expand(importlib.import_module(f"configs.{path.stem}").get_config()).points


@pytest.mark.parametrize("arg", ["", "quick", *MITIGATIONS.FORMS])
def test_every_comparison_begins_without_a_defence(arg):
    swept = sweeps.expand(MITIGATIONS.get_config(arg))
    assert swept.points[0].values["defense.names"] == ()
    assert len(swept.points) > 1


def test_the_frontier_is_of_the_size_that_is_stated():
    """At most 25 trained levels, at least three of every kind of defence."""
    points = sweeps.expand(MITIGATIONS.get_config()).points
    assert len(points) <= 25
    names = [point.values["defense.names"] for point in points]
    kinds = (("randomised_response",), ("update_noise", "output_perturbation"), ("dp_training",))
    kinds += (("weight_decay", "label_smoothing"), ("temperature", "rounding", "top_classes"))
    for kind in kinds:
        assert sum(bool(set(kind) & set(of_point)) for of_point in names) >= 3


def test_cycles_compare_equal_work():
    work = []
    for point in sweeps.expand(MITIGATIONS.get_config("cycles")).points:
        cycles, epochs = point.settings.get("federation.cycles"), point.settings.get("federation.local_epochs")
        assert cycles * epochs == MITIGATIONS.WORK or cycles == 1
        work.append(cycles * epochs)
    assert work.count(MITIGATIONS.WORK) == 2 * 5


def test_audits_are_of_forty_runs_a_level():
    fields = ("defense.names", "defense.target_epsilon", "defense.noise_multiplier")
    points = sweeps.expand(MITIGATIONS.get_config("audit")).points
    levels = [tuple(point.values[field] for field in fields) for point in points]
    assert {levels.count(level) for level in levels} == {40}
    assert len(set(levels)) == 2 + len(MITIGATIONS.EPSILONS)
