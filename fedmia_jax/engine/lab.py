"""Where work is done: the folder, the devices, their memory, and what a person sees."""

import contextlib
import dataclasses
import resource
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fedmia_jax import compilation, errors, types
from fedmia_jax.data import dataset as datasets
from fedmia_jax.engine import joining, parallel, programs, progress
from fedmia_jax.storage import workdir as workdirs


@dataclasses.dataclass(frozen=True, eq=False)
class Lab:
    """A place to work.

    Attributes:
      workdir: where outcomes go.
      show: what a person sees.
      devices: that work side by side.
      budget: bytes that models in work may take, on all devices together.
      keep_models: federations leave the models of all hand-offs.
      keep: what of the outcomes stays, see `retention.py`.
      strict: what goes non-finite ends the run, rather than leaving its numbers empty.
      stop: set when work at other chunks has failed.
      bundles: chunks that differ in their number of classes alone train as one; an accelerator takes no longer for it.
      join: `join(trainer)` returns programs that train a chunk beside others of its bundle, see `joining.py`.
      placed: arrays on devices, by fingerprint and device.
      placing: held by who puts one there.
      warned: what a warning was about.
    """

    workdir: workdirs.Workdir
    show: progress.Progress
    devices: tuple[jax.Device, ...] = dataclasses.field(default_factory=lambda: tuple(jax.local_devices()))
    budget: int = 4 * 2**30
    keep_models: bool = False
    keep: str = "all"
    strict: bool = True
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    bundles: bool = dataclasses.field(default_factory=lambda: compilation.platform() != "cpu")
    join: Callable[[programs.Programs], programs.Programs] = joining.alone
    placed: dict[Any, jax.Array] = dataclasses.field(default_factory=dict)
    placing: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    warned: set[str] = dataclasses.field(default_factory=set)

    def records(self, dataset: datasets.Dataset, devices: tuple[jax.Device, ...]) -> types.Records:
        """Returns the records of a data set on some devices, copied there once."""
        mesh = jax.sharding.Mesh(np.array(devices), (parallel.AXIS,))
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

        def put(name: str, array: np.ndarray) -> jax.Array:
            for device in devices:
                with self.placing:
                    if (name, device) not in self.placed:
                        self.placed[name, device] = jax.device_put(array, device)
            single = [self.placed[name, device] for device in devices]
            if len(devices) == 1:
                return single[0]
            return jax.make_array_from_single_device_arrays(array.shape, everywhere, single)

        return types.Records(
            put(dataset.features_fingerprint, dataset.features), put(dataset.fingerprint, dataset.labels)
        )

    def warn(self, text: str, *, about: str | None = None) -> None:
        """Shows a warning, once for each thing that it is about."""
        if (about or text) not in self.warned:
            self.warned.add(about or text)
            self.show.warn(text)

    def fail(self, text: str, *, about: str | None = None) -> None:
        """Ends a strict run, or goes on with a warning.

        Raises:
          InputError: the lab is strict.
        """
        if self.strict:
            raise errors.InputError(text)
        self.warn(text, about=about)

    @contextlib.contextmanager
    def stage(self, title: str, *, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Shows one stage, and logs how long it took."""
        with self.show.stage(title, total=total) as advance:
            yield advance
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # of the process so far
        self.workdir.log(stage=title, seconds=round(self.show.seconds[title], 3), peak_mib=peak)
