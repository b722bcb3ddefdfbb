"""What the arrays of an audit must look like, and whom they make members and non-members."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax.audit import api, evidence
from fedmia_jax.schedule import Schedule

CYCLIC = Schedule.cyclic(nodes=2, cycles=2)
PHI = np.zeros((2, 4, 6), np.float32)
OWNERS = np.array([[0, 1, 1, -1, -1, -2], [1, 0, -1, -1, 0, -2]], np.int32)
SHUFFLED = Schedule.stack([CYCLIC, Schedule.sequential(np.array([[1, 0], [0, 1]]))])


def references(**fields):
    """Four references that fit."""
    return evidence.References(**{"phi": np.zeros((4, 4, 6), np.float32), "owners": np.zeros((4, 6), int)} | fields)


def scores(**fields):
    """Scores of an attack that fit."""
    return evidence.ModelScores(**{"scores": PHI, "thresholds": np.zeros((2, 4), np.float32)} | fields)


def make(**fields):
    """Evidence that fits, with other fields."""
    return evidence.Evidence(**{"phi": PHI, "owners": OWNERS, "schedule": CYCLIC} | fields)


def test_members_and_others_by_hand():
    arrays = make()
    assert arrays.nodes == 2
    assert arrays.members(0).astype(int).tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0]]
    assert arrays.members(1).astype(int).tolist() == [[0, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert arrays.members(2).astype(int).tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 1, 0]]
    for node in range(3):
        assert arrays.others(node).astype(int).tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 0, 0]]


def test_others_of_records_that_were_assigned_by_hand():
    arrays = make(assigned=np.array([[0, 1, 1, 0, 1, -1], [1, 0, -1, 1, 0, -1]]))
    assert arrays.others(0).astype(int).tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]]
    assert arrays.others(1).astype(int).tolist() == [[0, 0, 0, 0, 1, 0], [0, 0, 1, 1, 0, 0]]
    assert arrays.others(2).astype(int).tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 0, 0]]


def test_arrays_of_jax_and_files_will_do(tmp_path):
    mapped = np.memmap(tmp_path / "phi", np.float32, "w+", shape=PHI.shape)
    assert make(phi=mapped).phi is mapped  # not copied
    arrays = make(phi=jnp.asarray(PHI), owners=jnp.asarray(OWNERS), references=references(phi=jnp.zeros((4, 4, 6))))
    assert arrays.members(0).sum() == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phi": PHI[0]}, r"evidence\.phi: shape \(4, 6\), expected \[S, T, M\]"),
        ({"phi": PHI[:, :0]}, r"evidence\.phi: shape \(2, 0, 6\)"),
        ({"phi": PHI.astype(int)}, r"evidence\.phi: dtype int64, expected float32"),
        ({"phi": PHI[:, :3]}, r"evidence\.schedule: 4 snapshots, expected T = 3"),
        (
            {"schedule": Schedule.stack([CYCLIC, SHUFFLED.at(1), CYCLIC])},
            r"schedule: orders of 3 federations, expected 2",
        ),
        ({"owners": OWNERS[:, :5]}, r"evidence\.owners: shape \(2, 5\), expected \[S, M\] = \(2, 6\)"),
        ({"owners": OWNERS.astype(float)}, r"evidence\.owners: dtype float64, expected int32"),
        ({"owners": OWNERS + 1}, r"evidence\.owners: holds 2; must be between -2 and 1, -1 for a non-member"),
        ({"owners": OWNERS - 1}, r"evidence\.owners: holds -3; must be between -2 and 1"),
        ({"assigned": OWNERS}, r"evidence\.assigned: holds -2; must be between -1 and 1"),
        ({"assigned": OWNERS[:1]}, r"evidence\.assigned: shape \(1, 6\)"),
        ({"correct": PHI[0] > 0}, r"evidence\.correct: shape \(4, 6\), expected \[S, T, M\] = \(2, 4, 6\)"),
        ({"correct": PHI}, r"evidence\.correct: dtype float32, expected bool"),
        (
            {"model_scores": {"loss": scores(scores=PHI[:, :, :5])}},
            r"evidence\.model_scores\['loss'\]\.scores: shape \(2, 4, 5\), expected \[S, T, M\] = \(2, 4, 6\)",
        ),
        (
            {"references": references(phi=np.zeros((4, 4, 5)), owners=np.zeros((4, 5), int))},
            r"references\.phi: shape \(4, 4, 5\), expected \[J, T, M\] with \[T, M\] = \(4, 6\)",
        ),
        (
            {"references": references(owners=np.full((4, 6), 2))},
            r"references\.owners: holds 2; must be between -1 and 1",
        ),
        (
            {"references": references(), "schedule": SHUFFLED},
            r"references\.schedule: None, but the targets go in differ",
        ),
        (
            {"references": references(schedule=Schedule.sequential(np.array([[0, 1], [0, 1]]), nodes=3))},
            r"references\.schedule: 3 nodes, expected 2",
        ),
    ],
)
def test_evidence_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


@pytest.mark.parametrize(
    ("call", "fields", "message"),
    [
        (references, {"phi": np.zeros((2, 4, 6)), "owners": np.zeros((2, 6), int)}, r"2 references; give at least 3"),
        (references, {"owners": np.zeros((3, 6), int)}, r"references\.owners: shape \(3, 6\), expected \[J, M\]"),
        (references, {"owners": np.full((4, 6), -2)}, r"references\.owners: holds -2; must be at least -1"),
        (references, {"schedule": SHUFFLED}, r"references\.schedule: orders of 2 federations, expected 4"),
        (references, {"schedule": Schedule.cyclic(nodes=2, cycles=3)}, r"references\.schedule: 6 snapshots"),
        (scores, {"thresholds": np.zeros(4)}, r"model_scores\.thresholds: shape \(4,\), expected \[S, T\] = \(2, 4\)"),
        (scores, {"held_out": np.zeros(4)}, r"model_scores\.held_out: shape \(4,\)"),
        (scores, {"scores": np.zeros((4, 6))}, r"model_scores\.scores: shape \(4, 6\), expected \[S, T, M\]"),
    ],
)
def test_what_goes_into_evidence_is_checked(call, fields, message):
    with pytest.raises(ValueError, match=message):
        call(**fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attacks": ("lira3",)}, r"attack\.names='lira3': must be one of network, "),
        (
            {"attacks": ("network",)},
            r"'network' reads one model; give what it says as evidence\.model_scores\['network'\]",
        ),
        ({"attacks": "lira_online"}, "give tuples of names"),
        ({"views": "outsider"}, "give tuples of names"),
        ({"views": ()}, r"attack\.views=\(\): name a view"),
        ({"views": ("insider:3",)}, r"attack\.views='insider:3': expected one number between 1 and 2"),
        ({"options": {"varianse": "pooled"}}, r"options: there is no option 'varianse'; must be some of "),
    ],
)
def test_an_audit_of_what_does_not_exist(arguments, message):
    arrays = make(references=references())
    with pytest.raises(ValueError, match=message):
        api.audit(arrays, **{"attacks": ("lira_online",), "views": ("outsider",)} | arguments)


def test_an_attack_needs_the_signal_that_it_reads():
    of_targets, of_references = {"phi@2.0": PHI}, {"phi@2.0": np.zeros((4, 4, 6), np.float32)}
    message = r"evidence.signals: no 'phi@2.0', which 'rmia_online' reads; give it, see attacks.signals, or set"
    with pytest.raises(ValueError, match=message):
        api.audit(make(references=references()), ("rmia_online",))
    with pytest.raises(ValueError, match=r"references.signals: no 'phi@2.0', which 'base_offline' reads"):
        api.audit(make(references=references(), signals=of_targets), ("base_offline",))
    arrays = make(references=references(signals=of_references), signals=of_targets)
    with pytest.raises(ValueError, match=r"evidence.signals: no 'phi@3.0'"):
        api.audit(arrays, ("rmia_online",), options={"rmia_temperature": 3.0})
    with pytest.raises(ValueError, match=r"evidence.signals\['phi@2.0'\]: shape \(1, 4, 6\), expected \[S, T, M\] = "):
        make(signals={"phi@2.0": PHI[:1]})
    with pytest.raises(ValueError, match=r"references.signals\['phi@2.0'\]: dtype int64, expected float32"):
        references(signals={"phi@2.0": np.zeros((4, 4, 6), int)})


def test_attacks_with_references_need_references():
    with pytest.raises(ValueError, match=r"evidence\.references: None, but lira_online compare with references"):
        api.audit(make(), ("lira_online",))


@pytest.mark.parametrize("name", ["phi", "owners", "correct"])
def test_a_list_is_no_array(name):
    with pytest.raises(
        (TypeError, ValueError), match=rf"evidence\.{name}: a list, expected an array|parameter .{name}."
    ):
        make(**{name: [[0]]})


def test_fields_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().phi = PHI
