"""What one compiled group works on: independent runs of equal shapes, and what all of them share."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import attacks, config, errors, model, progress, shadow, store, types
from fedmia_jax.attacks import contract
from fedmia_jax.data import dataset as datasets
from fedmia_jax.data import pools


@dataclasses.dataclass(frozen=True)
class Run:
    """One independent repetition: its settings and the records that it drew."""

    settings: config.Settings
    replicate: int
    dealt: pools.Pools
    shards: pools.Shards  # [N, n]
    split: pools.ShadowSplit

    @property
    def scored(self) -> np.ndarray:
        """Rows of the scored records, i32[M]: the shards in node order, then the test pool."""
        return np.concatenate([self.shards.indices[self.shards.mask], self.dealt.test])

    @property
    def owners(self) -> np.ndarray:
        """Owner of every scored record, i32[M]: the node's index, or -1 in the test pool."""
        owners = np.repeat(np.arange(len(self.shards.sizes)), self.shards.sizes)
        return np.concatenate([owners, np.full(len(self.dealt.test), -1)]).astype(np.int32)

    def key(self, purpose: pools.Purpose) -> jax.Array:
        """The key of one purpose; it depends on seed, replicate and purpose only."""
        key = jax.random.fold_in(jax.random.key(self.settings.seed), self.replicate)
        return jax.random.fold_in(key, int(purpose))


@dataclasses.dataclass(frozen=True)
class Context:
    """What every stage of a group of runs of equal shapes needs."""

    runs: Sequence[Run]
    dataset: datasets.Dataset
    records: types.Records
    workdir: store.Workdir
    show: progress.Progress
    budget: int  # bytes that the states of models trained at once may take

    @property
    def settings(self) -> config.Settings:
        """Settings of the first run; the static part is everybody's."""
        return self.runs[0].settings

    @property
    def module(self) -> Any:
        """The network that travels."""
        return model.make_model(self.settings.model, num_classes=self.dataset.num_classes)

    @contextlib.contextmanager
    def stage(self, title: str, *, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Shows one stage, and logs how long it took."""
        with self.show.stage(title, total=total) as advance:
            yield advance
        self.workdir.log(stage=title, seconds=round(self.show.seconds[title], 3))

    def attacks(self) -> dict[str, contract.Attack]:
        """The attacks that the settings name."""
        return attacks.make_attacks(self.settings.attack, num_classes=self.dataset.num_classes)

    def largest(self) -> int:
        """Models that may be in training at once."""
        num_features = self.dataset.features.shape[1]
        training = self.settings.training
        return shadow.models_in_budget(self.module, num_features=num_features, settings=training, budget=self.budget)

    def hyper(self, *, repeats: int = 1) -> types.Hyper:
        """Traced numbers of every run, each `repeats` times over: leaves f32[R * repeats]."""
        rates = [run.settings.training.learning_rate for run in self.runs]
        dropout = [run.settings.model.dropout_rate for run in self.runs]
        return types.Hyper(*(jnp.repeat(jnp.array(row, jnp.float32), repeats) for row in (rates, dropout)))

    def keys(self, purpose: pools.Purpose) -> jax.Array:
        """Keys of every run, [R]."""
        return jnp.stack([run.key(purpose) for run in self.runs])

    def shadow_keys(self) -> jax.Array:
        """Keys of every shadow of every run, [R * J]."""
        numbers = jnp.arange(self.settings.shadow.count)
        return jax.vmap(lambda key: jax.vmap(lambda j: jax.random.fold_in(key, j))(numbers))(
            self.keys(pools.Purpose.SHADOW)
        ).reshape(-1)


def make_context(
    runs: Sequence[Run],
    dataset: datasets.Dataset,
    workdir: store.Workdir,
    show: progress.Progress,
    *,
    budget: int = 4 * 2**30,
) -> Context:
    """Puts the records on the device beside what the stages need."""
    records = types.Records(jnp.asarray(dataset.features), jnp.asarray(dataset.labels))
    return Context(runs, dataset, records, workdir, show, budget)


def check(settings: config.Settings) -> None:
    """Checks the names of registered things, before records are read.

    Raises:
      InputError: no such model or attack.
    """
    model.make_model(settings.model, num_classes=2)
    attacks.make_attacks(settings.attack, num_classes=2)


def prepare(settings: config.Settings, dataset: datasets.Dataset) -> list[Run]:
    """Draws the records of every replicate.

    Raises:
      InputError: the data set does not suffice for the pools, nodes or shadows.
    """
    runs = []
    for replicate in range(settings.replicates):
        draw = {"seed": settings.seed, "replicate": replicate}
        dealt = pools.make_pools(len(dataset.labels), settings.data, **draw)
        shards = pools.deal(dealt.federation, dataset.labels, settings.data, nodes=settings.federation.nodes, **draw)
        split = pools.draw_shadows(dealt.shadow, settings.shadow, target_size=int(shards.sizes.sum()), **draw)
        datasets.check_classes(dataset, dealt, replicate=replicate)
        runs.append(Run(settings, replicate, dealt, shards, split))
        if settings.shadow.kind == "federated":
            shadow_shards(runs[-1], split.members[0])
    return runs


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
