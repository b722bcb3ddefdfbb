"""Advice from made-up frontiers: who is best decides, and nothing else."""

import dataclasses

import made_up_levels
import pytest

from fedmia_jax.report.mitigations import advice, frontier


def make(best):
    """Three families, of which one is best at little loss."""
    leaks = {"flips": 0.6, "noise": 0.62, "decay": 0.64} | {best: 0.3}
    return made_up_levels.levels(
        *(made_up_levels.level(name, 1.5, leak, (leak - 0.8, leak - 0.9, leak - 0.7)) for name, leak in leaks.items()),
        made_up_levels.level("flips", 30.0, 0.01, (-0.79, -0.8, -0.7), size=" of all"),
    )


@pytest.mark.parametrize("best", ["flips", "noise", "decay"])
def test_the_best_defence_is_named_whichever_it_is(best):
    levels = make(best)
    assert advice.best(levels, 2.0, "coordinator").family == best
    text = advice.recommend(levels)
    assert f"For up to 10 points of test accuracy, {best} leaks least: 30%, and it costs 1.5 points." in text
    assert "It is 0.50 less than without (0.40 to 0.60)." in text
    assert all(f"{name} leaks least" not in text for name in ("flips", "noise", "decay") if name != best)
    rows = advice.to_table(levels).rows
    assert [row[2] for row in rows] == ["no defence", best, best, best]
    assert rows[1][-1] == f"`--set {best}`"


def test_where_nothing_helps_it_says_so():
    levels = made_up_levels.levels(made_up_levels.level("flips", 0.5, 0.9), made_up_levels.level("noise", 20.0, 0.1))
    text = advice.recommend(levels)
    assert "Nothing that was tried certainly helps for up to 10 points of test accuracy." in text
    assert "leaks least" not in text


def test_what_the_sample_does_not_resolve_is_said():
    near = made_up_levels.levels(made_up_levels.level("flips", 0.5, 0.79, (-0.01, -0.05, 0.03)))
    assert "Nothing that was tried certainly helps for up to 10 points" in advice.recommend(near)
    assert {row[2] for row in advice.to_table(near).rows} == {"no defence"}
    unknown = made_up_levels.levels(made_up_levels.level("flips", 0.5, 0.79))
    assert "says nothing of how sure" in advice.recommend(unknown)


def test_every_view_that_is_attacked_undefended_has_its_own_advice():
    """What hides best from an outsider is another defence than what hides best from the coordinator."""

    def seen(level, leak, change):
        where = ("outsider", frontier.LEAK)
        leaks = level.leaks | {where: frontier.Number(leak, leak - 0.05, leak + 0.05)}
        changes = level.changes | ({where: frontier.Number(*change)} if change else {})
        return dataclasses.replace(level, leaks=leaks, changes=changes)

    flips = made_up_levels.level("flips", 1.5, 0.3, (-0.5, -0.6, -0.4))
    rounding = made_up_levels.level("rounding", -0.2, 0.8, (0.0, -0.1, 0.1))
    levels = made_up_levels.levels(seen(flips, 0.4, (-0.1, -0.2, -0.05)), seen(rounding, 0.2, (-0.3, -0.4, -0.2)))
    first = seen(levels.points[0], 0.5, None)
    levels = dataclasses.replace(levels, points=[first, *levels.points[1:]])
    against = [(row[0], row[2]) for row in advice.to_table(levels).rows]
    assert (
        against == [("coordinator", name) for name in ("no defence", *["flips"] * 3)] + [("outsider", "rounding")] * 4
    )
    paragraphs = advice.recommend(levels).split("\n\n")
    assert "holds the view coordinator finds 80%" in paragraphs[0]
    assert "holds the view outsider finds 50%" in paragraphs[1]
    assert "rounding leaks least: 20%, and it gains 0.2 points. It is 0.30 less" in paragraphs[1]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ([(-0.2, -0.3, -0.1), (0.1, 0.0, 0.2)], "supported"),
        ([(0.2, 0.1, 0.3), (0.1, 0.05, 0.2)], "contradicted"),
        ([(0.2, 0.1, 0.3), (0.0, -0.1, 0.1)], "unresolved"),
        ([(-0.002, -0.003, -0.001)], "unresolved"),
        ([(0.002, 0.001, 0.003)], "unresolved"),
        ([], "not tested"),
    ],
)
def test_the_papers_advice_gets_a_verdict(changes, verdict):
    points = [made_up_levels.level("randomised_response", 3.0, 0.5, change) for change in changes]
    points.append(made_up_levels.level("randomised_response", 15.0, 0.1, (-0.7, -0.8, -0.6)))  # costs too much
    lines = advice.claims(made_up_levels.levels(*points)).rows
    assert [line[0] for line in lines] == [verdict, *["not tested"] * (len(advice.CLAIMS) - 1)]
    if changes:
        assert f"{min(change[0] for change in changes):+.2f}" in lines[0][3]


def test_what_concerns_one_view_is_read_there():
    """A random order counts by what insiders lose who do not know it, peer-to-peer by what it hides undefended."""
    where = ("insider_unordered", frontier.LEAK)
    order = made_up_levels.level("federation.order, federation.order_shared", 0.2, 0.8, (0.1, 0.05, 0.2))
    order = dataclasses.replace(order, changes=order.changes | {where: frontier.Number(-0.2, -0.3, -0.1)})
    hidden = {(frontier.PEER_TO_PEER, frontier.LEAK): frontier.Number(0.1, 0.05, 0.2)}
    levels = dataclasses.replace(made_up_levels.levels(order), hidden=hidden)
    verdicts = {line[1]: line[0] for line in advice.claims(levels).rows}
    assert [verdicts[claim.sentence] for claim in advice.CLAIMS if claim.view] == ["supported", "contradicted"]


def test_views_that_differ_have_lines_of_their_own():
    """What helps against one view may tell another one more."""
    point = made_up_levels.level("federation.cycles, federation.local_epochs", 1.0, 0.7, (-0.1, -0.2, -0.05))
    more = {(view, frontier.LEAK): frontier.Number(0.3, 0.2, 0.4) for view in ("insider", "outsider")}
    point = dataclasses.replace(point, changes=point.changes | more)
    levels = made_up_levels.levels(point)
    seen = {(view, frontier.LEAK): frontier.Number(0.5, 0.4, 0.6) for view in ("coordinator", "insider", "outsider")}
    first = dataclasses.replace(levels.points[0], leaks=seen)
    levels = frontier.Levels([first, point], "stacked", ("outsider", "insider", "coordinator"))
    (claim,) = [claim for claim in advice.CLAIMS if point.family in claim.families]
    lines = [line for line in advice.claims(levels).rows if line[1] == claim.sentence]
    assert [(line[0], line[2]) for line in lines] == [
        ("supported", "coordinator"),
        ("contradicted", "outsider, insider"),
    ]
    assert "-0.10 (-0.20 to -0.05)" in lines[0][3]
    assert "+0.30" in lines[1][3]
