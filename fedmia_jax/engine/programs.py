"""The programs that train many models at once."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fedmia_jax import defenses, protocols, randomness, types
from fedmia_jax.defenses import contract as defenses_contract
from fedmia_jax.engine import parallel
from fedmia_jax.learning import networks, stopping, training
from fedmia_jax.protocols import contract as protocols_contract


def cut(epochs: Sequence[int], *, pieces: int = 10) -> list[tuple[int, int]]:
    """Cuts training into about ten runs of epochs, (first, end) each, for one look at every tenth.

    Args:
      epochs: after which a model is wanted; the last is where training ends, and every one ends a run.
      pieces: runs, if it were for the last alone.
    """
    last = max(epochs)
    bounds = sorted({*epochs, *(round(piece * last / pieces) for piece in range(pieces + 1))})
    return list(itertools.pairwise(bounds))


def all_finite(params: types.Params) -> jax.Array:
    """Whether every parameter is a finite number: bool[]."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]))


@dataclasses.dataclass(frozen=True)
class Learning:
    """What decides the programs that train: hashable, traced numbers at their defaults.

    Attributes:
      network: the flax module that travels.
      steps: optimizer and batch size.
      defences: those of every node.
      num_features: D.
    """

    network: nn.Module
    steps: training.Options
    defences: defenses.Chosen
    num_features: int

    @property
    def num_classes(self) -> int:
        """K."""
        return self.network.num_classes

    @property
    def may_join(self) -> bool:
        """Whether a model trains the same beside models of more classes; see `joining.py`."""
        return networks.answer_bias(self.network) is not None and not self.defences.names

    def widened(self, num_classes: int) -> "Learning":
        """Returns the same with a network of so many classes."""
        return dataclasses.replace(self, network=self.network.clone(num_classes=num_classes))

    def make_start(self, defended: defenses_contract.Defended) -> training.StartFn:
        """Returns `start(key)` of one model."""
        init_fn = networks.make_init(self.network, num_features=self.num_features)
        return training.make_start(init_fn, optimizer=self.steps.optimizer, defences=defended)

    def make_fit(self, defended: defenses_contract.Defended, *, skip_empty: bool) -> training.FitFn:
        """Returns `fit(...)` of one model, see `training.make_fit`."""
        return training.make_fit(
            networks.make_apply(self.network),
            optimizer=self.steps.optimizer,
            batch_size=self.steps.batch_size,
            skip_empty=skip_empty,
            split=networks.make_split(self.network),
            draw=networks.make_draw(self.network),
            defences=defended,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Models:
    """What S models train with; every leaf leads with S."""

    shard: types.Shard  # leaves [S, n], or [S, N, n] of federations
    hyper: types.Hyper
    key: jax.Array
    order: types.Array | None = None  # i32[S, 1, N], who trains when in a cycle of a federation
    labels: types.Array | None = None  # i32[S], which labels are a model's own, where records have several


class Programs(NamedTuple):
    """The compiled programs of one group: they take S models, and are compiled once for each S and shape.

    Attributes:
      start: `start(keys) -> state`.
      advance: `advance(records, state, models, step) -> (state, ..)` for one stretch of training, `step` numbers that
        all models share. Labels of `records` are i32[M], or i32[L, M] where `models` says whose are whose.
      learning: what they train.
      shapes: `shapes()` returns those of one model: of `start`'s result, and of its parameters.
      widen: `widen(num_classes)` returns the same programs for networks of so many classes.
    """

    start: Callable[[jax.Array], Any]
    advance: Callable[[types.Records, Any, Models, tuple[Any, ...]], Any]
    learning: Learning
    shapes: Callable[[], tuple[Any, types.Params]]
    widen: Callable[[int], "Programs"]


START, TRAIN, RECORD, PUBLISH = 0, 1, 2, 3  # what a model's key is folded with for each of its streams


@functools.cache
def make_train(learning: Learning, *, devices: tuple[jax.Device, ...], skip_empty: bool = False) -> Programs:
    """Builds the training of S models, each on one shard of its own.

    Args:
      learning: network, training and defences; what acts at a hand-off does nothing here.
      devices: where S is split over.
      skip_empty: see `training.make_fit`.

    Returns:
      `advance(records, state, models, (first, end)) -> (state, finite bool[S])` trains epochs.
    """
    defended = learning.defences.make()
    start_fn = learning.make_start(defended)
    fit_fn = learning.make_fit(defended, skip_empty=skip_empty)

    def advance_model(shared: tuple[types.Records, Any], inputs: tuple[Any, Models]) -> tuple[Any, jax.Array]:
        (records, epochs), (state, model) = shared, inputs
        keys = [jax.random.fold_in(model.key, stream) for stream in (TRAIN, RECORD)]
        state = fit_fn(state, _own(records, model), model.shard, model.hyper, keys[0], epochs, keys[1])
        return state, all_finite(state.params)

    def start_model(shared: tuple[()], key: jax.Array) -> types.TrainState:
        return start_fn(jax.random.fold_in(key, START))

    def widen(num_classes: int) -> Programs:
        return make_train(learning.widened(num_classes), devices=devices, skip_empty=skip_empty)

    return _compile(start_model, advance_model, learning, widen, devices=devices)


def _compile(
    start_model: Callable[..., Any],
    advance_model: Callable[..., Any],
    learning: Learning,
    widen: Callable[[int], Programs],
    *,
    devices: tuple[jax.Device, ...],
) -> Programs:
    """Programs of S models from functions of one."""
    start_many = parallel.make_parallel(start_model, devices=devices, once=True)
    advance_many = parallel.make_parallel(advance_model, devices=devices)

    @functools.cache
    def shapes() -> tuple[Any, types.Params]:
        key, start = jax.random.key(0, impl=randomness.GENERATOR), learning.make_start(learning.defences.make())
        return jax.eval_shape(lambda key: start_model((), key), key), jax.eval_shape(start, key).params

    def advance(records: types.Records, state: Any, models: Models, step: tuple[Any, ...]) -> Any:
        return advance_many((records, step), (state, models))

    return Programs(lambda keys: start_many((), keys), advance, learning, shapes, widen)


def _own(records: types.Records, model: Models) -> types.Records:
    """The records with a model's own labels."""
    if model.labels is None:
        return records
    return types.Records(records.features, records.labels[model.labels])


def _make_nodes(learning: Learning, *, skip_empty: bool) -> Callable[[jax.Array], protocols_contract.Node]:
    """What a protocol may do with a node, given the key of what defences draw once for a record."""
    defended = learning.defences.make()
    fit_fn = learning.make_fit(defended, skip_empty=skip_empty)
    if defended.held_out is not None:
        apply_fn = networks.make_apply(learning.network)
        fit_fn = stopping.make_fit(fit_fn, apply_fn, every=defended.held_out)
    hand_off, fresh = defenses_contract.make_hand_off(defended), make_fresh(learning, defended)

    def make_node(record_key: jax.Array) -> protocols_contract.Node:
        def visit(
            state: types.TrainState,
            records: types.Records,
            shard: types.Shard,
            hyper: types.Hyper,
            key: jax.Array,
            local_epochs: types.Array,
        ) -> types.TrainState:
            trained = fit_fn(state, records, shard, hyper, key, (0, local_epochs), record_key)
            handed_off = hand_off(state.params, trained.params, key, hyper.levels)
            return types.TrainState(handed_off, trained.opt_state)

        return protocols_contract.Node(learning.make_start(defended), fresh, visit)

    return make_node


def _make_publish(learning: Learning) -> Callable[[types.Params, Models, jax.Array], types.Params]:
    """`publish(snapshots [P, ...], model, final) -> snapshots`: the last one as it is published, if it is the final."""
    defended = learning.defences.make()
    hook, start_fn = defenses_contract.make_hand_off(defended, name="publish"), learning.make_start(defended)

    def publish(snapshots: types.Params, model: Models, final: jax.Array) -> types.Params:
        initial, key = (jax.random.fold_in(model.key, stream) for stream in (START, PUBLISH))
        last = jax.tree.map(lambda leaf: leaf[-1], snapshots)
        published = hook(start_fn(initial).params, last, key, model.hyper.levels)
        return jax.tree.map(
            lambda leaf, public, plain: leaf.at[-1].set(jnp.where(final, public, plain)), snapshots, published, last
        )

    return publish if defended.hooks("publish") else lambda snapshots, model, final: snapshots


def make_fresh(learning: Learning, defended: defenses_contract.Defended) -> Callable[[types.Params], types.TrainState]:
    """Returns `fresh(params) -> TrainState`, a model with a fresh optimizer."""

    def fresh(params: types.Params) -> types.TrainState:
        optimizer = learning.steps.optimizer
        return types.TrainState(params, training.fresh_opt_state(params, optimizer=optimizer, defences=defended))

    return fresh


@functools.cache
def make_federate(
    learning: Learning,
    kind: str,
    options: Any,
    *,
    devices: tuple[jax.Device, ...],
    skip_empty: bool = False,
) -> Programs:
    """Builds S federations, each over shards of its own.

    Args:
      learning: network, training and defences.
      kind: the protocol, see `protocols.find`.
      options: the protocol's own options.
      devices: where S is split over.
      skip_empty: see `training.make_fit`.

    Returns:
      `advance(records, state, models, (local_epochs, cycle, final)) -> (state, snapshots, finite)` plays one cycle,
      where the shards of `models` lead with [S, N], snapshots and `finite` with [S, P]; `final` says that it is the
      last one, whose last snapshot is published.
    """
    make_node, publish = _make_nodes(learning, skip_empty=skip_empty), _make_publish(learning)

    def make_protocol(record_key: jax.Array) -> protocols_contract.Protocol:
        return protocols.find(kind).make(options, make_node(record_key))

    def start_model(shared: tuple[()], key: jax.Array) -> Any:
        return make_protocol(key).init(jax.random.fold_in(key, START))

    def advance_model(shared: Any, inputs: tuple[Any, Models]) -> tuple[Any, types.Params, jax.Array]:
        (records, (local_epochs, cycle, final)), (state, model) = shared, inputs
        keys = [jax.random.fold_in(model.key, stream) for stream in (TRAIN, RECORD)]
        own = _own(records, model)
        federation = protocols_contract.Federation(own, model.shard, model.hyper, keys[0], local_epochs)
        run_cycles = protocols_contract.make_cycles(make_protocol(keys[1]))
        state, snapshots = run_cycles(state, federation, model.order, cycle)
        snapshots = publish(jax.tree.map(lambda leaf: leaf[0], snapshots), model, final)
        return state, snapshots, jax.vmap(all_finite)(snapshots)

    def widen(num_classes: int) -> Programs:
        wider = learning.widened(num_classes)
        return make_federate(wider, kind, options, devices=devices, skip_empty=skip_empty)

    return _compile(start_model, advance_model, learning, widen, devices=devices)
