"""How long a process takes to start: libraries, and the first program with and without one that was kept."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable

import jax

from fedmia_jax.config import parsing
from fedmia_jax.engine import devices
from fedmia_jax.engine.benchmarks import records, shadows, timing
from fedmia_jax.engine.plans import points

IMPORT = "from fedmia_jax.engine import experiment"
TRAIN = "from fedmia_jax.engine.benchmarks import startup; startup.train_once()"
FOLDER = "JAX_COMPILATION_CACHE_DIR"


def make_suites(plans: points.Plans) -> list[timing.Suite]:
    """Returns a case for the libraries, and for a program that is compiled or found."""
    del plans
    cases = [
        timing.Case("libraries", functools.partial(make_process, IMPORT), 1),
        timing.Case("first epoch, compiled", functools.partial(make_process, TRAIN), 1),
        timing.Case("first epoch, program kept", functools.partial(make_process, TRAIN, kept=True), 1),
    ]
    return [timing.Suite("startup", cases, 0)]


def make_process(code: str, *, kept: bool = False) -> Callable[[], object]:
    """Returns a call that runs Python code in a process of its own.

    Args:
      code: what it runs.
      kept: programs that one call has compiled are there for the next.
    """
    folder = tempfile.mkdtemp()

    def call() -> None:
        own = folder if kept else tempfile.mkdtemp(dir=folder)
        subprocess.run([sys.executable, "-c", code], env=os.environ | {FOLDER: own}, check=True)

    weakref.finalize(call, shutil.rmtree, folder, ignore_errors=True)
    return call


def train_once() -> None:
    """Trains ten models for an epoch, as a run of the default config would."""
    devices.start(None)
    plans = points.Plans(parsing.from_config({}))
    train = shadows.make_training(
        plans,
        records.make(plans),
        batch_size=plans.training.batch_size,
        num_models=plans.settings.get("shadow.count"),
        devices=tuple(jax.devices()),
    )
    jax.block_until_ready(train(1))
