"""Data sets: readers by name. A new one is one file and one line in `READERS`."""

from typing import Protocol

from fedmia_jax import config, errors
from fedmia_jax.data import arrays, items, labelled, records, synthetic, transactions


class Reader(Protocol):
    """What a data set is: a function of the data settings and a seed."""

    def __call__(self, settings: config.Data, *, seed: int) -> records.RawRecords: ...


READERS: dict[str, Reader] = {
    "synthetic": synthetic.read,
    "purchases": labelled.read_purchases,
    "transactions": transactions.read,
    "orders": items.read_orders,
    "baskets": items.read_baskets,
    "location": labelled.read_location,
    "arrays": arrays.read,
}


def read(settings: config.Data, *, seed: int) -> records.RawRecords:
    """Reads or makes the records that the settings name.

    The reader is looked up by `settings.name`. Labels that are missing or unwanted are not made here: that is
    clustering, which needs more than one reader's knowledge.

    Args:
      settings: which records, and how many features of them.
      seed: of records that are made; files are what they are.

    Returns:
      Features, labels if there are any, and a title.

    Raises:
      InputError: no such reader, `data.path` unset or missing, or a file that cannot be read; one line.
    """
    if settings.name not in READERS:
        raise errors.InputError(f"data.name={settings.name}: one of {', '.join(READERS)} expected")
    return READERS[settings.name](settings, seed=seed)
