"""Protocols by name: how models travel through a federation. A new one is one file and one line in `PROTOCOLS`."""

from fedmia_jax import registry
from fedmia_jax.protocols import contract, fedavg, sequential

PROTOCOLS: dict[str, contract.Factory] = {"sequential": sequential.SEQUENTIAL, "fedavg": fedavg.FEDAVG}


def find(kind: str) -> contract.Factory:
    """Returns the factory of a protocol by its name here, or by `package.module:name`.

    Raises:
      InputError: no such protocol.
    """
    return registry.find(kind, PROTOCOLS, contract.Factory, field="federation.kind")
