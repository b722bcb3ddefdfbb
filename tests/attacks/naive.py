"""Naive float64 references of the membership scores, one loop per sum, each written from the published formula.

Sources:
    Carlini et al. 2022, "Membership Inference Attacks From First Principles": the logit-scaled confidence and LiRA.
    Song & Mittal 2021, "Systematic Evaluation of Privacy Risks of Machine Learning Models": the modified entropy.
    Zarifzadeh et al. 2024, "Low-Cost High-Power Membership Inference Attacks": RMIA.
    Lassila, Oestman & Ngo 2025, "Practical Bayes-Optimal Membership Inference Attacks": BASE.
    Watson et al. 2022, "On the Importance of Difficulty Calibration in Membership Inference Attacks": calibration.
    Zhu et al. 2025, "FedMIA: An Effective Membership Inference Attack Exploiting 'All for One' Principle in Federated
        Learning": FedMIA, which `peers` adapts to a model that visits the nodes in turn.
The empirical-Bayes means and the density of a sequence are the textbook normal formulas.

Arrays: J reference models, M records, K classes, T snapshots. `owners` is int[J, M]: -1 where the reference model was
not trained on the record, and otherwise the node that trained it on the record. A score is nan where a mean or a
variance that it needs has too few observations.
"""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
from scipy import stats
from scipy.special import expit


def _mean(observations):
    """The mean of a list of numbers, nan if it is empty."""
    if len(observations) == 0:
        return np.nan
    return sum(observations) / len(observations)


def _variance(observations):
    """The variance of a list of numbers with one degree of freedom lost, nan if there are fewer than two."""
    if len(observations) < 2:
        return np.nan
    mean = _mean(observations)
    return sum((value - mean) ** 2 for value in observations) / (len(observations) - 1)


def _split(phi_refs, owners):
    """Per record, the values under the models trained on it, and those under the models not trained on it."""
    models, records = phi_refs.shape
    inside = [[phi_refs[j, i] for j in range(models) if owners[j, i] >= 0] for i in range(records)]
    outside = [[phi_refs[j, i] for j in range(models) if owners[j, i] < 0] for i in range(records)]
    return inside, outside


def _variances(observations, per_record):
    """The variance around each record's own mean: each record's own, or one pooled over all the records."""
    if per_record:
        return [_variance(own) for own in observations]
    squares, count, means = 0.0, 0, 0
    for own in observations:
        if len(own) == 0:
            continue
        mean = _mean(own)
        squares += sum((value - mean) ** 2 for value in own)
        count += len(own)
        means += 1
    pooled = squares / (count - means) if count > means else np.nan
    return [pooled] * len(observations)


def _softmax(logits):
    """The class probabilities of one record, in extended precision."""
    exponentials = np.exp(logits.astype(np.longdouble) - logits.max())
    return exponentials / exponentials.sum()


def _others(probabilities, label):
    """The total probability of all the classes but one: 1 - p without the cancellation."""
    return sum(probability for k, probability in enumerate(probabilities) if k != label)


def phi(logits, labels):
    """log p_y - log sum_{k != y} p_k per record (Carlini et al. 2022)."""
    scores = []
    for row, label in zip(logits, labels, strict=True):
        probabilities = _softmax(row)
        scores.append(np.log(probabilities[label]) - np.log(_others(probabilities, label)))
    return np.array(scores, dtype=np.float64)


def entropy(logits):
    """-sum_k p_k log p_k per record."""
    scores = []
    for row in logits:
        probabilities = _softmax(row)
        scores.append(-sum(p * np.log(p) for p in probabilities if p > 0))
    return np.array(scores, dtype=np.float64)


def modified_entropy(logits, labels):
    """-(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k) per record (Song & Mittal 2021)."""
    scores = []
    for row, label in zip(logits, labels, strict=True):
        probabilities = _softmax(row)
        score = -_others(probabilities, label) * np.log(probabilities[label])
        for k, probability in enumerate(probabilities):
            if k != label:
                score -= probability * np.log(_others(probabilities, k))
        scores.append(score)
    return np.array(scores, dtype=np.float64)


def best_gain(values, members):
    """The largest TPR - FPR of the rule "value > threshold" over every midpoint and both infinities."""
    return max(gain for _, gain in _gains(values, members))


def best_thresholds(values, members):
    """All the thresholds that reach the largest TPR - FPR, counted in whole records so that equal ones are equal."""
    gains = _gains(values, members)
    return [threshold for threshold, gain in gains if gain == max(gain for _, gain in gains)]


def _gains(values, members):
    """Every midpoint between two values, and both infinities, with TPR - FPR as an exact fraction."""
    ordered = sorted(set(values.tolist()))
    thresholds = [-np.inf, np.inf]
    for low, high in pairwise(ordered):
        middle = low + (high - low) / 2
        thresholds.append(middle if middle < high else low)
    gains = []
    for threshold in thresholds:
        true = sum(1 for value, member in zip(values, members, strict=True) if member and value > threshold)
        false = sum(1 for value, member in zip(values, members, strict=True) if not member and value > threshold)
        gains.append((threshold, Fraction(true, int(np.sum(members))) - Fraction(false, int(np.sum(~members)))))
    return gains


def lira_online(phi_target, phi_refs, owners, per_record):
    """log N(phi; mean_in, var_in) - log N(phi; mean_out, var_out) per record (Carlini et al. 2022)."""
    inside, outside = _split(phi_refs, owners)
    var_in, var_out = _variances(inside, per_record), _variances(outside, per_record)
    scores = []
    for i, value in enumerate(phi_target):
        log_in = stats.norm.logpdf(value, loc=_mean(inside[i]), scale=np.sqrt(var_in[i]))
        log_out = stats.norm.logpdf(value, loc=_mean(outside[i]), scale=np.sqrt(var_out[i]))
        scores.append(log_in - log_out)
    return np.array(scores, dtype=np.float64)


def lira_offline(phi_target, phi_refs, owners, per_record):
    """1 - Pr[Z > phi], that is Pr[Z <= phi], of Z ~ N(mean_out, var_out) per record (Carlini et al. 2022)."""
    _, outside = _split(phi_refs, owners)
    var_out = _variances(outside, per_record)
    scores = []
    for i, value in enumerate(phi_target):
        scores.append(stats.norm.cdf(value, loc=_mean(outside[i]), scale=np.sqrt(var_out[i])))
    return np.array(scores, dtype=np.float64)


def label_probability(logits, labels, temperature, softmax):
    """The label's probability by the plain softmax, or by the soft-margin Taylor softmax of order 4 (RMIA)."""

    def taylor(value):
        return sum(value**power / math.factorial(power) for power in range(5))

    grow, margin = (math.exp, 0.0) if softmax == "softmax" else (taylor, 0.6)
    probabilities = []
    for row, label in zip(logits / temperature, labels, strict=True):
        own = grow(row[label] - margin)
        others = sum(grow(value) for place, value in enumerate(row) if place != label)
        probabilities.append(own / (own + others))
    return np.array(probabilities, dtype=np.float64)


def base(phi_target, phi_refs, owners, scale):
    """log p(x | target) less the log of p(x)'s mean at references (Lassila et al. 2025); online if scale is None."""
    inside, outside = _split(expit(phi_refs), owners)
    scores = []
    for i, value in enumerate(phi_target):
        if scale is None:
            threshold = np.log((_mean(inside[i]) + _mean(outside[i])) / 2)
        else:
            threshold = scale * np.log(_mean(outside[i]))
        scores.append(np.log(expit(value)) - threshold)
    return np.array(scores, dtype=np.float64)


def rmia(phi_target, phi_refs, owners, population, gamma, offline_a):
    """The share of population records z with LR(x, z) >= gamma per record; online if offline_a is None."""
    inside, outside = _split(expit(phi_refs), owners)
    ratios = []
    for i, value in enumerate(phi_target):
        if offline_a is None:
            marginal = (_mean(inside[i]) + _mean(outside[i])) / 2
        else:
            marginal = ((1 + offline_a) * _mean(outside[i]) + (1 - offline_a)) / 2
        ratios.append(expit(value) / marginal)
    scores = []
    for ratio in ratios:
        likelihoods = [ratio / ratios[z] for z in population]
        wins = [likelihood >= gamma for likelihood in likelihoods]
        scores.append(np.nan if np.isnan(likelihoods).any() else _mean(wins))
    return np.array(scores, dtype=np.float64)


def _loss(value):
    """-log sigmoid(phi) = log(1 + exp(-phi)), in extended precision."""
    return np.log1p(np.exp(-np.longdouble(value)))


def calibration(phi_target, phi_refs, owners):
    """The mean loss over the models without the record, less the target's loss (Watson et al. 2022)."""
    _, outside = _split(phi_refs, owners)
    scores = []
    for i, value in enumerate(phi_target):
        scores.append(_mean([_loss(other) for other in outside[i]]) - _loss(value))
    return np.array(scores, dtype=np.float64)


def delta(values, seen, trainer, before, node):
    """The mean change per record over the node's own steps whose two ends were both seen.

    `trainer` says who trained each snapshot, `before` which snapshot it started from, None for the initial model.
    """
    snapshots, records = values.shape
    scores = []
    for i in range(records):
        changes = []
        for t in range(snapshots):
            if trainer[t] == node and before[t] is not None and seen[t] and seen[before[t]]:
                changes.append(values[t, i] - values[before[t], i])
        scores.append(_mean(changes))
    return np.array(scores, dtype=np.float64)


def peers(phi, seen, trainer, before, cycle, node):
    """The mean over cycles of the node's step, standardised by the other nodes' steps (after Zhu et al. 2025).

    A cycle counts if the node's step is seen in it and at least two of the others' are. The spread's variance is the
    population variance over the others' steps, averaged over all the records and floored at 1e-6. `cycle` says to
    which cycle each snapshot belongs; for `trainer` and `before` see `delta`.
    """
    snapshots, records = phi.shape
    standardised = [[] for _ in range(records)]
    for number in sorted(set(cycle)):
        steps = {}
        for t in range(snapshots):
            if cycle[t] == number and before[t] is not None and seen[t] and seen[before[t]]:
                steps[trainer[t]] = phi[t] - phi[before[t]]
        others = [k for k in steps if k != node]
        if node not in steps or len(others) < 2:
            continue
        means, variances = [], []
        for i in range(records):
            mean = _mean([steps[k][i] for k in others])
            means.append(mean)
            variances.append(_mean([(steps[k][i] - mean) ** 2 for k in others]))
        spread = np.sqrt(max(_mean(variances), 1e-6))
        for i in range(records):
            standardised[i].append((steps[node][i] - means[i]) / spread)
    return np.array([_mean(own) for own in standardised], dtype=np.float64)


def gaussian_sequence(values, mean, covariance, seen):
    """The normal log-density per record of the seen snapshots, without its constant -n_seen log(2 pi) / 2."""
    kept = [t for t in range(len(seen)) if seen[t]]
    records = values.shape[1]
    if not kept:
        return np.zeros(records)
    block = np.array([[covariance[s, t] for t in kept] for s in kept])
    scores = []
    for i in range(records):
        density = stats.multivariate_normal.logpdf(values[kept, i], mean=mean[kept, i], cov=block)
        scores.append(density + 0.5 * len(kept) * np.log(2 * np.pi))
    return np.array(scores, dtype=np.float64)


def random_effects(observations, prior):
    """The empirical-Bayes mean per record, and the variance of a new observation of that record."""
    squares, freedom, around_prior = 0.0, 0, []
    for own, centre in zip(observations, prior, strict=True):
        around_prior.extend((value - centre) ** 2 for value in own)
        if len(own) > 0:
            own_mean = _mean(own)
            squares += sum((value - own_mean) ** 2 for value in own)
            freedom += len(own) - 1
    within = squares / freedom if freedom > 0 else np.nan
    between = max(_mean(around_prior) - within, 1e-6)
    means, variances = [], []
    for own, centre in zip(observations, prior, strict=True):
        count = len(own)
        weight = count * between / (count * between + within)
        means.append(centre + weight * (_mean(own) - centre) if count > 0 else centre)
        variances.append(within + (1 - weight) * between)
    return np.array(means, dtype=np.float64), np.array(variances, dtype=np.float64)


def auc(members, others):
    """The share of (member, other) pairs in which the member scores higher, a tie counting half."""
    total = 0.0
    for member in members:
        for other in others:
            if member > other:
                total += 1.0
            elif member == other:
                total += 0.5
    return total / (len(members) * len(others))
