"""Networks of dense layers: what each layer was given, and whether there is nothing else."""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util

from fedmia_jax import types

Path = tuple[str, ...]  # of a layer in the parameters


def make_tapped(apply_fn: types.ApplyFn) -> Callable[..., tuple[jax.Array, dict[Path, list[jax.Array]]]]:
    """Lays the dense layers of a network open.

    Args:
      apply_fn: the network, see `networks.make_apply`.

    Returns:
      `tapped(params, features, shifts, **training) -> (logits, inputs)`: the same network, with `shifts[path]`
      f32[B, outputs] added to what a dense layer answers, and what every dense layer was given, f32[B, inputs] each
      time that it was called, by its path in the parameters.
    """

    def tapped(
        params: types.Params, features: jax.Array, shifts: Mapping[Path, jax.Array], **training: Any
    ) -> tuple[jax.Array, dict[Path, list[jax.Array]]]:
        inputs: dict[Path, list[jax.Array]] = {}

        def tap(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            answer = call(*args, **kwargs)
            if type(context.module) is nn.Dense and context.method_name == "__call__":
                path = context.module.path
                inputs.setdefault(path, []).append(args[0])
                answer = answer + shifts[path] if path in shifts else answer
            return answer

        with nn.intercept_methods(tap):
            return apply_fn(params, features, **training), inputs

    return tapped


def find_layers(
    apply_fn: types.ApplyFn, params: types.Params, features: jax.Array
) -> dict[Path, tuple[int, int]] | None:
    """Looks whether a network in training is nothing but dense layers, each used once on a row of every record.

    Args:
      apply_fn: the network, see `networks.make_apply`; nothing is computed.
      params: its parameters.
      features: of B records.

    Returns:
      The shapes of what its dense layers answer, [B, outputs], by their path in the parameters; None for any other
      network, also for one that reads a parameter elsewhere too.
    """
    training = {"dropout_rate": 0.5, "key": jax.random.key(0, impl="threefry2x32")}
    traced = jax.make_jaxpr(lambda params: apply_fn(params, features, **training))(params).jaxpr
    uses = collections.Counter(id(var) for equation in traced.eqns for var in equation.invars)
    if any(uses[id(var)] != 1 for var in traced.invars):
        return None
    _, inputs = jax.eval_shape(lambda params: make_tapped(apply_fn)(params, features, {}, **training), params)
    flat, size = traverse_util.flatten_dict(params), features.shape[0]
    if {path[:-1] for path in flat} != set(inputs) or {path[-1] for path in flat} - {"kernel", "bias"}:
        return None
    kernels = {path: flat[*path, "kernel"].shape for path in inputs}
    if any([x.shape for x in inputs[path]] != [(size, kernel[0])] for path, kernel in kernels.items()):
        return None
    return {path: (size, kernel[1]) for path, kernel in kernels.items()}
