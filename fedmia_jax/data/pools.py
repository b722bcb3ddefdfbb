"""Disjoint random pools, and how the federation's pool is dealt to the nodes and the shadow pool to the shadows.

Everything is drawn on the host by `numpy.random.default_rng` from fixed indices (seed, replicate, purpose, ...), so
that replicate r and shadow j get the same records however many others there are.
"""

import dataclasses
import enum

import numpy as np

from fedmia_jax import config, errors


class Purpose(enum.IntEnum):
    """Indices that keep the streams of random numbers of one replicate apart; never renumber."""

    POOLS = 0
    PARTITION = 1
    SHADOW = 2
    CENTRALISED = 3
    FEDERATED = 4
    ATTACK = 5
    REFERENCE = 6


FIRST_REFERENCE = 1_000_000  # stands for a replicate where references are dealt, beyond every real one


@dataclasses.dataclass(frozen=True)
class Pools:
    """Rows of the data set, by use; the three are disjoint."""

    federation: np.ndarray  # i32[F]
    test: np.ndarray  # i32[Mt]
    shadow: np.ndarray  # i32[P]


@dataclasses.dataclass(frozen=True)
class Shards:
    """Rows of every party in one padded shape; host twin of `types.Shard` with a leading axis."""

    indices: np.ndarray  # i32[N, n]
    mask: np.ndarray  # bool[N, n]

    @property
    def sizes(self) -> np.ndarray:
        """Records of each party, i64[N]."""
        return self.mask.sum(axis=1)

    def owners(self, outside: np.ndarray) -> np.ndarray:
        """Owner of every row: the party's index, or what stands in `outside` i32[M], which is not changed."""
        found = outside.copy()
        for party, (rows, mask) in enumerate(zip(self.indices, self.mask, strict=True)):
            found[rows[mask]] = party
        return found


def make_pools(num_records: int, settings: config.Data, *, seed: int, replicate: int) -> Pools:
    """Draws the federation, test and shadow pools as one random permutation cut in three.

    Args:
      num_records: M, records of the data set.
      settings: sizes of the pools.
      seed: the experiment's seed.
      replicate: index of the replicate.

    Returns:
      The pools.

    Raises:
      InputError: the data set has fewer records than the pools ask for.
    """
    rng = np.random.default_rng([seed, replicate, Purpose.POOLS])
    order = rng.permutation(num_records).astype(np.int32)
    first, second = settings.num_federation, settings.num_federation + settings.num_test
    left = num_records - second
    wanted = settings.num_shadow_pool
    if left < 2 or (wanted is not None and wanted > left):
        raise errors.InputError(
            f"data.num_federation={first:,}, data.num_test={settings.num_test:,}, data.num_shadow_pool="
            f"{'all that remain' if wanted is None else format(wanted, ',')}: too few records for the pools, "
            f"{settings.name} has {num_records:,}; make the pools smaller"
        )
    return Pools(order[:first], order[first:second], order[second : second + (left if wanted is None else wanted)])


def deal(
    pool: np.ndarray, labels: np.ndarray, settings: config.Data, *, nodes: int, seed: int, replicate: int
) -> Shards:
    """Deals the federation's pool to the nodes.

    `iid` gives every node equally many (10,000 over 3: 3,333 each, one record is left out). `dirichlet` draws for
    every class its shares of the nodes. `sizes` gives the shares that the settings name.

    Source: Pustozerova and Mayer (2020), section III (iid); Hsu, Qi and Brown (2019), label skew by Dirichlet.

    Args:
      pool: i32[F], rows in random order.
      labels: i32[M], labels of the whole data set.
      settings: partition, alpha, sizes.
      nodes: N.
      seed: the experiment's seed.
      replicate: index of the replicate.

    Returns:
      Shards [N, n], real records first, padding masked.

    Raises:
      InputError: a node would be left without a record.
    """
    if settings.partition == "iid":
        each = len(pool) // nodes
        return pad([pool[node * each : (node + 1) * each] for node in range(nodes)])
    if settings.partition == "sizes":
        bounds = np.floor(np.cumsum(settings.sizes) / np.sum(settings.sizes) * len(pool) + 1e-9).astype(int)
        parts = np.split(pool, bounds[:-1])
    else:
        rng = np.random.default_rng([seed, replicate, Purpose.PARTITION, nodes])
        parts = _dirichlet(pool, labels, alpha=settings.alpha, nodes=nodes, rng=rng)
    for node, part in enumerate(parts):
        if not len(part):
            raise errors.InputError(
                f"data.partition={settings.partition}: node N{node + 1} gets no record; "
                f"raise data.{'alpha' if settings.partition == 'dirichlet' else 'sizes'} or use fewer federation.nodes"
            )
    return pad(parts)


def _dirichlet(
    pool: np.ndarray, labels: np.ndarray, *, alpha: float, nodes: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Rows of each node, every class dealt by its own Dirichlet shares."""
    owner = np.empty(len(pool), int)
    for label in np.unique(labels[pool]):
        places = np.flatnonzero(labels[pool] == label)
        shares = np.cumsum(rng.dirichlet(np.full(nodes, alpha)))
        # Evenly spaced draws from one random start: every node gets its share of a class to within one record.
        positions = (np.arange(len(places)) + rng.random()) / len(places)
        owner[places] = np.searchsorted(shares[:-1], positions, side="right")
    return [pool[owner == node] for node in range(nodes)]


def pad(parts: list[np.ndarray]) -> Shards:
    """Puts rows of unequal number into one padded, masked shape."""
    longest = max(len(part) for part in parts)
    indices = np.zeros((len(parts), longest), np.int32)
    mask = np.zeros((len(parts), longest), bool)
    for row, part in enumerate(parts):
        indices[row, : len(part)] = part
        mask[row, : len(part)] = True
    return Shards(indices, mask)


@dataclasses.dataclass(frozen=True)
class ShadowSplit:
    """Rows that each shadow trained on, and rows it did not."""

    members: np.ndarray  # i32[J, n_in]
    non_members: np.ndarray  # i32[J, n_out]


@dataclasses.dataclass(frozen=True)
class Audit:
    """Records that all replicates and their reference federations share."""

    rows: np.ndarray  # i32[M], scored: the audited records, then those only references train on
    references: tuple[Shards, ...]  # J reference federations


def draw_audit(
    pools: Pools, labels: np.ndarray, data: config.Data, shadow: config.Shadow, *, nodes: int, seed: int
) -> Audit:
    """Draws the training records of every reference federation, each by its own stream.

    With `shadow.audit` the references train on the audited records themselves, the federation's and the test pool
    of all replicates, each of which is in the federation's share of the references: half of them, where both pools
    are of one size. Otherwise they train on records of the shadow pool, each of which is in half of the references.

    Source: Carlini et al. (2022), section V (online and offline shadow models).

    Args:
      pools: of replicate 0.
      labels: i32[M], labels of the whole data set.
      data: sizes of the pools, and how nodes share records.
      shadow: number of references, and which records they train on.
      nodes: N.
      seed: the experiment's seed.

    Returns:
      The scored rows and the references' shards.

    Raises:
      InputError: the shadow pool is too small.
    """
    audited = np.sort(np.concatenate([pools.federation, pools.test]))
    size = len(pools.federation)
    base, extra = audited, audited[:0]
    if not shadow.audit:
        base = extra = np.sort(pools.shadow[: 2 * size])
        if len(base) < 2 * size:
            raise errors.InputError(
                f"shadow.audit=False: {shadow.federations} reference federations of {size:,} records need a shadow "
                f"pool of {2 * size:,}, there are {len(base):,}; lower data.num_federation, or set shadow.audit"
            )
    shards = []
    for number in range(shadow.federations):
        drawn = np.random.default_rng([seed, Purpose.REFERENCE, number]).permutation(base)[:size]
        shards.append(deal(drawn, labels, data, nodes=nodes, seed=seed, replicate=FIRST_REFERENCE + number))
    return Audit(np.concatenate([audited, extra]), tuple(shards))


def redraw(pools: Pools, *, seed: int, replicate: int) -> Pools:
    """Draws anew which of the audited records a replicate's federation trains on; the others are its test pool."""
    audited = np.sort(np.concatenate([pools.federation, pools.test]))
    # Four numbers: never the three of a reference, whatever the replicate.
    order = np.random.default_rng([seed, replicate, Purpose.REFERENCE, 1]).permutation(audited)
    return Pools(order[: len(pools.federation)], order[len(pools.federation) :], pools.shadow)


def draw_shadows(
    pool: np.ndarray, settings: config.Shadow, *, target_size: int, seed: int, replicate: int
) -> ShadowSplit:
    """Draws the in and out records of every shadow from the shadow pool, each shadow by its own stream.

    Args:
      pool: i32[P].
      settings: number of shadows and of their records.
      target_size: records that the target trains on, the default of `shadow.num_train`.
      seed: the experiment's seed.
      replicate: index of the replicate.

    Returns:
      The split; in and out are disjoint within a shadow and overlap between shadows.

    Raises:
      InputError: the pool cannot give that many.
    """
    num_train = settings.num_train or target_size
    num_out = settings.num_out or min(num_train, len(pool) - num_train)
    enough = num_train + num_out <= len(pool) and num_out >= (1 if settings.num_out else max(1, num_train // 10))
    if not enough:
        raise errors.InputError(
            f"shadow.num_train={num_train:,}: the shadow pool has only {len(pool):,} records for those and "
            f"{settings.num_out or max(1, num_train // 10):,} or more outside; "
            "lower shadow.num_train, shadow.num_out or data.num_federation"
        )
    members, non_members = [], []
    for shadow in range(settings.count):
        rng = np.random.default_rng([seed, replicate, Purpose.SHADOW, shadow])
        drawn = rng.permutation(pool)[: num_train + num_out]
        members.append(drawn[:num_train])
        non_members.append(drawn[num_train:])
    return ShadowSplit(np.stack(members), np.stack(non_members))
