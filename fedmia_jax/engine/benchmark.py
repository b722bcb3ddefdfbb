"""Training speed, side by side in one process: a plain PyTorch loop, one compiled model, many at once.

Every way does the same steps on the same records (dropout, Adam, shuffled minibatches, cross-entropy), the ways take
turns, and medians over the turns are compared; compile time is told apart. PyTorch is optional and installed by hand:
without it its row is missing and no ratio is printed.
"""

import dataclasses
import importlib.util
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import rich.console

from fedmia_jax import options, types
from fedmia_jax.config import schema
from fedmia_jax.engine import outline, points, programs
from fedmia_jax.learning import networks

NUM_CLASSES, NUM_RECORDS, TURNS = 100, 10_000, 5


def run(settings: schema.Settings, console: rich.console.Console) -> outline.Outline:
    """Measures microseconds per model and step at the config's batch size and at 128.

    Args:
      settings: `data.num_features`, `model`, `training`, `defense` and `shadow.count` are read.
      console: for a line while work is going on.

    Returns:
      One row for each way and batch size: compile time in seconds, time per model and step in microseconds, ratio to
      PyTorch.
    """
    plans = points.Plans(settings)
    rows = []
    for batch_size in sorted({plans.training.batch_size, 128}):
        with console.status(f"batch size {batch_size}: {TURNS} turns"):
            ways = make_ways(plans, batch_size=batch_size)
            compile_seconds = {name: _seconds(way) for name, (way, _) in ways.items()}
            turns = [{name: _seconds(way) / steps for name, (way, steps) in ways.items()} for _ in range(TURNS)]
        medians = {name: statistics.median(turn[name] for turn in turns) for name in ways}
        reference = next((seconds for name, seconds in medians.items() if name.startswith("PyTorch")), None)
        for name, seconds in medians.items():
            spread = [turn[name] * 1e6 for turn in turns]
            ratio = "-" if reference is None else f"{reference / seconds:.1f}"
            first = "-" if name.startswith("PyTorch") else f"{compile_seconds[name]:.1f} s"
            cells = [f"{seconds * 1e6:.0f}", f"{min(spread):.0f}-{max(spread):.0f}", ratio, first]
            rows.append([name, str(batch_size), *cells])
    header = ["way", "batch", "us", "range", "times PyTorch", "first call"]
    return outline.Outline("Training speed", header, rows, _caption(plans))


def _caption(plans: points.Plans) -> str:
    """What was measured."""
    devices = f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    return (
        "us: microseconds per model and step; first call: with compilation. "
        f"{NUM_RECORDS:,} x {plans.settings.get('data.num_features')}, {plans.network.hidden} units, "
        f"{NUM_CLASSES} classes, {plans.training.optimizer}, dropout; medians of {TURNS} turns in one run on "
        f"{devices}. "
        + ("" if importlib.util.find_spec("torch") else "PyTorch is not installed: pip install torch to compare.")
    )


def make_ways(plans: points.Plans, *, batch_size: int) -> dict[str, tuple[Callable[[], object], int]]:
    """Returns, by name, a call that trains one epoch and the model steps that it makes."""
    features, labels = make_records(plans)
    steps = -(-NUM_RECORDS // batch_size)
    ways: dict[str, tuple[Callable[[], object], int]] = {}
    if importlib.util.find_spec("torch"):
        import torch

        name = f"PyTorch {torch.__version__}, 1 model, {torch.get_num_threads()} threads"
        ways[name] = (_torch_way(plans, features, labels, batch_size=batch_size), steps)
    devices = tuple(jax.devices())
    for number in (1, plans.settings.get("shadow.count")):
        way = make_training(plans, (features, labels), batch_size=batch_size, num_models=number, devices=devices)
        ways[f"fedmia_jax, {number} model{'s' if number > 1 else ''}"] = (way, steps * number)
    return ways


def make_records(plans: points.Plans) -> tuple[np.ndarray, np.ndarray]:
    """Returns made-up records of which training learns nothing: features u8[M, D] and labels i32[M]."""
    rng = np.random.default_rng(0)
    features = (rng.random((NUM_RECORDS, plans.settings.get("data.num_features"))) < 0.1).astype(np.uint8)
    return features, rng.integers(0, NUM_CLASSES, NUM_RECORDS).astype(np.int32)


def make_training(
    plans: points.Plans,
    drawn: tuple[np.ndarray, np.ndarray],
    *,
    batch_size: int,
    num_models: int,
    devices: tuple[jax.Device, ...],
) -> Callable[[], object]:
    """Returns a call that trains one epoch of several models through the same programs that experiments use.

    Args:
      plans: the network, training and defences.
      drawn: features and labels.
      batch_size: records per update.
      num_models: S.
      devices: where S is split over.
    """
    features, labels = drawn
    learning = programs.Learning(
        networks.make_network(plans.network, num_classes=NUM_CLASSES),
        options.static(dataclasses.replace(plans.training, batch_size=batch_size)),
        plans.defences.static,
        features.shape[1],
    )
    train = programs.make_train(learning, devices=devices)
    records = types.Records(jnp.asarray(features), jnp.asarray(labels))
    rows = np.broadcast_to(np.arange(NUM_RECORDS, dtype=np.int32), (num_models, NUM_RECORDS))
    keys = jax.random.split(jax.random.key(0), num_models)
    hyper = jax.tree.map(lambda level: jnp.full(num_models, level, jnp.float32), plans.hyper)
    models = programs.Models(types.Shard(jnp.asarray(rows), jnp.ones(rows.shape, bool)), hyper, keys)
    states = train.start(keys)
    return lambda: jax.block_until_ready(train.advance(records, states, models, (0, 1)))


def _torch_way(
    plans: points.Plans, features: np.ndarray, labels: np.ndarray, *, batch_size: int
) -> Callable[[], object]:
    """One epoch the way a PyTorch user writes it."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = torch.tensor(features, dtype=torch.float32, device=device)
    targets = torch.tensor(labels, dtype=torch.long, device=device)
    network = torch.nn.Sequential(
        torch.nn.Linear(features.shape[1], plans.network.hidden),
        torch.nn.Tanh(),
        torch.nn.Dropout(plans.network.dropout_rate),
        torch.nn.Linear(plans.network.hidden, NUM_CLASSES),
    ).to(device)
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = kinds[plans.training.optimizer](network.parameters(), lr=plans.training.learning_rate)
    loss_fn = torch.nn.CrossEntropyLoss()

    def epoch() -> float:
        order = torch.randperm(NUM_RECORDS, device=device)
        for first in range(0, NUM_RECORDS, batch_size):
            rows = order[first : first + batch_size]
            optimizer.zero_grad()
            loss_fn(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        return next(network.parameters()).sum().item()  # waits for the device

    return epoch


def _seconds(way: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start
