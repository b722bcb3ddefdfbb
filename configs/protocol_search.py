"""Which of the settings that the paper leaves open come nearest to its tables, on substitute records.

    python launch.py --config=configs/protocol_search.py:coarse   # Table I, many protocols
    python launch.py --config=configs/protocol_search.py:fine     # Tables I and II, the best of those

`coarse` trains centralised targets and shadows only: optimizer and batch size x dropout x epochs of the centralised
run, for 10 and 100 classes. `fine` runs the ten best of it through federations of 3 and 15 nodes with 100 and 200 local
epochs, with both shadow kinds for the first. The report ranks protocols by the mean absolute difference from the paper.
It is a fit on substitute data, not a finding about the paper's.
"""

import itertools

import ml_collections

from fedmia_jax import config as configs

UPDATES = (("adam", 32), ("adam", 128), ("sgd", 1))
DROPOUT_RATES = (0.0, 0.25, 0.5, 0.75)
EPOCHS = (25, 50, 100, 200)


def get_config(arg: str = "coarse") -> ml_collections.ConfigDict:
    """Returns the sweep; `arg` is `coarse` or `fine`."""
    config = configs.make_config()
    configs.check_arg(arg, known=("", "coarse", "fine"))
    config.shadow.count = 5
    config.federation.cycles = 0
    config.sweep = [
        {
            "training.optimizer": optimizer,
            "training.batch_size": batch_size,
            "model.dropout_rate": dropout_rate,
            "federation.centralised_epochs": epochs,
            "data.num_classes": num_classes,
        }
        for (optimizer, batch_size), dropout_rate, epochs, num_classes in itertools.product(
            UPDATES, DROPOUT_RATES, EPOCHS, (10, 100)
        )
    ]
    return config
