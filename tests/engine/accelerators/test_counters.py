"""What is read from the text of a compiled module."""

import jax
import jax.numpy as jnp

from fedmia_jax.engine.accelerators import counters

TEXT = """
HloModule jit_step

%fused (param_0: f32[4]) -> f32[4] {
  %param_0 = f32[4]{0} parameter(0)
  ROOT %negate.1 = f32[4]{0} negate(%param_0)
}

%inner (arg: (s32[], f32[4], pred[8])) -> (s32[], f32[4], pred[8]) {
  %arg = (s32[], f32[4]{0}, pred[8]{0}) parameter(0)
  %get-tuple-element.1 = f32[4]{0} get-tuple-element(%arg), index=1
  %fusion.1 = f32[4]{0} fusion(%get-tuple-element.1), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"70"}
  %copy-start.1 = (f32[4]{0}, f32[4]{0}, u32[]) copy-start(%fusion.1)
  %copy-done.1 = f32[4]{0} copy-done(%copy-start.1)
  ROOT %tuple.1 = (s32[], f32[4]{0}, pred[8]{0}) tuple(%copy-done.1)
}

%outer (arg.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %arg.1 = (s32[], f32[4]{0}) parameter(0)
  ROOT %while.1 = (s32[], f32[4]{0}) while(%arg.1), condition=%more, body=%inner
}

%more (arg.2: (s32[], f32[4])) -> pred[] {
  ROOT %constant.1 = pred[] constant(true)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %fusion.2 = f32[4]{0} fusion(%p), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"900"}
  ROOT %while.2 = (s32[], f32[4]{0}) while(%fusion.2), condition=%more, body=%outer
}
"""


def test_the_innermost_loop_of_a_module_is_counted():
    # A fusion that reads and writes 16 bytes, and a copy that reads 16 and names two arrays and a number.
    assert counters.read(TEXT) == counters.Pass(depth=2, kernels=2, nbytes=32 + 16 + 36, cycles=70)
    without = TEXT.replace("while(%fusion.2), condition=%more, body=%outer", "negate(%fusion.2)")
    assert counters.read(without) == counters.Pass(depth=0, kernels=2, nbytes=32 + 32 + 4, cycles=900)


def test_work_behind_a_call_counts_where_it_is_called():
    called = TEXT.replace("while(%arg.1), condition=%more, body=%inner", "call(%arg.1), to_apply=%inner")
    assert counters.read(called) == counters.Pass(depth=1, kernels=2, nbytes=32 + 16 + 36, cycles=70)


def test_the_loop_of_a_real_program_is_found():
    def step(value):
        return jax.lax.fori_loop(0, 5, lambda _, x: jax.lax.fori_loop(0, 7, lambda _, y: jnp.sin(y) @ y, x), value)

    made = jax.jit(step).lower(jnp.ones((16, 16))).compile()
    assert counters.read(made.as_text()).depth == 2


def test_of_what_is_only_picked_from_no_more_is_counted_than_is_picked():
    """A row of a table of many, and the whole table where it is read as well."""

    def nbytes(fn):
        table, number = jnp.ones((1000, 8)), jnp.int32(3)
        text = jax.jit(fn).lower(table, number).compile().as_text()
        assert counters.read(text).kernels == 1, text
        return counters.read(text).nbytes

    def pick(table, number):
        return jax.lax.dynamic_index_in_dim(table, number, keepdims=False)

    assert nbytes(lambda table, number: jnp.sin(pick(table, number))) == 4 * (8 + 8 + 1)
    assert nbytes(lambda table, number: table + pick(table, number)) == 4 * (8000 + 8000 + 1)


PICK = """
ENTRY %main (p: f32[9,8]) -> f32[1,8] {
  %p.1 = f32[9,8]{1,0} parameter(0)
  %n.1 = s32[] parameter(1)
  %dynamic-slice.1 = f32[1,8]{1,0} dynamic-slice(%p.1, %n.1), dynamic_slice_sizes={1,8}
}
"""


def test_a_pick_by_itself_reads_what_it_answers():
    assert counters.read(PICK).nbytes == 4 * (8 + 8 + 1)
