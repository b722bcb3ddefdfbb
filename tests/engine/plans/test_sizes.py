"""What cannot be held is refused, and names the fields; what is just within the bounds is not."""

import pytest

from fedmia_jax import errors
from fedmia_jax.config import parsing
from fedmia_jax.engine import chunks
from fedmia_jax.engine.plans import sizes


def settings(**values):
    """Settings by dotted name with double underscores."""
    return parsing.from_flat({name.replace("__", "."): value for name, value in values.items()})


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"federation__cycles": 10**8}, "federation.nodes=3, federation.cycles=100000000: takes 9.78 GiB of memory"),
        ({"shadow__count": 10**6}, "shadow.count=1000000, shadow.num_train=None: takes 37.3 GiB"),
        ({"shadow__count": 10**5, "shadow__num_train": 10**4}, "shadow.count=100000, shadow.num_train=10000: takes 3"),
        ({"shadow__federations": 10**6}, "shadow.federations=1000000, data.num_federation=10000, data.num_test=10000"),
    ],
)
def test_what_a_replicate_draws_must_fit(values, line):
    with pytest.raises(errors.InputError) as refused:
        sizes.check(settings(**values))
    assert str(refused.value).startswith(line)


def test_sizes_of_ordinary_experiments_are_not_refused():
    sizes.check(settings())
    sizes.check(settings(federation__nodes=100, federation__cycles=1000, shadow__count=1000, shadow__federations=1000))


def test_models_of_a_sweep_are_counted_together():
    each = settings(replicates=100, shadow__count=98)  # ten thousand models
    sizes.check_count([each] * 100)
    with pytest.raises(errors.InputError, match="more than 1,000,000 models; use fewer"):
        sizes.check_count([each] * 101)


def test_the_smallest_piece_of_work_must_fit_the_memory():
    unit = chunks.Unit("a", "a", None, steps=1.0, nbytes=2**30, fixed_nbytes=2**29)
    sizes.check_units({"training": [unit], "nothing": []}, budget=3 * 2**29)
    with pytest.raises(errors.InputError, match=r"--memory_gib=1: training needs 1\.5 GiB at once; give more"):
        sizes.check_units({"training": [unit]}, budget=2**30)
