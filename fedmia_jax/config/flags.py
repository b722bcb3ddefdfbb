"""The command line: flags, the config file, fields over it, and what each mistake means to the one who typed it."""

import importlib.util
import math
import pathlib
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from fedmia_jax import errors, registry
from fedmia_jax.config import parsing, schema, sweeps

SWEEP_FLAG = re.compile(r"--?config\.sweep\.([^=]+)=(.*)", re.DOTALL)
FILE_FLAG = re.compile(r"(--?config)=(.*)", re.DOTALL)
MODES = ("run", "report", "benchmark", "prepare", "compile")
ENGINES = ("local", "ray", "distributed")
KEEP = ("all", "results")
MOST_DEVICES = 256  # XLA host devices; each takes threads and memory before anything runs
MOST_MEMORY = 1e6  # GiB


def make_flags(default_config: str) -> flags.FlagValues:
    """Returns the command's flags; `--config.FIELD` come from the config file.

    Args:
      default_config: the file that is read where none is given.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", default_config, "Settings: FILE.py[:ARG].", flag_values=values)
    flags.DEFINE_enum("mode", "run", MODES, "What to do.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where results go. Default: runs/NAME-FINGERPRINT.", flag_values=values)
    flags.DEFINE_string("out", None, "File that prepare (.npz), benchmark or compile (.md) writes.", flag_values=values)
    flags.DEFINE_string(
        "topology", None, "Devices that --mode=compile compiles for: v5e:2x2, h100.", flag_values=values
    )
    _define_engine(values)
    flags.DEFINE_float(
        "memory_gib",
        4.0,
        "Memory for models that are in work at once.",
        lower_bound=0.01,
        upper_bound=MOST_MEMORY,
        flag_values=values,
    )
    flags.DEFINE_list("suites", ["shadows"], "What --mode=benchmark measures.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the plan of a run, and stop.", flag_values=values)
    flags.DEFINE_bool("keep_models", False, "Keep the models of all hand-offs in the workdir.", flag_values=values)
    flags.DEFINE_enum(
        "keep",
        "all",
        KEEP,
        "What stays in the workdir: all that was computed, or what the results are made from.",
        flag_values=values,
    )
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values)
    return values


def _define_engine(values: flags.FlagValues) -> None:
    """Adds the flags of who computes."""
    flags.DEFINE_enum(
        "engine",
        "local",
        ENGINES,
        "Where --mode=run computes: this machine, a Ray cluster, or all processes of a JAX job (TPU slice, Slurm).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "ray_address", None, "Cluster of --engine=ray: auto, HOST:PORT. Default: starts a Ray here.", flag_values=values
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "First process of --engine=distributed: HOST:PORT. Default: found by JAX, as the next two.",
        flag_values=values,
    )
    flags.DEFINE_integer("num_processes", None, "Processes of --engine=distributed.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", lower_bound=0, flag_values=values)
    flags.DEFINE_integer(
        "cpu_devices",
        None,
        "XLA host devices of a process on a CPU. Default: one a core; with --engine=ray 1.",
        lower_bound=1,
        upper_bound=MOST_DEVICES,
        flag_values=values,
    )


def parse(argv: Sequence[str], *, home: pathlib.Path) -> flags.FlagValues:
    """Parses the command line.

    Args:
      argv: the words, the program's name first.
      home: folder of the program, beside which config files are found too.

    Raises:
      InputError: a flag, field, value or config file that cannot be used.
    """
    words = [find_file(word, home) for word in argv]
    pairs = [SWEEP_FLAG.match(word) for word in words]
    plain = [word for word, pair in zip(words, pairs, strict=True) if not pair]
    default = str(home / "configs" / "default.py")
    try:
        admit_foreign(words, default)
        check_field_names(words)
        swept = {pair[1]: sweeps.parse(pair[1], pair[2]) for pair in pairs if pair}
        values = read_flags(plain, default)
        values.config.sweep = swept or values.config.sweep  # a config file that does not load says so only now
    except Exception as error:  # absl and ml_collections raise many kinds
        raise explain(error) from error
    if not math.isfinite(values.memory_gib):
        raise errors.InputError(f"--memory_gib={values.memory_gib}: must be a finite number of GiB")
    check_engine(values)
    return values


def check_engine(values: flags.FlagValues) -> None:
    """Raises where what is asked of an engine is not what it does."""
    if values.ray_address is not None and values.engine != "ray":
        raise errors.InputError(f"--ray_address={values.ray_address}: only --engine=ray has an address; add it")
    job = {name: getattr(values, name) for name in ("coordinator", "num_processes", "process_id")}
    given = {name: value for name, value in job.items() if value is not None}
    for name, value in given.items():
        if values.engine != "distributed":
            raise errors.InputError(f"--{name}={value}: only --engine=distributed has several processes; add it")
    if 0 < len(given) < len(job):
        missing = " and ".join(f"--{name}" for name in job if name not in given)
        raise errors.InputError(f"{missing}: not set, but --{next(iter(given))} is; give all three, or none")
    if given and values.process_id >= values.num_processes:
        raise errors.InputError(
            f"--process_id={values.process_id}: of {values.num_processes} processes; must be less, they begin at 0"
        )
    if values.engine != "local" and values.mode != "run":
        raise errors.InputError(
            f"--engine={values.engine}: only --mode=run computes on a cluster, not --mode={values.mode}"
        )


def find_file(word: str, home: pathlib.Path) -> str:
    """Returns a flag with its config file found beside the program, where it is not in the current folder."""
    given = FILE_FLAG.fullmatch(word)
    if not given:
        return word
    path, colon, arg = given[2].partition(":")
    beside = home / path
    found = beside if not pathlib.Path(path).exists() and beside.exists() else pathlib.Path(path)
    return f"{given[1]}={found}{colon}{arg}"


def read_flags(argv: list[str], default_config: str) -> flags.FlagValues:
    """Reads flags, and fields over those of the config file.

    Raises:
      InputError: a word that is no flag.
    """
    sys.argv = argv  # ml_collections reads it too
    values = make_flags(default_config)
    rest = values(argv)[1:]
    if rest:
        raise errors.InputError(f"{rest[0]}: not a flag; fields are set by --config.FIELD=VALUE")
    return values


def admit_foreign(argv: Sequence[str], default_config: str) -> None:
    """Admits what flags and config file name as `package.module:name`, so that its options are fields too.

    Raises:
      InputError: it cannot be found, or the config file cannot be used.
    """
    for word in argv[1:]:
        pair = re.match(r"--?config\.(?:sweep\.)?([^=]+)=(.*)", word, re.DOTALL)
        if pair:
            schema.admit(pair[1], pair[2])
    files = [given[2] for given in map(FILE_FLAG.fullmatch, argv[1:]) if given]
    sweeps.admit_names(load_file(files[-1] if files else default_config))


def load_file(name: str) -> ml_collections.ConfigDict:
    """Returns what the `get_config` of a config file gives, before any flag.

    Args:
      name: `FILE.py[:ARG]`.

    Raises:
      InputError: no such file, one that raises, or one that gives something else; with file, line and cause.
    """
    text, colon, arg = name.partition(":")
    path = pathlib.Path(text)
    if not path.is_file():
        raise errors.InputError(f"--config={name}: no such file; configs/ beside launch.py has some")
    spec = importlib.util.spec_from_file_location("fedmia_config", path)
    if spec is None or spec.loader is None:
        raise errors.InputError(f"--config={name}: not a Python file; its name must end in .py")
    module: Any = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "get_config", None)):
            raise errors.InputError(f"--config={name}: the file has no function get_config; see configs/default.py")
        config = module.get_config(arg) if colon else module.get_config()
    except errors.InputError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if pathlib.Path(frame.filename).resolve() == path.resolve()]
        line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
        where = "" if line is None else f" line {line}:"
        raise errors.InputError(f"--config={name}:{where} raised {registry.describe(error)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        kind = type(config).__name__
        raise errors.InputError(f"--config={name}: get_config gave a {kind}, not what config.make_config() makes")
    return config


def check_field_names(argv: Sequence[str]) -> None:
    """Raises for a --config.FIELD that no config has."""
    known = schema.fields()
    for word in argv[1:]:
        if re.match(r"--?config\.sweep(=|$)", word):
            raise errors.InputError(
                f"{word}: sweep one field at a time, --config.sweep.FIELD=V1,V2, or in a config file"
            )
        name = re.match(r"--?(?:no)?config\.(?!sweep\.)([^=\[]+)", word)
        if name and not any(field == name[1] or field.startswith(name[1] + ".") for field in known):
            raise errors.InputError(schema.unknown_field(name[1]))


def explain(error: BaseException) -> errors.InputError:
    """Returns what a failed parse means to the one who typed the flags."""
    if isinstance(error, errors.InputError):
        return error
    inner = re.search(r"InputError: (.*)", str(error))  # ml_collections passes on a config file's error as text
    if inner:
        return errors.InputError(inner[1])
    wrong = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error))
    if wrong and wrong[1] in schema.fields():
        return errors.InputError(parsing.wrong_type(wrong[1], wrong[2]))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return errors.InputError(lines[0] if lines else registry.describe(error))
