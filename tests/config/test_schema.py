"""All fields: their groups and ranges, what foreign things add, which are read, and settings; covers `__main__.py`."""

import contextlib
import dataclasses
import io
import os
import pathlib
import subprocess
import sys

import pytest

from fedmia_jax import attacks, data, defenses, errors, options, protocols
from fedmia_jax.config import __main__ as listing
from fedmia_jax.config import parsing, schema
from fedmia_jax.data import synthetic


@pytest.fixture(autouse=True)
def admitted(monkeypatch):
    """No foreign thing is known before a test, nor one of its own after it."""
    monkeypatch.setattr(schema, "_admitted", {field: {} for field in schema.REGISTRIES})


def changed(settings, **values):
    """Settings with other values; dots of names are written as double underscores."""
    return parsing.from_flat(settings.flat | {name.replace("__", "."): value for name, value in values.items()})


def test_every_field_stands_in_its_group():
    groups = {name.rpartition(".")[0] for name in schema.fields()}
    assert groups == set(schema.GROUPS)
    expected = {
        "seed", "replicates", "data.name", "data.num_federation", "model.hidden", "training.learning_rate",
        "federation.nodes", "federation.carry_optimizer_state", "federation.centralised_epochs", "defense.names",
        "shadow.count", "shadow.kind", "shadow.federations", "attack.names", "attack.views", "compute.precision",
    }  # fmt: skip
    assert expected <= set(schema.fields())


def test_what_registered_things_declare_are_fields():
    registered = {
        "data": data.READERS, "federation": protocols.PROTOCOLS, "defense": defenses.DEFENSES,
        "attack": attacks.ATTACKS,
    }  # fmt: skip
    for group, registry in registered.items():
        for factory in registry.values():
            for name, declaration in options.declared(factory.options).items():
                assert schema.fields()[f"{group}.{name}"] == declaration


@pytest.mark.parametrize("name", list(schema._fields(((),) * len(schema.REGISTRIES))))
def test_every_field_has_a_meaning_and_a_default_that_it_allows(name):
    declaration = schema.fields()[name]
    assert declaration.metadata["help"]
    assert declaration.kind in (int, float, bool, str, tuple)
    assert schema.kind(name) is declaration.kind
    assert (declaration.default is None) <= declaration.optional
    assert parsing.from_flat({name: declaration.default}) == parsing.from_flat({})


def test_traced_fields_are_numbers():
    traced = [name for name in schema.traced() if not name.startswith("defense.")]
    assert traced == ["seed", "model.dropout_rate", "training.learning_rate"]
    assert {"defense.flip_probability", "defense.update_clip", "defense.label_smoothing"} <= set(schema.traced())
    assert all(schema.kind(name) in (int, float) for name in schema.traced())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("data.nmae", "did you mean data.name?"),
        ("nodes", "did you mean federation.nodes?"),
        ("learning_rate", "did you mean training.learning_rate or attack.learning_rate?"),
        ("federation.epochs", "did you mean shadow.epochs or attack.epochs?"),
        ("trainin.batchsize", "did you mean training.batch_size?"),
        ("zzz", "python -m fedmia_jax.config lists them all"),
    ],
)
def test_a_misspelt_field_is_told_its_name(name, hint):
    assert schema.unknown_field(name) == f"{name}: no such field; {hint}"


FOREIGN = [
    ("attack.names", ("loss", "toys.attack:TOY"), "attack.toy_threshold"),
    ("data.name", "toys.reader:TOY", "data.toy_contrast"),
    ("defense.names", ("toys.defense:SHIFT",), "defense.toy_shift"),
    ("federation.kind", "toys.protocol:MEAN", "federation.toy_rate"),
]


@pytest.mark.parametrize(("field", "value", "option"), FOREIGN)
def test_foreign_things_bring_their_options(field, value, option):
    before = schema.fields()
    assert option not in before
    schema.admit(field, value)
    assert set(schema.fields()) - set(before) == {option}
    schema.admit(field, value)  # once more, which changes nothing
    assert set(schema.fields()) - set(before) == {option}


def test_only_fields_that_name_things_admit_them():
    before = schema.fields()
    for field, value in (("model.name", "toys.attack:TOY"), ("attack.names", None), ("attack.names", ("loss",))):
        schema.admit(field, value)
    assert schema.fields() == before
    schema.admit("attack.names", "[('loss',), ('toys.attack:TOY', 'loss')]")  # a sweep's text
    assert "attack.toy_threshold" in schema.fields()
    with pytest.raises(errors.InputError, match=r"attack\.names='toys\.attack:NONE': module 'toys\.attack' has no"):
        schema.admit("attack.names", ("toys.attack:NONE",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clashing:
    """Declares a field that is there, with another default."""

    num_records: int = options.option(7, "another meaning")


CLASHING = dataclasses.replace(synthetic.SYNTHETIC, options=Clashing)


def test_a_foreign_option_that_is_there_and_different_is_an_error():
    schema.admit("data.name", f"{__name__}:CLASHING")
    with pytest.raises(ValueError, match="option 'num_records' of Clashing: declared differently elsewhere"):
        schema.fields()


def test_active_fields_are_those_that_something_reads():
    settings = parsing.from_flat({})
    assert {"data.num_records", "attack.hidden", "federation.carry_optimizer_state", "seed"} <= set(settings.active)
    unread = {"data.path", "data.min_items", "attack.gamma", "attack.variance"}
    assert unread <= set(settings.flat)
    assert not unread & set(settings.active)
    assert "attack.gamma" in changed(settings, attack__names=("loss", "rmia_online")).active
    assert "attack.hidden" not in changed(settings, attack__names=("loss", "rmia_online")).active
    orders = changed(settings, data__name="orders").active
    assert "data.path" in orders
    assert "data.num_records" not in orders


@pytest.mark.parametrize(("field", "value", "option"), FOREIGN)
def test_options_of_foreign_things_are_active_while_those_are_named(field, value, option):
    default = schema.fields()[field].default
    named = parsing.from_flat({field: value, option: 0.25})
    assert named.active[option] == 0.25
    unnamed = parsing.from_flat({field: default, option: 0.25})
    assert option in unnamed.flat
    assert option not in unnamed.active


def test_settings_are_read_by_name_and_by_group():
    settings = parsing.from_flat({"seed": 3, "model.hidden": 9})
    assert settings.get("model.hidden") == 9
    assert settings.group("") == {"seed": 3, "replicates": 1}
    assert settings.group("model") == {"name": "mlp", "hidden": 9, "dropout_rate": 0.5}
    assert settings.read("", schema.Experiment) == schema.Experiment(seed=3)
    assert settings.read("shadow", schema.Shadows) == schema.Shadows()
    assert settings.read("data", synthetic.SYNTHETIC.options) == synthetic.SYNTHETIC.options()


def test_settings_with_other_values_are_other_settings():
    settings = parsing.from_flat({})
    assert changed(settings, seed=0) == settings
    assert hash(changed(settings, seed=0)) == hash(settings)
    other = changed(settings, model__hidden=9, seed=4)
    assert (other.get("model.hidden"), other.get("seed"), settings.get("seed")) == (9, 4, 0)
    assert other != settings


def test_all_fields_are_listed():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        listing.main()
    lines = out.getvalue().splitlines()
    assert [line.partition("=")[0] for line in lines[::2]] == [f"--config.{name}" for name in schema.fields()]
    assert lines[0] == "--config.seed=0"
    assert lines[1] == "    root of all randomness; traced: values of a sweep share a program"
    assert "--config.federation.centralised_epochs=" in lines
    assert "    how nodes share the records (iid, dirichlet, sizes)" in lines


def test_a_reader_that_leaves_early_is_no_error():
    """`python -m fedmia_jax.config | head -1`: one line, and nothing on standard error."""
    root = pathlib.Path(schema.__file__).parents[2]
    command = f"set -o pipefail; {sys.executable} -m fedmia_jax.config | head -1"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(["bash", "-c", command], cwd=root, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "--config.seed=0\n", "")
