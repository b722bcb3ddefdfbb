"""The one door between functions and compiled programs: who runs them, and for which platform they are made.

Everything that is compiled goes through `jit`. A program is run where the process is, unless a `Target` is in use:
then it is handed to the target instead, which may compile it for a machine that is not there.

JAX keeps every compiled program. On a CPU each takes ten or so of the 65,530 memory maps that Linux gives a process,
which is aborted where it asks for more: `make_room` forgets them in time.
"""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax

MAPS = "/proc/self/maps", "/proc/sys/vm/max_map_count"  # where Linux says which there are, and how many there may be
# Options of XLA on a CPU for a program that runs once: less than half the time to compile, several times that to run.
QUICKLY = {"xla_backend_optimization_level": 0}
TreeT = TypeVar("TreeT")
Runner = Callable[[jax.stages.Wrapped, tuple[Any, ...], Mapping[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Target:
    """Another machine that programs are made for.

    Attributes:
      platform: as JAX names it: `cpu`, `gpu`, `tpu`.
      run: `run(program, args, static) -> result`, called in place of the program.
    """

    platform: str
    run: Runner


_target: contextvars.ContextVar[Target | None] = contextvars.ContextVar("target", default=None)


def jit(fn: Callable[..., Any], *, quickly: bool = False, **options: Any) -> Callable[..., Any]:
    """Returns the function compiled, as `jax.jit` does; calls go to the target, where one is in use.

    Args:
      fn: a pure function of arrays.
      quickly: whether this process compiles it with `QUICKLY`; a CPU's only.
      options: of `jax.jit`.
    """
    program = jax.jit(fn, **options)
    here = jax.jit(fn, compiler_options=QUICKLY, **options) if quickly else program

    @functools.wraps(fn)
    def call(*args: Any, **static: Any) -> Any:
        target = _target.get()
        return here(*args, **static) if target is None else target.run(program, args, static)

    return call


def jit_here(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Returns the function compiled for this process, whatever target is in use: for what only moves arrays."""
    return jax.jit(fn, **options)


def put(tree: TreeT, sharding: jax.sharding.Sharding) -> TreeT:
    """Returns arrays where a program is to find them; as they are, where it is made for another machine."""
    return jax.device_put(tree, sharding) if _target.get() is None else tree


def platform() -> str:
    """Returns the platform that programs are made for."""
    target = _target.get()
    return jax.default_backend() if target is None else target.platform


@contextlib.contextmanager
def using(target: Target) -> Iterator[None]:
    """Hands all programs of this thread to a target."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def make_room(most: float = 0.5) -> None:
    """Forgets all compiled programs where they take too many memory maps; what is called again is compiled again.

    Looking takes half a millisecond, and some ten where there are very many.

    Args:
      most: share of the maps that a process may have.
    """
    if _maps_taken() > most:
        jax.clear_caches()


def _maps_taken() -> float:
    """The share of its memory maps that this process has; nothing where there is no such limit."""
    try:
        with open(MAPS[0], "rb") as taken, open(MAPS[1]) as limit:
            return taken.read().count(b"\n") / int(limit.read())
    except OSError:
        return 0.0
