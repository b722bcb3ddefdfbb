"""The paper: tables I and II and figures 1 to 3 of Pustozerova and Mayer (2020), with error bars.

    python launch.py --config=configs/paper.py:all           # 24 federations x 3 replicates
    python launch.py --config=configs/paper.py:all --config.replicates=1
    python launch.py --config=configs/paper.py:table1        # the centralised baseline alone

10, 20, 50 and 100 classes x 3, 10 and 15 nodes x 100 and 200 local epochs, 5 cycles; `--config.data.*` chooses other
records. `table2` and `figures` are the same 24 federations as `all`. The settings that the paper leaves open are those
that come nearest to its tables on synthetic records, see `configs/protocol_search.py`.
"""

import ml_collections

from fedmia_jax import config as configs


def get_config(arg: str = "all") -> ml_collections.ConfigDict:
    """Returns the sweep; `arg` is `table1`, `table2`, `figures` or `all`."""
    config = configs.make_config()
    configs.check_arg(arg, known=("", "table1", "table2", "figures", "all"))
    config.replicates = 3
    config.model.dropout_rate = 0.75
    config.training.batch_size = 128
    config.federation.centralised_epochs = 100
    config.sweep = {"data.num_classes": [10, 20, 50, 100]}
    if arg == "table1":
        config.federation.cycles = 0
    else:
        config.sweep |= {"federation.nodes": [3, 10, 15], "federation.local_epochs": [100, 200]}
    return config
