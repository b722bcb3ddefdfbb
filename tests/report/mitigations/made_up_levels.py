"""Made-up frontiers whose best defence is known."""

import numpy as np

from fedmia_jax.report.mitigations import frontier


def level(family="no defence", lost=0.0, leak=0.8, change=None, size=""):
    """A level that loses so many points, and leaks so much to the coordinator."""
    where = ("coordinator", frontier.LEAK)
    return frontier.Level(
        family=family,
        label=f"{family}{size}",
        flags="" if family == "no defence" else f"--set {family}{size}",
        test_accuracy=np.array([0.6, 0.62]) - lost / 100,
        lost=frontier.Number(lost, lost - 0.5, lost + 0.5),
        attack_accuracy=0.7,
        leaks={("coordinator", number): frontier.Number(leak, leak - 0.05, leak + 0.05) for number in frontier.NUMBERS},
        worst={where: leak + 0.1},
        changes={} if change is None else {where: frontier.Number(*change)},
        named=0.5,
        audited=1.5,
        promised=None,
    )


def levels(*points):
    """A frontier; no defence comes first."""
    return frontier.Levels([level(), *points], "stacked", ("outsider", "coordinator"))
