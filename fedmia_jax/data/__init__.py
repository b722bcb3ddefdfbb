"""Data sets by name: readers of records. A new one is one file and one line in `READERS`."""

from typing import Any

from fedmia_jax import errors, registry
from fedmia_jax.data import arrays, contract, items, labelled, records, synthetic, transactions

READERS: dict[str, contract.Factory] = {
    "synthetic": synthetic.SYNTHETIC,
    "purchases": labelled.PURCHASES,
    "transactions": transactions.TRANSACTIONS,
    "orders": items.ORDERS,
    "baskets": items.BASKETS,
    "location": labelled.LOCATION,
    "arrays": arrays.ARRAYS,
}


def find(name: str) -> contract.Factory:
    """Returns the factory of a data set by its name here, or by `package.module:name`.

    Raises:
      InputError: no such data set.
    """
    return registry.find(name, READERS, contract.Factory, field="data.name")


def read(name: str, settings: Any, *, seed: int) -> records.RawRecords:
    """Reads or makes the records of the data set of that name.

    Labels that are missing or unwanted are not made here: that is clustering, which needs more than one reader's
    knowledge.

    Args:
      name: name in `READERS`, or `package.module:name`.
      settings: values of the options that the factory of that name declares.
      seed: of records that are made; files are what they are.

    Returns:
      Features, labels if there are any, and a title.

    Raises:
      InputError: no such data set, `data.path` unset or missing, or a file that cannot be read; one line.
    """
    try:
        with registry.calling(name, field="data.name"):
            raw = find(name).read(settings, name=name, seed=seed)
            if ":" in name:  # those of the package are tested
                records.check_foreign(raw)
            return raw
    except MemoryError:
        problem = "its records need more memory than is left; give a smaller file, or fewer records or features"
        raise errors.InputError(f"data.name={name}: {problem}") from None
