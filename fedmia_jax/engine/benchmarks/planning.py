"""How long it takes to plan a large sweep."""

import functools

import numpy as np

from fedmia_jax.config import sweeps
from fedmia_jax.engine.benchmarks import timing
from fedmia_jax.engine.plans import planning, points, runs

SIDES = (10, 100)  # of a square of learning rates and dropout rates


def make_suites(plans: points.Plans) -> list[timing.Suite]:
    """Returns a case for each number of points, on few records, which take no part in it."""
    del plans
    cases = [
        timing.Case(f"{side**2:,} points", functools.partial(make_plan, side), side**2)  # the first call draws records
        for side in SIDES
    ]
    return [timing.Suite("sweep", cases, 0)]


def make_plan(side: int) -> functools.partial:
    """Returns a call that expands, checks and plans a sweep of so many points squared."""
    config = {
        "data": {"num_records": 3_000, "num_classes": 10, "num_federation": 300, "num_test": 300},
        "sweep": {
            "training.learning_rate": tuple(np.linspace(0.001, 0.01, side).tolist()),
            "model.dropout_rate": tuple(np.linspace(0.0, 0.8, side).tolist()),
        },
    }

    def plan() -> None:
        planning.make_plan(runs.prepare(sweeps.expand(config).points))

    return functools.partial(plan)
