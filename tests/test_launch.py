"""The command as a person meets it: every wrong input ends with one line and exit code 2, before anything long."""

import gzip
import io
import itertools
import json
import pathlib
import sys

import jax
import numpy as np
import polars as pl
import pytest

import launch
from fedmia_jax.data import pools
from fedmia_jax.engine.benchmarks import planning, timing

SMALL = [
    "--config.data.num_records=400",
    "--config.data.num_features=20",
    "--config.data.num_classes=4",
    "--config.data.num_federation=100",
    "--config.data.num_test=100",
    "--config.federation.local_epochs=2",
    "--config.federation.cycles=2",
    "--config.shadow.count=2",
    "--config.attack.epochs=3",
]


@pytest.fixture
def command(launched, tmp_path):
    """Runs `launch.py` with flags in an empty folder; returns (exit code, stdout, stderr)."""
    root = pathlib.Path(launch.__file__).parent

    def call(*args: str) -> tuple[int, str, str]:
        flags = [arg.replace("{tmp}", str(tmp_path)) for arg in args]
        if not any(arg.startswith("--config=") for arg in flags):
            flags.insert(0, f"--config={root / 'configs/default.py'}")
        code, out, err = launched(*flags)
        return code, out, err.replace(str(tmp_path), "{tmp}").replace(str(root), "{root}")

    return call


CONFIGS = [
    ("--config.data.nmae=x", "data.nmae: no such field; did you mean data.name?"),
    (
        "--config.learning_rate=0.1",
        "learning_rate: no such field; did you mean training.learning_rate or attack.learning_rate?",
    ),
    ("--config.zzz=1", "zzz: no such field; python -m fedmia_jax.config lists them all"),
    ("--config.seed=abc", "seed=abc: expected an integer (root of all randomness)"),
    ("--config.seed=-1", "seed=-1: must be between 0 and 2.14748e+09"),
    ("--config.data.cluster=maybe", "data.cluster=maybe: expected True or False (relabel with k-means even where"),
    ("--config.data.num_classes=1", "data.num_classes=1: must be at least 2"),
    ("--config.data.name=purchase", "data.name='purchase': must be one of synthetic, purchases,"),
    ("--config.data.name=orders", "data.path is not set: data.name=orders reads a file; give --config.data.path=FILE"),
    ("--config.data.partition=skewed", "data.partition='skewed': must be one of iid, dirichlet, sizes"),
    ("--config.data.sizes=(1,2)", "data.sizes=(1.0, 2.0): only data.partition=sizes reads it, not iid"),
    ("--config.model.name=cnn", "model.name='cnn': must be one of mlp, or package.module:name"),
    ("--config.model.name=a.b:C", "model.name='a.b:C': No module named 'a'; must be one of mlp, or"),
    ("--config.model.dropout_rate=1.5", "model.dropout_rate=1.5: must be between 0 and 0.99"),
    ("--config.training.optimizer=lion", "training.optimizer='lion': must be one of adam, sgd"),
    ("--config.training.learning_rate=0", "training.learning_rate=0.0: must be greater than 0"),
    ("--config.training.learning_rate=nan", "training.learning_rate=nan: must be a finite number"),
    ("--config.federation.nodes=20000", "federation.nodes=20000: more nodes than data.num_federation=10000 records"),
    ("--config.attack.names=('lira2',)", "attack.names='lira2': must be one of network, network_per_class,"),
    ("--config.attack.names=('loss','loss')", "attack.names=('loss', 'loss'): names an attack twice; name each once"),
    ("--config.attack.names=('lira_online',)", "attack.names=('lira_online',): name one on one model, such as network"),
    (
        "--config.attack.names=('loss','lira_online')",
        "shadow.federations=0: attack.names='lira_online' compares with reference federations; set some, 16 or more",
    ),
    ("--config.attack.views=('insider:9',)", "attack.views='insider:9': expected one number between 1 and 3"),
    ("--config.attack.views=('sniffer',)", "attack.views='sniffer': no such view; must be some of outsider, insider,"),
    ("--config.attack.views=()", "attack.views=(): name a view; outsider, insider,"),
    ("--config.attack.gamma=0.5", "attack.gamma=0.5: must be at least 1"),
    (
        "--config.shadow.federations=1",
        "shadow.federations=1: a record must be in some references and not in others; use 0, or 8 and more",
    ),
    ("--config.shadow.count=1", "shadow.count=1: must be at least 2"),
    ("--config.data.num_test=60000", "data.num_federation=10,000, data.num_test=60,000, data.num_shadow_pool=all that"),
    ("--config=nope.py", "--config=nope.py: no such file; configs/ beside launch.py has some"),
    ("--config={root}/configs/default.py:quik", "--config=...:quik: unknown argument; the file knows quick"),
    ("--wrkdir=x", "Unknown command line flag 'wrkdir'. Did you mean: workdir ?"),
    ("--mode=train", "flag --mode=train: value should be one of <run|report|benchmark|prepare|compile>"),
    ("--mode=compile", "--topology is not set: --mode=compile needs the devices to compile for, as v5e:2x2"),
    ("--mode=report", "--workdir is not set: --mode=report needs the folder of a finished run"),
    ("--mode=prepare", "--out=None: --mode=prepare needs --out=FILE.npz"),
    ("--config.sweep.federation.node=3", "sweep.federation.node: no such field; did you mean federation.nodes?"),
    ("--config.sweep.federation.nodes=0,3", "federation.nodes=0: must be at least 1"),
    ("--config.sweep={}", "--config.sweep={}: sweep one field at a time, --config.sweep.FIELD=V1,V2, or in a config"),
    ("--config.sweep.data.num_classes=None,100", "sweep: {'data.num_classes': None} and {'data.num_classes': 100} are"),
    ("--config.sweep.seed=1,x", "seed=x: expected an integer (root of all randomness)"),
    ("--config.sweep.replicates=1,2", "sweep.replicates: set replicates itself; every point gets as many"),
    ("--config.federation.cycles=-1", "federation.cycles=-1: must be at least 0"),
    ("nodes=3", "nodes=3: not a flag; fields are set by --config.FIELD=VALUE"),
]


@pytest.mark.parametrize(("flag", "line"), CONFIGS, ids=[flag for flag, _ in CONFIGS])
def test_wrong_flag_ends_with_its_line(command, tmp_path, flag, line):
    flag = flag.replace("{root}", str(pathlib.Path(launch.__file__).parent))
    code, out, err = command(flag, "--config.data.num_features=8")
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith(f"error: {line}")
    assert "Traceback" not in out
    assert not (tmp_path / "runs").exists()


def _npz(**arrays) -> bytes:
    """Content of an .npz."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


BITS = np.eye(6, dtype=np.uint8)
FILES = [
    ("purchases", b"1,0,1,1\n2,0,2,1\n", "line 2: "),
    ("purchases", b"1,0,1,1\n2,0,1\n", "line 2: "),
    ("purchases", b"101,0,1,1\n", "line 1: "),
    ("purchases", b"", ""),
    ("location", b'"31",0,1,1\n', "line 1: "),
    ("orders", b"customer,order,item\n1,2\n", "line 2: "),
    ("baskets", gzip.compress(b"1 2 3\n", mtime=0)[:-6], "not a whole gzip or tar file; get or make it again"),
    ("transactions", b"1,205,7,x\n", "line 1: "),
    ("arrays", b"no zip", ""),
    ("arrays", _npz(labels=np.arange(6)), ""),
    ("arrays", _npz(features=np.where(BITS == 1, np.nan, 0.0)), ""),
    ("arrays", _npz(features=BITS, labels=np.arange(5)), ""),
    ("arrays", _npz(features=BITS, labels=np.arange(6) - 1), ""),
]


@pytest.mark.parametrize(("name", "content", "line"), FILES)
def test_wrong_file_ends_with_its_line(command, tmp_path, name, content, line):
    (tmp_path / "file").write_bytes(content)
    flags = [f"--config.data.name={name}", "--config.data.path={tmp}/file", "--config.data.num_features=3"]
    code, _, err = command(*flags)
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith(f"error: data.path={{tmp}}/file: {line}")


def test_class_that_the_adversary_cannot_know_is_refused(command, tmp_path):
    labels = np.arange(300) // 150
    labels[7] = 2  # one record of a third class
    np.savez(tmp_path / "set.npz", features=np.random.default_rng(0).random((300, 4)), labels=labels)
    sizes = pools.Options(num_federation=99, num_test=51)
    drawn = (pools.make_pools(300, sizes, name="arrays", seed=seed, replicate=0) for seed in itertools.count())
    seed = next(seed for seed, dealt in enumerate(drawn) if 7 not in dealt.shadow)
    flags = ["--config.data.name=arrays", "--config.data.path={tmp}/set.npz", f"--config.seed={seed}"]
    code, _, err = command(*flags, "--config.data.num_federation=99", "--config.data.num_test=51")
    assert code == 2
    assert err.startswith("error: data.num_classes=3: class 2 has no record in the shadow pool of replicate 0")


def test_labels_that_disagree_with_num_classes_are_refused(command, tmp_path):
    np.savez(tmp_path / "set.npz", features=BITS, labels=np.arange(6))
    flags = ["--config.data.name=arrays", "--config.data.path={tmp}/set.npz", "--config.data.num_classes=3"]
    code, _, err = command(*flags)
    assert code == 2
    assert err.startswith("error: data.num_classes=3: arrays has labels of 6 classes")


def test_training_that_explodes_says_which_run_and_keeps_what_was_there(command, tmp_path):
    flags = [*SMALL, "--workdir={tmp}/out", "--config.training.optimizer=sgd"]
    code, _, err = command(*flags, "--config.training.learning_rate=3e38")
    assert code == 2
    assert "training.learning_rate=3e+38" in err
    assert "went non-finite in replicate 0" in err
    assert not (tmp_path / "out/results.parquet").exists()


def test_run_report_and_refused_workdir(command, tmp_path):
    """The whole path on a tiny federation: run, rerun without computing, report again, another config refused."""
    flags = [*SMALL, "--workdir={tmp}/out"]
    code, out, err = command(*flags)
    assert (code, err) == (0, "")
    assert "Sequential federation, attack: network" in out
    made = {path.name: path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    wanted = {"results.parquet", "results.csv", "config.json", "metrics.jsonl", "environment.json", "report.md"}
    assert wanted | {"trace_network.png", "grid_network.png"} <= set(made)
    before = made["results.parquet"].read_bytes()
    assert "federations:" in out
    assert "federations:" not in command(*flags)[1]
    assert made["results.parquet"].read_bytes() == before
    assert "C2N3" in command("--mode=report", "--workdir={tmp}/out")[1]
    code, _, err = command(*flags, "--config.federation.nodes=2")
    assert code == 2
    assert "holds another experiment (federation.nodes=3 there, 2 here); choose another --workdir" in err
    assert made["results.parquet"].read_bytes() == before


def test_a_sweep_its_plan_and_its_report(command, tmp_path):
    """One row for each point; a dry run says what there is to do and leaves nothing."""
    flags = [*SMALL, "--config.sweep.training.learning_rate=0.001,0.01", "--config.sweep.seed=0,1"]
    code, out, err = command(*flags, "--dry_run")
    assert (code, err) == (0, "")
    assert "4 points, 4 runs, 4 groups; 16 models" in out
    assert not (tmp_path / "runs").exists()
    code, out, err = command(*flags, "--workdir={tmp}/out")
    assert (code, err) == (0, "")
    assert "federations: 4 models" in out
    table = pl.read_parquet(tmp_path / "out/results.parquet")
    assert table.select("training.learning_rate", "seed", "run_id").n_unique() == 4
    again = command("--mode=report", "--workdir={tmp}/out")[1]
    assert again.count("0.01 ") == out.count("0.01 ") > 0
    code, _, err = command(*flags, "--config.sweep.seed=0,2", "--workdir={tmp}/out")
    assert code == 2
    assert "holds another experiment (another sweep)" in err


def test_an_interrupt_says_how_to_go_on(command, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.experiment, "run", interrupt)
    monkeypatch.setattr(launch.os, "_exit", sys.exit)
    code, _, err = command(*SMALL, "--workdir={tmp}/out")
    assert (code, err) == (130, "interrupted; a run goes on by the same command where this one stopped\n")


def test_without_cycles_there_is_only_the_baseline(command, tmp_path):
    code, out, err = command(*SMALL, "--config.federation.cycles=0", "--workdir={tmp}/out")
    assert (code, err) == (0, "")
    assert "Centralised training, attack: network" in out
    assert "federation" not in out.replace("federated", "")
    assert pl.read_parquet(tmp_path / "out/results.parquet")["phase"].unique().to_list() == ["centralised"]


def test_prepare_writes_records_that_arrays_reads(command):
    code, out, _ = command("--mode=prepare", "--out={tmp}/set.npz", *SMALL)
    assert code == 0
    assert "--config.data.name=arrays" in out
    flags = [flag for flag in SMALL if "num_records" not in flag]
    assert command(*flags, "--config.data.name=arrays", "--config.data.path={tmp}/set.npz")[0] == 0


def test_a_benchmark_leaves_a_page_its_picture_and_numbers(command, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "SIDES", (2,))
    monkeypatch.setattr(timing, "TURNS", 2)
    code, out, _ = command("--mode=benchmark", "--suites=sweep", "--out={tmp}/speed.md")
    assert (code, "4 points" in out) == (0, True)
    page = (tmp_path / "speed.md").read_text()
    assert "| suite | case | us | range |" in page
    assert "GFLOP/s" not in page  # nothing trains
    assert "PyTorch" not in page
    assert page.rstrip().endswith("![Speed](speed.png)")
    assert (tmp_path / "speed.png").exists()
    (row,) = map(json.loads, (tmp_path / "speed.jsonl").read_text().splitlines())
    assert (row["case"], len(row["seconds"]), row["environment"]["packages"]["jax"]) == ("4 points", 2, jax.__version__)
    assert pl.read_parquet(tmp_path / "speed.parquet")["steps_per_second"].to_list() == [row["steps_per_second"]]
