"""The same training as a PyTorch user writes it, plain and with differential privacy."""

import dataclasses
from collections.abc import Callable
from typing import Any

from fedmia_jax.engine.benchmarks import records
from fedmia_jax.engine.plans import points


@dataclasses.dataclass(frozen=True)
class Training:
    """A training under way.

    Attributes:
      epoch: trains one more epoch, and returns when it is done.
      loss: the mean loss over all records, nothing dropped out.
    """

    epoch: Callable[[], object]
    loss: Callable[[], float]


def make_loop(plans: points.Plans, drawn: records.Records, *, batch_size: int) -> Training:
    """Returns the training as a PyTorch user writes it."""
    import torch

    inputs, targets, device = place(drawn)
    network = make_network(plans, inputs.shape[1]).to(device)
    optimizer = make_optimizer(plans, network.parameters())
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


def make_private(
    plans: points.Plans, drawn: records.Records, *, batch_size: int, clip: float, noise_multiplier: float
) -> Training:
    """Returns the loop with differential privacy: Opacus' gradients of records and its optimizer, on drawn batches.

    Its loader, which puts every batch together record by record, is left out: rows are drawn on the device.

    Args:
      plans: network and training.
      drawn: features and labels.
      batch_size: records that an update expects.
      clip: norm that the gradient of each record is clipped to.
      noise_multiplier: noise on their sum, in units of the clip.
    """
    import opacus
    import torch

    inputs, targets, device = place(drawn)
    network = opacus.GradSampleModule(make_network(plans, inputs.shape[1]).to(device))
    optimizer = opacus.optimizers.DPOptimizer(
        make_optimizer(plans, network.parameters()),
        noise_multiplier=noise_multiplier,
        max_grad_norm=clip,
        expected_batch_size=batch_size,
    )
    loss_fn = torch.nn.CrossEntropyLoss()

    def epoch() -> float:
        for _ in range(records.count_steps(drawn, batch_size)):
            (rows,) = torch.nonzero(torch.rand(len(inputs), device=device) < batch_size / len(inputs), as_tuple=True)
            optimizer.zero_grad()
            loss_fn(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        return next(network.parameters()).sum().item()

    def loss() -> float:
        network.eval()
        with torch.no_grad():
            value = loss_fn(network(inputs), targets).item()
        network.train()
        return value

    return Training(epoch, loss)


def place(drawn: records.Records) -> tuple[Any, Any, str]:
    """Returns records as tensors on a GPU, where there is one, and its name."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = torch.tensor(drawn[0], dtype=torch.float32, device=device)
    return inputs, torch.tensor(drawn[1], dtype=torch.long, device=device), device


def make_optimizer(plans: points.Plans, parameters: Any) -> Any:
    """Returns the optimizer of some parameters."""
    import torch

    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    return kinds[plans.training.optimizer](parameters, lr=plans.training.learning_rate)


def make_network(plans: points.Plans, num_features: int) -> Any:
    """Returns the network, initialised as ours."""
    import torch

    layers = (
        torch.nn.Linear(num_features, plans.network.hidden),
        torch.nn.Linear(plans.network.hidden, records.NUM_CLASSES),
    )
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return torch.nn.Sequential(layers[0], torch.nn.Tanh(), torch.nn.Dropout(plans.network.dropout_rate), layers[1])
