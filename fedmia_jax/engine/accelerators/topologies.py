"""Accelerators that are not there: their devices, for the compilers that know them, and what they have.

A TPU's compiler comes with the `libtpu` wheel, a GPU's with JAX's CUDA wheels; neither needs a device.
"""

import dataclasses
import os
import re

import jax
from jax.experimental import topologies

from fedmia_jax import errors

GIB = 2**30
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } device_description_str: "NVIDIA H100 80GB HBM3"
"""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of accelerator.

    Attributes:
      nbytes: memory of a device.
      clock: cycles a second that a compiler's estimates are of; 0 where it estimates none.
      bandwidth: bytes a second between a device and its memory.
    """

    nbytes: int
    clock: float
    bandwidth: float


# Memory and bandwidth as published; the clock is peak bfloat16 operations over those of a cycle.
TPUS = {
    "v4": Kind(32 * GIB, 1.05e9, 1.2e12),
    "v5e": Kind(16 * GIB, 1.5e9, 8.2e11),
    "v5p": Kind(95 * GIB, 1.75e9, 2.77e12),
    "v6e": Kind(32 * GIB, 1.75e9, 1.64e12),
}
NO_MACHINE = {
    # What libtpu would otherwise ask its machine for, and complain of where there is none.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no device is taken, so processes are not in each other's way
}
GPUS = {"h100": (Kind(84_942_979_072, 0.0, 3.35e12), "NVIDIA H100 80GB HBM3", H100)}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Some devices of one kind.

    Attributes:
      name: as it was asked for.
      kind: what each of them has.
      devices: of which programs can be made, and on which none can run.
    """

    name: str
    kind: Kind
    devices: tuple[jax.Device, ...]


def find(name: str) -> Topology:
    """Returns a topology by its name.

    Args:
      name: `KIND:SHAPE` of a TPU slice such as `v5e:2x2`, or `h100`.

    Raises:
      InputError: no such topology, or its compiler is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind in GPUS and not shape:
        found, platform_name, config = GPUS[kind]
        made = _describe(name, "cuda", platform_name, topology="1x1x1", target_config=config)
    elif kind in TPUS and re.fullmatch(r"\d+(x\d+){1,2}", shape):
        found = TPUS[kind]
        os.environ.update({name: os.environ.get(name, value) for name, value in NO_MACHINE.items()})
        made = _describe(name, "tpu", name)
    else:
        known = ", ".join([*(f"{tpu}:2x2" if tpu in ("v5e", "v6e") else f"{tpu}:2x2x1" for tpu in TPUS), *GPUS])
        raise errors.InputError(f"--topology={name}: not known; name one such as {known}")
    return Topology(name, found, tuple(made.devices))


def _describe(name: str, platform: str, topology_name: str, **options: str) -> topologies.TopologyDescription:
    """What a compiler knows of a topology."""
    wheel = {"tpu": "libtpu", "cuda": "jax-cuda12-plugin"}[platform]
    try:
        return topologies.get_topology_desc(platform=platform, topology_name=topology_name, **options)
    except Exception as error:  # compilers fail in ways of their own
        cause = " ".join(str(error).split())[:200]
        raise errors.InputError(
            f"--topology={name}: its compiler cannot be used ({cause}); install {wheel} as docs/accelerators.md says, "
            "or name another shape"
        ) from error
