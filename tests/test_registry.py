"""Things by name: from a registry, or from anywhere; each wrong name is one line with the cure."""

import pytest

from fedmia_jax import errors, registry

KNOWN = {"one": 1, "two": 2}


def test_a_known_name_stands_for_its_thing():
    assert registry.find("two", KNOWN, int, field="group.names") == 2


def test_another_thing_is_imported():
    assert registry.find("string:digits", {}, str, field="group.names") == "0123456789"
    assert registry.find("fedmia_jax.schedule:AGGREGATE", KNOWN, int, field="group.names") == -1
    assert registry.find("fedmia_jax.schedule:AGGREGATE", KNOWN, str | int, field="group.names") == -1


def test_a_known_name_goes_before_an_import():
    assert registry.find("string:digits", {"string:digits": "own"}, str, field="group.names") == "own"


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("three", int, "group.names='three': must be one of one, two, or package.module:name"),
        ("", int, "group.names='': must be one of one, two, or package.module:name"),
        ("string", int, "group.names='string': must be one of one, two, or package.module:name"),
        ("no.such:name", int, "group.names='no.such:name': No module named 'no'; must be one of one, two"),
        ("string:nothing", int, "group.names='string:nothing': module 'string' has no attribute 'nothing'; must be"),
        (":name", int, "group.names=':name': Empty module name; must be one of one, two"),
        ("string:digits", int, "group.names='string:digits': is a str, not a int; must be one of one, two"),
        ("string:digits", int | float, "group.names='string:digits': is a str, not a int or float; must be one of"),
    ],
)
def test_what_is_nowhere_is_one_line(name, kind, line):
    with pytest.raises(errors.InputError) as caught:
        registry.find(name, KNOWN, kind, field="group.names")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_the_source_of_what_comes_from_outside(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_thing.py").write_text("THING = 4\n")
    assert registry.find("outside_thing:THING", {}, int, field="group.names") == 4
    assert registry.source("outside_thing:THING") == "THING = 4\n"
    assert registry.source("one") == ""
