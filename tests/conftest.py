"""Two XLA host devices, a tiny data set, and programs that tests share so that each is compiled once."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from fedmia_jax import model, training, types

if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 2)

NUM_RECORDS, NUM_FEATURES, NUM_CLASSES, HIDDEN, BATCH_SIZE = 160, 20, 4, 8, 8


@dataclasses.dataclass(frozen=True)
class Toy:
    """A small learning problem: records, network, and its programs, compiled once for each choice."""

    features: np.ndarray  # uint8[M, D]
    labels: np.ndarray  # i32[M]
    records: types.Records
    module: model.Mlp
    apply: types.ApplyFn
    start: Callable[..., types.TrainState]  # (key, *, optimizer)
    fit_fn: Callable[..., training.FitFn]  # (*, optimizer, skip_empty), pure
    fit: Callable[..., training.FitFn]  # the same, jitted

    def hyper(self, *, learning_rate: float = 0.01, dropout_rate: float = 0.0) -> types.Hyper:
        """The traced numbers of training."""
        return types.Hyper(np.float32(learning_rate), np.float32(dropout_rate))

    def shard(self, rows: Any, *, slots: int | None = None) -> types.Shard:
        """A shard of the given rows, padded with row 0 up to `slots`."""
        rows = np.asarray(rows, np.int32)
        slots = len(rows) if slots is None else slots
        return types.Shard(np.pad(rows, (0, slots - len(rows))), np.arange(slots) < len(rows))


@pytest.fixture(scope="session")
def toy() -> Toy:
    """Bits that differ by class; see `Toy`."""
    rng = np.random.default_rng(0)
    labels = rng.integers(NUM_CLASSES, size=NUM_RECORDS).astype(np.int32)
    chances = rng.uniform(0.1, 0.9, size=(NUM_CLASSES, NUM_FEATURES))
    features = (rng.uniform(size=(NUM_RECORDS, NUM_FEATURES)) < chances[labels]).astype(np.uint8)
    module = model.Mlp(NUM_CLASSES, HIDDEN)
    apply_fn, init_fn = model.make_apply(module), model.make_init(module, num_features=NUM_FEATURES)

    @functools.cache
    def start(optimizer: str) -> Any:
        return jax.jit(training.make_start(init_fn, optimizer=optimizer))

    def fit_fn(*, optimizer: str = "adam", skip_empty: bool = False) -> training.FitFn:
        return training.make_fit(apply_fn, optimizer=optimizer, batch_size=BATCH_SIZE, skip_empty=skip_empty)

    @functools.cache
    def fit(*, optimizer: str = "adam", skip_empty: bool = False) -> training.FitFn:
        return jax.jit(fit_fn(optimizer=optimizer, skip_empty=skip_empty))

    return Toy(
        features=features,
        labels=labels,
        records=types.Records(jax.numpy.asarray(features), jax.numpy.asarray(labels)),
        module=module,
        apply=apply_fn,
        start=lambda key, *, optimizer="adam": start(optimizer)(key),
        fit_fn=fit_fn,
        fit=fit,
    )


@pytest.fixture(scope="session")
def equal() -> Callable[..., None]:
    """`equal(tree, other, *, rtol=0)`: asserts that two pytrees of arrays are the same, bit by bit where rtol is 0."""

    def check(tree: Any, other: Any, *, rtol: float = 0.0, atol: float = 0.0) -> None:
        assert jax.tree.structure(tree) == jax.tree.structure(other)
        for leaf, twin in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(leaf, twin, rtol=rtol, atol=atol)

    return check


@pytest.fixture(scope="session")
def differ() -> Callable[[Any, Any], bool]:
    """`differ(tree, other)`: whether any number in two pytrees of one structure differs."""
    return lambda tree, other: (
        not all(
            np.array_equal(leaf, twin) for leaf, twin in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
        )
    )


@pytest.fixture
def compilations():
    """`with compilations() as names:` collects the names of the programs that XLA compiles inside the block."""

    @contextlib.contextmanager
    def collect():
        names: list[str] = []

        def listen(event: str, seconds: float, **details: Any) -> None:
            if event.endswith("backend_compile_duration"):
                names.append(str(details.get("fun_name", event)))

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            yield names
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)

    return collect
