"""What a step costs with differential privacy: batches drawn record by record, gradients clipped, noise added."""

import dataclasses
from typing import Any

from fedmia_jax.config import schema
from fedmia_jax.engine import points
from fedmia_jax.engine.benchmarks import shadows, timing

CASES: dict[str, dict[str, Any]] = {  # settings over those of the config
    "no defence": {},
    "dp_training, without noise": {"defense.names": ("dp_training",), "defense.noise_multiplier": 0.0},
    "dp_training": {"defense.names": ("dp_training",), "defense.noise_multiplier": 1.0},
}


def make_suites(plans: points.Plans) -> list[timing.Suite]:
    """Returns the cases at a large batch size, as many models side by side as there are shadows."""
    size, records, cases = plans.settings.get("shadow.count"), shadows.make_records(plans), []
    for name, changes in CASES.items():
        values = dict(plans.settings.flat) | changes
        changed = points.Plans(schema.Settings(tuple(values.items())))
        (case,) = shadows.make_cases(changed, records, [size], batch_size=shadows.LARGE_BATCH)
        cases.append(dataclasses.replace(case, name=name))
    return [timing.Suite("defenses", cases, shadows.LARGE_BATCH)]
