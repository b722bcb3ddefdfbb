"""What an adversary can really learn: all attacks under all views, ten nodes, five replicates.

    python launch.py --config=configs/adversaries.py           # synthetic records
    python launch.py --config=configs/adversaries.py --config.data.name=baskets --config.data.path=retail.dat.gz
    python launch.py --config=configs/adversaries.py:quick     # three nodes, one or two minutes

All replicates train on random halves of the same 10,000 audited records, and so do the reference federations that the
attacks compare with. Expected: `report.md` with attacks x views on one page; whoever sees a node's record before and
after its visit knows most, the finished model tells least.
"""

import ml_collections

from fedmia_jax import attacks
from fedmia_jax import config as configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Returns the experiment, or its `quick` form."""
    config = configs.make_config()
    configs.check_arg(arg, known=("", "quick"))
    config.replicates = 5
    config.data.num_federation = 5_000
    config.data.num_test = 5_000
    config.federation.nodes = 10
    config.federation.local_epochs = 50
    config.shadow.federations = 64
    config.attack.names = tuple(attacks.ATTACKS)
    sizes: tuple[int, ...] = (1, 2, 3, 7, 9)
    views = ("outsider", "insider", "bracket", "coalition:{1,2,3}", "coordinator", "coordinator_p2p")
    if arg == "quick":
        config.replicates = 2
        config.data.num_records = 6_000
        config.data.num_classes = 20
        config.data.num_federation = 600
        config.data.num_test = 1_200
        config.federation.nodes = 3
        config.federation.cycles = 3
        config.shadow.federations = 16
        sizes = (1, 2)
        views = ("outsider", "insider", "bracket", "coalition:{1,2}", "coordinator", "coordinator_p2p")
    config.attack.views = (*views, *(f"all_coalitions:{size}" for size in sizes))
    return config
