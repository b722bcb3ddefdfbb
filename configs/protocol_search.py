"""Which of the settings that the paper leaves open come nearest to its tables, on substitute records.

    python launch.py --config=configs/protocol_search.py:coarse   # Table I, many protocols
    python launch.py --config=configs/protocol_search.py:fine     # Tables I and II, the best of those
    python launch.py --config=configs/protocol_search.py:shadows  # kind and epochs of the shadows, for the best

`coarse` trains centralised targets and shadows only: optimizer and batch size x dropout x epochs of the centralised
run, for 10 and 100 classes. `fine` runs the best through federations of 3 and 15 nodes with 100 local epochs. The
report ranks protocols by the mean absolute difference from the paper. It is a fit on substitute data, not a finding
about the paper's.
"""

import itertools
from typing import Any

import ml_collections

from fedmia_jax import config as configs

COARSE = tuple(itertools.product((("adam", 32), ("adam", 128), ("sgd", 1)), (0.0, 0.25, 0.5, 0.75), (25, 50, 100, 200)))
FINE: tuple[Any, ...] = (
    (("sgd", 1), 0.75, 100),
    (("adam", 128), 0.5, 25),
    (("adam", 128), 0.75, 100),
    (("adam", 32), 0.75, 50),
    (("adam", 128), 0.75, 50),
    (("adam", 32), 0.75, 25),
    (("sgd", 1), 0.75, 200),
    (("sgd", 1), 0.75, 50),
)
SHADOWS = (("centralised", None), ("centralised", 50), ("centralised", 100), ("federated", None))


def get_config(arg: str = "coarse") -> ml_collections.ConfigDict:
    """Returns the sweep; `arg` is `coarse`, `fine` or `shadows`."""
    config = configs.make_config()
    configs.check_arg(arg, known=("", "coarse", "fine", "shadows"))
    config.shadow.count = 5
    if arg == "shadows":
        config.sweep = [
            {"shadow.kind": kind, "shadow.epochs": epochs, **cell}
            for (kind, epochs), cell in itertools.product(SHADOWS, _cells(nodes=(3, 15)))
        ]
        return _set(config, FINE[0])
    config.federation.cycles = 5 if arg == "fine" else 0
    protocols, nodes = (FINE, (3, 15)) if arg == "fine" else (COARSE, (3,))
    config.sweep = [_fields(protocol) | cell for protocol, cell in itertools.product(protocols, _cells(nodes=nodes))]
    return config


def _fields(protocol: Any) -> dict[str, Any]:
    """The fields of a protocol."""
    (optimizer, batch_size), dropout_rate, epochs = protocol
    return {
        "training.optimizer": optimizer,
        "training.batch_size": batch_size,
        "model.dropout_rate": dropout_rate,
        "federation.centralised_epochs": epochs,
    }


def _cells(*, nodes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Cells of the paper's grid."""
    return [{"data.num_classes": k, "federation.nodes": n} for k, n in itertools.product((10, 100), nodes)]


def _set(config: ml_collections.ConfigDict, protocol: Any) -> ml_collections.ConfigDict:
    """The config with the fields of one protocol."""
    config.update_from_flattened_dict(_fields(protocol))
    return config
