"""Turns a frontier into advice: the least leakage for what one is ready to lose, and the paper's own advice checked."""

import dataclasses

import numpy as np

from fedmia_jax.report import tables
from fedmia_jax.report.mitigations import frontier

BUDGETS = (1.0, 2.0, 5.0, 10.0)  # points of test accuracy
UNTESTED = "not tested"
LEAST = 0.01  # of the rate; who finds less than that more or less finds the same
MOST_LOST = 10.0  # points; levels that lose more say nothing of the paper's advice


@dataclasses.dataclass(frozen=True)
class Claim:
    """One sentence of the paper's advice.

    Attributes:
      sentence: what is advised.
      families: whose levels bear it out; none for what one view hides, without a defence.
      view: whose attack counts; that of every view where it is empty.
    """

    sentence: str
    families: tuple[str, ...]
    view: str = ""


CLAIMS = (
    Claim("Noise on the training records makes the attack less successful", ("randomised_response", "feature_noise")),
    Claim(
        "Perturbing the learned parameters makes the attack less successful",
        ("update_noise", "output_perturbation", "dp_training"),
    ),
    Claim(
        "A random order of the nodes, unknown to insiders, makes insiders less successful",
        ("federation.order, federation.order_shared",),
        "insider_unordered",
    ),
    Claim("Peer-to-peer hand-offs make a coordinator less successful", (), frontier.PEER_TO_PEER),
    Claim("Fewer local epochs make the attack less successful", ("federation.local_epochs",)),
    Claim(
        "At equal work, more cycles of fewer local epochs make the attack less successful",
        (
            "federation.cycles, federation.local_epochs",
            "federation.carry_optimizer_state, federation.cycles, federation.local_epochs",
        ),
    ),
)
RULE = (
    f"Section V of the paper, by levels that lose at most {MOST_LOST:g} points of test accuracy. Supported against a "
    f"view: one of them leaks at least {LEAST:g} less to it than no defence, its paired 95% interval below zero; "
    "contradicted: all of them leak so much more; else unresolved. Seen is the level that decides, or leaks least, "
    "under the first view of a line. Several levels are tried, and each interval stands by itself."
)


def best(levels: frontier.Levels, budget: float, view: str) -> frontier.Level:
    """Returns the level that leaks least to a view among those that lose no more than a budget on average.

    Levels of which the sample cannot tell that they leak less than no defence do not count; the first at a tie.
    """
    within = [level for level in levels.points if level.lost.value <= budget and _helps(levels, level, view)]
    return min(within, key=lambda level: _leak(level, view))


def _helps(levels: frontier.Levels, level: frontier.Level, view: str) -> bool:
    """Whether a level leaks less than no defence, or the sample gives no interval to say otherwise."""
    change = level.changes.get((view, frontier.LEAK))
    return level is levels.points[0] or change is None or np.isnan(change.high) or _less(change)


def _less(change: frontier.Number) -> bool:
    """Whether it is certain that a level leaks less, and enough less to matter."""
    return change.high < 0 and change.value <= -LEAST


def _more(change: frontier.Number) -> bool:
    """The same of one that leaks more."""
    return change.low > 0 and change.value >= LEAST


def _leak(level: frontier.Level, view: str) -> float:
    """What advice goes by; infinite where the sample resolves none."""
    number = level.leaks.get((view, frontier.LEAK))
    return float("inf") if number is None or np.isnan(number.value) else number.value


def to_table(levels: frontier.Levels) -> tables.Table:
    """Returns, for every view and budget, the least leakage and how to get it."""
    lines = []
    for view in levels.attacked_first:
        for budget in BUDGETS:
            level = best(levels, budget, view)
            cells = [view, f"{budget:g}", level.label, f"{_leak(level, view):.2f}", f"{level.lost.value:+.1f}"]
            lines.append([*cells, f"`{level.flags}`" if level.flags else "-"])
    caption = (
        f"The lowest TPR at 1% FPR of {levels.attack} on one node under each view, of all levels that lose no more "
        f"than so many points of test accuracy on average and leak at least {LEAST:g} less than no defence, the paired "
        "95% interval below zero. It is chosen among levels on the records that it is reported on, which flatters it a "
        "little."
    )
    header = ["against", "points\nto lose", "defence", "TPR 1%", "lost", "how"]
    return tables.Table("The least leakage for what one is ready to lose", header, lines, caption, left=3, wrap=True)


def recommend(levels: frontier.Levels) -> str:
    """Returns a paragraph for each view, the widest first: what to do, made from the numbers alone."""
    return "\n\n".join(_recommend(levels, view) for view in levels.attacked_first)


def _recommend(levels: frontier.Levels, view: str) -> str:
    """What to do against one view."""
    without = levels.points[0]
    text = [
        f"Without a defence, who holds the view {view} finds {_leak(without, view):.0%} of a node's records at one "
        "false alarm in a hundred."
    ]
    chosen = {budget: best(levels, budget, view) for budget in BUDGETS}
    nothing = [budget for budget, level in chosen.items() if level is without]
    if nothing:
        text.append(f"Nothing that was tried certainly helps for up to {nothing[-1]:g} points of test accuracy.")
    largest = {level.label: budget for budget, level in chosen.items() if level is not without}
    for budget in largest.values():
        level = chosen[budget]
        text.append(
            f"For up to {budget:g} points of test accuracy, {level.label} leaks least: {_leak(level, view):.0%}, and "
            f"it {_cost(level)}. {_sure(level, view)}"
        )
    return " ".join(text)


def _cost(level: frontier.Level) -> str:
    """What a level costs, in words."""
    lost = round(level.lost.value, 1)
    return f"costs {abs(lost):.1f} points" if lost >= 0 else f"gains {-lost:.1f} points"


def _sure(level: frontier.Level, view: str) -> str:
    """How much less a level leaks."""
    change = level.changes.get((view, frontier.LEAK))
    if change is None or np.isnan(change.high):
        return "The sample says nothing of how sure that is."
    return f"It is {-change.value:.2f} less than without ({-change.high:.2f} to {-change.low:.2f})."


def claims(levels: frontier.Levels) -> tables.Table:
    """Returns the paper's advice, each sentence with a verdict, and with as many as views differ in."""
    lines = []
    for claim in CLAIMS:
        against: dict[str, list[str]] = {}
        for view in [claim.view] if claim.view else levels.attacked_first or [levels.widest]:
            against.setdefault(_verdict(levels, claim, view), []).append(view)
        for verdict, views in against.items():
            told = "-" if list(against) == [UNTESTED] else ", ".join(views)
            lines.append([verdict, claim.sentence, told, _seen(levels, claim, views[0])])
    return tables.Table("The paper's advice", ["verdict", "advice", "against", "seen"], lines, RULE, left=4)


def _candidates(levels: frontier.Levels, claim: Claim, view: str) -> list[tuple[str, frontier.Number]]:
    """What bears on a claim, with its change: levels that lose little enough, or what a view hides."""
    where = (view, frontier.LEAK)
    if not claim.families:
        hidden = levels.hidden.get(where)
        pairs = [] if hidden is None else [(f"{view} against {levels.widest}", hidden)]
    else:
        tried = [level for level in levels.points if level.family in claim.families and level.lost.value <= MOST_LOST]
        pairs = [(level.label, level.changes[where]) for level in tried if where in level.changes]
    return [(label, change) for label, change in pairs if not np.isnan(change.low)]


def _verdict(levels: frontier.Levels, claim: Claim, view: str) -> str:
    """Supported, contradicted, unresolved, or not tested."""
    changes = [change for _, change in _candidates(levels, claim, view)]
    if not changes:
        return UNTESTED
    if any(map(_less, changes)):
        return "supported"
    return "contradicted" if all(map(_more, changes)) else "unresolved"


def _seen(levels: frontier.Levels, claim: Claim, view: str) -> str:
    """The level that leaks least to a view, of those that bear on a claim."""
    found = _candidates(levels, claim, view)
    if not found:
        return "no level with an interval"
    label, change = min([pair for pair in found if _less(pair[1])] or found, key=lambda pair: pair[1].value)
    return f"{label}: {change.value:+.2f} ({change.low:+.2f} to {change.high:+.2f})"
