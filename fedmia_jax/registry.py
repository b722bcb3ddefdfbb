"""Things by name: those of a registry, and others from anywhere as `package.module:name`."""

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from fedmia_jax import errors

ThingT = TypeVar("ThingT")


def find(name: str, known: Mapping[str, ThingT], kind: type[ThingT] | types.UnionType, *, field: str) -> ThingT:
    """Returns what a name stands for.

    Args:
      name: a name in `known`, or `package.module:name` of an object that can be imported.
      known: the registry.
      kind: type that the object must have, or a union of such.
      field: the config field, for the message.

    Raises:
      InputError: an unknown name, an import that fails, or an object of another kind.
    """
    if name in known:
        return known[name]
    choices = f"must be one of {', '.join(known)}, or package.module:name"
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise errors.InputError(f"{field}={name!r}: {choices}")
    try:
        thing: Any = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise errors.InputError(f"{field}={name!r}: {error}; {choices}") from error
    if not isinstance(thing, kind):
        expected = " or ".join(each.__name__ for each in typing.get_args(kind) or (kind,))
        raise errors.InputError(f"{field}={name!r}: is a {type(thing).__name__}, not a {expected}; {choices}")
    return thing


def source(name: str) -> str:
    """Returns the source of the module that a foreign name stands in, and nothing for a registered name.

    Outcomes depend on it, so that it belongs into their fingerprints.
    """
    module_name, _, attribute = name.partition(":")
    return inspect.getsource(sys.modules[module_name]) if attribute else ""
