"""RMIA and calibration (`rmia`, `calibration`) against naive formulas in float64."""

import naive
import numpy as np
import pytest
import worlds


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_is_the_formula(double, online, gamma):
    references, target, _ = worlds.draw_world()
    attack = worlds.make("rmia_online" if online else "rmia_offline", gamma=gamma)
    scores = worlds.score(attack, references, target)
    for t in (0, 4):
        expected = naive.rmia(
            np.asarray(target)[t], np.asarray(references.phi)[:, t], np.asarray(references.owners),
            np.arange(worlds.RECORDS), gamma, None if online else 0.3,
        )  # fmt: skip
        np.testing.assert_allclose(scores[t], expected, atol=1e-5)


def test_calibration_is_the_formula(double):
    references, target, _ = worlds.draw_world()
    scores = worlds.score(worlds.make("calibration"), references, target)
    phi, owners = np.asarray(references.phi)[:, 2], np.asarray(references.owners)
    np.testing.assert_allclose(scores[2], naive.calibration(np.asarray(target)[2], phi, owners), atol=1e-5)
