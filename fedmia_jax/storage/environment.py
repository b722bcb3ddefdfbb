"""What a result depends on beside its settings: versions, devices and precision."""

import importlib.metadata
import os
import platform
import sys
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "polars", "ml-collections")


def describe() -> dict[str, Any]:
    """Returns what `environment.json` says."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.local_devices()],
        "backend": jax.default_backend(),
        "cpu_count": os.cpu_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
    }
