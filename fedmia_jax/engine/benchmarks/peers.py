"""What ours is measured beside: PyTorch's loop, a loop on every core, all models at once by `torch.func`.

Each is seen to reach the loss that ours reaches before any is measured.
"""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from fedmia_jax.engine.benchmarks import pytorch, records, timing
from fedmia_jax.engine.plans import points

EPOCHS = 1  # before losses are compared
TOLERANCE = 0.01  # of the loss; trainings draw other numbers, and one that learns nothing is off by three times that
_of_worker: dict[str, pytorch.Training] = {}


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

    count, cores = plans.settings.get("shadow.count"), len(os.sched_getaffinity(0))
    steps = records.count_steps(drawn, batch_size)
    made = functools.partial(pytorch.make_loop, plans, drawn, batch_size=batch_size)
    kinds = {f"1 model, {torch.get_num_threads()} threads": (1, made)}
    if plans.training.optimizer == "adam":
        made = functools.partial(make_vmap, plans, drawn, num_models=count, batch_size=batch_size)
        graph = " and a CUDA graph" if torch.cuda.is_available() else ""
        kinds[f"{count} models by vmap"] = (count, made)
        kinds[f"{count} models by vmap, torch.compile{graph}"] = (count, functools.partial(made, compiled=True))
    for kind, (_, make) in kinds.items():
        check(f"PyTorch, {kind}", make(), loss)
    cases = [timing.Case(kind, _epoch_of(make), steps * models, models) for kind, (models, make) in kinds.items()]
    beside = functools.partial(make_processes, plans, drawn, batch_size=batch_size, number=cores)
    cases.insert(1, timing.Case(f"a process on each of {cores} cores", beside, steps * cores, cores))
    return [dataclasses.replace(case, name=f"PyTorch {torch.__version__}, {case.name}") for case in cases]


def _epoch_of(make: Callable[[], pytorch.Training]) -> Callable[[], Callable[[], object]]:
    """Makes a training when it is asked for, of which an epoch is measured."""
    return lambda: make().epoch


def check(kind: str, training: pytorch.Training, expected: float) -> None:
    """Trains for some epochs.

    Raises:
      RuntimeError: the training reaches another loss than ours.
    """
    for _ in range(EPOCHS):
        training.epoch()
    if abs(training.loss() - expected) > TOLERANCE * expected:
        raise RuntimeError(f"{kind} reaches a loss of {training.loss():.3f}, ours {expected:.3f}")


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
    _of_worker["loop"] = pytorch.make_loop(plans, drawn, batch_size=batch_size)


def _train_in_worker() -> None:
    """Trains one epoch in a process."""
    _of_worker["loop"].epoch()


def make_vmap(
    plans: points.Plans, drawn: records.Records, *, num_models: int, batch_size: int, compiled: bool = False
) -> pytorch.Training:
    """Returns the training of several models at once.

    Args:
      plans: network and training.
      drawn: features and labels.
      num_models: side by side.
      batch_size: records per update.
      compiled: an update is compiled; on a GPU that of a full batch is a CUDA graph as well.
    """
    import torch

    models = _Stacked(plans, drawn, num_models)
    update: Callable[[Any], object] = models.update
    if compiled:
        update = _compile(update, torch.zeros((num_models, batch_size), dtype=torch.long, device=models.device))
        models.reset()  # compiling has trained them

    def epoch() -> float:
        size = len(models.inputs)
        order = torch.stack([torch.randperm(size, device=models.device) for _ in range(num_models)])
        for start in range(0, size, batch_size):
            update(order[:, start : start + batch_size])
        return next(iter(models.params.values())).sum().item()

    return pytorch.Training(epoch, models.loss)


class _Stacked:
    """Several models as one pytree of stacked parameters, with Adam written out."""

    def __init__(self, plans: points.Plans, drawn: records.Records, num_models: int) -> None:
        import torch

        self.inputs, self.targets, self.device = pytorch.place(drawn)
        networks = [pytorch.make_network(plans, self.inputs.shape[1]).to(self.device) for _ in range(num_models)]
        self.network, self.rate = networks[0], plans.training.learning_rate
        stacked, _ = torch.func.stack_module_state(networks)
        self.start = {name: leaf.detach() for name, leaf in stacked.items()}
        self.params, self.first, self.second = (
            {name: torch.zeros_like(leaf) for name, leaf in self.start.items()} for _ in range(3)
        )
        self.number = torch.zeros((), device=self.device)
        self.gradient = torch.func.vmap(torch.func.grad(self.loss_of), randomness="different")
        self.reset()

    def reset(self) -> None:
        """Goes back to the start, in place."""
        for name, leaf in self.params.items():
            leaf.copy_(self.start[name])
        for leaf in (*self.first.values(), *self.second.values(), self.number):
            leaf.zero_()

    def loss_of(self, params: Any, features: Any, labels: Any) -> Any:
        """The mean loss of one model on a minibatch."""
        import torch

        answers = torch.func.functional_call(self.network, params, (features,))
        return torch.nn.functional.cross_entropy(answers, labels)

    def update(self, rows: Any) -> None:
        """One update of every model, on rows of its own [S, B]."""
        grads = self.gradient(self.params, self.inputs[rows], self.targets[rows])
        self.number.add_(1)
        scale = -self.rate * (1 - 0.999**self.number).sqrt() / (1 - 0.9**self.number)
        for name, grad in grads.items():
            first, second = self.first[name], self.second[name]
            first.lerp_(grad, 0.1)
            second.lerp_(grad * grad, 0.001)
            self.params[name].add_(scale * first / (second.sqrt() + 1e-8))

    def loss(self) -> float:
        """The mean loss of the first model over all records, nothing dropped out."""
        import torch

        self.network.eval()
        with torch.no_grad():
            first = {name: leaf[0] for name, leaf in self.params.items()}
            loss = self.loss_of(first, self.inputs, self.targets).item()
        self.network.train()
        return loss


def _compile(update: Callable[[Any], object], rows: Any) -> Callable[[Any], object]:
    """Compiles an update; on a GPU it is recorded for rows of one shape, and played back for all of that shape."""
    import torch

    compiled = torch.compile(update, dynamic=False)
    if not torch.cuda.is_available():
        compiled(rows)
        return compiled
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):  # what is made at first calls must not be recorded
            compiled(rows)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        compiled(rows)

    def call(given: Any) -> object:
        if given.shape != rows.shape:
            return compiled(given)
        rows.copy_(given)
        return graph.replay()

    return call
