"""What every adversary learns: all attacks under all views, on the kept signals of targets and references.

Nothing is learnt here but what an attack fits on the references. One point at a time: its replicates share the scored
records and the references, and are the axis S.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import adversary, attacks, certainty, parts, stages, workload
from fedmia_jax.attacks import attribution, contract
from fedmia_jax.data import pools

EVERY = "all_coalitions"  # the view of every coalition of a size; for attacks on several snapshots
PSEUDO_TARGETS = 2  # references that no attack is fitted on, for thresholds

Views = Mapping[str, Sequence[adversary.Party]]


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """All that the attacks of one point read."""

    runs: Sequence[workload.Run]
    phi: jax.Array  # f32[S, T, M] of the targets
    correct: np.ndarray  # bool[S, T, M], the target answers the label
    owners: np.ndarray  # i32[S, M], -1 for non-members, -2 for records that do not count
    references: contract.References
    single: dict[str, tuple[np.ndarray, np.ndarray]]  # attacks on one model: scores [S, T, M], thresholds [S, T]
    fitted: dict[str, Callable[..., jax.Array]] = dataclasses.field(default_factory=dict)  # see `score_nodes`

    @property
    def nodes(self) -> int:
        """N."""
        return self.runs[0].settings.federation.nodes

    @functools.cached_property
    def views(self) -> Views:
        """The parties of every view that is asked for."""
        settings = self.runs[0].settings
        rounds = settings.federation
        return {
            name: adversary.make_view(name, nodes=rounds.nodes, cycles=rounds.cycles) for name in settings.attack.views
        }

    @functools.cached_property
    def compared(self) -> dict[str, contract.Comparison]:
        """The attacks with references; they learn for all views, half of the time for those of single parties."""
        single = [party.mask for name, found in self.views.items() for party in found if not name.startswith(EVERY)]
        every = [party.mask for name, found in self.views.items() for party in found if name.startswith(EVERY)]
        masks = single * max(1, len(every) // max(1, len(single))) + every
        return attacks.make_comparisons(self.runs[0].settings.attack, nodes=self.nodes, masks=masks)

    def members(self, node: int) -> np.ndarray:
        """bool[S, M], the records of a node; N stands for the union."""
        return self.held(self.owners, node)

    def held(self, owners: np.ndarray, node: int) -> np.ndarray:
        """Which records are a node's, or the union's, where others own them: i32[...] -> bool[...]."""
        return owners >= 0 if node == self.nodes else owners == node

    @property
    def others(self) -> np.ndarray:
        """bool[S, M], the non-members."""
        return self.owners == -1


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """What one party says of the records of one node, or of the union, at every target."""

    attack: str
    view: str  # as it was asked for
    party: str
    node: int  # N for the union
    snapshot: int | None  # the one that was read
    last: int  # the last one seen
    scores: np.ndarray  # f32[S, M]
    thresholds: np.ndarray  # f32[S]


def gather(planned: stages.Plan, kept: parts.Parts, runs: Sequence[workload.Run]) -> Evidence:
    """Reads the kept signals of one point's replicates, and of their references."""
    recipes = [recipe for run, recipe in zip(planned.runs, planned.recipes, strict=True) if run in runs]
    cycles = range(runs[0].settings.federation.cycles)

    def read(key: str, names: Sequence[str]) -> dict[str, Any]:
        pieces = [kept.read(planned.address[key], f"c{cycle + 1}") for cycle in cycles]
        return jax.tree.map(
            lambda *leaves: np.concatenate(leaves), *({name: piece[name] for name in names} for piece in pieces)
        )

    targets = []
    for recipe in recipes:
        assert recipe.federation is not None
        number = str(planned.work[recipe.federation].readers.index(recipe.federation_reader))
        found = read(recipe.federation, ["phi", "correct", number])
        targets.append(found | {"single": found.pop(number)})
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *targets)
    phi = np.stack([read(key, ["phi"])["phi"] for key in recipes[0].references])
    references = contract.References(jnp.asarray(phi), jnp.asarray(runs[0].reference_owners))
    single = stacked["single"]
    return Evidence(
        runs,
        jnp.asarray(stacked["phi"]),
        stacked["correct"],
        np.stack([run.owners for run in runs]),
        references,
        {name: (single["scores"][name], single["threshold"][name]) for name in single["scores"]},
    )


def score_single(evidence: Evidence, name: str) -> Iterator[Scored]:
    """Yields an attack on one model, at the snapshot of each view that suits it best."""
    scores, thresholds = evidence.single[name]
    for view, party, node in _asked(evidence):
        read = adversary.freshest(party.mask, node, nodes=evidence.nodes)
        yield Scored(name, view, party.name, node, read, read, scores[:, read], thresholds[:, read])


def score_compared(evidence: Evidence, name: str) -> Iterator[Scored]:
    """Yields a comparison: by each snapshot, and under every view that shows what it needs.

    An attack on one snapshot reads the one that suits it best, see `adversary.freshest`.
    """
    attack = evidence.compared[name]
    phi = jnp.concatenate([evidence.phi, evidence.references.phi[-PSEUDO_TARGETS:]])
    if attack.combine is not None:
        yield from _sequences(evidence, name, phi)
        return
    fitted, prepare = fit(evidence, name), jax.jit(attack.prepare)
    score = jax.jit(lambda ready, phi: jax.lax.map(lambda one: attack.score(ready, one), phi))
    asked = list(_asked(evidence))
    for node in range(evidence.nodes + 1):
        scores = score(prepare(fitted, jnp.int32(-1 if node == evidence.nodes else node)), phi)
        mine = [(view, party) for view, party, attacked in asked if attacked == node]
        yield from _snapshots(evidence, name, node, mine, np.asarray(scores))


def fit(evidence: Evidence, name: str) -> Any:
    """Fits a comparison on the references."""
    key = dataclasses.replace(evidence.runs[0], replicate=0).key(pools.Purpose.ATTACK, 1_000_000)
    known = jax.tree.map(lambda leaf: leaf[:-PSEUDO_TARGETS], evidence.references)
    return jax.jit(evidence.compared[name].fit)(key, known)


def score_nodes(evidence: Evidence, name: str) -> Callable[..., jax.Array]:
    """Returns `score(phi [S, T, M], mask) -> f32[S, N + 1, M]` of an attack on several snapshots, fitted once."""
    if name not in evidence.fitted:
        attack, fitted = evidence.compared[name], fit(evidence, name)
        prepare = jax.jit(attack.prepare)
        ready = [prepare(fitted, jnp.int32(node)) for node in range(evidence.nodes)]
        evidence.fitted[name] = functools.partial(_over_nodes(attack), ready)
    return evidence.fitted[name]


def _over_nodes(attack: contract.Comparison) -> Callable[..., jax.Array]:
    """`score(ready, phi [S, T, M], mask) -> f32[S, N + 1, M]`, the union last; what nodes share is computed once."""

    def score_one(ready, phi, mask):
        scores = jnp.stack([attack.score(each, phi, mask) for each in ready])
        assert attack.combine is not None
        return jnp.concatenate([scores, attack.combine(scores)[None]])

    return jax.jit(lambda ready, phi, mask: jax.lax.map(lambda one: score_one(ready, one, mask), phi))


def _asked(evidence: Evidence) -> Iterator[tuple[str, adversary.Party, int]]:
    """Every view of single parties, party and attacked node."""
    for view, parties in evidence.views.items():
        for party in () if view.startswith(EVERY) else parties:
            for node in party.attacked:
                yield view, party, node


def _snapshots(evidence, name, node, asked, scores) -> Iterator[Scored]:
    """Every snapshot by itself, and the one that each view reads; scores [S + pseudo-targets, T, M]."""
    num = len(evidence.owners)
    thresholds = [_threshold(evidence, node, scores[num:, t]) for t in range(scores.shape[1])]
    for t, threshold in enumerate(thresholds):
        yield Scored(name, adversary.SNAPSHOT, adversary.SNAPSHOT, node, t, t, scores[:num, t], np.full(num, threshold))
    for view, party in asked:
        read = adversary.freshest(party.mask, node, nodes=evidence.nodes)
        found = np.full(num, thresholds[read])
        yield Scored(name, view, party.name, node, read, read, scores[:num, read], found)


def _sequences(evidence, name, phi) -> Iterator[Scored]:
    """Every view and node that it suffices for; coalitions by the dozen go without a threshold."""
    num, attack, score = len(evidence.owners), evidence.compared[name], score_nodes(evidence, name)
    for view, parties in evidence.views.items():
        every = view.startswith(EVERY)
        for party in parties:
            last = int(np.flatnonzero(party.mask)[-1])
            shown = [attack.suffices(party.mask, node) for node in range(evidence.nodes)]
            enough = [node for node in party.attacked if (any(shown) if node == evidence.nodes else shown[node])]
            if not enough:
                continue
            found = np.asarray(score(phi[:num] if every else phi, jnp.asarray(party.mask)))
            for node in enough:
                threshold = float("nan") if every else _threshold(evidence, node, found[num:, node])
                yield Scored(name, view, party.name, node, None, last, found[:num, node], np.full(num, threshold))


def _threshold(evidence: Evidence, node: int, scores: np.ndarray) -> float:
    """The best threshold on references that stand in for a target: [pseudo-targets, M]."""
    owners = np.asarray(evidence.references.owners[-len(scores) :])
    return certainty.best_threshold(scores[evidence.held(owners, node)], scores[owners < 0])


def attribute(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """Yields confusion matrices: which node is named for the members of each, by way and view, all targets together.

    `source_loss` and `delta_phi` need no reference; `sequence_lira` and `trajectory` name the node that they hold most
    likely, where they are among the attacks. Only views that show something of every node can name each.
    """
    owners, nodes = jnp.asarray(evidence.owners), evidence.nodes
    everyone = {name: parties[0] for name, parties in evidence.views.items() if nodes in parties[0].attacked}
    for name in ("source_loss", "delta_phi", "sequence_lira", "trajectory"):
        rank = _ranker(evidence, name)
        if rank is None:
            continue
        for view, party in everyone.items():
            scores = rank(jnp.asarray(party.mask))  # [S, N, M]
            if not np.isfinite(np.asarray(scores)).all():
                continue
            found = jax.vmap(functools.partial(attribution.confusion, nodes=nodes))(scores, owners)
            for true, named in np.ndindex(nodes, nodes):
                count = int(found[:, true, named].sum())
                yield {"way": name, "view": view, "true": f"N{true + 1}", "named": f"N{named + 1}", "count": count}


def _ranker(evidence: Evidence, name: str) -> Callable[[jax.Array], jax.Array] | None:
    """`rank(mask) -> f32[S, N, M]`, how likely each node is to have held a record."""
    nodes = evidence.nodes
    if name == "source_loss":
        return lambda mask: jax.vmap(lambda one: attribution.source_losses(one, mask, nodes=nodes))(evidence.phi)
    if name not in evidence.compared:
        return None
    return lambda mask: score_nodes(evidence, name)(evidence.phi, mask)[:, :nodes]
