"""placeholder"""

import numpy as np

from fedmia_jax import config
from fedmia_jax.data import records


def read(settings: config.Data, *, seed: int) -> records.RawRecords:
    r = np.random.default_rng(seed)
    n, d = settings.num_records, 60
    W = (r.standard_normal((d, settings.num_features)) * 2.0 / np.sqrt(d)).astype(np.float32)
    b = (-2.5 + r.standard_normal(settings.num_features)).astype(np.float32)
    lo = r.standard_normal((n, d)).astype(np.float32) @ W + b
    x = (r.random(lo.shape, dtype=np.float32) < 1 / (1 + np.exp(-lo))).astype(np.uint8)
    return records.RawRecords(
        features=x,
        labels=None,
        num_classes=None,
        title=f"synthetic purchases, {n:,} x {settings.num_features}",
    )
