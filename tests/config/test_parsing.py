"""Values from files and flags: types, ranges, fields that contradict each other; each wrong one is one line."""

import ml_collections
import pytest

from fedmia_jax import config as configs
from fedmia_jax import errors
from fedmia_jax.config import parsing, schema


def line_of(values):
    """The line that these values end with, by dotted name."""
    with pytest.raises(errors.InputError) as caught:
        parsing.from_flat(values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_config_without_changes_is_the_defaults():
    config = configs.make_config()
    settings = parsing.from_config(config)
    assert settings == parsing.from_flat({}) == parsing.from_config({})
    assert settings.flat == {name: declaration.default for name, declaration in schema.fields().items()}
    assert config.sweep is None


def test_a_config_dict_is_typed_and_may_be_changed():
    config = parsing.make_config()
    config.federation.nodes = 7
    config.data.path = "file.csv"
    config.shadow.epochs = 3  # a field without a default is still of its type
    with pytest.raises(TypeError):
        config.shadow.epochs = "three"
    with pytest.raises(TypeError):
        config.federation.nodes = "three"
    settings = parsing.from_config(config)
    assert [settings.get(name) for name in ("federation.nodes", "data.path", "shadow.epochs")] == [7, "file.csv", 3]
    config.federation.node = 3
    with pytest.raises(errors.InputError, match=r"federation\.node: no such field; did you mean federation\.nodes\?"):
        parsing.from_config(config)


def test_mappings_of_every_kind_are_read():
    nested = {"seed": 2, "model": {"hidden": 5}}
    expected = parsing.from_flat({"seed": 2, "model.hidden": 5})
    assert parsing.from_config(nested) == expected
    assert parsing.from_config(ml_collections.ConfigDict(nested)) == expected
    assert parsing.from_config({**nested, "sweep": {"seed": [1, 2]}}) == expected


def test_flat_and_nested_values_come_from_each_other():
    nested = {"a": 1, "b": {"c": 2, "d": {"e": (3,)}}}
    flat = {"a": 1, "b.c": 2, "b.d.e": (3,)}
    assert parsing.flat(nested) == flat
    assert parsing.nest(flat) == nested
    assert parsing.nest(parsing.from_flat({}).flat)["model"] == {"name": "mlp", "hidden": 128, "dropout_rate": 0.5}
    assert parsing.plain({**nested, "sweep": {"a": [1]}}) == nested


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("training.learning_rate", 1, 1.0),
        ("data.num_classes", None, None),
        ("data.sizes", [1, 2, 3], (1.0, 2.0, 3.0)),
        ("attack.names", "loss", ("loss",)),
        ("attack.names", ["loss", "network"], ("loss", "network")),
        ("data.cluster", True, True),
    ],
)
def test_values_become_those_of_their_type(name, value, kept):
    others = {"data.partition": "sizes"} if name == "data.sizes" else {}
    result = parsing.from_flat({name: value, **others}).get(name)
    assert result == kept
    assert type(result) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("seed", 1.5, "seed=1.5: expected an integer (root of all randomness)"),
        ("seed", True, "seed=True: expected an integer (root of all randomness)"),
        ("seed", None, "seed=None: expected an integer (root of all randomness)"),
        ("model.dropout_rate", True, "model.dropout_rate=True: expected a number (share of hidden units dropped in"),
        ("data.cluster", 1, "data.cluster=1: expected True or False (relabel with k-means"),
        ("model.name", 3, "model.name=3: expected a text (network, a name in"),
        ("data.sizes", ("a",), "data.sizes=a: expected one or more, each a number (share of each node"),
        ("attack.names", (1,), "attack.names=1: expected one or more, each a text (attacks to run"),
        ("federation.nodes", {"a": 1}, "federation.nodes={'a': 1}: expected an integer (participants)"),
    ],
)
def test_a_wrong_type_is_one_line(name, value, line):
    assert line_of({name: value}).startswith(line)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("federation.nodes", 0, "federation.nodes=0: must be at least 1"),
        ("model.dropout_rate", 1.0, "model.dropout_rate=1.0: must be between 0 and 0.99"),
        ("model.dropout_rate", -0.1, "model.dropout_rate=-0.1: must be between 0 and 0.99"),
        ("training.learning_rate", 0, "training.learning_rate=0.0: must be greater than 0"),
        ("training.learning_rate", float("inf"), "training.learning_rate=inf: must be a finite number"),
        ("training.learning_rate", float("nan"), "training.learning_rate=nan: must be a finite number"),
        ("training.optimizer", "lion", "training.optimizer='lion': must be one of adam, sgd"),
        ("compute.precision", "low", "compute.precision='low': must be one of highest, high, default"),
        ("federation.order", "sorted", "federation.order='sorted': must be one of fixed, random, random_no_repeat"),
        ("seed", 2**31, "seed=2147483648: must be between 0 and 2.14748e+09"),
    ],
)
def test_a_value_out_of_its_range_is_one_line(name, value, line):
    assert line_of({name: value}) == line


@pytest.mark.parametrize("name", ["federation.nodes", "seed", "model.dropout_rate"])
def test_the_ends_of_a_range_are_inside(name):
    metadata = schema.fields()[name].metadata
    for bound in ("low", "high"):
        if metadata[bound] is not None:
            assert parsing.from_flat({name: metadata[bound]}).get(name) == metadata[bound]


def test_fields_that_do_not_exist_are_one_line():
    assert line_of({"federation.node": 3}) == "federation.node: no such field; did you mean federation.nodes?"
    assert line_of({"federation": 3}) == "federation=3: a group of fields, not a value"
    assert line_of({"defense.names": ("toys.defense:SHIFT",), "defense.toy_shfit": 1.0}).startswith(
        "defense.toy_shfit: no such field; did you mean defense.toy_shift?"
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"federation.nodes": 5, "data.num_federation": 4},
            "federation.nodes=5: more nodes than data.num_federation=4 records; use fewer nodes or more records",
        ),
        ({"shadow.federations": 3}, "shadow.federations=3: a record must be in some references and not in others;"),
        (
            {"shadow.federations": 8, "federation.cycles": 0},
            "shadow.federations=8: federation.cycles=0 leaves nothing to compare",
        ),
        ({"data.sizes": (1, 2)}, "data.sizes=(1.0, 2.0): only data.partition=sizes reads it, not iid"),
        ({"data.partition": "sizes", "data.sizes": (1, 2)}, "data.sizes=(1.0, 2.0): data.partition=sizes needs one"),
    ],
)
def test_fields_that_contradict_each_other_are_one_line(values, line):
    assert line_of(values).startswith(line)


def test_the_argument_of_a_config_file_is_checked():
    configs.check_arg("quick", known=("", "quick", "full"))
    configs.check_arg("", known=("",))
    for known, names in ((("", "quick", "full"), "quick, full"), (("",), "nothing")):
        with pytest.raises(errors.InputError) as caught:
            configs.check_arg("quik", known=known)
        assert str(caught.value) == f"--config=...:quik: unknown argument; the file knows {names}"
