"""Code, config files and environments that are not ours, at their worst: one line and exit code 2, no traceback."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

import launch
from fedmia_jax.engine import devices

ROOT = pathlib.Path(launch.__file__).resolve().parent
SMALL = [
    "--config.data.name=toys.reader:TOY",
    "--config.data.num_federation=100",
    "--config.data.num_test=100",
    "--config.model.hidden=8",
    "--config.federation.nodes=2",
    "--config.federation.cycles=1",
    "--config.federation.local_epochs=1",
    "--config.shadow.count=2",
    "--config.attack.names=('loss',)",
]


@pytest.fixture
def command(monkeypatch, tmp_path, capsys, quick_compilation):
    """`command(*flags)`: runs `launch.py` in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.setattr(devices, "start", lambda num_cpu_devices: None)  # the session has started it
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["launch.py", *args])
        code = 0
        try:
            with quick_compilation():
                launch.main()
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def process(*args: str, cwd: pathlib.Path, **variables: str) -> subprocess.CompletedProcess:
    """The command as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), **variables}
    command = [sys.executable, str(ROOT / "launch.py"), *args]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("OneMore", "answers float32[2, 4] to two records, float32[2, 3] expected"),
        ("Flat", "answers float32[2] to two records, float32[2, 3] expected"),
        ("Normalised", "keeps batch_stats; only params can travel"),
        ("Nothing", "keeps no parameters; only params can travel"),
        ("Half", "parameters of float16; float32 expected"),
        ("NotANumber", "answers NaN or infinity before any training"),
        ("Raises", "it raised KeyError: 'layer'"),
        ("Untrained", "it raised TypeError: "),
        ("NoHidden", "it raised TypeError: "),
    ],
)
def test_a_network_that_cannot_be_used_is_one_line(command, name, line):
    code, _, err = command(*SMALL, f"--config.model.name=toys.networks:{name}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: model.name='toys.networks:{name}': {line}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1/0", "line 1: raised ZeroDivisionError: division by zero"),
        ("def get_config(arg=''):\n    raise KeyError('boom')", "line 2: raised KeyError: 'boom'"),
        ("def get_config(arg=''):\n    return 7", "get_config gave a int, not what config.make_config() makes"),
        ("x = 1", "the file has no function get_config; see configs/default.py"),
        ("import sys\nsys.exit(5)", "line 2: raised SystemExit: exit code 5"),
        ("def get_config(:", "line 1: raised SyntaxError: invalid syntax"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_one_line(command, tmp_path, text, line):
    (tmp_path / "mine.py").write_text(text + "\n")
    code, _, err = command("--config=mine.py")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: --config=mine.py: {line}")


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--memory_gib=nan", "--memory_gib=nan: must be a finite number of GiB"),
        ("--memory_gib=inf", "flag --memory_gib=inf: inf is not"),
        ("--memory_gib=1e300", "flag --memory_gib=1e300: 1e+300 is not"),
        ("--cpu_devices=100000", "flag --cpu_devices=100000: 100000 is not"),
        (f"--config.federation.local_epochs={2**63}", "federation.local_epochs="),
        (f"--config.training.batch_size={2**40}", "training.batch_size="),
    ],
)
def test_settings_beyond_all_measure_are_one_line(command, flag, line):
    code, _, err = command(*SMALL, flag)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {line}")


def test_text_is_text(command, tmp_path):
    folder = tmp_path / "a b [final] [/]"
    code, out, err = command(*SMALL, f"--workdir={folder}")
    assert (code, err) == (0, "")
    assert f"results in {folder}" in out


def test_the_command_runs_from_any_folder(command):
    code, out, err = command("--config=configs/default.py:quick", "--dry_run", *SMALL, "--config.data.num_classes=3")
    assert (code, err) == (0, "")
    assert "Plan" in out


@pytest.mark.parametrize("place", ["file/run", "/proc/run", "dangling"])
def test_a_place_that_cannot_be_written_promises_nothing(command, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "deep")
    code, _, err = command(*SMALL, f"--workdir={place}")
    assert (code, err.count("\n")) == (2, 1)
    assert "goes on" not in err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_change_in_what_a_network_imports_is_another_outcome(command, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "grandchild.py").write_text("SCALE = 1.0\n")
    (tmp_path / "scaled_net.py").write_text(
        "from toys.networks import Base\nimport flax.linen as nn\nimport grandchild\n\n\nclass Scaled(Base):\n"
        "    @nn.compact\n    def __call__(self, features, *, dropout_rate=0.0, train=False):\n"
        "        return grandchild.SCALE * nn.Dense(self.num_classes)(features)\n"
    )
    flags = [*SMALL, "--config.model.name=scaled_net:Scaled", "--workdir=run"]
    assert command(*flags)[0] == 0
    before = set((tmp_path / "run/artifacts").iterdir())
    (tmp_path / "grandchild.py").write_text("SCALE = 3.0\n")
    assert command(*flags)[0] == 0  # in this process the module is loaded already; its text is what counts
    assert len(set((tmp_path / "run/artifacts").iterdir()) - before) == len(before)


def test_environments_that_cannot_work_are_one_line(tmp_path):
    for variables, line in [
        ({"JAX_PLATFORMS": "cuda"}, "error: JAX_PLATFORMS=cuda: no such device can be used here"),
        ({"JAX_DEBUG_NANS": "1"}, "error: JAX_DEBUG_NANS=1: not for this program; unset it"),
    ]:
        ended = process("--dry_run", *SMALL, cwd=tmp_path, **variables)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert ended.stderr.startswith(line)


def test_another_generator_by_default_changes_nothing(tmp_path):
    ended = process("--dry_run", *SMALL, cwd=tmp_path, JAX_DEFAULT_PRNG_IMPL="rbg")
    assert ended.returncode == 0, ended.stderr


def test_a_closed_pipe_does_not_end_a_run(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, str(ROOT / "launch.py"), *SMALL, "--workdir=run"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        running.stdout.readline()
        running.stdout.close()
        errors = running.stderr.read()
        assert running.wait(120) == 0, errors
    assert (tmp_path / "run/report.md").exists()
    assert "Traceback" not in errors


def test_an_interrupt_while_libraries_load_ends_at_once(tmp_path):
    with subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py")],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        time.sleep(0.5)
        running.send_signal(2)
        out, errors = running.communicate(timeout=60)
    assert (running.returncode, out, errors) == (130, "", "interrupted\n")
