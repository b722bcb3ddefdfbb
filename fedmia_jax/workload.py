"""What there is to run: independent runs, the records that each drew, and what all of them share."""

import contextlib
import dataclasses
import functools
import resource
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import adversary, attacks, config, data, errors, model, progress, shadow, store, sweep, types
from fedmia_jax.data import dataset as datasets
from fedmia_jax.data import pools

DEALING = {  # fields that say how records are dealt, not which there are, at their defaults
    name: getattr(config.Data(), name)
    for name in ("num_federation", "num_test", "num_shadow_pool", "partition", "alpha", "sizes")
}


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One independent repetition of one point: its settings and the records that it drew."""

    settings: config.Settings
    values: Mapping[str, Any]  # what sets the point apart, by dotted name
    replicate: int
    dataset: datasets.Dataset
    dealt: pools.Pools
    shards: pools.Shards  # [N, n]
    split: pools.ShadowSplit
    audit: pools.Audit | None = None

    @property
    def scored(self) -> np.ndarray:
        """Rows of the scored records, i32[M]: the federation's pool, then the test pool; or those of the audit."""
        if self.audit is not None:
            return self.audit.rows
        return np.concatenate([self.dealt.federation, self.dealt.test])

    @property
    def owners(self) -> np.ndarray:
        """Owner of every scored record, i32[M]: the node's index, -1 in the test pool, -2 if dealt to no node."""
        owners = np.full(len(self.dataset.labels), -2, np.int32)
        owners[self.dealt.test] = -1
        return self.shards.owners(owners)[self.scored]

    @property
    def reference_owners(self) -> np.ndarray:
        """Owner of every scored record in every reference federation, i32[J, M]: the node's index, or -1."""
        outside = np.full(len(self.dataset.labels), -1, np.int32)
        assert self.audit is not None
        return np.stack([shards.owners(outside)[self.scored] for shards in self.audit.references])

    @property
    def module(self) -> nn.Module:
        """The network that travels."""
        return model.make_model(self.settings.model, num_classes=self.dataset.num_classes)

    @property
    def attack(self) -> config.Attack:
        """The attacks on one model."""
        return attacks.on_one_model(self.settings.attack)

    def key(self, purpose: pools.Purpose, *numbers: int) -> jax.Array:
        """The key of one purpose and its index; it depends on seed, replicate, purpose and index only."""
        key = jax.random.fold_in(jax.random.key(self.settings.seed), self.replicate)
        for number in (int(purpose), *numbers):
            key = jax.random.fold_in(key, number)
        return key


@dataclasses.dataclass(frozen=True, eq=False)
class Lab:
    """Where work is done: the folder, the devices, their memory, and what a person sees."""

    workdir: store.Workdir
    show: progress.Progress
    devices: tuple[jax.Device, ...] = dataclasses.field(default_factory=lambda: tuple(jax.devices()))
    budget: int = 4 * 2**30  # bytes that models in work may take, on all devices together
    keep_models: bool = False
    strict: bool = True  # what goes non-finite ends the run, rather than leaving its numbers empty
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    placed: dict[Any, jax.Array] = dataclasses.field(default_factory=dict)
    warned: set[Hashable] = dataclasses.field(default_factory=set)

    def records(self, dataset: datasets.Dataset, devices: tuple[jax.Device, ...]) -> types.Records:
        """The records of a data set on some devices, copied there once; leaves as `types.Records`."""
        mesh = jax.sharding.Mesh(np.array(devices), (shadow.AXIS,))
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

        def put(name: str, array: np.ndarray) -> jax.Array:
            for device in devices:
                if (name, device) not in self.placed:
                    self.placed[name, device] = jax.device_put(array, device)
            single = [self.placed[name, device] for device in devices]
            if len(devices) == 1:
                return single[0]
            return jax.make_array_from_single_device_arrays(array.shape, everywhere, single)

        return types.Records(
            put(dataset.features_fingerprint, dataset.features), put(dataset.fingerprint, dataset.labels)
        )

    def warn(self, text: str, *, about: Hashable = None) -> None:
        """Shows a warning, once for each thing that it is about."""
        if (about or text) not in self.warned:
            self.warned.add(about or text)
            self.show.warn(text)

    def fail(self, text: str, *, about: Hashable = None) -> None:
        """Ends a strict run, or goes on with a warning.

        Raises:
          InputError: the lab is strict.
        """
        if self.strict:
            raise errors.InputError(text)
        self.warn(text, about=about)

    @contextlib.contextmanager
    def stage(self, title: str, *, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Shows one stage, and logs how long it took."""
        with self.show.stage(title, total=total) as advance:
            yield advance
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # of the process so far
        self.workdir.log(stage=title, seconds=round(self.show.seconds[title], 3), peak_mib=peak)


def hyper(runs: Sequence[Run]) -> types.Hyper:
    """Traced numbers of training of every run: leaves f32[len(runs)]."""
    rates = [run.settings.training.learning_rate for run in runs]
    dropout = [run.settings.model.dropout_rate for run in runs]
    return types.Hyper(*(jnp.array(row, jnp.float32) for row in (rates, dropout)))


def check(settings: config.Settings) -> None:
    """Checks the names of registered things, before records are read.

    Raises:
      InputError: no such model, attack or view; comparisons without references.
    """
    model.make_model(settings.model, num_classes=2)
    attacks.make_attacks(settings.attack, num_classes=2)
    rounds = settings.federation
    parties = [
        party
        for name in settings.attack.views
        for party in adversary.make_view(name, nodes=rounds.nodes, cycles=max(rounds.cycles, 1))
    ]
    if not parties:
        raise errors.InputError(f"attack.views={settings.attack.views!r}: name a view; {adversary.KNOWN}")
    compared = attacks.make_comparisons(settings.attack, nodes=rounds.nodes, masks=[party.mask for party in parties])
    if compared and not settings.shadow.federations:
        raise errors.InputError(
            f"shadow.federations=0: attack.names={next(iter(compared))!r} compares with reference federations; "
            "set some, 16 or more"
        )


def prepare(points: Sequence[sweep.Point]) -> list[Run]:
    """Reads the records of every point and draws those of its replicates; what points share is made once.

    Raises:
      InputError: unusable records, or records that do not suffice for the pools, nodes or shadows.
    """
    for point in points:
        check(point.settings)
    read = functools.cache(data.read)
    load_fn = functools.cache(functools.partial(datasets.load, read=read))

    def load(data_settings: config.Data) -> datasets.Dataset:
        return load_fn(dataclasses.replace(data_settings, **DEALING))

    draw = functools.cache(functools.partial(_draw, load))
    runs = []
    for point in points:
        settings = point.settings
        dataset = load(settings.data)
        for replicate in range(settings.replicates):
            drawn = draw(settings.data, settings.shadow, settings.federation.nodes, settings.seed, replicate)
            runs.append(Run(settings, point.values, replicate, dataset, *drawn))
            if settings.shadow.kind == "federated":
                shadow_shards(runs[-1], runs[-1].split.members[0])
    return runs


def _draw(load, data_settings: config.Data, shadow: config.Shadow, nodes: int, seed: int, replicate: int):
    """Pools, shards and shadow records of one replicate."""
    dataset, draw = load(data_settings), {"seed": seed, "replicate": replicate}
    audit = None
    if shadow.federations:
        common = pools.make_pools(len(dataset.labels), data_settings, seed=seed, replicate=0)
        audit = pools.draw_audit(common, dataset.labels, data_settings, shadow, nodes=nodes, seed=seed)
        dealt = pools.redraw(common, **draw)
    else:
        dealt = pools.make_pools(len(dataset.labels), data_settings, **draw)
    shards = pools.deal(dealt.federation, dataset.labels, data_settings, nodes=nodes, **draw)
    split = pools.draw_shadows(dealt.shadow, shadow, target_size=len(dealt.federation), **draw)
    datasets.check_classes(dataset, dealt, replicate=replicate)
    return dealt, shards, split, audit


def shadow_shards(run: Run, members: np.ndarray) -> pools.Shards:
    """Deals a shadow's records in the proportions of the target's shards.

    Args:
      run: whose shards to match.
      members: i32[n_in], rows of one shadow.

    Returns:
      Shards [N, n].

    Raises:
      InputError: a node of the shadow federation would get no record.
    """
    bounds = np.cumsum(run.shards.sizes) * len(members) // run.shards.sizes.sum()
    parts = np.split(members, bounds[:-1])
    for node, part in enumerate(parts):
        if not len(part):
            raise errors.InputError(
                f"shadow.num_train={len(members)}: node N{node + 1} of a shadow federation gets no record; raise it"
            )
    return pools.pad(parts)
