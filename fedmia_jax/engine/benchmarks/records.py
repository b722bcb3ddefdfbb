"""What is trained on while speed is measured: made-up records of which training learns nothing but by heart."""

import numpy as np

from fedmia_jax.engine.plans import points

NUM_CLASSES, NUM_RECORDS = 100, 10_000

Records = tuple[np.ndarray, np.ndarray]  # features u8[M, D] and labels i32[M]


def make(plans: points.Plans) -> Records:
    """Returns the records, with as many features as the config says."""
    rng = np.random.default_rng(0)
    features = (rng.random((NUM_RECORDS, plans.settings.get("data.num_features"))) < 0.1).astype(np.uint8)
    return features, rng.integers(0, NUM_CLASSES, NUM_RECORDS).astype(np.int32)


def count_steps(drawn: Records, batch_size: int) -> int:
    """Returns the updates of an epoch."""
    return -(-len(drawn[1]) // batch_size)
