"""Code, config files and environments that are not ours, at their worst: one line and exit code 2, no traceback."""

import io
import os
import pathlib
import subprocess
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest
from toys import flags as small

import launch

ROOT = pathlib.Path(launch.__file__).resolve().parent
SMALL = [
    *small.SMALL,
    "--config.federation.cycles=1",
    "--config.federation.local_epochs=1",
    "--config.attack.names=('loss',)",
]


def separate(*args: str, cwd: pathlib.Path, **variables: str) -> subprocess.CompletedProcess:
    """The command as a process of its own, with an environment of its own from the beginning."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), **variables}
    command = [sys.executable, str(ROOT / "launch.py"), *args]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def write_zeros(path: pathlib.Path, name: str, *, blocks: int) -> None:
    """Writes an array of zeros, 64 MiB a block, as a deflated member of a zip archive; each block is packed once."""
    size = blocks * 2**26
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (size // 1024, 1024)}
    )
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = packer.compress(header.getvalue()) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**26)) + packer.flush(zlib.Z_FULL_FLUSH)
    content = start + block * blocks + packer.flush()
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.compress_type = zipfile.ZIP_DEFLATED
        member.CRC, member.header_offset = 0, 0  # of the checksum nobody gets that far
        member.file_size, member.compress_size = len(header.getvalue()) + size, len(content)
        archive.fp.write(member.FileHeader(zip64=True) + content)
        archive.filelist.append(member)
        archive.start_dir, archive._didModify = archive.fp.tell(), True


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("OneMore", "answers float32[2, 4] to two records, float32[2, 3] expected"),
        ("Flat", "answers float32[2] to two records, float32[2, 3] expected"),
        ("Normalised", "keeps batch_stats; only params can travel"),
        ("Nothing", "keeps no parameters; only params can travel"),
        ("Half", "parameters of float16; float32 expected"),
        ("NotANumber", "answers NaN or infinity before any training"),
        ("DrawsAnother", "answers something else with what its method draw has drawn than with the key of that"),
        ("Centred", "has a method answer_bias, and answers something else where there is a class more"),
        ("NoSuchBias", "says by answer_bias that f32[3] lies at last/bias, where it does not"),
        (
            "ForgetsWhatIsDrawn",
            "it raised TypeError: ForgetsWhatIsDrawn.__call__() got an unexpected keyword",
        ),
        ("Raises", "it raised KeyError: 'layer'"),
        ("Untrained", "it raised TypeError: "),
        ("NoHidden", "it raised TypeError: "),
    ],
)
def test_a_network_that_cannot_be_used_is_one_line(launched, name, line):
    code, _, err = launched(*SMALL, f"--config.model.name=toys.networks:{name}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: model.name='toys.networks:{name}': {line}")


@pytest.mark.parametrize(
    ("field", "name", "line"),
    [
        ("data.name", "READS_NONE", "it raised ValueError: gave a NoneType, data.records.RawRecords expected"),
        ("data.name", "READS_NAN", "it raised ValueError: features that are not finite numbers"),
        ("data.name", "OTHER_LABELS", "it raised ValueError: labels from 0 to 299: 0 to 3 - 1 expected"),
        ("attack.names", "WIDE_SCORES", "score gives float32[5, 2], f32[5] expected for 5 records"),
        ("federation.kind", "NO_ROUNDS", "it raised TypeError: its schedule is a NoneType, Schedule expected"),
    ],
)
def test_what_does_not_keep_its_contract_is_one_line(launched, field, name, line):
    thing = f"toys.misbehaving:{name}"
    value = f"('{thing}',)" if field == "attack.names" else thing
    small = [flag for flag in SMALL if field not in flag]
    code, _, err = launched(*small, "--dry_run", f"--config.{field}={value}")
    assert (code, err) == (2, f"error: {field}='toys.misbehaving:{name}': {line}\n")


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
def test_a_config_file_that_cannot_be_used_is_one_line(launched, tmp_path, text, line):
    (tmp_path / "mine.py").write_text(text + "\n")
    code, _, err = launched("--config=mine.py")
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
        (f"--config.training.batch_size={2**31 - 1}", "--memory_gib=4: "),
        (f"--config.model.hidden={2**31 - 1}", "--memory_gib=4: "),
        ("--config.federation.cycles=1000000000", "federation.nodes=2, federation.cycles=1000000000: takes 63.3 GiB"),
        ("--config.shadow.count=2000000000", "replicates=1, shadow.count=2000000000, shadow.federations=0: with the"),
        ("--config.replicates=2000000000", "replicates=2000000000, shadow.count=2, "),
        ("--config.seed=" + "9" * 5000, "seed=99999"),
        ("--config.seed=\x1b[2J\u202e", "seed=\\x1b[2J\\u202e: expected an integer"),
        (f"--config.sweep.seed={list(range(400))}", "sweep: 160,000 points, at most 100,000 can be"),
    ],
)
def test_settings_beyond_all_measure_are_one_line(launched, flag, line):
    code, _, err = launched(*SMALL, flag, f"--config.sweep.data.seed={list(range(400))}" if "sweep" in flag else flag)
    assert (code, err.count("\n"), len(err) < 1000, err.strip().isprintable()) == (2, 1, True, True)
    assert err.startswith(f"error: {line}")


def test_text_is_text(process, tmp_path):
    ended = process(*SMALL, "--workdir=a b [final] [/]", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "results in a b [final] [/]\n" in ended.out


def test_the_command_runs_from_any_folder(launched):
    code, out, err = launched("--config=configs/default.py:quick", "--dry_run", *SMALL, "--config.data.num_classes=3")
    assert (code, err) == (0, "")
    assert "Plan" in out


@pytest.mark.parametrize("place", ["file/run", "/proc/run", "dangling"])
def test_a_place_that_cannot_be_written_promises_nothing(launched, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "deep")
    code, _, err = launched(*SMALL, f"--workdir={place}")
    assert (code, err.count("\n")) == (2, 1)
    assert "goes on" not in err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_change_in_what_a_network_imports_is_another_outcome(launched, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "grandchild.py").write_text("SCALE = 1.0\n")
    (tmp_path / "scaled_net.py").write_text(
        "from toys.networks import Base\nimport flax.linen as nn\nimport grandchild\n\n\nclass Scaled(Base):\n"
        "    @nn.compact\n    def __call__(self, features, *, dropout_rate=0.0, train=False):\n"
        "        return grandchild.SCALE * nn.Dense(self.num_classes)(features)\n"
    )
    flags = [*SMALL, "--config.model.name=scaled_net:Scaled", "--workdir=run"]
    assert launched(*flags)[0] == 0
    before = set((tmp_path / "run/artifacts").iterdir())
    (tmp_path / "grandchild.py").write_text("SCALE = 3.0\n")
    assert launched(*flags)[0] == 0  # in this process the module is loaded already; its text is what counts
    assert len(set((tmp_path / "run/artifacts").iterdir()) - before) == len(before)


def test_environments_that_cannot_work_are_one_line(tmp_path):
    for variables, line in [
        ({"JAX_PLATFORMS": "cuda"}, "error: JAX_PLATFORMS=cuda: no such device can be used here"),
        ({"JAX_PLATFORMS": "foo"}, "error: JAX_PLATFORMS=foo: no such device can be used here"),
        ({"JAX_DEBUG_NANS": "1"}, "error: JAX_DEBUG_NANS=1: not for this program; unset it"),
    ]:
        ended = separate("--dry_run", *SMALL, cwd=tmp_path, **variables)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert ended.stderr.startswith(line)


def test_another_generator_by_default_changes_nothing(tmp_path):
    """And nobody listens: standard output is closed from the beginning."""
    closed = ["bash", "-c", 'exec "$0" "$@" >&-', sys.executable, str(ROOT / "launch.py"), "--dry_run", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "JAX_DEFAULT_PRNG_IMPL": "rbg"}
    ended = subprocess.run(closed, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_closed_pipe_does_not_end_a_run(process, tmp_path):
    ended = process(*SMALL, "--workdir=run", cwd=tmp_path, listened=False)
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "run/report.md").exists()


def test_files_of_the_user_in_a_workdir_survive(process, tmp_path):
    mine = (".env.local", ".zshrc.mine", ".bashrc", ".notes.md", ".results.parquet.old")
    for folder in ("strange", "run"):
        (tmp_path / folder).mkdir()
    for name in mine:
        (tmp_path / "strange" / name).write_text("mine")
    ended = process(*SMALL, "--workdir=strange", cwd=tmp_path)  # a folder with files is not empty
    assert ended.is_one_line
    assert "holds files but no config.json; choose an empty --workdir" in ended.err
    for again in (False, True):
        ended = process(*SMALL, "--workdir=run", cwd=tmp_path)
        assert (ended.code, ended.err) == (0, "")
        for name in mine * (not again):
            (tmp_path / "run" / name).write_text("mine")
        (tmp_path / "run/.git.bak").mkdir(exist_ok=True)
    for folder in ("strange", "run"):
        assert all((tmp_path / folder / name).read_text() == "mine" for name in mine)
    assert (tmp_path / "run/.git.bak").is_dir()


def test_an_array_file_that_unpacks_to_six_gigabytes_is_one_line(process, tmp_path):
    path = tmp_path / "zeros.npz"
    write_zeros(path, "features.npy", blocks=96)
    with zipfile.ZipFile(path) as archive, archive.open("features.npy") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file)[0] == (6 * 2**20, 1024)
        assert archive.filelist[0].file_size > 6 * 2**30 > 500 * path.stat().st_size
    flags = ("--config.data.name=arrays", "--config.data.path=zeros.npz", "--dry_run")
    ended = process(*SMALL, *flags, cwd=tmp_path, limit=3 * 2**30)
    assert ended.is_one_line, ended
    assert ended.err.startswith("error: data.path=zeros.npz: larger than 2 GiB when unpacked")


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
