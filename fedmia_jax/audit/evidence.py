"""What an audit reads: plain arrays, whoever made them.

The targets are S federations whose hand-offs are audited; the references are J federations trained like them, of which
it is known who trained on what. A node is an index from 0, and the index N stands for the union of all nodes.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from fedmia_jax import types
from fedmia_jax.attacks import signals
from fedmia_jax.schedule import Schedule

OUTSIDE = -1  # owner of a non-member
UNCOUNTED = -2  # owner of a record that does not count
PSEUDO_TARGETS = 2  # references that no attack is fitted on; they stand in for a target where thresholds are chosen


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """Federations of which it is known who trained on what.

    Attributes:
      phi: f32[J, T, M], the logit of the label's probability, of every record at every snapshot.
      owners: i32[J, M], index of the node that trained on the record, -1 for none.
      schedule: who trained when; None where it is the targets' schedule.
      signals: f32[J, T, M] each, what attacks read instead of phi, by name; see `attacks.signals`.

    Raises:
      ValueError: arrays that do not belong together, or too few references.
    """

    phi: types.Array
    owners: types.Array
    schedule: Schedule | None = None
    signals: Mapping[str, types.Array] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_floats("references.phi", self.phi, ndim=3, letters="[J, T, M]")
        num_references, num_snapshots, num_records = self.phi.shape
        if num_references <= PSEUDO_TARGETS:
            raise ValueError(
                f"references.phi: {num_references} references; give at least {PSEUDO_TARGETS + 1}, of which the last "
                f"{PSEUDO_TARGETS} only set thresholds"
            )
        _check_shape("references.owners", self.owners, (num_references, num_records), "[J, M]", "references.phi")
        _check_range("references.owners", self.owners, OUTSIDE, None, "-1 for a record that no node trained on")
        _check_signals("references", self.signals, self.phi.shape, "[J, T, M]")
        if self.schedule is not None:
            _check_schedule("references", self.schedule, num_references, num_snapshots)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ModelScores:
    """What an attack on one model says of the targets' snapshots.

    Attributes:
      scores: f32[S, T, M], higher means member.
      thresholds: f32[S, T]; a score above it says member.
      held_out: f32[S, T], accuracy of the attack on models that it was not fitted on, or None.

    Raises:
      ValueError: arrays that do not belong together.
    """

    scores: types.Array
    thresholds: types.Array
    held_out: types.Array | None = None

    def __post_init__(self) -> None:
        _check_floats("model_scores.scores", self.scores, ndim=3, letters="[S, T, M]")
        for name in ("thresholds", "held_out"):
            if getattr(self, name) is not None:
                expected = self.scores.shape[:2]
                _check_shape(f"model_scores.{name}", getattr(self, name), expected, "[S, T]", "model_scores.scores")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The signals of the targets and all that is known beside them.

    Arrays may be of NumPy or JAX, or mapped from a file; they are not copied here.

    Attributes:
      phi: f32[S, T, M], the logit of the label's probability, of every record at every snapshot of the targets.
      owners: i32[S, M], index of the node that trained on the record, -1 for a non-member, -2 for a record that does
        not count.
      schedule: who trained when; its arrays carry a leading axis S where targets go in different orders.
      references: federations like the targets; None where only attacks on one model are audited.
      correct: bool[S, T, M], whether the model answers the label; None where it is not known.
      model_scores: attacks on one model by name.
      assigned: i32[S, M], the node that a record was assigned to before a coin of its own left it out or not, -1 for
        none. A node's non-members are then those assigned to it, or to nobody. Bounds on epsilon take the coins as
        independent, also over targets.
      signals: f32[S, T, M] each, what attacks read instead of phi, by name; the references have the same.
      coin_rate: chance that an assigned record was not left out.
      answers: evidence of the last snapshot alone, T = 1, as it answers an outsider, of the same targets, references
        and records; None where outsiders are answered what the model says.

    Raises:
      ValueError: a field that does not belong to the others, by name, with its value and what would be right.
    """

    phi: types.Array
    owners: types.Array
    schedule: Schedule
    references: References | None = None
    correct: types.Array | None = None
    model_scores: Mapping[str, ModelScores] = dataclasses.field(default_factory=dict)
    assigned: types.Array | None = None
    signals: Mapping[str, types.Array] = dataclasses.field(default_factory=dict)
    coin_rate: float = 0.5
    answers: "Evidence | None" = None

    def __post_init__(self) -> None:
        _check_floats("evidence.phi", self.phi, ndim=3, letters="[S, T, M]")
        num_targets, num_snapshots, num_records = self.phi.shape
        _check_schedule("evidence", self.schedule, num_targets, num_snapshots)
        groups = {"owners": (self.owners, UNCOUNTED, "-1 for a non-member, -2 for a record that does not count")}
        if self.assigned is not None:
            groups["assigned"] = (self.assigned, OUTSIDE, "-1 for a record assigned to nobody")
        for name, (array, low, meaning) in groups.items():
            _check_shape(f"evidence.{name}", array, (num_targets, num_records), "[S, M]", "evidence.phi")
            _check_range(f"evidence.{name}", array, low, self.nodes - 1, meaning)
            object.__setattr__(self, name, np.asarray(array))
        if not 0 < self.coin_rate < 1:
            raise ValueError(f"evidence.coin_rate: {self.coin_rate}; must lie between 0 and 1")
        if self.correct is not None:
            _check_shape("evidence.correct", self.correct, self.phi.shape, "[S, T, M]", "evidence.phi")
            if self.correct.dtype != bool:
                raise ValueError(f"evidence.correct: dtype {self.correct.dtype}, expected bool")
        _check_signals("evidence", self.signals, self.phi.shape, "[S, T, M]")
        for name, attack in self.model_scores.items():
            field = f"evidence.model_scores[{name!r}].scores"
            _check_shape(field, attack.scores, self.phi.shape, "[S, T, M]", "evidence.phi")
        if self.references is not None:
            self._check_references(self.references)
        if self.answers is not None:
            self._check_answers(self.answers)

    def _check_answers(self, answers: "Evidence") -> None:
        """Raises where answers are not of the same targets, references and records."""
        expected = (self.phi.shape[0], 1, self.phi.shape[2])
        _check_shape("evidence.answers.phi", answers.phi, expected, "[S, 1, M]", "evidence.phi")
        known, of_answers = (0 if each.references is None else len(each.references.phi) for each in (self, answers))
        if known != of_answers:
            raise ValueError(f"evidence.answers.references: {of_answers} of them, expected {known}")

    def _check_references(self, references: References) -> None:
        """Raises where references do not belong to the targets."""
        shape = references.phi.shape
        if shape[1:] != self.phi.shape[1:]:
            raise ValueError(
                f"references.phi: shape {shape}, expected [J, T, M] with [T, M] = {self.phi.shape[1:]}, those of "
                "evidence.phi"
            )
        _check_range("references.owners", references.owners, OUTSIDE, self.nodes - 1, "-1 for a non-member")
        if references.schedule is None and not self.schedule.shared:
            raise ValueError(
                "references.schedule: None, but the targets go in different orders; say in which order each reference "
                "goes"
            )
        if references.schedule is not None and references.schedule.nodes != self.nodes:
            raise ValueError(f"references.schedule: {references.schedule.nodes} nodes, expected {self.nodes}")

    @property
    def nodes(self) -> int:
        """N."""
        return self.schedule.nodes

    def members(self, node: int) -> Bool[np.ndarray, "S M"]:
        """Returns the records of a node; N stands for the union."""
        return members_of(self.owners, node, nodes=self.nodes)

    def others(self, node: int) -> Bool[np.ndarray, "S M"]:
        """Returns the non-members that stand against the records of a node; N stands for the union."""
        return others_of(self.owners, self.assigned, node, nodes=self.nodes)


def signal_of(arrays: Evidence | References, name: str) -> types.Array:
    """Returns a signal of targets or references by its name."""
    return arrays.phi if name == signals.PHI.name else arrays.signals[name]


def members_of(owners: Int[types.Array, "..."], node: int, *, nodes: int) -> Bool[np.ndarray, "..."]:
    """Returns which records are a node's, or the union's where `node` is N."""
    owners = np.asarray(owners)
    return owners >= 0 if node == nodes else owners == node


def others_of(
    owners: Int[types.Array, "..."], assigned: Int[types.Array, "..."] | None, node: int, *, nodes: int
) -> Bool[np.ndarray, "..."]:
    """Returns which records are the non-members of a node: those assigned to it or to nobody, where that is known."""
    outside = np.asarray(owners) == OUTSIDE
    if assigned is None or node == nodes:
        return outside
    return outside & ((np.asarray(assigned) == node) | (np.asarray(assigned) == OUTSIDE))


def _check_array(field: str, array: types.Array) -> None:
    """Raises where something is no array."""
    if not isinstance(array, types.Array):
        raise ValueError(f"{field}: a {type(array).__name__}, expected an array of NumPy or JAX")


def _check_floats(field: str, array: types.Array, *, ndim: int, letters: str) -> None:
    """Raises where signals have other axes, or are no floating-point numbers."""
    _check_array(field, array)
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"{field}: shape {array.shape}, expected {letters}, none of them 0")
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{field}: dtype {array.dtype}, expected float32")


def _check_signals(owner: str, named: Mapping[str, types.Array], expected: tuple[int, ...], letters: str) -> None:
    """Raises where a signal does not have the shape of phi."""
    for name, array in named.items():
        _check_floats(f"{owner}.signals[{name!r}]", array, ndim=3, letters=letters)
        _check_shape(f"{owner}.signals[{name!r}]", array, expected, letters, f"{owner}.phi")


def _check_shape(field: str, array: types.Array, expected: tuple[int, ...], letters: str, other: str) -> None:
    """Raises where an array does not have the shape that another one asks for."""
    _check_array(field, array)
    if array.shape != expected:
        raise ValueError(f"{field}: shape {array.shape}, expected {letters} = {expected}, by the shape of {other}")


def _check_range(field: str, array: types.Array, low: int, high: int | None, meaning: str) -> None:
    """Raises where indices of nodes are no integers or lie outside of their range."""
    values = np.asarray(array)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{field}: dtype {values.dtype}, expected int32")
    smallest, largest = (int(values.min()), int(values.max())) if values.size else (low, low)
    if smallest < low or (high is not None and largest > high):
        wrong = smallest if smallest < low else largest
        limit = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise ValueError(f"{field}: holds {wrong}; must be {limit}, {meaning}")


def _check_schedule(owner: str, schedule: Schedule, num_federations: int, num_snapshots: int) -> None:
    """Raises where a schedule is not that of as many snapshots or federations."""
    if len(schedule) != num_snapshots:
        raise ValueError(
            f"{owner}.schedule: {len(schedule)} snapshots, expected T = {num_snapshots}, by the shape of {owner}.phi"
        )
    if not schedule.shared and len(schedule.trainer) != num_federations:
        raise ValueError(
            f"{owner}.schedule: orders of {len(schedule.trainer)} federations, expected {num_federations}, by the "
            f"shape of {owner}.phi"
        )
