"""BASE against its formula in float64, and against RMIA, which orders records alike."""

import naive
import numpy as np
import pytest
import scipy.stats
import worlds


@pytest.mark.parametrize("scale", [0.33, 0.8])
@pytest.mark.parametrize("online", [True, False])
def test_base_is_the_formula(double, online, scale):
    references, target, _ = worlds.draw_world()
    attack = worlds.make("base_online" if online else "base_offline", base_scale=scale)
    scores = worlds.score(attack, references, target)
    for t in (0, 4):
        expected = naive.base(
            np.asarray(target)[t], np.asarray(references.phi)[:, t], np.asarray(references.owners),
            None if online else scale,
        )  # fmt: skip
        np.testing.assert_allclose(scores[t], expected, atol=1e-8)


def test_base_and_rmia_order_records_alike(double):
    references, target, _ = worlds.draw_world(1)
    base, rmia = (worlds.score(worlds.make(name), references, target)[3] for name in ("base_online", "rmia_online"))
    assert scipy.stats.spearmanr(base, rmia).statistic == pytest.approx(1.0)
    assert len(np.unique(base)) == len(base)


def test_the_union_is_scored_as_every_node():
    references, target, _ = worlds.draw_world()
    attack = worlds.make("base_online")
    of_node, of_union = (worlds.score(attack, references, target, node=node) for node in (0, worlds.NODES))
    np.testing.assert_array_equal(of_node, of_union)
