"""The audit of a federation, on plain arrays."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from fedmia_jax import attacks as registered
from fedmia_jax import options as declarations
from fedmia_jax.attacks import contract, signals
from fedmia_jax.audit import attribution, correction, findings, scorers, scoring
from fedmia_jax.audit import evidence as inputs
from fedmia_jax.audit import views as parties


def audit(
    evidence: inputs.Evidence,
    attacks: Sequence[str],
    views: Sequence[str] = parties.Options().views,
    *,
    key: jax.Array | None = None,
    options: Mapping[str, Any] | None = None,
    advance: Callable[[float], None] | None = None,
    on_broken: Callable[[str], None] | None = None,
) -> findings.Findings:
    """Says how much the hand-offs of a federation tell about whose records trained it.

    Every attack is tried under every view, on the nodes and on their union, at all targets. Attacks learn from the
    references alone, the last two of which only set thresholds.

    Args:
      evidence: signals of targets and references, who owned what, and who trained when.
      attacks: names in `attacks.ATTACKS` or `package.module:name` of attacks with references, and names of
        `evidence.model_scores`.
      views: who attacks, by the names in `audit/views.py`.
      key: of what attacks draw while they are fitted; `jax.random.key(0)` where it is not given.
      options: of the attacks and of `correction.Options` by name, such as `{"variance": "per_record"}`; defaults
        otherwise.
      advance: called with 1 after each attack.
      on_broken: called with a line about each attack whose scores are not numbers; its numbers are null.

    Returns:
      The tables.

    Raises:
      ValueError: an attack, view or option that does not exist, or evidence that an attack needs and that is not there.

    Example:
      Two nodes pass a model on in three cycles; a model answers the records of the node that trained last with more
      confidence.

      >>> import numpy as np
      >>> import fedmia_jax
      >>> rng = np.random.default_rng(0)
      >>> schedule = fedmia_jax.Schedule.cyclic(nodes=2, cycles=3)
      >>> owners = rng.integers(-1, 2, size=(12, 300))
      >>> trained = schedule.trainer[:, None] == owners[:, None, :]
      >>> phi = (rng.normal(size=trained.shape) + 3 * trained).astype(np.float32)
      >>> references = fedmia_jax.References(phi=phi[1:], owners=owners[1:])
      >>> evidence = fedmia_jax.Evidence(phi=phi[:1], owners=owners[:1], references=references, schedule=schedule)
      >>> findings = fedmia_jax.audit(evidence, attacks=("sequence_lira",), views=("bracket:1", "bracket:2@1"))
      >>> findings.intervals.select("attack", "view", "attacked", "members").rows()
      [('sequence_lira', 'bracket:1', 'node', 95), ('sequence_lira', 'bracket:2@1', 'node', 115)]
      >>> bool(findings.intervals["auc"].min() > 0.95)
      True
    """
    scorer = make_scorer(evidence, attacks, views, key=key, options=options)
    pieces = []
    for piece in findings.pieces_of(attacks):
        pieces.append(study(scorer, piece, on_broken=on_broken or (lambda line: None)))
        if advance is not None and piece in attacks:
            advance(1)
    return findings.join(pieces, strongest=scorer.claim.strongest)


def make_scorer(
    evidence: inputs.Evidence,
    attacks: Sequence[str],
    views: Sequence[str],
    *,
    key: jax.Array | None = None,
    options: Mapping[str, Any] | None = None,
) -> scorers.Scorer:
    """Checks what is asked for and makes what `study` reads; see `audit`, which makes all pieces at once."""
    if isinstance(attacks, str) or isinstance(views, str):
        raise ValueError(f"attacks={attacks!r}, views={views!r}: give tuples of names")
    compared = [name for name in attacks if name not in evidence.model_scores]
    values = _option_values(compared, {} if options is None else options)
    _check(evidence, compared, values)
    claim = correction.make_claim(declarations.read(correction.Options, values), attacks, views)
    root = jax.random.key(0) if key is None else key
    return scorers.make_scorer(evidence, compared, views, values, root, claim=claim)


def study(scorer: scorers.Scorer, piece: str, *, on_broken: Callable[[str], None]) -> findings.Findings:
    """Makes one piece of an audit, see `findings.study`."""
    # Normal equations and covariances need all the bits that an accelerator would rather save.
    with jax.default_matmul_precision("highest"):
        return findings.study(scorer, piece, on_broken=on_broken)


def score(scorer: scorers.Scorer, piece: str) -> None:
    """Calls the programs of one piece of an audit, and keeps nothing of what they say."""
    with jax.default_matmul_precision("highest"):
        if piece in scorer.compared:
            collections.deque(scoring.score_with_references(scorer, piece), maxlen=0)
        collections.deque(attribution.attribute(scorer, piece), maxlen=0)


def _check(evidence: inputs.Evidence, compared: Sequence[str], values: Mapping[str, Any]) -> None:
    """Raises where the evidence lacks what an attack needs."""
    for name in compared:
        if isinstance(registered.find(name), contract.ModelAttackFactory):
            raise ValueError(
                f"attacks: {name!r} reads one model; give what it says as evidence.model_scores[{name!r}], or name "
                "attacks with references"
            )
    if compared and evidence.references is None:
        raise ValueError(f"evidence.references: None, but {', '.join(compared)} compare with references; give some")
    for attack, signal in registered.signals_read(registered.choose(tuple(compared), values)).items():
        for owner, arrays in (("evidence", evidence), ("references", evidence.references)):
            if signal != signals.PHI and arrays is not None and signal.name not in arrays.signals:
                raise ValueError(
                    f"{owner}.signals: no {signal.name!r}, which {attack!r} reads; give it, see attacks.signals, or "
                    "set the options of the attack to a signal that is there"
                )


def _option_values(compared: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of some attacks and of epsilon, those that are not given at their defaults."""
    factories = [*registered.ATTACKS.values(), *(registered.find(name) for name in compared)]
    groups = dict.fromkeys(factory.options for factory in factories)
    declared = declarations.declared(*groups, correction.Options)
    known = set(declared) | set(declarations.declared(registered.Options, parties.Options))
    for name in options:
        if name not in known:
            raise ValueError(f"options: there is no option {name!r}; must be some of {', '.join(declared)}")
    return {name: declaration.default for name, declaration in declared.items()} | dict(options)
