"""What the checks let through, what they refuse, and in which words; nothing here is compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import checks


def refused(match):
    return pytest.raises(ValueError, match=match)


def test_words_and_counts():
    checks.one_of("kind", "b", ("a", "b"))
    with refused("kind is 'c'; it must be one of a, b"):
        checks.one_of("kind", "c", ("a", "b"))
    checks.at_least("size", 1)
    checks.at_least("size", np.int8(3), 3)
    with refused("size is 0; it must be at least 1"):
        checks.at_least("size", 0)
    with refused(r"size is 2\.0; it must be an integer, at least 2"):
        checks.at_least("size", 2.0, 2)
    for value in (1, 2, np.int32(4)):
        checks.divides("parts", value, "N", 4)
    for value in (0, -1, 3, 8, 2.0):
        with refused("parts is .*; it must divide N = 4"):
            checks.divides("parts", value, "N", 4)


def test_shapes():
    array = np.ones((2, 3))
    checks.num_axes("x", array, "[N, C]")
    for wanted in ("[N]", "[N, C, D]"):
        with refused(r"x is \(2, 3\); it must be \[N"):
            checks.num_axes("x", array, wanted)
    checks.shape("x", array, [2, 3])
    with refused(r"x is \(2, 3\); it must be \(2,\)$"):
        checks.shape("x", array, (2,))
    with refused(r"x is \(2, 3\); it must be \[N\] = \(2,\)$"):
        checks.shape("x", array, (2,), "[N]")
    for fitting in (array, array[0], array[None]):
        checks.last_axis("x", fitting, "C", 3)
    for other in (array.T, np.ones(())):
        with refused(r"x is .*; it must be \[\.\.\., C\] with C = 3"):
            checks.last_axis("x", other, "C", 3)
    checks.same_shape("x", array, "y", array)
    with refused(r"x is \(2, 3\); it must be as y, \(3, 2\)"):
        checks.same_shape("x", array, "y", array.T)


def test_what_broadcasts():
    for shapes in (((2, 3), (3,)), ((3,), (2, 3)), ((2, 1, 3), (4, 3))):
        x, y = (np.ones(shape) for shape in shapes)
        assert checks.broadcast("x", x, "y", y) == np.broadcast_shapes(*shapes)
    for other in (np.ones(1), np.ones(()), np.ones((4, 3))):
        with refused(r"y is .*; it must fit x, \(2, 3\)"):
            checks.broadcast("x", np.ones((2, 3)), "y", other)
    for empty in (np.ones(()), np.ones((2, 0))):
        with refused(r"x is .*; it must be \[\.\.\., N\] with N >= 1"):
            checks.broadcast("x", empty, "y", empty)


def test_types_of_what_comes_in():
    narrow, half = jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.float16)
    (a, b), dtype = checks.reals(a=narrow, b=3)
    assert (a.dtype, b.dtype, dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    assert checks.reals(a=narrow, b=half)[1] == jnp.float32
    assert checks.reals(a=1, b=2.0)[1] == jnp.float32  # numbers alone
    _, dtype = checks.reals(integers=("b",), a=half, b=np.ones(2, np.int64))
    assert dtype == jnp.float16  # integers have no say
    with refused("b is uint8; it must be floating-point"):
        checks.reals(integers=("a",), a=half, b=np.ones(2, np.uint8))
    for value in (True, np.ones(2, bool)):
        with refused("a is bool; it must be floating-point"):
            checks.reals(integers=("a",), a=value)
    assert checks.real("a", [1, 2]).dtype == jnp.float32
    # What is as long as a line, its type is told instead.
    for value, told in (("x" * 57, "'x{57}'"), ("x" * 58, "str"), (["word"] * 20, "list")):
        with refused(f"a is {told}; it must be an array of real numbers"):
            checks.real("a", value)


def test_addresses_and_slots():
    for dtype, expected in ((np.int8, np.int32), (np.uint32, np.uint32), (np.int32, np.int32)):
        assert checks.whole("a", np.ones(2, dtype)).dtype == expected
    with refused("a is float32; it must be integers"):
        checks.whole("a", 1.0)
    assert checks.slots("contents", [[1], [2]]).shape == (2, 1)
    assert checks.slots("contents", [7]).shape == (1,)
    for value in (1.0, np.ones((0, 2))):
        with refused(r"contents is \(.*; it must be \[N, \.\.\.\] with N >= 1"):
            checks.slots("contents", value)
    assert checks.is_nested_list([[1, 2.0], [True, 3]])
    assert not checks.is_nested_list([1, np.ones(2)])
    assert not checks.is_nested_list((1, 2))


def test_fields_of_a_state():
    @dataclasses.dataclass
    class Pair:
        left: int
        right: int

    assert checks.fields("memory", Pair(1, 2), Pair) == {"memory.left": 1, "memory.right": 2}
    with refused("memory is a tuple; it must be a Pair"):
        checks.fields("memory", (1, 2), Pair)


def test_episodes_and_draws():
    mean, weights, codes = np.ones((5, 3)), np.ones((4, 5)), np.ones((4, 3))
    for noise in (np.ones(()), np.ones(4)):
        checks.episode(mean, weights, codes, noise)
    for bad, match in (
        ((weights[0], codes, np.ones(4)), r"write_weights is \(5,\); it must be \[T, N\]"),
        ((weights[:, :4], codes, np.ones(4)), r"write_weights is \(4, 4\).* N = 5"),
        ((weights, codes[:3], np.ones(4)), r"codes is \(3, 3\).*\[T, C\] = \(4, 3\)"),
        ((weights, codes[:, :2], np.ones(4)), r"codes is \(4, 2\).*\[T, C\] = \(4, 3\)"),
        ((weights, codes, np.ones(1)), r"noise_var is \(1,\); it must be \[T\] = \(4,\)"),
    ):
        with refused(match):
            checks.episode(mean, *bad)
    checks.draws(np.ones(1), 1)
    for logits in (np.ones((1, 1)), np.ones(0), np.ones(())):
        with refused(r"address_logits is .*; it must be \[N\] with N >= 1"):
            checks.draws(logits, 1)
    with refused("num_samples is 0; it must be at least 1"):
        checks.draws(np.ones(1), 0)


def test_signs():
    checks.positive("x", np.array([0.5, 2.0]))
    checks.not_negative("x", np.array([0.0, 0.5]))
    for value in (0, np.array([0.5, -1.0]), np.nan):
        with refused("x is .*; it must be positive"):
            checks.positive("x", value)
    with refused("x is .*; it must not be negative"):
        checks.not_negative("x", np.array([0.5, -1.0]))
    # What is not known while tracing is not asked.
    for check in (checks.positive, checks.not_negative):
        jax.eval_shape(lambda x, check=check: check("x", x), -1.0)
