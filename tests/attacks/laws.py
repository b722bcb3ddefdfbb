"""Toy federations with a known law of trajectories, the best test of each by Neyman and Pearson, and attacks beside it.

    python tests/attacks/laws.py           # prints the table of docs/adversaries.md, true positive rates at 1% and 0.1%
    python tests/attacks/laws.py --write   # and puts it there

The best test knows the mean, scale and covariance of every record, which nobody can who has 48 references: `attainable`
is the best of those who know what records are drawn from, but learn each record from the references alone.
"""

import argparse
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from fedmia_jax import attacks, options
from fedmia_jax.attacks import contract
from fedmia_jax.schedule import Schedule

LAWS = ("gaussian", "t4", "scales", "both", "t4 each")
DISTANCE = 2.23  # of members from non-members in deviations, before it varies by record
OF_CENTRE, OF_SHIFT = (2.0, 0.5), (0.25, 0.05)  # deviations of records: in common to all snapshots, and of each
OF_SCALE = 0.5  # deviation of a record's log scale
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "adversaries.md"
MARKS = ("<!-- laws -->\n", "<!-- /laws -->\n")


def setting(snapshots, correlation, rng):
    """Covariance of the errors, and how members are shifted on average."""
    covariance = correlation ** np.abs(np.subtract.outer(np.arange(snapshots), np.arange(snapshots)))
    profile = rng.uniform(0.5, 1.5, size=snapshots)
    return covariance, profile * DISTANCE / np.sqrt(profile @ np.linalg.inv(covariance) @ profile)


def draw(law, *, snapshots=10, correlation=0.9, seed=0, records=2000, references=48, targets=20):
    """Draws KnownRecords, phi [S, T, M] of targets, their members [S, M] and the log ratio of the best test [S, M]."""
    rng = np.random.default_rng(seed)
    covariance, profile = setting(snapshots, correlation, rng)
    root, each = np.linalg.cholesky(covariance), (snapshots, records)
    shift = profile[:, None] * (1 + OF_SHIFT[0] * rng.normal(size=records)) + OF_SHIFT[1] * rng.normal(size=each)
    centre = OF_CENTRE[0] * rng.normal(size=records) + OF_CENTRE[1] * rng.normal(size=each)
    scale = np.exp(OF_SCALE * rng.normal(size=records)) if law in ("scales", "both") else np.ones(records)

    def noise(count):
        normal = rng.normal(size=(count, snapshots, records))
        if law == "t4 each":
            normal = rng.standard_t(4, size=normal.shape)
        errors = np.einsum("tu,cum->ctm", root, normal)
        if law in ("t4", "both"):
            errors /= np.sqrt(rng.chisquare(4, size=(count, 1, records)) / 4)
        return errors * scale

    def density(values):
        white = np.einsum("tu,ctm->cum", np.linalg.inv(root).T, values / scale)
        if law == "t4 each":
            return scipy.stats.t.logpdf(white, 4).sum(axis=1)
        square = (white**2).sum(axis=1)
        return -0.5 * (4 + snapshots) * np.log1p(square / 4) if law in ("t4", "both") else -0.5 * square

    members = np.argsort(rng.random((references + targets, records)), axis=1) < records // 2
    phi = centre + shift * members[:, None] + noise(references + targets)
    owners = np.where(members, 0, -1).astype(np.int32)
    known = contract.KnownRecords(jnp.asarray(phi[:references], jnp.float32), jnp.asarray(owners[:references]))
    seen = phi[references:]
    best = density(seen - centre - shift) - density(seen - centre)
    return known, jnp.asarray(seen, jnp.float32), members[references:], best


def attainable(law, known, phi, *, correlation, seed):
    """The log ratio of the best test that learns centre, shift and scale of every record from the references."""
    snapshots, num_records = phi.shape[1:]
    covariance, profile = setting(snapshots, correlation, np.random.default_rng(seed))
    of_centre = OF_CENTRE[0] ** 2 + OF_CENTRE[1] ** 2 * np.eye(snapshots)
    of_shift = OF_SHIFT[0] ** 2 * np.outer(profile, profile) + OF_SHIFT[1] ** 2 * np.eye(snapshots)
    logs = OF_SCALE * np.linspace(-3, 3, 25) if law == "scales" else np.zeros(1)
    seen, owners = np.asarray(known.phi, float), np.asarray(known.owners)
    ratio = np.empty((len(phi), num_records))
    for record in range(num_records):
        member = owners[:, record] >= 0
        terms = []
        for log in logs:
            both = [seen[which, :, record] for which in (~member, member)]
            prior = -0.5 * (log / OF_SCALE) ** 2
            posterior = _posterior(both, np.exp(2 * log) * covariance, of_centre, of_shift, profile)
            terms.append([prior + part for part in _predict(posterior, np.asarray(phi[:, :, record], float))])
        inside, outside = scipy.special.logsumexp(np.array(terms), axis=0)
        ratio[:, record] = inside - outside
    return ratio


def _posterior(both, noise, of_centre, of_shift, profile):
    """Mean and covariance of (centre, shift), the noise, and the evidence, from non-members and members [J, T]."""
    size, inverse = len(noise), np.linalg.inv(noise)
    counts, totals = [len(each) for each in both], [inverse @ each.sum(axis=0) for each in both]
    of_members = inverse * counts[1]
    prior = np.linalg.inv(of_shift)
    precision = np.block(
        [[np.linalg.inv(of_centre) + inverse * sum(counts), of_members], [of_members, prior + of_members]]
    )
    target = np.concatenate([sum(totals), prior @ profile + totals[1]])
    covariance = np.linalg.inv(precision)
    mean = covariance @ target
    squares = sum(np.einsum("jt,tu,ju->", each, inverse, each) for each in both)
    evidence = 0.5 * (target @ mean - squares - sum(counts) * np.linalg.slogdet(noise)[1])
    evidence += 0.5 * np.linalg.slogdet(covariance)[1]
    return mean, covariance, noise, evidence, size


def _predict(posterior, values):
    """Log densities of trajectories [S, T] with the record and without it, times the evidence."""
    mean, covariance, noise, evidence, size = posterior
    densities = []
    for member in (1, 0):
        read = np.hstack([np.eye(size), member * np.eye(size)])
        spread, away = noise + read @ covariance @ read.T, values - read @ mean
        squares = np.einsum("st,tu,su->s", away, np.linalg.inv(spread), away)
        densities.append(evidence - 0.5 * (squares + np.linalg.slogdet(spread)[1]))
    return densities


def rates(scores, members):
    """True positive rates at 1% and 0.1% of false alarms."""
    return [float((scores[members] > np.quantile(scores[~members], 1 - alarm)).mean()) for alarm in (0.01, 0.001)]


def make(name, snapshots):
    """An attack by name for one node that is seen throughout."""
    declared = options.declared(*(factory.options for factory in attacks.ATTACKS.values()))
    chosen = attacks.choose((name,), {option: each.default for option, each in declared.items()})
    return attacks.make_reference_attacks(
        chosen, contract.Setup.of(Schedule.cyclic(nodes=1, cycles=snapshots), [np.ones(snapshots, bool)])
    )[name]


def score(name, known, phi, *, seen=None):
    """What an attack says of all targets, f32[S, M], to which it shows all snapshots or those `seen`."""
    snapshots = phi.shape[1]
    mask = jnp.ones(snapshots, bool) if seen is None else jnp.asarray(seen)
    attack = make(name, snapshots)
    sight = contract.Sight(mask, jnp.arange(snapshots) - 1, jnp.arange(snapshots)[:, None])

    def all_targets(known, phi):
        ready = attack.prepare(attack.fit(jax.random.key(0), known), jnp.int32(0))
        return jax.lax.map(lambda each: attack.score(ready, each, sight), phi)

    return np.asarray(jax.jit(all_targets)(known, phi))


def rows(names, *, laws, lengths, correlations, seeds):
    """Yields a line of the table for each law, length and correlation: means over seeds."""
    yield "| law | snapshots | correlation | best | attainable | " + " | ".join(f"`{name}`" for name in names) + " |"
    yield "|---" * (5 + len(names)) + "|"
    for law, snapshots, correlation in itertools.product(laws, lengths, correlations):
        cells = []
        for seed in range(seeds):
            known, phi, members, best = draw(law, snapshots=snapshots, correlation=correlation, seed=seed)
            reached = [rates(best, members), [np.nan, np.nan]]
            if law in ("gaussian", "scales"):
                learnt = attainable(law, known, phi, correlation=correlation, seed=seed)
                reached[1] = rates(learnt, members)
            cells.append(reached + [rates(score(name, known, phi), members) for name in names])
        shown = ["-" if np.isnan(cell[0]) else "{:.3f} / {:.3f}".format(*cell) for cell in np.mean(cells, axis=0)]
        yield f"| {law} | {snapshots} | {correlation:g} | " + " | ".join(shown) + " |"


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--attacks", default="sequence_lira,stacked")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--laws", default=",".join(LAWS))
    parser.add_argument("--snapshots", default="10,30")
    parser.add_argument("--correlations", default="0.3,0.9")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    lengths, correlations = map(int, given.snapshots.split(",")), map(float, given.correlations.split(","))
    lines = []
    for line in rows(
        given.attacks.split(","),
        laws=given.laws.split(","),
        lengths=list(lengths),
        correlations=list(correlations),
        seeds=given.seeds,
    ):
        print(line, flush=True)
        lines.append(f"{line}\n")
    if given.write:
        text = PAGE.read_text()
        before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
        PAGE.write_text(before + MARKS[0] + "".join(lines) + MARKS[1] + after)


if __name__ == "__main__":
    main()
