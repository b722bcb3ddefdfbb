"""Two XLA host devices, a tiny data set, and what tests share so that each program is compiled once."""

import atexit
import contextlib
import dataclasses
import functools
import importlib.metadata
import io
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping

# A test's programs are many and short: they are compiled quickly, without most optimizations and by the older of XLA's
# two ways for a CPU, where there still are two: a third of the time. `WELL_COMPILED=1` compiles as the command does.
TWO_WAYS = importlib.metadata.version("jax").startswith("0.10.")
if not os.environ.get("WELL_COMPILED"):
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if TWO_WAYS:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads that wait for one another at every core's cost

# Processes that test side by side, and those that they start, share what one of them has compiled.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="fedmia_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Shapes in the signatures of the science floor are checked while tests run.
jaxtyping.install_import_hook(
    [f"fedmia_jax.{package}" for package in ("attacks", "audit", "data", "defenses", "learning", "protocols")],
    "checking.typechecker",
)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import processes  # noqa: E402
import pytest  # noqa: E402
import rich.console  # noqa: E402

import launch  # noqa: E402
from fedmia_jax import compilation, randomness, types  # noqa: E402
from fedmia_jax.attacks import stacked, trajectory  # noqa: E402
from fedmia_jax.config import parsing, schema, sweeps  # noqa: E402
from fedmia_jax.engine import devices, experiment, lab, progress  # noqa: E402
from fedmia_jax.engine.engines import local  # noqa: E402
from fedmia_jax.engine.plans import plan, planning, runs, tasks  # noqa: E402
from fedmia_jax.learning import networks, training  # noqa: E402
from fedmia_jax.storage import artifacts  # noqa: E402
from fedmia_jax.storage import workdir as workdirs  # noqa: E402

if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 2)
# As the command does for each run; tests call training, attacks and audit by themselves too.
jax.config.update("jax_default_matmul_precision", "highest")

NUM_RECORDS, NUM_FEATURES, NUM_CLASSES, HIDDEN, BATCH_SIZE = 160, 20, 4, 8, 8


@dataclasses.dataclass(frozen=True)
class Toy:
    """A small learning problem: records, network, and its programs, compiled once for each choice."""

    features: np.ndarray  # uint8[M, D]
    labels: np.ndarray  # i32[M]
    records: types.Records
    module: networks.Mlp
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
    module = networks.Mlp(NUM_CLASSES, HIDDEN)
    apply_fn, init_fn = networks.make_apply(module), networks.make_init(module, num_features=NUM_FEATURES)

    @functools.cache
    def start(optimizer: str) -> Any:
        return jax.jit(training.make_start(init_fn, optimizer=optimizer))

    def fit_fn(*, optimizer: str = "adam", skip_empty: bool = False) -> training.FitFn:
        trained = training.make_fit(apply_fn, optimizer=optimizer, batch_size=BATCH_SIZE, skip_empty=skip_empty)
        return functools.partial(trained, record_key=jax.random.key(0))  # read by defences only

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
def as_launched() -> dict[str, Any]:
    """Options of `jax.jit` that compile as the command does: for bits that two programs share only so."""
    options = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    return {"compiler_options": options | ({"xla_cpu_use_fusion_emitters": True} if TWO_WAYS else {})}


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
def launched(monkeypatch, tmp_path, capsys) -> Callable[..., tuple[int, str, str]]:
    """`launched(*args)`: runs `launch.py` in this process and an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.setattr(devices, "start", lambda num_cpu_devices, **options: None)  # the session has started it
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["launch.py", *args])
        code = 0
        try:
            launch.main()
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(autouse=True)
def forget_foreign_things(monkeypatch) -> None:
    """What a test admits from outside the package is no field in the next."""
    monkeypatch.setattr(schema, "_admitted", {field: dict(known) for field, known in schema._admitted.items()})


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="module", autouse=True)
def room() -> Iterator[None]:
    """A process that tests file after file forgets the programs of earlier ones in time, as a long sweep does."""
    yield
    compilation.make_room()


@pytest.fixture(scope="session")
def process(tmp_path_factory) -> Iterator[Callable[..., processes.Ended]]:
    """`process(*flags, cwd, limit=None)`: runs `launch.py` as a process of its own, see `processes.Server.call`."""
    server = processes.Server(tmp_path_factory.mktemp("programs"))
    yield server.call
    server.close()


SMALL: dict[str, dict[str, Any]] = {
    "data": {"name": "arrays"},
    "model": {"hidden": 16, "dropout_rate": 0.0},
    "training": {"batch_size": 32},
    "federation": {"nodes": 2, "cycles": 1},
    "shadow": {"count": 3},
    "attack": {"hidden": 8, "epochs": 10, "batch_size": 64},
}


@dataclasses.dataclass(frozen=True)
class Finished:
    """A folder with one experiment on an array file: settings, context and results."""

    folder: pathlib.Path
    settings: schema.Settings
    runs: list[runs.Run]
    table: pl.DataFrame

    @property
    def planned(self) -> plan.Plan:
        """What was done."""
        return planning.make_plan(self.runs, keep_models=True)

    @property
    def kept(self) -> artifacts.Artifacts:
        """What it has left."""
        return artifacts.Artifacts(self.folder / "run" / "artifacts")

    def models(self, run: int, kind: type, *, number: int | None = None) -> list[dict[str, np.ndarray]]:
        """Parameters by flat name of one run's task of a kind: every piece, in order; those of one shadow by number."""
        (mark,) = [
            mark
            for mark, task in self.planned.task_of.items()
            if isinstance(task, kind)
            and task.run is self.runs[run]
            and number in (None, getattr(task, "number", None))
            and (kind is not tasks.Model or task.purpose == randomness.Purpose.SHADOW)
        ]
        unit = self.planned.unit_of[mark]
        names = sorted(path.name for path in self.kept.index[unit][0].iterdir() if path.is_dir())
        return [parsing.flat(self.kept.read(unit, name)["params"]) for name in names]

    def fitted(self, run: int, cycle: int | None) -> dict[str, np.ndarray]:
        """The attack network's parameters by flat name, leaves [N, ...] of a cycle; the centralised one without."""
        recipe = self.planned.recipes[run]
        reader = recipe.baseline_reader if cycle is None else recipe.federation_reader
        return parsing.flat(self.planned.fitted(self.kept, reader, cycle or 0)["network"]["params"])


def save_bits(path: pathlib.Path, *, num_records: int, num_features: int, num_classes: int, learnable: bool) -> None:
    """Writes bits with labels: the class whose prototype shaped them, or random ones."""
    rng = np.random.default_rng(0)
    labels = rng.integers(num_classes, size=num_records)
    chances = rng.uniform(0.2, 0.8, size=(num_classes, num_features)) if learnable else np.full((num_classes, 1), 0.5)
    bits = rng.uniform(size=(num_records, num_features)) < chances[labels]
    np.savez(path, features=bits.astype(np.uint8), labels=labels)


@pytest.fixture(scope="session")
def run_sweep() -> Callable[..., tuple[list[runs.Run], pl.DataFrame]]:
    """`run_sweep(values, path, *, only=None, **options)`: what the command does with a config, for all runs or some."""

    def run(values: dict[str, Any], path: pathlib.Path, *, only: list[int] | None = None, **options: Any):
        swept = sweeps.expand(values)
        every_run = runs.prepare(swept.points)
        described = workdirs.describe(swept.settings, [point.values for point in swept.points])
        prints = sorted({run.dataset.fingerprint for run in every_run})
        every_run = [every_run[index] for index in (range(len(every_run)) if only is None else only)]
        shown = progress.Progress(rich.console.Console(file=io.StringIO()))
        with workdirs.open_workdir(path, described, records=prints, title="test") as workdir:
            strict, engine = options.pop("strict", len(swept.points) == 1), options.pop("engine", local.ENGINE)
            return every_run, experiment.run(lab.Lab(workdir, shown, strict=strict, **options), every_run, engine)

    return run


@pytest.fixture(scope="module")
def short_fits() -> Iterator[None]:
    """Networks on trajectories take fewer updates; what tests show them is learnt by then."""
    short = {(trajectory, "NUM_UPDATES"): 1_000, (stacked, "NUM_UPDATES"): 100, (stacked, "NUM_EXAMPLES"): 8_000}
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in short.items():
            patch.setattr(module, name, value)
        yield


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory, run_sweep) -> Callable[..., Finished]:
    """`make_lab(bits, **groups)`: runs `SMALL` with other values by group, on records of `save_bits(**bits)`."""

    def make(bits: dict[str, Any], **groups: Any) -> Finished:
        folder = tmp_path_factory.mktemp("lab")
        save_bits(folder / "x.npz", **bits)
        values = {name: group | groups.pop(name, {}) for name, group in SMALL.items()} | groups
        values["data"]["path"] = str(folder / "x.npz")
        return Finished(folder, parsing.from_config(values), *run_sweep(values, folder / "run", keep_models=True))

    return make


@pytest.fixture(scope="session")
def leaky(make_lab) -> Finished:
    """Models that have learnt random labels by heart; two replicates, two nodes, two cycles."""
    return make_lab(
        {"num_records": 2200, "num_features": 40, "num_classes": 5, "learnable": False},
        replicates=2,
        data={"num_federation": 300, "num_test": 1000},
        model={"hidden": 48},
        training={"learning_rate": 0.01},
        federation={"local_epochs": 60, "cycles": 2},
        attack={"hidden": 64, "epochs": 60},
    )


@pytest.fixture(scope="session")
def matched(make_lab) -> Finished:
    """Attacks fitted on shadow federations, between nodes of unequal size that hand their optimizer's state on."""
    return make_lab(
        {"num_records": 1200, "num_features": 12, "num_classes": 3, "learnable": False},
        data={"num_federation": 200, "num_test": 300, "partition": "dirichlet", "alpha": 1.0},
        training={"learning_rate": 0.02},
        federation={"local_epochs": 20, "cycles": 2, "carry_optimizer_state": True},
        shadow={"kind": "federated"},
        attack={"hidden": 16, "epochs": 200, "learning_rate": 0.03},
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all-fields`: the long form of the test of what outcomes depend on."""
    parser.addoption("--all-fields", action="store_true", help="compute the flip of every field of a config")
