"""The environment of a run: devices, and what of JAX's own settings a run can live with."""

import os
import pathlib

import jax
import platformdirs

from fedmia_jax import errors

REFUSED = {  # settings that turn what is handled here into an exception, or another result
    "jax_debug_nans": "JAX_DEBUG_NANS",
    "jax_debug_infs": "JAX_DEBUG_INFS",
    "jax_disable_jit": "JAX_DISABLE_JIT",
}

KEPT_SECONDS = 0.1  # of compiling; a program that took longer is kept. JAX would keep those that take a second


def start(num_cpu_devices: int | None, *, only_cpu: bool = False, remember: bool = True) -> None:
    """Makes one XLA host device a core, keeps compiled programs in the user's cache folder, and looks for devices.

    Args:
      num_cpu_devices: XLA host devices on a CPU; None for one a core.
      only_cpu: no other device is looked for.
      remember: compiled programs are kept.

    Raises:
      InputError: no usable device, or a setting of JAX that a run cannot live with.
    """
    for name, variable in REFUSED.items():
        if jax.config.values.get(name):
            raise errors.InputError(f"{variable}={os.environ.get(variable)}: not for this program; unset it")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", num_cpu_devices or len(os.sched_getaffinity(0)))
    if only_cpu:
        jax.config.update("jax_platforms", "cpu")
    if not remember:
        jax.config.update("jax_enable_compilation_cache", False)
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") is None:
        cache = pathlib.Path(platformdirs.user_cache_dir("fedmia_jax")) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS") is None:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", KEPT_SECONDS)
    try:
        jax.devices()
    except Exception as error:  # backends fail in ways of their own, AssertionError among them
        wanted = os.environ.get("JAX_PLATFORMS")
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise errors.InputError(
            f"JAX_PLATFORMS={wanted}: no such device can be used here ({cause}); unset it, or install its jax extra"
        ) from error
