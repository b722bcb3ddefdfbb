"""Audits of many runs from made-up levels."""

import dataclasses

import made_up_levels

from fedmia_jax.report.mitigations import repeats


def run(label, audited, promised):
    """One run of a level."""
    return dataclasses.replace(made_up_levels.level(), label=label, audited=audited, promised=promised)


def test_runs_of_a_level_are_counted_together():
    audited = [("target_epsilon 1", value, 0.99) for value in (0.0, 0.5, 1.2)]
    points = [("no defence", 4.0, None), *audited, ("no defence", 3.0, None), ("noise 0", 5.0, float("inf"))]
    levels = dataclasses.replace(made_up_levels.levels(), points=[run(*point) for point in points])
    rows = repeats.to_table(levels, title="made up").rows
    assert [[row[0], row[1], *row[3:]] for row in rows] == [
        ["no defence", "2", "-", "3.50", "3.00", "4.00", "-"],
        ["target_epsilon 1", "3", "0.99", "0.50", "0.00", "1.20", "1"],
        ["noise 0", "1", "inf", "5.00", "5.00", "5.00", "0"],
    ]
