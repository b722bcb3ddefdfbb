"""Reference federations: which records they train on, and which are audited.

All replicates share the audited records, so that one set of references serves them all.
"""

import dataclasses

import numpy as np
from jaxtyping import Int

from fedmia_jax import errors, options, randomness
from fedmia_jax.data import pools

LEAST_REFERENCES = 8  # of reference federations, two of which only set thresholds
FIRST_REFERENCE = 1_000_000  # stands for a replicate where references are dealt, beyond every real one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How many reference federations there are, and which records they draw."""

    federations: int = options.option(0, "reference federations, for attacks that compare a record with itself", low=0)
    audit: bool = options.option(
        True, "they train on the audited records, each in its share of them; else on the shadow pool"
    )


@dataclasses.dataclass(frozen=True)
class Audit:
    """Records that all replicates and their reference federations share."""

    rows: Int[np.ndarray, " M"]  # i32, scored: the audited records, then those only references train on
    references: tuple[pools.Shards, ...]  # J reference federations


def check(settings: Options) -> None:
    """Checks that there are enough reference federations, or none.

    Raises:
      InputError: fewer than `LEAST_REFERENCES`.
    """
    if 0 < settings.federations < LEAST_REFERENCES:
        raise errors.InputError(
            f"shadow.federations={settings.federations}: a record must be in some references and not in others; "
            f"use 0, or {LEAST_REFERENCES} and more"
        )


def redraw(common: pools.Pools, *, seed: int, replicate: int) -> pools.Pools:
    """Draws anew which of the audited records a replicate's federation trains on; the others are its test pool."""
    audited = np.sort(np.concatenate([common.federation, common.test]))
    order = randomness.make_generator(seed, replicate, randomness.Purpose.AUDITED).permutation(audited)
    return pools.Pools(order[: len(common.federation)], order[len(common.federation) :], common.shadow)


def draw_audit(
    common: pools.Pools,
    labels: Int[np.ndarray, " M"],
    settings: pools.Options,
    references: Options,
    *,
    nodes: int,
    seed: int,
) -> Audit:
    """Draws the training records of every reference federation, each by its own stream.

    With `shadow.audit` the references train on the audited records themselves, the federation's and the test pool
    of all replicates, each of which is in the federation's share of the references: half of them, where both pools
    are of one size. Otherwise they train on records of the shadow pool, each of which is in half of the references.
    Under `data.canary_rate` coins leave out records of the references as they do of the targets.

    Source: Carlini et al. (2022), section V (online and offline shadow models).

    Args:
      common: pools of replicate 0.
      labels: of the whole data set.
      settings: how nodes share records.
      references: number of references, and which records they train on.
      nodes: N.
      seed: the experiment's seed.

    Returns:
      The scored rows and the references' shards.

    Raises:
      InputError: the shadow pool is too small.
    """
    audited = np.sort(np.concatenate([common.federation, common.test]))
    size = len(common.federation)
    base, extra = audited, audited[:0]
    if not references.audit:
        base = extra = np.sort(common.shadow[: 2 * size])
        if len(base) < 2 * size:
            raise errors.InputError(
                f"shadow.audit=False: {references.federations} reference federations of {size:,} records need a shadow "
                f"pool of {2 * size:,}, there are {len(base):,}; lower data.num_federation, or set shadow.audit"
            )
    shards = []
    for number in range(references.federations):
        drawn = randomness.make_generator(seed, 0, randomness.Purpose.REFERENCE, number).permutation(base)[:size]
        draw = {"seed": seed, "replicate": FIRST_REFERENCE + number}
        dealt = pools.deal(drawn, labels, settings, nodes=nodes, **draw)
        shards.append(pools.toss(dealt, settings, **draw))
    return Audit(np.concatenate([audited, extra]), tuple(shards))
