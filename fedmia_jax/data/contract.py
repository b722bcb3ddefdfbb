"""What every data set gives: a reader, and the options that it reads.

A registry holds the factory of each. Labels that a reader does not find, or that are not wanted, are made by k-means
elsewhere, see `dataset.load`.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

from fedmia_jax import options
from fedmia_jax.data import records


@runtime_checkable
class Reader(Protocol):
    """Reads or makes the records of a data set, on the host."""

    def __call__(self, settings: Any, /, *, name: str, seed: int) -> records.RawRecords:
        """Returns features, labels if there are any, and a title.

        Args:
          settings: values of the options that stand beside the reader in its factory.
          name: `data.name`, for titles and messages.
          seed: of records that are made; files are what they are.

        Raises:
          InputError: a file that is missing or cannot be read; one line, see `records.file_error`.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Factory:
    """A data set in a registry.

    Attributes:
      read: `(options, *, name, seed) -> RawRecords`.
      options: the group of options that it reads, declared beside it; see `records.FileOptions` and
        `records.FeatureOptions` for those that several share.
    """

    read: Reader
    options: type = options.NoOptions
