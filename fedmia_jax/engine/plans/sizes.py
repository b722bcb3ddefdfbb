"""Whether what settings ask for can be held at all: refused in one line, before anything is drawn."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedmia_jax import errors
from fedmia_jax.config import schema
from fedmia_jax.engine import chunks

MOST_BYTES = 2 * 2**30  # of what a replicate draws on the host
MOST_MODELS = 1_000_000  # that a command plans


def check(settings: schema.Settings) -> None:
    """Checks that the schedule and the rows of shadows and references of one replicate fit the host.

    Raises:
      InputError: they do not; names the fields.
    """
    get = settings.get
    nodes, cycles = get("federation.nodes"), get("federation.cycles")
    shadows, references = get("shadow.count"), get("shadow.federations")
    trained = get("shadow.num_train") or get("data.num_federation")
    audited = get("data.num_federation") + get("data.num_test")
    schedules, drawing = 1, ["federation.nodes", "federation.cycles"]
    if not get("federation.order_shared"):
        schedules, drawing = get("replicates") + references, [*drawing, "replicates", "shadow.federations"]
    _check_bytes(settings, drawing, schedules * cycles * nodes * (nodes + 32))
    _check_bytes(settings, ("shadow.count", "shadow.num_train"), 4 * shadows * (trained + (get("shadow.num_out") or 1)))
    _check_bytes(settings, ("shadow.federations", "data.num_federation", "data.num_test"), 9 * references * audited)


def _check_bytes(settings: schema.Settings, names: Sequence[str], nbytes: int) -> None:
    """Raises where some fields together ask for more than the host may hold."""
    if nbytes > MOST_BYTES:
        values = ", ".join(f"{name}={settings.get(name)}" for name in names)
        raise errors.InputError(
            f"{values}: takes {_gib(nbytes)} of memory, at most {_gib(MOST_BYTES)} can be; use less"
        )


def check_count(every: Iterable[schema.Settings]) -> None:
    """Checks that the points of a sweep and their replicates are not more than can be planned.

    Raises:
      InputError: more than `MOST_MODELS` models.
    """
    models = 0
    for settings in every:
        each = 2 + settings.get("shadow.count") + settings.get("shadow.federations")
        models += settings.get("replicates") * each
        if models > MOST_MODELS:
            raise errors.InputError(
                f"replicates={settings.get('replicates')}, shadow.count={settings.get('shadow.count')}, "
                f"shadow.federations={settings.get('shadow.federations')}: with the sweep, more than {MOST_MODELS:,} "
                "models; use fewer, or several commands"
            )


def check_units(units: Mapping[str, Sequence[chunks.Unit]], *, budget: int) -> None:
    """Checks that the smallest pieces of work fit the memory for models.

    Args:
      units: by the name of their stage.
      budget: bytes.

    Raises:
      InputError: one does not.
    """
    for stage, of_stage in units.items():
        needed = max((unit.nbytes + unit.fixed_nbytes for unit in of_stage), default=0)
        if needed > budget:
            raise errors.InputError(
                f"--memory_gib={budget / 2**30:.3g}: {stage} needs {_gib(needed)} at once; give more, or use a smaller "
                "model.hidden, training.batch_size or attack.batch_size, or fewer records"
            )


def _gib(nbytes: Any) -> str:
    """A size, in words."""
    return f"{nbytes / 2**30:,.3g} GiB"
