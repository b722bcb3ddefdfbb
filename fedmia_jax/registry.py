"""Things by name: those of a registry, and others from anywhere as `package.module:name`.

The boundary to code that is not ours: what it raises becomes one line that names the field, the name and the place.
"""

import ast
import contextlib
import functools
import importlib
import pathlib
import site
import sys
import sysconfig
import traceback
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from fedmia_jax import errors

ThingT = TypeVar("ThingT")
_named: dict[str, str] = {}  # the field of every foreign thing that was found, by its name


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
    except (Exception, SystemExit) as error:
        raise errors.InputError(f"{field}={name!r}: importing it raised {describe(error)}") from error
    if not isinstance(thing, kind):
        expected = " or ".join(_type_name(each) for each in typing.get_args(kind) or (kind,))
        raise errors.InputError(f"{field}={name!r}: {_type_name(type(thing))}, not {expected}; {choices}")
    _named[name] = field
    return thing


def _type_name(kind: type) -> str:
    """A type as its user imports it, such as `data.contract.Factory`."""
    return f"{kind.__module__.removeprefix('fedmia_jax.')}.{kind.__qualname__}".removeprefix("builtins.")


@contextlib.contextmanager
def calling(name: str, *, field: str) -> Iterator[None]:
    """Turns what foreign code raises inside the block into one line; what registered code raises passes.

    Args:
      name: of the thing that is called.
      field: the config field.

    Raises:
      InputError: the thing is foreign, and it raised something else.
    """
    try:
        yield
    except errors.InputError:
        raise
    except (Exception, SystemExit) as error:
        if ":" not in name:
            raise
        raise errors.InputError(f"{field}={name!r}: it raised {describe(error)}") from error


def blame(error: BaseException) -> errors.InputError | None:
    """Returns the line for an exception that foreign code raised wherever it was called, or None.

    Args:
      error: as it was caught; the innermost frame of a foreign module, or of what that imports beside it, is named.
    """
    owners = {str(path): name for name in _named for path in local_files(name.partition(":")[0])}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = str(pathlib.Path(frame.filename).resolve())
        if path in owners:
            name = owners[path]
            place = f"{frame.filename}:{frame.lineno}"
            return errors.InputError(f"{_named[name]}={name!r}: {place} raised {describe(error)}")
    return None


def describe(error: BaseException) -> str:
    """Returns an exception as one line, with the place of a syntax error or of the last frame."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, SystemExit):
        text = f"exit code {error.code}"
    return f"{type(error).__name__}: {text[:300]}"


def sources(name: str) -> dict[str, str]:
    """Returns the sources that a foreign name stands for, by module file name, and nothing for a registered name.

    The module and all that it imports from beside it, directly or not: installed packages are left out, as are modules
    that are only loaded by names made up at run time. Outcomes depend on them, so that they belong into fingerprints.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute:
        return {}
    return {path.name: path.read_text(errors="replace") for path in sorted(local_files(module_name))}


def local_files(module_name: str) -> set[pathlib.Path]:
    """Returns the file of a loaded module and those of all local modules that it imports, directly or not."""
    paths: set[pathlib.Path] = set()
    waiting = [module_name]
    while waiting:
        module = sys.modules.get(waiting.pop())
        path = _local_path(getattr(module, "__file__", None))
        if path is not None and path not in paths:
            paths.add(path)
            waiting += _imported(path, path.stat().st_mtime_ns, getattr(module, "__package__", None) or "")
    return paths


# Every task of a plan asks what these three say, and mostly of the same few files.
@functools.cache
def _local_path(file: str | None) -> pathlib.Path | None:
    """The file of a module, unless it is built in, installed, or ours."""
    if file is None or not str(file).endswith(".py"):
        return None
    path = pathlib.Path(file).resolve()
    return None if any(path.is_relative_to(folder) for folder in _installed()) else path


@functools.cache
def _installed() -> tuple[pathlib.Path, ...]:
    """Folders of what is installed, and of this package."""
    installed = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    folders = [pathlib.Path(folder) for folder in installed if folder != sysconfig.get_path("data")]
    return (*folders, pathlib.Path(__file__).resolve().parent)


@functools.cache
def _imported(path: pathlib.Path, written: int, package: str) -> tuple[str, ...]:
    """Names of modules that a file may import, absolute ones; as the file was when it was written."""
    del written
    try:
        tree = ast.parse(path.read_text(errors="replace"))
    except SyntaxError:
        return ()
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = ".".join(filter(None, [parent if node.level else "", node.module or ""]))
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(names)
