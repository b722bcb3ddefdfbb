"""The checker of signatures in tests: an integer will do where a float is asked for, as everywhere in Python."""

import functools
from collections.abc import Callable
from typing import Any

import beartype

check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def typechecker(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Checks a function's arguments and result; made at its first call, since most that factories build have none."""
    made = functools.cache(lambda: check(fn))

    @functools.wraps(fn)
    def call(*args: Any, **named: Any) -> Any:
        return made()(*args, **named)

    return call
