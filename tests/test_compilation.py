"""The door between functions and compiled programs."""

import gc
import pathlib
import threading

import jax
import jax.numpy as jnp
import pytest

from fedmia_jax import compilation


def double(value):
    return 2 * value


def test_without_a_target_a_program_runs_here():
    assert compilation.jit(double)(jnp.float32(3)) == 6
    assert compilation.platform() == jax.default_backend()


def test_a_target_gets_all_calls_of_its_thread_and_no_other():
    program, seen, elsewhere = compilation.jit(double), [], []

    def run(compiled, args, static):
        seen.append((compiled.__name__, args, dict(static)))
        return "handed over"

    with compilation.using(compilation.Target("tpu", run)):
        assert program(5) == "handed over"
        assert compilation.platform() == "tpu"
        beside = threading.Thread(target=lambda: elsewhere.append((compilation.platform(), int(program(5)))))
        beside.start()
        beside.join()
    assert seen == [("double", (5,), {})]
    assert elsewhere == [(jax.default_backend(), 10)]
    assert program(5) == 10


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options of a CPU")
def test_what_is_compiled_quickly_is_an_ordinary_program_for_a_target():
    """Options can only be given to a program that no other calls; a target traces what it is handed."""
    program = compilation.jit(double, quickly=True)
    assert program(jnp.float32(3)) == 6
    with compilation.using(compilation.Target("tpu", lambda program, args, static: jax.eval_shape(program, *args))):
        assert program(jnp.float32(3)).dtype == jnp.float32


def test_programs_are_forgotten_where_there_are_very_many_and_compiled_again(compilations):
    program = compilation.jit(lambda value: 3 * value)
    compilation.make_room(0)
    with compilations() as names:
        assert program(jnp.float32(3)) == 9
        compilation.make_room()  # few maps
        assert program(jnp.float32(4)) == 12
        first = len(names)
        compilation.make_room(0)
        assert program(jnp.float32(5)) == 15
    assert len(names) > first > 0


@pytest.mark.skipif(not pathlib.Path(compilation.MAPS[0]).exists(), reason="Linux has this limit")
def test_programs_take_memory_maps_which_are_free_again():
    """What a process would be aborted for."""
    before = compilation._maps_taken()
    programs = [compilation.jit(lambda value, number=number: jnp.sin(number * value)) for number in range(20)]
    for program in programs:
        program(jnp.ones(3)).block_until_ready()
    taken = compilation._maps_taken()
    assert taken > before
    compilation.make_room(0)
    gc.collect()
    assert compilation._maps_taken() < taken
    assert compilation._maps_taken() < 1


def test_nothing_is_compiled_by_another_door():
    package = pathlib.Path(compilation.__file__).parent
    named = {str(path.relative_to(package)) for path in package.rglob("*.py") if "jax.jit" in path.read_text()}
    assert named == {"compilation.py", "engine/accelerators/compiler.py"}
