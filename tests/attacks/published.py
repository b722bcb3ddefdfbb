"""RMIA, BASE and the soft-margin Taylor softmax beside published code, run unchanged; prints the table of the docs.

    pip install torch pydantic tqdm matplotlib
    git clone https://github.com/privacytrustlab/ml_privacy_meter METER && git -C METER checkout e384af8
    git clone https://github.com/privacytrustlab/ml_privacy_meter PAPER && git -C PAPER checkout 6baa41a
    git clone https://github.com/aidotse/LeakPro LEAKPRO && git -C LEAKPRO checkout c47752fa
    python tests/attacks/published.py --meter=METER --paper=PAPER --leakpro=LEAKPRO

Any of the three may be left out. Their files are executed as they are; what they import of their own frameworks
(models, data loaders, reports) is replaced by stand-ins, since only logits go in and scores come out.
"""

import argparse
import importlib.util
import pathlib
import sys
import types as modules
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import sklearn.metrics

from fedmia_jax import attacks, options, types
from fedmia_jax.attacks import contract, signals
from fedmia_jax.schedule import Schedule

RECORDS, CLASSES, MODELS, TEMPERATURE, OFFLINE_A, SCALE = 2_000, 20, 64, 2.0, 0.3, 0.33
SETUP = contract.Setup.of(Schedule.cyclic(nodes=1, cycles=1), [np.ones(1, bool)])


class World:
    """Logits f64[J + 1, M, K] of a target and J models; every record is in half of these."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(CLASSES, size=RECORDS)
        half = np.broadcast_to((np.arange(MODELS) < MODELS // 2)[:, None], (MODELS, RECORDS))
        self.held = rng.permuted(half, axis=0)  # [J, M]
        self.members = rng.random(RECORDS) < 0.5
        trained = np.concatenate([self.members[None], self.held])
        own = rng.normal(3.0, 2.0, RECORDS) + trained * rng.gamma(2.0, 1.0, RECORDS) + rng.normal(size=trained.shape)
        self.logits = rng.normal(size=(MODELS + 1, RECORDS, CLASSES)) + rng.normal(size=(RECORDS, CLASSES))
        np.put_along_axis(self.logits, np.broadcast_to(self.labels[:, None], (*own.shape, 1)), own[..., None], axis=-1)


def score_here(world: World, name: str, **values: Any) -> np.ndarray:
    """What this package says of the target."""
    declared = options.declared(*(factory.options for factory in attacks.ATTACKS.values()))
    chosen = attacks.choose((name,), {option: each.default for option, each in declared.items()} | values)
    attack, signal = attacks.make_reference_attacks(chosen, SETUP)[name], attacks.signals_read(chosen)[name]
    labels = jnp.broadcast_to(jnp.asarray(world.labels), world.logits.shape[:2])
    phi = signal.read(types.Signals(jnp.asarray(world.logits, jnp.float32), labels))
    known = contract.KnownRecords(phi[1:, None], jnp.where(jnp.asarray(world.held), 0, -1))
    ready = attack.prepare(attack.fit(jax.random.key(0), known), jnp.int32(0))
    return np.asarray(attack.score(ready, phi[:1]))[0]


def load(folder: pathlib.Path, file: str, stand_ins: dict[str, Any]) -> Any:
    """Executes one published file, with stand-ins for modules that it imports."""
    made = {}
    for name, contents in stand_ins.items():
        made[name] = modules.ModuleType(name)
        vars(made[name]).update(contents)
    spec = importlib.util.spec_from_file_location("published", folder / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, made):
        spec.loader.exec_module(module)
    return module


def meter_softmax(folder: pathlib.Path, world: World) -> np.ndarray:
    """The label's probabilities by ML Privacy Meter, [M, J + 1]."""
    import torch

    published = load(
        folder,
        "get_signals.py",
        {
            "transformers": {"PreTrainedModel": type("PreTrainedModel", (), {}), "AutoTokenizer": None},
            "dataset": {},
            "dataset.utils": {"load_dataset_subsets": None},
        },
    )
    columns = [
        published.get_softmax(
            torch.nn.Identity(), torch.tensor(of_model), torch.tensor(world.labels), 500, "cpu", temp=TEMPERATURE
        )
        for of_model in world.logits
    ]
    return np.concatenate(columns, axis=1)


def meter_rmia(folder: pathlib.Path, world: World) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """RMIA offline of ML Privacy Meter.

    Its population is the records that are scored, as here; it takes them for records of nobody, so that what models say
    of their own is put to 0, which it sorts away as it does for the scored ones.
    """
    published, softmax = load(folder, "modules/mia/attacks/rmia.py", {}), meter_softmax(folder, world)
    theirs = published.run_rmia(
        softmax[:, 0], softmax[:, 1:], world.held.T, softmax[:, 0], softmax[:, 1:] * ~world.held.T, OFFLINE_A
    )
    yield "`rmia_offline`, ML Privacy Meter", score_here(world, "rmia_offline"), theirs


def paper_taylor(folder: pathlib.Path, world: World) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The soft-margin Taylor softmax of RMIA's own experiments; its order 5 stops at the fourth power."""
    import torch

    published = load(folder, "research/2024_rmia/signals.py", {})
    target, labels = torch.tensor(world.logits[0]), torch.tensor(world.labels)
    extra = {"taylor_m": signals.SOFT_MARGIN, "taylor_n": signals.TAYLOR_ORDER + 1}
    theirs = published.convert_signals(target, labels, "taylor-soft-margin", TEMPERATURE, extra).numpy()
    seen = types.Signals(jnp.asarray(world.logits[0], jnp.float32), jnp.asarray(world.labels))
    phi = signals.at_temperature(TEMPERATURE, softmax="sm_taylor").read(seen)
    yield "`sm_taylor` probability, RMIA's experiments", np.asarray(jnp.exp(-signals.loss(phi))), theirs


class Handlers:
    """Stands in for LeakPro's handlers of models and data: hands out logits and labels."""

    world: World
    target_model_hash, target_model, train_indices = "hash", None, np.arange(RECORDS)
    test_indices = np.arange(0)

    def load_logits(self, *, name: str = "", indx: int = 0) -> np.ndarray:
        """Logits of the target by its name, else of a shadow model."""
        return self.world.logits[0 if name else indx + 1]

    def get_labels(self, indices: np.ndarray) -> np.ndarray:
        """Labels of some records."""
        return self.world.labels[indices]


def leakpro_attack(folder: pathlib.Path, world: World, file: str, name: str, **fields: Any) -> Any:
    """An attack of LeakPro that has its models already."""
    Handlers.world = world
    softmax = vars(load(folder, "leakpro/attacks/utils/utils.py", {}))
    whole: dict[str, dict[str, Any]] = {"leakpro.attacks.mia_attacks.abstract_mia": {"AbstractMIA": object}}
    whole["leakpro.attacks.utils.utils"] = {"softmax_logits": softmax["softmax_logits"]}
    whole["leakpro.attacks.utils.shadow_model_handler"] = {"ShadowModelHandler": Handlers}
    whole["leakpro.reporting.mia_result"] = {"MIAResult": mock.Mock()}
    for module, attribute in {
        "input_handler.abstract_input_handler": "AbstractInputHandler",
        "input_handler.mia_handler": "MIAHandler",
        "signals.signal": "ModelLogits",
        "signals.signal_extractor": "PytorchModel",
        "utils.import_helper": "Self",
    }.items():
        whole[f"leakpro.{module}"] = {attribute: Any}
    whole["leakpro.utils.logger"] = {"logger": mock.Mock()}
    kind = getattr(load(folder / "leakpro/attacks/mia_attacks", file, whole), name)
    attack = kind.__new__(kind)
    everything = np.arange(RECORDS)
    given = {"configs": mock.Mock(), "handler": Handlers(), "temperature": TEMPERATURE, "epsilon": 1e-6}
    given |= {"num_shadow_models": MODELS, "shadow_model_indices": range(MODELS), "shadow_models": [None] * MODELS}
    given |= {"audit_dataset": {"data": everything, "in_members": everything, "out_members": everything[:0]}}
    given |= {"out_indices": ~world.held, "attack_data_indices": everything}
    vars(attack).update(given | fields)
    return attack


def leakpro_all(folder: pathlib.Path, world: World) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """BASE and RMIA of LeakPro."""
    for online in (True, False):
        form = "online" if online else "offline"
        attack = leakpro_attack(folder, world, "base.py", "AttackBASE", online=online, offline_scale_factor=SCALE)
        attack.run_attack()
        yield f"`base_{form}`, LeakPro", score_here(world, f"base_{form}"), attack.in_member_signals[:, 0]
    attack = leakpro_attack(
        folder, world, "rmia.py", "AttackRMIA",
        online=True, gamma=1.0, offline_a=OFFLINE_A, z_data_sample_fraction=1.0, load_for_optuna=True,
        ground_truth_indices=world.labels, logits_theta=world.logits[0], logits_shadow_models=list(world.logits[1:]),
    )  # fmt: skip
    attack.prepare_attack()
    attack.run_attack()
    yield "`rmia_online`, LeakPro", score_here(world, "rmia_online"), attack.in_member_signals[:, 0]


def tpr(scores: np.ndarray, members: np.ndarray) -> float:
    """Share of members above the 99th percentile of non-members."""
    return float((scores[members] > np.quantile(scores[~members], 0.99)).mean())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    compared = {"meter": meter_rmia, "paper": paper_taylor, "leakpro": leakpro_all}
    for name in compared:
        parser.add_argument(f"--{name}", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    given = vars(parser.parse_args())
    print("| here, beside | rank correlation | AUC here | AUC there | TPR at 1% FPR here | TPR there |")
    print("|---|---|---|---|---|---|")
    for name, compare in compared.items():
        if given[name] is None:
            continue
        rows: dict[str, list[list[float]]] = {}
        for seed in range(given["seeds"]):
            world = World(seed)
            for label, here, there in compare(given[name], world):
                row = [scipy.stats.spearmanr(here, there).statistic]
                row += [sklearn.metrics.roc_auc_score(world.members, scores) for scores in (here, there)]
                rows.setdefault(label, []).append(row + [tpr(scores, world.members) for scores in (here, there)])
        for label, values in rows.items():
            print(f"| {label} | " + " | ".join(f"{value:.4f}" for value in np.mean(values, axis=0)) + " |")


if __name__ == "__main__":
    main()
