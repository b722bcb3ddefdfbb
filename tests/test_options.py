"""Options: declared once, collected, read out of mappings, and told apart by what a program takes as an argument."""

import dataclasses

import pytest

from fedmia_jax import options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """A group with an option of every kind."""

    rate: float = options.option(0.1, "step size", above=0.0, traced=True)
    batch_size: int = options.option(32, "records per update", low=1, high=10)
    epochs: int | None = options.option(None, "passes", low=1)
    name: str = options.option("adam", "optimizer", choices=("adam", "sgd"))
    carry: bool = options.option(False, "hand on")
    shares: tuple[float, ...] = options.option((), "shares")


@dataclasses.dataclass(frozen=True, kw_only=True)
class More:
    """Shares `rate` with the group above, declared equally."""

    rate: float = options.option(0.1, "step size", above=0.0, traced=True)
    width: int = options.option(64, "units", low=1)


def test_declarations_say_type_default_and_range():
    declared = options.declared(Steps)
    assert list(declared) == ["rate", "batch_size", "epochs", "name", "carry", "shares"]
    kinds = {name: declaration.kind for name, declaration in declared.items()}
    assert kinds == {
        "rate": float, "batch_size": int, "epochs": int, "name": str, "carry": bool, "shares": tuple,
    }  # fmt: skip
    assert [name for name, declaration in declared.items() if declaration.optional] == ["epochs"]
    assert [name for name, declaration in declared.items() if declaration.traced] == ["rate"]
    assert {name: declaration.default for name, declaration in declared.items()} == dataclasses.asdict(Steps())
    bounds = ("low", "high", "above", "choices")
    assert [declared["batch_size"].metadata[bound] for bound in bounds] == [1, 10, None, ()]
    assert [declared["rate"].metadata[bound] for bound in bounds] == [None, None, 0.0, ()]
    assert declared["name"].metadata["choices"] == ("adam", "sgd")
    assert declared["carry"].metadata["help"] == "hand on"


def test_groups_are_collected_in_order_and_may_share_an_option():
    assert list(options.declared(More, Steps)) == ["rate", "width", "batch_size", "epochs", "name", "carry", "shares"]
    assert options.declared() == options.declared(options.NoOptions) == {}


@pytest.mark.parametrize(
    ("hint", "changes"),
    [
        (float, {"default": 0.2}),
        (float, {"help_text": "another meaning"}),
        (float, {"above": None, "low": 0.0}),
        (float, {"traced": False}),
        (int, {}),
        (float | None, {}),
    ],
    ids=str,
)
def test_an_option_that_is_declared_twice_differently_is_an_error(hint, changes):
    field = {"default": 0.1, "help_text": "step size", "above": 0.0, "traced": True} | changes
    other = dataclasses.make_dataclass("Other", [("rate", hint, options.option(**field))], frozen=True)
    with pytest.raises(ValueError, match="option 'rate' of Other: declared differently elsewhere"):
        options.declared(Steps, other)


def test_a_group_is_read_out_of_a_mapping_that_holds_more():
    values = {"rate": 0.5, "width": 3, "depth": 9}
    assert options.read(More, values) == More(rate=0.5, width=3)
    assert options.read(options.NoOptions, values) == options.NoOptions()
    with pytest.raises(KeyError):
        options.read(Steps, values)


def test_groups_that_differ_in_traced_options_share_a_program():
    groups = [Steps(rate=rate, batch_size=size) for rate in (0.1, 0.2) for size in (1, 2)]
    assert len(set(groups)) == 4
    assert len({options.static(group) for group in groups}) == 2
    assert options.static(groups[-1]) == Steps(batch_size=2)
    assert list(options.traced(Steps)) == ["rate"]
    assert options.static(options.NoOptions()) == options.NoOptions()


@pytest.mark.parametrize(
    ("hint", "kind"),
    [(int, int), (int | None, int), (None | str, str), (tuple[float, ...], tuple), (tuple[str, ...] | None, tuple)],
    ids=str,
)
def test_the_plain_type_behind_an_annotation(hint, kind):
    assert options.plain_type(hint) is kind


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Steps().rate = 0.2
