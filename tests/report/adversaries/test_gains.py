"""Tables of differences, from rows made by hand, and how documents read their cells."""

import pathlib
import sys

import made_up_findings
import pytest

from fedmia_jax.report.adversaries import gains

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / ".ci" / "docs"))

import sources


def test_only_the_strongest_attack_and_those_that_matter_are_shown():
    views, attacks = gains.make_gains(made_up_findings.COMPARISONS)
    assert views.title == "Who sees more, attack: stacked"
    assert views.rows == [
        [
            "coordinator",
            "bracket",
            "all that the other sees",
            "3",
            "+.012 (+.004 to +.021)",
            "+.04 (-.01 to +.09)",
            "-.02",
        ],
        [
            "bracket",
            "outsider",
            "more of the node's snapshots",
            "3",
            "+.012 (+.004 to +.021)",
            "+.04 (+.01 to +.09)",
            "-.02",
        ],
    ]
    assert [row[:2] for row in attacks.rows] == [["bracket", "lira_online"]]
    assert gains.make_gains(made_up_findings.COMPARISONS.clear()) == []


def test_documents_read_the_cells():
    number = sources.read("-.004 (-.015 to +.021)")
    assert (number, number.low, number.high) == (-0.004, -0.015, 0.021)
    assert sources.read(gains._cell(-0.0001, -0.0004, 0.0002)) == pytest.approx(0)
    assert gains._cell(-0.0001, -0.0004, 0.0002) == "+.000 (+.000 to +.000)"
    assert gains._cell(None, None, None) == "-"
    assert gains._cell(1.0, 0.9, 1.1) == "+1.00 (+.90 to +1.10)"
