"""What a result depends on beside its settings."""

import json

import jax
import numpy as np

from fedmia_jax.storage import environment


def test_versions_devices_and_precision_are_stated():
    stated = environment.describe()
    assert json.loads(json.dumps(stated)) == stated
    assert set(stated["packages"]) == set(environment.PACKAGES)
    assert stated["packages"]["numpy"] == np.__version__
    assert len(stated["devices"]) == len(jax.devices())
    assert stated["backend"] == jax.default_backend()


def test_double_precision_is_stated():
    assert environment.describe()["x64"] is False
    with jax.enable_x64(True):
        assert environment.describe()["x64"] is True
