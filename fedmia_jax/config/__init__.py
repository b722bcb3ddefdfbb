"""Settings: the fields, their values from files and flags, and sweeps over them."""

from fedmia_jax.config.parsing import check_arg, make_config

__all__ = ["check_arg", "make_config"]
