"""The order of places by group, beside NumPy's."""

import jax
import numpy as np
import pytest

from fedmia_jax.attacks import grouping


@pytest.mark.parametrize("most", [grouping.MOST, 0])
@pytest.mark.parametrize(("size", "num_groups"), [(1, 1), (7, 3), (1000, 3), (1000, 101)])
def test_order_is_a_stable_sort(monkeypatch, size, num_groups, most):
    monkeypatch.setattr(grouping, "MOST", most)
    groups = np.random.default_rng(size).integers(0, num_groups, size).astype(np.int32)
    ours = grouping.order(jax.numpy.asarray(groups), num_groups=num_groups)
    np.testing.assert_array_equal(ours, np.argsort(groups, kind="stable"))
    assert ours.dtype == np.int32


def test_more_than_a_number_holds_is_sorted_by_pairs():
    def sorts(size, num_groups):
        shape = jax.ShapeDtypeStruct((size,), np.int32)
        return jax.make_jaxpr(lambda groups: grouping.order(groups, num_groups=num_groups))(shape).pretty_print()

    assert "num_keys=1" in sorts(2**20, 2**12)
    assert "u32" in sorts(2**20, 2**12)
    assert "u32" not in sorts(2**20, 2**12 + 1)
