"""Engines by name: one line each."""

import contextlib
from collections.abc import Callable

from fedmia_jax.engine.engines import cluster, contract, hosts, local

Start = Callable[..., contextlib.AbstractContextManager[contract.Engine]]
ENGINES: dict[str, Start] = {
    "local": local.start,
    "ray": cluster.start,
    "distributed": hosts.start,
}


def start(
    name: str, *, address: str | None, num_cpu_devices: int | None, **processes: int
) -> contextlib.AbstractContextManager[contract.Engine]:
    """Returns a block in which an engine runs, before this process has looked for its devices.

    Args:
      name: one of `ENGINES`.
      address: of what is running already, for engines that have something to run.
      num_cpu_devices: XLA host devices of each process that computes on a CPU; None for the engine's default.
      processes: `num_processes` and `process_id` for `distributed`, where JAX does not find them.

    Raises:
      InputError: it cannot be used here, or nothing runs at the address.
    """
    return ENGINES[name](address=address, num_cpu_devices=num_cpu_devices, **processes)
