"""Devices and precision: which of JAX's settings a run cannot live with, and the precision of its programs."""

import dataclasses

import jax
import pytest

from fedmia_jax import errors
from fedmia_jax.engine import devices, experiment, kinds


@pytest.mark.parametrize(("name", "variable"), devices.REFUSED.items())
def test_settings_that_a_run_cannot_live_with_are_one_line(monkeypatch, name, variable):
    monkeypatch.setenv(variable, "1")
    jax.config.update(name, True)
    try:
        with pytest.raises(errors.InputError, match=f"^{variable}=1: not for this program; unset it$"):
            devices.start(None)
    finally:
        jax.config.update(name, False)


def test_a_platform_without_devices_is_one_line(monkeypatch):
    def fail():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(
        errors.InputError, match=r"^JAX_PLATFORMS=cuda: no such device can be used here \(AssertionError\)"
    ):
        devices.start(None)


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_programs_are_made_with_the_precision_of_the_config(monkeypatch, run_sweep, tmp_path, precision):
    seen = []

    def spy(kind):
        def compute(*args):
            seen.append(jax.config.jax_default_matmul_precision)
            kind.compute(*args)

        return dataclasses.replace(kind, compute=compute)

    monkeypatch.setattr(experiment.kinds, "KINDS", tuple(spy(kind) for kind in kinds.KINDS))
    values = {
        "data": {"name": "toys.reader:TOY", "num_federation": 100, "num_test": 100},
        "model": {"hidden": 4},
        "federation": {"cycles": 0, "local_epochs": 1},
        "shadow": {"count": 2},
        "attack": {"names": ("loss",)},
        "compute": {"precision": precision},
    }
    run_sweep(values, tmp_path / "run")
    assert len(seen) >= 3
    assert set(seen) == {precision}
