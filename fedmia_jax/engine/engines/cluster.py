"""Connects to a cluster of Ray, of machines that may come and go; what runs there is in `driver.py` and `worker.py`."""

import contextlib
import importlib.metadata
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from fedmia_jax import compilation, errors
from fedmia_jax.engine.engines import contract, driver

VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to Ray's makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # of a Ray to come, which warns about it
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of chunks beside one that has failed
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # of what Ray would print, all
}
PATIENCE = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # twenty times half a minute else, for a cluster that is no more
SECONDS = 10.0  # for a cluster to answer
PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "gpu": "gpu", "rocm": "gpu"}  # of what JAX_PLATFORMS may say
DEVICES = 1  # of a process: on a CPU unless it is said otherwise, on GPUs always


@contextlib.contextmanager
def start(*, address: str | None, num_cpu_devices: int | None) -> Iterator[contract.Engine]:
    """Connects to a cluster, or starts a Ray on this machine, until the block ends.

    Args:
      address: of the cluster; `auto` for the one that this machine belongs to; None to start a Ray here.
      num_cpu_devices: XLA host devices of each process on a CPU, default 1; on GPUs a process has one.

    Raises:
      InputError: Ray is not installed, or no cluster can be reached.
    """
    try:
        importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError as error:
        raise errors.InputError(
            "--engine=ray: Ray is not installed; pip install '.[cluster]' beside launch.py"
        ) from error
    for name, value in (VARIABLES if address is None else VARIABLES | PATIENCE).items():
        os.environ.setdefault(name, value)  # before Ray is imported, which reads them then
    import ray

    _connect(address)
    try:
        platform = _find_platform(ray.cluster_resources())
        num_devices = num_cpu_devices if num_cpu_devices and platform == "cpu" else DEVICES
        with compilation.using(compilation.Target(platform, _run_here)):
            yield contract.Engine(driver.Driver(platform).compute, num_devices, only_cpu=True)
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    """Makes this process a driver of Ray, which says nothing on the terminal."""
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            _call(address)
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray fails in many ways
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        if address is None:
            raise errors.InputError(f"--engine=ray: Ray cannot be started here ({cause})") from error
        raise errors.InputError(f"--ray_address={address}: no Ray cluster can be reached there ({cause})") from error


def _call(address: str) -> None:
    """Raises OSError or ValueError where nobody answers at HOST:PORT; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if address != "auto" and "://" not in address:
        socket.create_connection((host, int(port)), SECONDS).close()


def _find_platform(resources: dict[str, float]) -> str:
    """What JAX_PLATFORMS says; else GPUs where the cluster has some."""
    asked = os.environ.get("JAX_PLATFORMS", "").partition(",")[0]
    if not asked:
        return "gpu" if resources.get("GPU") else "cpu"
    if asked not in PLATFORMS:
        raise errors.InputError(f"JAX_PLATFORMS={asked}: --engine=ray computes on CPUs (cpu) or GPUs (cuda)")
    return PLATFORMS[asked]


def _run_here(program: Any, args: tuple[Any, ...], static: Any) -> Any:
    """Runs the few programs of planning and of tables in this process, for whatever is planned."""
    return program(*args, **static)
