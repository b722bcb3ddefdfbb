"""Disjoint random pools, and how the federation's pool is dealt to the nodes and the shadow pool to the shadows.

Everything is drawn on the host by `randomness.make_generator` from fixed indices (seed, replicate, purpose, ...), so
that replicate r and shadow j get the same records however many others there are.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from fedmia_jax import errors, options, randomness

PARTITIONS = ("iid", "dirichlet", "sizes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How records are cut into pools and dealt to the nodes."""

    num_federation: int = options.option(10_000, "records dealt to the nodes", low=1)
    num_test: int = options.option(10_000, "records nobody trains on: the non-members", low=1)
    num_shadow_pool: int | None = options.option(None, "records the shadows draw from; unset: all that remain", low=2)
    partition: str = options.option("iid", "how nodes share the records", choices=PARTITIONS)
    alpha: float = options.option(0.5, "concentration of partition=dirichlet; small is skewed", low=0.001, high=1e6)
    sizes: tuple[float, ...] = options.option((), "share of each node for partition=sizes, in any unit")
    canary_rate: float = options.option(
        0.0,
        "chance that a record trains at the node that it is dealt to, a coin for each; 0: all do",
        low=0.0,
        high=0.99,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShadowOptions:
    """How many shadows there are, and how many records each draws."""

    count: int = options.option(10, "shadow models; one in ten only checks the attack", low=2)
    num_train: int | None = options.option(None, "records a shadow trains on; unset: data.num_federation", low=1)
    num_out: int | None = options.option(
        None, "records it does not; unset: as num_train, or what the pool still has", low=1
    )


@dataclasses.dataclass(frozen=True)
class Pools:
    """Rows of the data set, by use; the three are disjoint."""

    federation: Int[np.ndarray, " F"]  # i32, dealt to the nodes
    test: Int[np.ndarray, " U"]  # i32, nobody trains on them
    shadow: Int[np.ndarray, " P"]  # i32, the adversary's own


@dataclasses.dataclass(frozen=True)
class Shards:
    """Rows of every party in one padded shape; host twin of `types.Shard` with a leading axis."""

    indices: Int[np.ndarray, "N n"]  # i32
    mask: Bool[np.ndarray, "N n"]  # False for padding

    @property
    def sizes(self) -> Int[np.ndarray, " N"]:
        """Records of each party, i64[N]."""
        return self.mask.sum(axis=1)

    def without(self, every: int | None) -> "Shards":
        """Returns the shards without the slots that are held out: of each party one in so many, or none."""
        if every is None:
            return self
        held = np.arange(every - 1, self.mask.shape[1], every)
        return Shards(np.delete(self.indices, held, axis=1), np.delete(self.mask, held, axis=1))

    def owners(self, outside: Int[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
        """Owner of every row: the party's index, or what stands in `outside` i32[M], which is not changed."""
        owners = outside.copy()
        for party, (rows, mask) in enumerate(zip(self.indices, self.mask, strict=True)):
            owners[rows[mask]] = party
        return owners


@dataclasses.dataclass(frozen=True)
class ShadowSplit:
    """Rows that each of J shadows trained on, and rows that it did not."""

    members: Int[np.ndarray, "J m"]  # i32
    non_members: Int[np.ndarray, "J u"]  # i32


def check(settings: Options, nodes: int) -> None:
    """Checks that shares are given where they are read, one for each node.

    Raises:
      InputError: `data.sizes` and `data.partition` contradict each other or the number of nodes.
    """
    if settings.partition != "sizes" and settings.sizes:
        raise errors.InputError(
            f"data.sizes={settings.sizes!r}: only data.partition=sizes reads it, not {settings.partition}; "
            "set one or the other"
        )
    if settings.partition == "sizes" and len(settings.sizes) != nodes:
        raise errors.InputError(
            f"data.sizes={settings.sizes!r}: data.partition=sizes needs one share for each of "
            f"federation.nodes={nodes}, got {len(settings.sizes)}"
        )
    if settings.partition == "sizes" and not all(share > 0 for share in settings.sizes):
        raise errors.InputError(f"data.sizes={settings.sizes!r}: every share must be greater than 0")


def make_pools(num_records: int, settings: Options, *, name: str, seed: int, replicate: int) -> Pools:
    """Draws the federation, test and shadow pools as one random permutation cut in three.

    Args:
      num_records: M, records of the data set.
      settings: sizes of the pools.
      name: `data.name`, for the message.
      seed: the experiment's seed.
      replicate: index of the replicate.

    Returns:
      The pools.

    Raises:
      InputError: the data set has fewer records than the pools ask for.
    """
    rng = randomness.make_generator(seed, replicate, randomness.Purpose.POOLS)
    order = rng.permutation(num_records).astype(np.int32)
    first, second = settings.num_federation, settings.num_federation + settings.num_test
    left = num_records - second
    wanted = settings.num_shadow_pool
    if left < 2 or (wanted is not None and wanted > left):
        raise errors.InputError(
            f"data.num_federation={first:,}, data.num_test={settings.num_test:,}, data.num_shadow_pool="
            f"{'all that remain' if wanted is None else format(wanted, ',')}: too few records for the pools, "
            f"{name} has {num_records:,}; make the pools smaller"
        )
    return Pools(order[:first], order[first:second], order[second : second + (left if wanted is None else wanted)])


def deal(
    pool: Int[np.ndarray, " F"],
    labels: Int[np.ndarray, " M"],
    settings: Options,
    *,
    nodes: int,
    seed: int,
    replicate: int,
) -> Shards:
    """Deals the federation's pool to the nodes.

    `iid` gives every node equally many (10,000 over 3: 3,333 each, one record is left out). `dirichlet` draws for
    every class its shares of the nodes. `sizes` gives the shares that the settings name.

    Source: Pustozerova and Mayer (2020), section III (iid); Hsu, Qi and Brown (2019), label skew by Dirichlet.

    Args:
      pool: rows in random order.
      labels: of the whole data set.
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
        rows = np.split(pool, bounds[:-1])
    else:
        rng = randomness.make_generator(seed, replicate, randomness.Purpose.PARTITION, nodes)
        rows = _dirichlet(pool, labels, alpha=settings.alpha, nodes=nodes, rng=rng)
    if (node := _first_empty(rows)) is not None:
        raise errors.InputError(
            f"data.partition={settings.partition}: node N{node + 1} gets no record; "
            f"raise data.{'alpha' if settings.partition == 'dirichlet' else 'sizes'} or use fewer federation.nodes"
        )
    return pad(rows)


def toss(dealt: Shards, settings: Options, *, seed: int, replicate: int) -> Shards:
    """Leaves out the records whose coin says so; without `data.canary_rate` none.

    Every record has a coin of its own, all of one chance, so that what training gives away about the coins bounds its
    epsilon. The node that a record is dealt to is no secret.

    Source: Steinke, Nasr and Jagielski (2023), Algorithm 1.

    Args:
      dealt: the records of every node.
      settings: the chance.
      seed: the experiment's seed.
      replicate: index of the replicate.

    Returns:
      The records that the nodes train on.

    Raises:
      InputError: a node would be left without a record.
    """
    if not settings.canary_rate:
        return dealt
    rng = randomness.make_generator(seed, replicate, randomness.Purpose.CANARY)
    chosen = dealt.mask & (rng.random(dealt.mask.shape) < settings.canary_rate)
    rows = [own[heads] for own, heads in zip(dealt.indices, chosen, strict=True)]
    if (node := _first_empty(rows)) is not None:
        raise errors.InputError(
            f"data.canary_rate={settings.canary_rate}: coins leave node N{node + 1} without a record; raise it or "
            "data.num_federation"
        )
    return pad(rows)


def deal_like(shards: Shards, members: Int[np.ndarray, " m"]) -> Shards:
    """Deals the records of a shadow federation in the proportions of the target's shards.

    Args:
      shards: of the target.
      members: rows that the shadow federation trains on.

    Returns:
      Shards [N, n].

    Raises:
      InputError: a node of the shadow federation would get no record.
    """
    bounds = np.cumsum(shards.sizes) * len(members) // shards.sizes.sum()
    rows = np.split(members, bounds[:-1])
    if (node := _first_empty(rows)) is not None:
        raise errors.InputError(
            f"shadow.num_train={len(members)}: node N{node + 1} of a shadow federation gets no record; raise it"
        )
    return pad(rows)


def pad(rows: Sequence[Int[np.ndarray, " _"]], *, least: int = 0) -> Shards:
    """Puts the rows of N parties, unequal in number, into one padded, masked shape of `least` or more slots."""
    longest = max(least, *(len(own) for own in rows))
    indices = np.zeros((len(rows), longest), np.int32)
    mask = np.zeros((len(rows), longest), bool)
    for party, own in enumerate(rows):
        indices[party, : len(own)] = own
        mask[party, : len(own)] = True
    return Shards(indices, mask)


def draw_shadows(
    pool: Int[np.ndarray, " P"], settings: ShadowOptions, *, target_size: int, seed: int, replicate: int
) -> ShadowSplit:
    """Draws the in and out records of every shadow from the shadow pool, each shadow by its own stream.

    Args:
      pool: rows of the shadow pool.
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
        drawn = randomness.make_generator(seed, replicate, randomness.Purpose.SHADOW, shadow).permutation(pool)
        members.append(drawn[:num_train])
        non_members.append(drawn[num_train : num_train + num_out])
    return ShadowSplit(np.stack(members), np.stack(non_members))


def _dirichlet(
    pool: Int[np.ndarray, " F"], labels: Int[np.ndarray, " M"], *, alpha: float, nodes: int, rng: np.random.Generator
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


def _first_empty(rows: Sequence[np.ndarray]) -> int | None:
    """Index of the first party without a row; None where each has one."""
    return next((party for party, own in enumerate(rows) if not len(own)), None)
