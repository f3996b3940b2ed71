import pytest

from lfr_darts_jax.runtime import hlo

KNOWN = ', backend_config={"known_trip_count":{"n":"7"}}'
PROGRAM = f"""HloModule jit_step, entry_computation_layout={{()->f32[]}}

%fused_add (p.0: f32[4]) -> f32[4] {{
  %p.0 = f32[4]{{0}} parameter(0)
  ROOT %add.0 = f32[4]{{0}} add(%p.0, %p.0)
}}

%fused_large (p.5: f32[1024,64]) -> f32[1024,64] {{
  %p.5 = f32[1024,64]{{1,0}} parameter(0)
  ROOT %add.5 = f32[1024,64]{{1,0}} add(%p.5, %p.5)
}}

%fused_slice (p.6: f32[1024,64], p.7: f32[4]) -> f32[4] {{
  %p.6 = f32[1024,64]{{1,0}} parameter(0)
  %p.7 = f32[4]{{0}} parameter(1)
  %flat.6 = f32[65536]{{0}} bitcast(%p.6)
  %slice.6 = f32[4]{{0}} slice(%flat.6), slice={{[0:4]}}
  ROOT %add.6 = f32[4]{{0}} add(%slice.6, %p.7)
}}

%fused_update (p.8: f32[1024,64], p.9: f32[1,64]) -> f32[1024,64] {{
  %p.8 = f32[1024,64]{{1,0}} parameter(0)
  %p.9 = f32[1,64]{{1,0}} parameter(1)
  %at.8 = s32[] constant(3)
  ROOT %put.8 = f32[1024,64]{{1,0}} dynamic-update-slice(%p.8, %p.9, %at.8, %at.8)
}}

%body (p.1: (s32[], f32[1024,64])) -> (s32[], f32[1024,64]) {{
  %p.1 = (s32[], f32[1024,64]{{1,0}}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %x.1 = f32[1024,64]{{1,0}} get-tuple-element(%p.1), index=1
  %y.1 = f32[1024,64]{{1,0}} fusion(%x.1), kind=kLoop, calls=%fused_large, metadata={{op_name="jit(step)/add"}}
  ROOT %t.1 = (s32[], f32[1024,64]{{1,0}}) tuple(%i.1, %y.1)
}}

%condition (p.2: (s32[], f32[1024,64])) -> pred[] {{
  %p.2 = (s32[], f32[1024,64]{{1,0}}) parameter(0)
  ROOT %less.2 = pred[] compare(%i.2, %i.3), direction=LT
}}

%large (p.3: f32[1024,64]) -> f32[4] {{
  %p.3 = f32[1024,64]{{1,0}} parameter(0)
  %v.3 = f32[4]{{0}} constant(...)
  %row.3 = f32[1,64]{{1,0}} constant(...)
  %u.3 = f32[1024,64]{{1,0}} fusion(%p.3, %row.3), kind=kLoop, calls=%fused_update
  %r.3 = f32[4]{{0}} fusion(%u.3, %v.3), kind=kLoop, calls=%fused_slice
  ROOT %s.3 = f32[4]{{0}} fusion(%r.3), kind=kLoop, calls=%fused_add
}}

%small (p.4: f32[1024,64]) -> f32[4] {{
  %p.4 = f32[1024,64]{{1,0}} parameter(0)
  ROOT %b.4 = f32[4]{{0}} broadcast(f32[] constant(0)), dimensions={{}}
}}

ENTRY %main (p: f32[1024,64], k: bf16[5,3,4,4]) -> f32[4] {{
  %p = f32[1024,64]{{1,0}} parameter(0)
  %k = bf16[5,3,4,4]{{3,2,1,0}} parameter(1)
  %zero = s32[] constant(0)
  %c = (f32[1024,64]{{1,0}}, u8[4096]{{0}}) custom-call(%p, /*index=1*/%k), window={{size=5x3}}
  %c.0 = f32[1024,64]{{1,0}} get-tuple-element(%c), index=0
  %t = (s32[], f32[1024,64]{{1,0}}) tuple(%zero, %c.0)
  %w = (s32[], f32[1024,64]{{1,0}}) while(%t), condition=%condition, body=%body{KNOWN}
  %w.1 = f32[1024,64]{{1,0}} get-tuple-element(%w), index=1
  %a = f32[1024,64]{{1,0}} all-reduce-start(%w.1), to_apply=%fused_add
  %a.1 = f32[1024,64]{{1,0}} all-reduce-done(%a)
  ROOT %d = f32[4]{{0}} conditional(%zero, %a.1, %a.1), branch_computations={{%small, %large}}
}}
"""
ARRAY = 1024 * 64 * 4


def test_a_program_by_hand():
  cost = hlo.cost(PROGRAM)
  # The convolution, the loop and seven fusions in it, the all-reduce, the conditional and three in its larger branch.
  assert cost.kernels == 1 + 1 + 7 + 1 + 1 + 3
  assert cost.kernels_small == 2
  convolution = 2 * ARRAY + 5 * 3 * 4 * 4 * 2  # Without its scratch memory.
  # A row is put in its place, four numbers are read out of the array, and two fusions read and write four.
  branch = 2 * 64 * 4 + 3 * 16 + 2 * 16
  assert cost.gigabytes == pytest.approx((convolution + 7 * 2 * ARRAY + 2 * ARRAY + branch) / 1e9)
  assert cost.while_loops == (7,) and cost.exact
  assert cost.largest_window == 5
  assert cost.collectives == {"all-reduce": 1}


def test_a_loop_of_unknown_length_is_told():
  cost = hlo.cost(PROGRAM.replace(KNOWN, ""))
  assert cost.while_loops == (None,) and not cost.exact
  assert cost.kernels == 8


def test_a_text_without_an_entry():
  with pytest.raises(ValueError, match="no entry"):
    hlo.cost("HloModule empty\n")
