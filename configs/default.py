"""The main job: a federation of three nodes attacked at every hand-off.

    python launch.py                                    # some minutes on 2 cores, no file needed
    python launch.py --config=configs/default.py:quick  # under a minute, compilation included

100 classes, 3 nodes, 5 cycles, 100 local epochs, 10 shadows, on synthetic purchases. Expected: the centralised target
reaches a test accuracy near 0.55 and the attack on it an accuracy near 0.90; in the federation the attack on N1 is
best at C1N1, C2N1, .. (recall 1.0), right after N1 trained, and fades while N2 and N3 train.
"""

import ml_collections

from fedmia_jax import config as configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Returns the main job, or its `quick` form."""
    config = configs.make_config()
    configs.check_arg(arg, known=("", "quick"))
    if arg == "quick":
        config.data.num_records = 6_000
        config.data.num_federation = 1_500
        config.data.num_test = 1_500
        config.data.num_classes = 20
        config.federation.local_epochs = 40
    return config
