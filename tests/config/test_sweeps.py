"""Points of a sweep: which there are, and which are refused."""

import pytest

from fedmia_jax import errors
from fedmia_jax.config import parsing, sweeps


def expand(sweep, **groups):
    """The points of a config with this `sweep`."""
    return sweeps.expand({**groups, "sweep": sweep})


def test_without_a_sweep_there_is_one_point():
    for sweep in (None, {}, []):
        swept = expand(sweep, seed=3)
        assert swept.names == ()
        assert [point.settings for point in swept.points] == [parsing.from_config({"seed": 3})]
        assert swept.points[0].values == {}


def test_a_mapping_gives_every_combination_the_last_field_fastest():
    swept = expand({"federation.nodes": [3, 10], "training.learning_rate": [0.1, 1]}, seed=5)
    assert swept.names == ("federation.nodes", "training.learning_rate")
    values = [tuple(point.settings.get(name) for name in swept.names) for point in swept.points]
    assert values == [(3, 0.1), (3, 1.0), (10, 0.1), (10, 1.0)]
    assert {point.settings.get("seed") for point in swept.points} == {5}
    assert swept.points[2].values == {"federation.nodes": 10, "training.learning_rate": 0.1}


def test_a_list_gives_its_points():
    swept = expand(
        [{"seed": 1, "model.hidden": 8}, {"model.hidden": 9, "seed": 1}], model={"dropout_rate": 0.1, "hidden": 4}
    )
    assert [point.values for point in swept.points] == [{"seed": 1, "model.hidden": 8}, {"seed": 1, "model.hidden": 9}]
    assert {point.settings.get("model.dropout_rate") for point in swept.points} == {0.1}


def test_a_config_dict_takes_both_forms():
    for sweep in ({"seed": [1, 2]}, [{"seed": 1}, {"seed": 2}]):
        values = parsing.make_config()
        values.sweep = sweep
        assert [point.settings.get("seed") for point in sweeps.expand(values).points] == [1, 2]


@pytest.mark.parametrize(
    ("sweep", "line"),
    [
        ({"federation.node": [3]}, "sweep.federation.node: no such field; did you mean federation.nodes?"),
        ({"replicates": [1, 2]}, "sweep.replicates: set replicates itself; every point gets as many"),
        ({"seed": 3}, "sweep.seed=3: expected a list of one or more values"),
        ({"seed": []}, "sweep.seed=[]: expected a list of one or more values"),
        ({"seed": [1, 2, 1]}, "sweep={'seed': 1}: the same as point 1; take one of them out"),
        ({"federation.nodes": [3, 0]}, "federation.nodes=0: must be at least 1"),
        ({"federation.nodes": [3, "x"]}, "federation.nodes=x: expected an integer (participants)"),
        ("seed", "sweep='seed': expected a mapping of field to list of values, or a list of those"),
        ([{"seed": 1}, {"model.hidden": 1}], "sweep: point 2 sets model.hidden, point 1 seed; every point sets the"),
        ([{"seed": 1}, 4], "sweep: point 2 is 4; expected a mapping of field to value"),
    ],
)
def test_what_cannot_be_swept_ends_with_its_line(sweep, line):
    with pytest.raises(errors.InputError) as caught:
        expand(sweep)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("seed", "1,2, 3", [1, 2, 3]),
        ("training.learning_rate", "0.1", [0.1]),
        ("training.optimizer", "adam,sgd", ["adam", "sgd"]),
        ("federation.carry_optimizer_state", "True,False", [True, False]),
        ("shadow.epochs", "None,3", [None, 3]),
        ("attack.names", "[('network',), ('network', 'loss')]", [("network",), ("network", "loss")]),
    ],
)
def test_flags_are_read_as_values(name, text, values):
    assert sweeps.parse(name, text) == values


def test_more_points_than_can_be_planned_are_refused_before_they_are_made():
    thousand = list(range(1000))
    with pytest.raises(errors.InputError, match=r"sweep: 1,000,000,000 points, at most 100,000 can be"):
        expand({"seed": thousand, "data.seed": thousand, "federation.cycles": thousand})
