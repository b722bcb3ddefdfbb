"""Lower bounds on the epsilon of training, each with its adjacency, its delta and its level.

Two ways in which records come to be members, and what either one allows to be said:

| membership | adjacency | delta | bound |
| --- | --- | --- | --- |
| a coin for each record (`Evidence.assigned`) | add or remove that record | as stated | `one_run`; `one_run_gaussian` |
| an exact share of the records | replace one record by another | 0 | `exact_share` |

Coins are those of records: where several share one, nothing holds for a single record. Every guess at a coin is made
by numbers that were fixed before anybody looked at the outcomes, and bounds of many attacks and views are corrected for
their number, except that of one cell that was chosen beforehand.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from fedmia_jax.audit import correction, evidence, roc, scorers

# How many coins are guessed at: shares of the highest scores, guessed to be in, and of the lowest, guessed to be out.
LOOKS = ((1 / 4, 0.0), (1 / 16, 0.0), (1 / 64, 0.0), (1 / 2, 1 / 2), (1 / 8, 1 / 8), (1 / 32, 1 / 32))
COLUMNS = {"epsilon": float, "epsilon_gaussian": float, "epsilon_adjacency": str, "epsilon_delta": float}
COLUMNS |= {"epsilon_level": float}


def measure(
    arrays: evidence.Evidence, group: Sequence[scorers.Scored], claim: correction.Claim, *, attacked: str
) -> dict[str, Any]:
    """Returns the columns of one attack under one view.

    Args:
      arrays: who owned what.
      group: the scores of all parties of the view, which are numbers.
      claim: what was decided beforehand.
      attacked: `node` or `union`.
    """
    level = claim.level(group[0].attack, group[0].view, attacked)
    if arrays.assigned is None:
        halves = _halves(arrays, group)
        bound = exact_share(*halves, level=level) if halves else None
        return dict(zip(COLUMNS, (bound, None, "replace one", 0.0, level), strict=True))
    scores, members = _coins(arrays, group)
    fair = make_fair(members, arrays.coin_rate)
    looks = guess(scores[fair], members[fair])
    bound = one_run(looks, delta=claim.delta, level=level)
    gaussian = one_run_gaussian(looks, delta=claim.delta, level=level) if claim.delta else None
    return dict(zip(COLUMNS, (bound, gaussian, "add or remove one", claim.delta, level), strict=True))


def _coins(arrays: evidence.Evidence, group: Sequence[scorers.Scored]) -> tuple[np.ndarray, np.ndarray]:
    """Scores f[m] and outcomes bool[m] of all coins, of every target; of several parties the first one guesses."""
    assert arrays.assigned is not None
    owners, assigned = np.asarray(arrays.owners), np.asarray(arrays.assigned)
    scores, members, guessed = [], [], set()
    for scored in group:
        if scored.node in guessed:
            continue
        guessed.add(scored.node)
        tossed = evidence.members_of(assigned, scored.node, nodes=arrays.nodes) & (owners != evidence.UNCOUNTED)
        scores.append(scored.scores[tossed])
        members.append(arrays.members(scored.node)[tossed])
    return np.concatenate(scores), np.concatenate(members)


class Counts(NamedTuple):
    """How well some guesses went."""

    coins: int  # those that were tossed
    guesses: int
    correct: int


def make_fair(members: Bool[np.ndarray, "m"], rate: float) -> Bool[np.ndarray, "m"]:
    """Returns which coins to keep so that those are fair.

    Of members, or of non-members, as many are dropped at random as makes both equally likely. Whether a record is
    dropped depends on its own coin alone, so that the coins of those kept are independent and fair, whatever is known
    of the others.

    Args:
      members: outcomes of independent coins.
      rate: chance to be a member, between 0 and 1.
    """
    keep = np.where(members, min(1.0, (1 - rate) / rate), min(1.0, rate / (1 - rate)))
    return np.random.default_rng([1, len(members)]).random(len(members)) < keep


def guess(scores: Float[np.ndarray, "m"], members: Bool[np.ndarray, "m"]) -> list[Counts]:
    """Returns how well coins are guessed from scores, for each of `LOOKS`.

    Args:
      scores: higher means member; equal ones are ranked at random.
      members: outcomes.
    """
    num_coins = len(scores)
    shuffled = np.random.default_rng([2, num_coins]).permutation(num_coins)
    ranked = members[shuffled][np.argsort(-scores[shuffled], kind="stable")]
    counts = []
    for high, low in LOOKS:
        inside, outside = int(high * num_coins), int(low * num_coins)
        correct = int(ranked[:inside].sum()) + int((~ranked[num_coins - outside :]).sum())
        counts.append(Counts(num_coins, inside + outside, correct))
    return counts


def one_run(looks: Sequence[Counts], *, delta: float, level: float = correction.LEVEL) -> float:
    """Returns a lower bound on the epsilon of (epsilon, delta)-differentially private training.

    Coins of many records, each tossed for itself, are guessed from what one training gave away. If adding or removing
    a record changes little, guesses can hardly be better than coins.

    Source: Steinke, Nasr and Jagielski (2023), Theorem 5.2. Departure: the largest bound of several numbers of guesses,
    each at a share of the level.

    Args:
      looks: numbers of guesses that were fixed beforehand, at independent fair coins.
      delta: of the claim.
      level: of the bound.

    Returns:
      A bound of at least 0.
    """
    share = (1 - level) / len(looks)
    best = 0.0
    for counts in looks:
        best = _largest_refuted(functools.partial(_excess, counts, share, delta), best)
    return best


def _excess(counts: Counts, significance: float, delta: float, epsilon: float) -> float:
    """Above 0 where so many correct guesses refute (epsilon, delta)-differential privacy."""
    return significance - p_value(counts, epsilon, delta=delta)


def p_value(counts: Counts, epsilon: float, *, delta: float) -> float:
    """Returns the chance of so many correct guesses or more under (epsilon, delta), at most.

    Source: Steinke, Nasr and Jagielski (2023), Theorem 5.2.

    Args:
      counts: at independent fair coins.
      epsilon: at least 0.
      delta: at least 0.
    """
    chance = float(special.expit(epsilon))
    coins, guesses, correct = counts
    tail = float(special.betainc(correct, guesses - correct + 1, chance)) if correct else 1.0
    if delta == 0 or correct == 0:
        return tail
    # Beyond some standard deviations below the mean there is nothing left to add, and the slope falls.
    reach = correct - guesses * chance + 6 * math.sqrt(guesses * chance * (1 - chance)) + 20
    fewer = np.arange(1, max(1, min(correct, math.ceil(reach))) + 1)
    added = np.cumsum(_exactly(correct - fewer, guesses, epsilon))
    return min(1.0, tail + 2 * coins * delta * float(np.max(added / fewer)))


def _exactly(correct: np.ndarray, guesses: int, epsilon: float) -> np.ndarray:
    """The chance of so many correct guesses, each of which is correct with odds e^epsilon."""
    ways = special.gammaln(guesses + 1) - special.gammaln(correct + 1) - special.gammaln(guesses - correct + 1)
    return np.exp(ways + guesses * special.log_expit(epsilon) - (guesses - correct) * epsilon)


def _largest_refuted(excess: Callable[[float], float], least: float) -> float:
    """The largest parameter, of at least `least`, that is refuted: whose excess, which falls with it, is above 0."""
    if excess(least) <= 0:
        return least
    low, high = least, max(1.0, 2 * least)
    while excess(high) > 0:
        low, high = high, 2 * high
    return _root(excess, low, high, precision=1e-6)


def one_run_gaussian(looks: Sequence[Counts], *, delta: float, level: float = correction.LEVEL) -> float:
    """Returns a lower bound on epsilon at delta, where training is as private as some Gaussian mechanism.

    It is sharper than `one_run`, since it holds a whole curve of (epsilon, delta) against the guesses; it says nothing
    where the curve of the training is not that of Gaussian noise.

    Source: Mahloujifar, Melis and Chaudhuri (2024), Algorithm 3. Departure: as in `one_run`.

    Args:
      looks: as in `one_run`.
      delta: greater than 0.
      level: of the bound.

    Returns:
      A bound of at least 0.
    """
    share = (1 - level) / len(looks)
    best = 0.0
    for counts in looks:
        best = _largest_refuted(functools.partial(_gaussian_excess, counts, share), best)
    return gaussian_epsilon(best, delta)


def _gaussian_excess(counts: Counts, significance: float, mu: float) -> float:
    """Above 0 where so many correct guesses refute mu-Gaussian differential privacy."""
    coins, guesses, correct = counts
    if not guesses:
        return 0.0
    right, wrong = significance * correct / coins, significance * (guesses - correct) / coins
    for fewer in range(correct - 1, -1, -1):
        raised = max(wrong, _gaussian_curve(right, mu))
        if raised == wrong:
            break  # neither moves again
        right, wrong = min(right + fewer / (guesses - fewer) * (raised - wrong), 1.0), raised
    return right + wrong - guesses / coins


def _gaussian_curve(chance: float, mu: float) -> float:
    """The least chance of an event without a record, given that with it: the inverse of a Gaussian's trade-off."""
    return float(special.ndtr(special.ndtri(chance) - mu))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Returns the epsilon at delta of mu-Gaussian differential privacy.

    Source: Dong, Roth and Su (2022), Corollary 2.13.
    """

    def excess(epsilon: float) -> float:
        second = math.exp(epsilon + float(special.log_ndtr(-epsilon / mu - mu / 2)))
        return float(special.ndtr(-epsilon / mu + mu / 2)) - second - delta

    if mu == 0 or excess(0.0) <= 0:
        return 0.0
    return _root(excess, 0.0, mu**2 / 2 + 40 * mu, precision=1e-9)


def _root(excess: Callable[[float], float], low: float, high: float, *, precision: float) -> float:
    """Where a function that falls is zero."""
    from scipy import optimize  # Takes a fifth of a second to import, which a run without audits need not pay.

    return float(optimize.brentq(excess, low, high, xtol=precision))


class Pooled(NamedTuple):
    """Scores of some records."""

    members: np.ndarray  # f[m]
    others: np.ndarray  # f[n]
    weights: np.ndarray  # f[n], of the non-members
    trials: tuple[int, int]  # distinct records among members and non-members


def exact_share(first: Pooled, second: Pooled, *, level: float = correction.LEVEL) -> float:
    """Returns a lower bound on the epsilon of (epsilon, 0)-differentially private training, one record replaced.

    A threshold is chosen on the first half, for either direction, and counted on the second with Clopper-Pearson
    ends. Source: Jagielski, Ullman and Oprea (2020), section 3; Nasr et al. (2021). Departure: several records of one
    model are tried, rather than one record of many models, as if they were independent.

    Args:
      first: one half of the records.
      second: the other one.
      level: of the bound.

    Returns:
      A bound of at least 0.
    """
    pooled = np.concatenate([first.members, first.others])
    thresholds = np.unique(np.quantile(pooled, np.linspace(0, 1, 400), method="nearest"))
    bounds = _bounds(first, thresholds, level)
    direction, place = np.unravel_index(int(np.argmax(bounds)), bounds.shape)
    return max(0.0, float(_bounds(second, thresholds[place : place + 1], level)[direction, 0]))


def _bounds(half: Pooled, thresholds: Float[np.ndarray, "K"], level: float) -> Float[np.ndarray, "2 K"]:
    """Lower bounds at each threshold: from what is flagged, and from what is not."""
    total, outside = half.trials
    tpr, fpr = roc.rates_above(roc.make_roc(half.members, half.others, half.weights), thresholds)
    hits, alarms = tpr * total, fpr * outside
    tail = (1 - level) / 2  # both ends of a bound hold together at the level

    def low(successes: Any, trials: int) -> np.ndarray:
        return np.where(
            successes > 0, special.betaincinv(np.maximum(successes, 1e-9), trials - successes + 1, tail), 0.0
        )

    def high(successes: Any, trials: int) -> np.ndarray:
        left = np.maximum(trials - successes, 1e-9)
        return np.where(successes < trials, special.betaincinv(successes + 1, left, 1 - tail), 1.0)

    with np.errstate(divide="ignore"):
        flagged = np.log(low(hits, total)) - np.log(high(alarms, outside))
        passed = np.log(low(outside - alarms, outside)) - np.log(high(total - hits, total))
    return np.stack([flagged, passed])


def _halves(arrays: evidence.Evidence, group: Sequence[scorers.Scored]) -> tuple[Pooled, Pooled] | None:
    """Two random halves of the records; None where one lacks members or non-members."""
    scores = np.stack([scored.scores for scored in group])  # [I, S, M]
    members = np.stack([arrays.members(scored.node) for scored in group])
    others = np.stack([arrays.others(scored.node) for scored in group])
    side = np.random.default_rng(0).random((scores.shape[2],)) < 0.5
    if not all((records & half).any() for records in (members, others) for half in (side, ~side)):
        return None
    return pool(scores, members & side, others & side), pool(scores, members & ~side, others & ~side)


def pool(
    scores: Float[np.ndarray, "I S M"], members: Bool[np.ndarray, "I S M"], others: Bool[np.ndarray, "I S M"]
) -> Pooled:
    """Returns all scores of some records; the non-members of a party weigh together as its members do.

    Args:
      scores: by party, target and record.
      members: those that count as members.
      others: those that count as non-members.
    """
    against = others.sum(axis=2, keepdims=True)
    weights = members.sum(axis=2, keepdims=True) / members.sum(axis=2).mean() * np.ones(scores.shape, np.float32)
    weights *= against.mean(axis=0) / np.maximum(against, 1)  # 1 where all parties have the same non-members
    trials = int(np.any(members, axis=(0, 1)).sum()), int(np.any(others, axis=(0, 1)).sum())
    return Pooled(scores[members], scores[others], weights[others], trials)
