"""How much memory a unit of work takes, in bytes."""

import functools
from typing import Any

from fedmia_jax import compilation
from fedmia_jax.engine import memory, scoring
from fedmia_jax.engine.plans import influence, runs


def of_unit(state: int, work: int, *, at_once: int = 1, epoch: int = 0, models: int = 1) -> dict[str, Any]:
    """Returns the bytes of a `chunks.Unit`: a core works at one model after the other, an accelerator at all at once.

    Args:
      state: of the unit.
      work: of scoring or fitting.
      at_once: how often that is there at once on an accelerator.
      epoch: of one model in training beside its state, see `memory.epoch_nbytes`; gone when it is scored.
      models: of the unit, trained side by side on an accelerator.
    """
    if compilation.platform() == "cpu":
        return {"nbytes": state, "fixed_nbytes": max(work, epoch)}
    return {"nbytes": state + max(at_once * work, models * epoch)}


def of_params(run: runs.Run) -> int:
    """Returns the memory of a model's parameters, in bytes."""
    return memory.params_nbytes(run.module, num_features=run.dataset.features.shape[1])


@functools.lru_cache(maxsize=influence.RECENT)
def of_model(run: runs.Run) -> tuple[int, int]:
    """Returns the memory of a model in training, and of its parameters alone."""
    num_features = run.dataset.features.shape[1]
    batch_size = run.plans.training.batch_size
    training = memory.training_nbytes(
        run.module, num_features=num_features, batch_size=batch_size, defended=run.plans.defences.make()
    )
    return training, of_params(run)


def of_scoring(run: runs.Run) -> int:
    """Returns the memory of a block of records on its way through a model and the attacks."""
    return scoring.RECORD_BLOCK * 4 * (run.dataset.features.shape[1] + 8 * run.dataset.num_classes)


def of_fitting(run: runs.Run, num_records: int) -> int:
    """Returns the memory of fitting one attack, each shadow asked about so many records."""
    return scoring.fit_nbytes(
        num_classes=run.dataset.num_classes,
        num_features=run.dataset.features.shape[1],
        num_shadows=run.settings.get("shadow.count"),
        num_records=num_records,
    )
