"""Things by name: from a registry, or from anywhere; each wrong name is one line with the cure."""

import sys

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
        ("string:digits", int, "group.names='string:digits': str, not int; must be one of one, two"),
        ("string:digits", int | float, "group.names='string:digits': str, not int or float; must be one of"),
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
    assert registry.sources("outside_thing:THING") == {"outside_thing.py": "THING = 4\n"}
    assert registry.sources("one") == {}


def test_the_sources_of_what_a_foreign_module_imports(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_deep.py").write_text("SCALE = 2\n")
    (tmp_path / "outside_helper.py").write_text("from outside_deep import SCALE\nimport numpy\n")
    (tmp_path / "outside_net.py").write_text(
        "import json\nimport outside_helper\nfrom fedmia_jax import errors\nTHING = 1\n"
    )
    registry.find("outside_net:THING", {}, int, field="group.names")
    assert set(registry.sources("outside_net:THING")) == {"outside_net.py", "outside_helper.py", "outside_deep.py"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("THING = 1/0", "importing it raised ZeroDivisionError: division by zero"),
        ("THING = (", "importing it raised SyntaxError: '(' was never closed"),
        ("import sys\nsys.exit(3)", "importing it raised SystemExit: exit code 3"),
        ("raise ImportError('gone')", "gone; must be one of"),
    ],
)
def test_a_foreign_module_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, text, line):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_broken.py").write_text(text)
    with pytest.raises(errors.InputError) as caught:
        registry.find("outside_broken:THING", {"one": 1}, int, field="group.names")
    assert str(caught.value).startswith(f"group.names='outside_broken:THING': {line}")
    sys.modules.pop("outside_broken", None)


def test_whoever_raised_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_raises.py").write_text("def fail():\n    return 1 / 0\nTHING = 1\n")
    registry.find("outside_raises:THING", {}, int, field="group.names")
    with pytest.raises(ZeroDivisionError) as caught:
        sys.modules["outside_raises"].fail()
    line = str(registry.blame(caught.value))
    assert line.startswith("group.names='outside_raises:THING': ")
    assert line.endswith("outside_raises.py:2 raised ZeroDivisionError: division by zero")
    assert registry.blame(ValueError("ours")) is None
