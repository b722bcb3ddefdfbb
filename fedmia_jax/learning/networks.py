"""The networks that travel: flax modules behind `(init, apply)`.

A new network is a flax module, see `Network`; name it in `NETWORKS`, or give `model.name` as `package.module:Class` and
leave this file alone.

A module may also have a method `split() -> Split`, its network cut behind a dense first layer; then plain descent on
single records takes about a third of the time. And it may have a method `draw(num_records, dropout_rate)`, all that it
draws for a minibatch in training; then `__call__` is given that as `drawn`, and whole epochs are drawn at once. And a
method `answer_bias() -> tuple[str, ...]`, see `answer_bias`; then models of different numbers of classes train side by
side on an accelerator.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fedmia_jax import errors, options, randomness, registry, types

DrawFn = Callable[[jax.Array, int, Any], Any]  # (key, B, dropout_rate) -> what stands for the key, see `make_draw`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The network that travels."""

    name: str = options.option("mlp", "network, a name in networks.NETWORKS or package.module:Class of your own")
    hidden: int = options.option(128, "hidden units", low=1)
    dropout_rate: float = options.option(
        0.5, "share of hidden units dropped in training", low=0.0, high=0.99, traced=True
    )


class Drawn(NamedTuple):
    """What a network has drawn for a minibatch, in place of the key; see `make_draw`."""

    value: Any


class Network(Protocol):
    """What a class in the registry must be: a flax module made by `(num_classes=K, hidden=H)`."""

    num_classes: int
    hidden: int

    def __call__(self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False) -> jax.Array:
        """Maps features f32[B, D] to logits f32[B, K]; in training units are dropped at the traced rate."""
        ...


def dropout(key: jax.Array, units: Float[Array, "*units"], *, rate: types.Scalar) -> Float[Array, "*units"]:
    """Zeroes each unit with probability `rate` and rescales the others; `rate` may be traced (flax's may not).

    Args:
      key: typed threefry key, jax's default kind.
      units: f32[B, H].
      rate: f32[] in [0, 1), realised to the nearest 2**-16.

    Returns:
      f32[B, H] with the same mean as `units`.
    """
    return drop(units, randomness.draw_events(key, units.shape, rate), rate=rate)


def drop(
    units: Float[Array, "*units"], dropped: Bool[Array, "*units"], *, rate: types.Scalar
) -> Float[Array, "*units"]:
    """Zeroes the units that were drawn at a rate, and rescales the others."""
    return jnp.where(dropped, 0.0, units / (1.0 - rate))


@dataclasses.dataclass(frozen=True)
class Split:
    """One network in training as a dense first layer and the rest, for one record; see `make_split`.

    `rest(others, features @ kernel + bias, draw(key, dropout_rate))` is what the module answers in training, with
    `kernel` and `bias` the parameters named `first` and `others` all other ones. The module's own draws of the same
    key may differ from these.
    """

    first: str  # name in params of the first layer: {"kernel": f32[D, H], "bias": f32[H]}
    draw: Callable[[jax.Array, jax.Array], Any]  # (key, dropout_rate f32[]) -> all that a step draws, any pytree
    rest: Callable[[types.Params, jax.Array, Any], jax.Array]  # (others, f32[H], what was drawn) -> logits f32[K]


class Mlp(nn.Module):
    """The paper's network: one hidden tanh layer, dropout, softmax (applied by the loss).

    Source: Pustozerova and Mayer (2020), section III. Departure: none; the initialisation that the paper leaves
    open is Glorot uniform with zero biases.
    """

    num_classes: int
    hidden: int = 128

    @nn.compact
    def __call__(
        self, features: jax.Array, *, dropout_rate: Any = 0.0, train: bool = False, drawn: jax.Array | None = None
    ) -> jax.Array:
        """Maps f32[B, D] to logits f32[B, K]."""
        units = jnp.tanh(nn.Dense(self.hidden, kernel_init=nn.initializers.glorot_uniform())(features))
        if train:
            dropped = self.draw(units.shape[0], dropout_rate) if drawn is None else drawn
            units = drop(units, dropped, rate=dropout_rate)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.glorot_uniform())(units)

    def draw(self, num_records: int, dropout_rate: Any) -> jax.Array:
        """The hidden units that a step drops, bool[B, H]."""
        return randomness.draw_events(self.make_rng("dropout"), (num_records, self.hidden), dropout_rate)

    @nn.nowrap
    def answer_bias(self) -> tuple[str, ...]:
        """The bias of the last layer; each answer has a column of it to itself."""
        return "Dense_1", "bias"

    @nn.nowrap
    def split(self) -> Split:
        """The same network behind its first layer; what is drawn is the factor of each hidden unit."""

        def draw(key: jax.Array, rate: jax.Array) -> jax.Array:
            return dropout(key, jnp.ones(self.hidden), rate=rate)

        def rest(others: types.Params, units: jax.Array, factors: jax.Array) -> jax.Array:
            last = others["Dense_1"]
            return (jnp.tanh(units) * factors) @ last["kernel"] + last["bias"]

        return Split("Dense_0", draw, rest)


NETWORKS: dict[str, type] = {"mlp": Mlp}


def make_network(settings: Options, *, num_classes: int) -> nn.Module:
    """Returns the flax module that the options name.

    Args:
      settings: name and hidden units.
      num_classes: K.

    Raises:
      InputError: the name is neither in `NETWORKS` nor an importable flax module class `package.module:Class`.
    """
    network = registry.find(settings.name, NETWORKS, type, field="model.name")
    if not issubclass(network, nn.Module):
        raise errors.InputError(
            f"model.name={settings.name!r}: not a flax module class; must be one of {', '.join(NETWORKS)}, or "
            "package.module:Class"
        )
    with registry.calling(settings.name, field="model.name"):
        return network(num_classes=num_classes, hidden=settings.hidden)


@functools.cache
def check(settings: Options, module: nn.Module, *, num_features: int) -> None:
    """Checks once, before anything is trained, that a network answers as training and attacks expect.

    Args:
      settings: its name.
      module: the network.
      num_features: D.

    Raises:
      InputError: no parameters, or parameters that are not f32; other state than parameters; logits that are not
        f32[B, K]; an answer that is no number before any training, or another one with what it draws beforehand.
    """

    def refuse(problem: str) -> errors.InputError:
        return errors.InputError(f"model.name={settings.name!r}: {problem}")

    key, features = jax.random.key(0, impl="threefry2x32"), jnp.zeros((2, num_features), jnp.float32)
    with registry.calling(settings.name, field="model.name"):
        state = jax.eval_shape(module.init, key, features)
        if set(state) != {"params"}:
            raise refuse(
                f"keeps {', '.join(sorted(set(state) - {'params'})) or 'no parameters'}; only params can travel"
            )
        kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(state)}
        if kinds != {"float32"}:
            raise refuse(f"parameters of {', '.join(sorted(kinds)) or 'no kind'}; float32 expected")
        apply_fn, expected = make_apply(module), f"float32[2, {module.num_classes}]"
        rate = jnp.float32(0.5)
        ways = (lambda: None, lambda: key, lambda: make_draw(module)(key, features.shape[0], rate))

        def answer_to(params: types.Params, features: jax.Array, way: Callable[[], Any]) -> jax.Array:
            return apply_fn(params, features, dropout_rate=rate, key=way())

        for way in ways:
            answer = jax.eval_shape(functools.partial(answer_to, way=way), state["params"], features)
            if f"{answer.dtype}{list(answer.shape)}" != expected:
                shape = f"{answer.dtype}{list(answer.shape)}"
                raise refuse(f"answers {shape} to two records, {expected} expected")
        if ":" in settings.name:  # those of the package are tested
            params = module.init(key, features)["params"]
            if not bool(jnp.isfinite(apply_fn(params, features)).all()):
                raise refuse("answers NaN or infinity before any training")
            if problem := _check_bias(module, params, features + 1.0, key):
                raise refuse(problem)
        if ":" in settings.name and _says(module, "draw"):
            by_key, by_draw = (answer_to(params, features + 1.0, way) for way in ways[1:])
            if not bool(jnp.allclose(by_key, by_draw, rtol=1e-3, atol=1e-5, equal_nan=True)):
                raise refuse("answers something else with what its method draw has drawn than with the key of that")


def _check_bias(module: nn.Module, params: types.Params, features: jax.Array, key: jax.Array) -> str | None:
    """Says what is wrong with what a module says of the bias of its answers, None where it is right."""
    path = answer_bias(module)
    if path is None:
        return None
    num_classes: int = module.num_classes
    bias = functools.reduce(lambda tree, name: tree.get(name, {}) if isinstance(tree, dict) else {}, path, params)
    if getattr(bias, "shape", None) != (num_classes,):
        return f"says by answer_bias that f32[{num_classes}] lies at {'/'.join(path)}, where it does not"
    wider = module.clone(num_classes=num_classes + 1)
    wanted = jax.eval_shape(wider.init, key, features)["params"]
    filled = jax.tree.map(
        lambda leaf, more: jnp.pad(leaf, [(0, most - size) for size, most in zip(leaf.shape, more.shape, strict=True)]),
        params,
        wanted,
    )
    rate = jnp.float32(0.5)
    few = make_apply(module)(params, features, dropout_rate=rate, key=key)
    many = make_apply(wider)(filled, features, dropout_rate=rate, key=key)[:, :num_classes]
    if not bool(jnp.allclose(few, many, rtol=1e-3, atol=1e-5)):
        return "has a method answer_bias, and answers something else where there is a class more"
    return None


def make_apply(module: nn.Module) -> types.ApplyFn:
    """Returns `apply(params, features, *, dropout_rate=None, key=None) -> logits`.

    A key means training; it may be what stands for it, see `make_draw`.
    """

    def apply(params: types.Params, features: jax.Array, *, dropout_rate: Any = 0.0, key: Any = None) -> jax.Array:
        features = features.astype(jnp.float32)  # bits are stored as uint8
        if key is None:
            training = {}
        elif isinstance(key, Drawn):
            training = {"dropout_rate": dropout_rate, "train": True, "drawn": key.value}
        else:
            training = {"dropout_rate": dropout_rate, "train": True, "rngs": {"dropout": key}}
        logits = module.apply({"params": params}, features, **training)
        assert isinstance(logits, jax.Array)  # nothing is mutable, so there is no second result
        return logits

    return apply


def keep_key(key: jax.Array, num_records: int, dropout_rate: Any) -> jax.Array:
    """Draws nothing before the network is called."""
    del num_records, dropout_rate
    return key


def make_draw(module: nn.Module) -> DrawFn:
    """Returns `draw(key, num_records, dropout_rate)`, all that a network in training draws for a minibatch.

    It is what the network would draw itself with that key, and stands for the key in `apply`; the key itself, where
    the module does not say what it draws.
    """
    if not _says(module, "draw"):
        return keep_key

    def draw(key: jax.Array, num_records: int, dropout_rate: Any) -> Drawn:
        return Drawn(module.apply({}, num_records, dropout_rate, method="draw", rngs={"dropout": key}))

    return draw


def make_split(module: nn.Module) -> Split | None:
    """Returns the network behind its first layer, or None where the module does not say."""
    return module.split() if _says(module, "split") else None


def answer_bias(module: nn.Module) -> tuple[str, ...] | None:
    """Returns where in the parameters a bias f32[K] lies that is added to the answers; None where no module says so.

    A module that says it promises that more classes change nothing of the first ones' answers where the parameters are
    the same: those for more classes are those for fewer with more entries behind them along some axes, and these act
    on the additional answers alone.
    """
    return module.answer_bias() if _says(module, "answer_bias") else None


def _says(module: nn.Module, name: str) -> bool:
    """Whether a module has a method that is about its own network.

    A class that overrides `__call__` must say so itself: what it inherits belongs to another network.
    """
    owner = next(kind for kind in type(module).__mro__ if "__call__" in vars(kind))
    return name in vars(owner)


def make_init(module: nn.Module, *, num_features: int) -> Callable[[jax.Array], types.Params]:
    """Returns `init(key) -> params`."""

    def init(key: jax.Array) -> types.Params:
        return module.init(key, jnp.zeros((1, num_features), jnp.float32))["params"]

    return init
