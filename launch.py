"""Simulates a sequential federation, attacks every hand-off, and shows how much it leaks.

    python launch.py                                        the main job, no file needed
    python launch.py --config=configs/default.py:quick      the same, small
    python launch.py --config.federation.nodes=10           any field of the config; a list of them:
    python -m fedmia_jax.config                             every field with default and meaning

Modes: run (default; goes on where an earlier run of the same settings stopped), report (tables and figures of a
finished run once more), prepare (reads or makes the records once and writes them as .npz), benchmark (speed).
"""

import os
import pathlib
import re
import sys
import warnings
from typing import NoReturn

import jax
import platformdirs
import rich.console
from absl import app, flags, logging
from ml_collections import config_flags

from fedmia_jax import benchmark, config, data, errors, experiment, progress, report, store
from fedmia_jax.data import arrays, dataset

_CONFIG = config_flags.DEFINE_config_file("config", "configs/default.py", "Settings: FILE.py[:ARG].")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go. Default: runs/NAME-FINGERPRINT.")
_MODE = flags.DEFINE_enum("mode", "run", ["run", "report", "benchmark", "prepare"], "What to do.")
_OUT = flags.DEFINE_string("out", None, "File that --mode=prepare writes, ending in .npz.")
_DEVICES = flags.DEFINE_integer("cpu_devices", None, "XLA host devices on a CPU. Default: one a core.", lower_bound=1)
_MEMORY = flags.DEFINE_float("memory_gib", 4.0, "Memory for models that are trained at once.", lower_bound=0.01)


def main(argv: list[str]) -> None:
    """Does what the mode says; wrong input ends with one line and exit code 2."""
    try:
        if argv[1:]:
            raise errors.InputError(f"{argv[1]}: not a flag; fields are set by --config.FIELD=VALUE")
        logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which accelerators are absent
        start_jax()
        settings = config.from_config(_CONFIG.value)
        console = rich.console.Console()
        {"run": run, "report": show, "benchmark": measure, "prepare": prepare}[_MODE.value](settings, console)
    except errors.InputError as error:
        fail(error)


def run(settings: config.Settings, console: rich.console.Console) -> None:
    """Runs an experiment and reports it."""
    experiment.check(settings)
    shown = progress.Progress(console)
    with shown.stage(f"records: {settings.data.name}"):
        records = dataset.load(settings.data)
    runs = experiment.prepare_runs(settings, records)
    path = _WORKDIR.value or pathlib.Path("runs") / f"{config_name()}-{store.fingerprint(settings, records)}"
    with store.open_workdir(path, settings, records) as workdir:
        console.print(f"{records.title}\nresults in {workdir.path}", highlight=False, soft_wrap=True)
        context = experiment.make_context(runs, records, workdir, shown, budget=int(_MEMORY.value * 2**30))
        results = experiment.run(context)
        workdir.write_results(results)
        with shown.stage("tables and figures"):
            report.write(workdir, results, title=records.title, console=console)


def show(settings: config.Settings, console: rich.console.Console) -> None:
    """Makes tables and figures of a finished run once more."""
    del settings  # the workdir knows its own
    if _WORKDIR.value is None:
        raise errors.InputError("--workdir is not set: --mode=report needs the folder of a finished run")
    workdir = store.Workdir(pathlib.Path(_WORKDIR.value))
    title = store.read_config(workdir.path)["title"]
    report.write(workdir, workdir.read_results(), title=title, console=console)


def prepare(settings: config.Settings, console: rich.console.Console) -> None:
    """Reads or makes the records and writes them as `.npz`, for `data.name=arrays`."""
    if _OUT.value is None or not _OUT.value.endswith(".npz"):
        raise errors.InputError(f"--out={_OUT.value}: --mode=prepare needs --out=FILE.npz")
    with progress.Progress(console).stage(f"records: {settings.data.name}"):
        raw = data.read(settings.data, seed=settings.data.seed)
    arrays.write(_OUT.value, raw)
    console.print(
        f"{raw.title}\nwritten to {_OUT.value}; use it by\n"
        f"python launch.py --config.data.name=arrays --config.data.path={_OUT.value}",
        highlight=False,
        soft_wrap=True,
    )


def measure(settings: config.Settings, console: rich.console.Console) -> None:
    """Measures training speed."""
    console.print(benchmark.run(settings, console).to_rich())


def start_jax() -> None:
    """One XLA host device a core, and compiled programs kept in the user's cache folder."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", _DEVICES.value or len(os.sched_getaffinity(0)))
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") is None:
        cache = pathlib.Path(platformdirs.user_cache_dir("fedmia_jax")) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def config_name() -> str:
    """Name and argument of the config file, for the default workdir."""
    path, _, arg = flags.FLAGS["config"].config_filename.partition(":")  # type: ignore[attr-defined]
    return "-".join(filter(None, [pathlib.Path(path).stem, arg]))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; a wrong one ends with one line and exit code 2."""
    try:
        check_field_names(argv)
        return flags.FLAGS(argv)
    except errors.InputError as error:
        fail(error)
    except Exception as error:  # absl and ml_collections raise many kinds
        fail(explain(error))


def check_field_names(argv: list[str]) -> None:
    """Raises for a --config.FIELD that no config has."""
    known = config.fields()
    for arg in argv[1:]:
        name = re.match(r"--?(?:no)?config\.([^=\[]+)", arg)
        if name and not any(field == name[1] or field.startswith(name[1] + ".") for field in known):
            raise errors.InputError(config.unknown_field(name[1]))


def explain(error: BaseException) -> errors.InputError:
    """What a failed parse means to the one who typed the flags."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, errors.InputError):
            return cause
        cause = cause.__cause__ or cause.__context__
    wrong = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error))
    if wrong and wrong[1] in config.fields():
        return errors.InputError(config.wrong_type(wrong[1], wrong[2]))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return errors.InputError(lines[-1] if "Error" in str(error) and len(lines) > 1 else lines[0])


def fail(error: errors.InputError) -> NoReturn:
    """Ends with the error's line and exit code 2."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    app.run(main, flags_parser=parse_flags)
