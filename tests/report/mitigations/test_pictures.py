"""The front of levels that none beats, and the picture of it."""

import itertools

import made_up_levels
import numpy as np

from fedmia_jax.report.mitigations import frontier, pictures


def test_the_front_is_what_no_level_beats_in_both():
    rng = np.random.default_rng(0)
    points = [made_up_levels.level(f"f{place}", lost, leak) for place, (lost, leak) in enumerate(rng.random((30, 2)))]
    levels = made_up_levels.levels(*points)

    def numbers(level):
        return level.lost.value, level.leaks["coordinator", frontier.LEAK].value

    front = [level.family for level in pictures.pareto(levels, "coordinator")]
    beaten = {
        one.family
        for one, other in itertools.permutations(levels.points, 2)
        if all(np.array(numbers(other)) <= numbers(one)) and numbers(other) != numbers(one)
    }
    assert set(front) == {level.family for level in levels.points} - beaten
    assert front[0] == "no defence"


def test_a_family_is_a_curve_from_no_defence_on():
    points = [made_up_levels.level("flips", lost, 0.8 - lost / 20, size=f" {lost}") for lost in (8.0, 2.0)]
    figure = pictures.draw(made_up_levels.levels(*points), title="made up")
    (axes,) = figure.axes
    curve, front = axes.get_lines()
    assert curve.get_label() == "flips"
    np.testing.assert_allclose(curve.get_xdata(), [0, 2, 8])
    np.testing.assert_allclose(front.get_ydata(), [0.8, 0.7, 0.4])
    assert axes.get_title() == "view: coordinator"
    assert "made up" in figure.get_suptitle()
