"""The same training in PyTorch: the loop that a user writes, a loop on every core, all models at once by `torch.func`.

Each is seen to reach the loss that ours reaches before any is measured.
"""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from fedmia_jax.engine import points
from fedmia_jax.engine.benchmarks import records, timing

EPOCHS = 1  # before losses are compared
TOLERANCE = 0.01  # of the loss; trainings draw other numbers, and one that learns nothing is off by three times that
_of_worker: dict[str, "Training"] = {}


@dataclasses.dataclass(frozen=True)
class Training:
    """A training under way.

    Attributes:
      epoch: trains one more epoch, and returns when it is done.
      loss: the mean loss over all records, nothing dropped out.
    """

    epoch: Callable[[], object]
    loss: Callable[[], float]


def make_cases(plans: points.Plans, drawn: records.Records, *, batch_size: int, loss: float) -> list[timing.Case]:
    """Returns the cases that PyTorch is good for here, the plain loop first.

    Args:
      plans: network and training.
      drawn: features and labels.
      batch_size: records per update.
      loss: that ours reaches after `EPOCHS`.

    Raises:
      RuntimeError: one of them reaches another loss, so that it is not the same training.
    """
    import torch

    about, count, cores = (
        f"PyTorch {torch.__version__}",
        plans.settings.get("shadow.count"),
        len(os.sched_getaffinity(0)),
    )
    kinds = {"loop": functools.partial(make_loop, plans, drawn, batch_size=batch_size)}
    if plans.training.optimizer == "adam":
        kinds["vmap"] = functools.partial(make_vmap, plans, drawn, num_models=count, batch_size=batch_size)
    for kind, make in kinds.items():
        _check(kind, make(), loss)
    steps = records.count_steps(drawn, batch_size)
    beside = functools.partial(make_processes, plans, drawn, batch_size=batch_size, number=cores)
    cases = [
        timing.Case(f"{about}, 1 model, {torch.get_num_threads()} threads", lambda: kinds["loop"]().epoch, steps),
        timing.Case(f"{about}, a process on each of {cores} cores", beside, steps * cores, cores),
    ]
    if "vmap" in kinds:
        cases.append(
            timing.Case(f"{about}, {count} models by vmap", lambda: kinds["vmap"]().epoch, steps * count, count)
        )
    return cases


def _check(kind: str, training: Training, expected: float) -> None:
    """Raises where a training reaches another loss than ours."""
    for _ in range(EPOCHS):
        training.epoch()
    if abs(training.loss() - expected) > TOLERANCE * expected:
        raise RuntimeError(f"PyTorch's {kind} reaches a loss of {training.loss():.3f}, ours {expected:.3f}")


def make_loop(plans: points.Plans, drawn: records.Records, *, batch_size: int) -> Training:
    """Returns the training as a PyTorch user writes it."""
    import torch

    inputs, targets, device = _place(drawn)
    network = _make_network(plans, inputs.shape[1]).to(device)
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = kinds[plans.training.optimizer](network.parameters(), lr=plans.training.learning_rate)
    loss_fn = torch.nn.CrossEntropyLoss()

    def epoch() -> float:
        order = torch.randperm(len(inputs), device=device)
        for first in range(0, len(inputs), batch_size):
            rows = order[first : first + batch_size]
            optimizer.zero_grad()
            loss_fn(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        return next(network.parameters()).sum().item()  # waits for the device

    def loss() -> float:
        with torch.no_grad():
            answers = network.eval()(inputs)
        network.train()
        return loss_fn(answers, targets).item()

    return Training(epoch, loss)


def make_processes(
    plans: points.Plans, drawn: records.Records, *, batch_size: int, number: int
) -> Callable[[], object]:
    """Returns a call that trains an epoch of the loop in several processes of one thread each, a model in each."""
    pool = concurrent.futures.ProcessPoolExecutor(
        number,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(plans, drawn, batch_size),
    )

    def epoch() -> None:
        for ended in [pool.submit(_train_in_worker) for _ in range(number)]:
            ended.result()

    return epoch


def _start_worker(plans: points.Plans, drawn: records.Records, batch_size: int) -> None:
    """Makes the training of one process."""
    import torch

    torch.set_num_threads(1)
    _of_worker["loop"] = make_loop(plans, drawn, batch_size=batch_size)


def _train_in_worker() -> None:
    """Trains one epoch in a process."""
    _of_worker["loop"].epoch()


def make_vmap(plans: points.Plans, drawn: records.Records, *, batch_size: int, num_models: int) -> Training:
    """Returns the training of several models at once, Adam written out over stacked parameters."""
    import torch

    inputs, targets, device = _place(drawn)
    networks = [_make_network(plans, inputs.shape[1]).to(device) for _ in range(num_models)]
    stacked, _ = torch.func.stack_module_state(networks)
    params = {name: leaf.detach().clone() for name, leaf in stacked.items()}
    first, second = ({name: torch.zeros_like(leaf) for name, leaf in params.items()} for _ in range(2))

    def loss_of(params: Any, rows: Any) -> Any:
        answers = torch.func.functional_call(networks[0], params, (inputs[rows],))
        return torch.nn.functional.cross_entropy(answers, targets[rows])

    gradient = torch.func.vmap(torch.func.grad(loss_of), randomness="different")
    rate, updates = plans.training.learning_rate, iter(range(1, 2**62))

    def update(rows: Any) -> None:
        grads, number = gradient(params, rows), next(updates)
        scale = rate * (1 - 0.999**number) ** 0.5 / (1 - 0.9**number)
        for name, grad in grads.items():
            first[name].lerp_(grad, 0.1)
            second[name].lerp_(grad * grad, 0.001)
            params[name].addcdiv_(first[name], second[name].sqrt().add_(1e-8), value=-scale)

    def epoch() -> float:
        order = torch.stack([torch.randperm(len(inputs), device=device) for _ in range(num_models)])
        for start in range(0, len(inputs), batch_size):
            update(order[:, start : start + batch_size])
        return next(iter(params.values())).sum().item()

    def loss() -> float:
        network = networks[0].eval()
        with torch.no_grad():
            answers = torch.func.functional_call(network, {name: leaf[0] for name, leaf in params.items()}, (inputs,))
        network.train()
        return torch.nn.functional.cross_entropy(answers, targets).item()

    return Training(epoch, loss)


def _place(drawn: records.Records) -> tuple[Any, Any, str]:
    """Records as tensors, on a GPU where there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = torch.tensor(drawn[0], dtype=torch.float32, device=device)
    return inputs, torch.tensor(drawn[1], dtype=torch.long, device=device), device


def _make_network(plans: points.Plans, num_features: int) -> Any:
    """The network, initialised as ours."""
    import torch

    layers = (
        torch.nn.Linear(num_features, plans.network.hidden),
        torch.nn.Linear(plans.network.hidden, records.NUM_CLASSES),
    )
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return torch.nn.Sequential(layers[0], torch.nn.Tanh(), torch.nn.Dropout(plans.network.dropout_rate), layers[1])
