"""What is written down for readers runs, by itself and in a fresh interpreter."""

import doctest
import os
import pathlib
import re
import subprocess
import sys

import pytest

from fedmia_jax.audit import api

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "audit.md"
CHECK = """
import sys

shell = sorted(name for name in sys.modules if name.startswith(tuple("fedmia_jax." + floor for floor in SHELL)))
assert not shell, shell
auc = {(row["view"], row["attack"]): row["auc"] for row in findings.intervals.filter(attacked="node").rows(named=True)}
assert auc["bracket", "sequence_lira"] > 0.9 > 0.8 > auc["outsider", "sequence_lira"], auc
assert auc["bracket:2@1", "sequence_lira"] < auc["bracket", "sequence_lira"], auc
"""


def test_the_page_runs_without_engine_config_or_storage(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    script = tmp_path / "page.py"
    script.write_text(block + 'SHELL = ("engine", "config", "storage", "report")' + CHECK)
    environment = {"PYTHONPATH": str(PAGE.parents[1]), "PATH": "", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    quickly = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")  # as other tests compile
    environment |= {name: os.environ[name] for name in quickly if name in os.environ}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sequence_lira" in done.stdout


def test_the_example_in_the_docstring():
    (example,) = doctest.DocTestFinder(recurse=False).find(api.audit, "audit")
    said: list[str] = []
    failures, tried = doctest.DocTestRunner().run(example, out=said.append)
    assert tried > 8
    assert not failures, "".join(said)


@pytest.mark.parametrize("name", ["audit", "Evidence", "References", "ModelScores", "Schedule", "Findings"])
def test_public_names(name):
    import fedmia_jax

    assert getattr(fedmia_jax, name).__doc__
    assert name in fedmia_jax.__all__


def test_the_function_wins_and_the_modules_stay():
    import fedmia_jax
    from fedmia_jax.audit import views

    assert fedmia_jax.audit is api.audit
    assert views.KNOWN
