"""Toy federations with a known law of trajectories, the best test of each by Neyman and Pearson, and attacks beside it.

Run as `python tests/attacks/laws.py`: prints the true positive rates at 1% and 0.1% of every law, length and
correlation, by attack.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from fedmia_jax import attacks, options
from fedmia_jax.attacks import contract
from fedmia_jax.schedule import Schedule

LAWS = ("gaussian", "t4", "scales", "both", "t4 each")
DISTANCE = 2.23  # of members from non-members in deviations, before it varies by record


def draw(law, *, snapshots=10, correlation=0.9, seed=0, records=2000, references=48, targets=20):
    """Draws KnownRecords, phi [S, T, M] of targets, their members [S, M] and the log ratio of the best test [S, M]."""
    rng = np.random.default_rng(seed)
    lags = np.abs(np.subtract.outer(np.arange(snapshots), np.arange(snapshots)))
    covariance = correlation**lags
    root, inverse = np.linalg.cholesky(covariance), np.linalg.inv(covariance)
    profile = rng.uniform(0.5, 1.5, size=snapshots)
    profile *= DISTANCE / np.sqrt(profile @ inverse @ profile)
    shift = profile[:, None] * (1 + 0.25 * rng.normal(size=records)) + 0.05 * rng.normal(size=(snapshots, records))
    centre = 2 * rng.normal(size=records) + 0.5 * rng.normal(size=(snapshots, records))
    scale = np.exp(0.5 * rng.normal(size=records)) if law in ("scales", "both") else np.ones(records)

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


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--attacks", default="sequence_lira,trajectory")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--laws", default=",".join(LAWS))
    parser.add_argument("--snapshots", default="10,30")
    parser.add_argument("--correlations", default="0.3,0.9")
    given = parser.parse_args()
    names = given.attacks.split(",")
    print("| law | snapshots | correlation | seed | optimum | " + " | ".join(names) + " |")
    print("|---" * (5 + len(names)) + "|")
    for law in given.laws.split(","):
        for snapshots in map(int, given.snapshots.split(",")):
            for correlation in map(float, given.correlations.split(",")):
                for seed in range(given.seeds):
                    known, phi, members, best = draw(law, snapshots=snapshots, correlation=correlation, seed=seed)
                    cells = [rates(best, members), *(rates(score(name, known, phi), members) for name in names)]
                    head = f"| {law} | {snapshots} | {correlation:g} | {seed} | "
                    print(head + " | ".join("{:.3f} / {:.3f}".format(*cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
