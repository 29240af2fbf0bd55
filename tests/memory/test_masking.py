"""Masks and resets of all that steps: padding, packed sequences, narrow types, errors."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import nets
from memjax.memory import dnc, lrua, sdm

_T, _N, _C, _H, _D = 5, 4, 3, 2, 6
_RNG_KEY = jax.random.key(0)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def shares(*shape):
    return np.random.default_rng(shape).uniform(0.1, 0.9, shape).astype(np.float32)


def signs(*shape, seed=0):
    return np.sign(normal(*shape, seed=seed))


class Steps(NamedTuple):
    """A step, (parameters, memory, told, mask, reset) to (memory, found), and what it is given."""

    step: Callable
    start: Any  # not empty
    empty: Any
    told: Any  # of T steps
    parameters: Any


def functions(module, start, empty, write, read):
    """A write, then a read."""

    def step(_, memory, told, mask, reset):
        memory = module.write(memory, **told[0], mask=mask, reset=reset)
        found = module.read(memory, **told[1], mask=mask)
        return found[::-1] if isinstance(found, tuple) else (memory, found)

    return Steps(step, start, empty, (write, read), {})


def cell_steps(cell):
    empty = cell.initialize_carry(_RNG_KEY, (_D,))
    told = normal(_T, _D)
    shapes = jax.eval_shape(lambda: cell.init(_RNG_KEY, empty, told[0]))
    variables = jax.tree.map(lambda leaf: 0.5 * normal(*leaf.shape), shapes)
    start, _ = jax.jit(cell.apply)(variables, empty, told[-1])
    return Steps(step_of(cell), start, empty, told, variables)


def step_of(cell):
    def step(variables, memory, told, mask, reset):
        return cell.apply(variables, memory, told, mask=mask, reset=reset)

    return step


@functools.cache
def steps_of(name):
    if name == "dnc":
        sizes = [(_N, _C), (_N,), (_N, _N), (_N,), (_N,), (_H, _N)]
        write = {"code": normal(_T, _C), "write_key": normal(_T, _C, seed=1)}
        write |= {"write_strength": 1 + shares(_T), "erase": shares(_T, _C)}
        write |= {"free_gate": shares(_T, _H), "allocation_gate": shares(_T)}
        write |= {"write_gate": shares(_T)[::-1]}
        read = {"read_keys": normal(_T, _H, _C), "read_strengths": 1 + shares(_T, _H)}
        read |= {"read_modes": shares(_T, _H, 3) / 3}
        start = dnc.DNCState(*(shares(*size) / _N for size in sizes))
        return functions(dnc, start, dnc.init(_N, _C, _H), write, read)
    if name == "lrua":
        start = lrua.LRUAState(normal(_N, _C), shares(_N), shares(_H, _N), shares(_H, _N))
        write = {"codes": normal(_T, _H, _C), "write_gate": shares(_T, _H)}
        read = {"read_keys": normal(_T, _H, _C, seed=1), "usage_decay": shares(_T)}
        return functions(lrua, start, lrua.init(_N, _C, _H), write, read)
    if name == "sdm":
        empty = sdm.init(_RNG_KEY, _N, _D)
        start = dataclasses.replace(empty, contents=jnp.round(3 * normal(_N, _D)))
        write = {"pattern": signs(_T, _D), "radius": np.full(_T, 3, np.float32)}
        read = {"query": signs(_T, _D, seed=1), "radius": np.full(_T, 3, np.float32)}
        return functions(sdm, start, empty, write, read)
    return cell_steps(_CELLS[name])


_FIELDS = {"features": 5, "num_slots": _N, "code_size": _C, "address_size": 2}
_CELLS = {
    "KanervaCell": nets.KanervaCell(**_FIELDS),
    "CategoricalCell": nets.CategoricalCell(**_FIELDS),
}
NAMES = ["dnc", "lrua", "sdm", *_CELLS]
every = pytest.mark.parametrize("name", NAMES)


def scan(steps, parameters, memory, told, mask, reset):
    """The memory after each step and what is found, of one sequence."""

    def step(memory, now):
        memory, found = steps.step(parameters, memory, *now)
        return memory, (memory, found)

    return jax.lax.scan(step, memory, (told, mask, reset))[1]


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


@functools.cache
def compiled(name, differentiated):
    """Of two sequences, each with a start: memories and what is found, and gradients of that."""

    def loss(parameters, start, told, mask, reset):
        mapped = jax.vmap(functools.partial(scan, steps_of(name), parameters))
        memories, found = mapped(start, told, mask, reset)
        return jnp.sum(jnp.sin(found)), (memories, found)

    if not differentiated:
        return jax.jit(lambda *given: (loss(*given), None))
    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True, allow_int=True))


def run(name, start, told, mask=None, reset=None, differentiated=True):
    parameters = steps_of(name).parameters
    (_, found), gradients = compiled(name, differentiated)(parameters, start, told, mask, reset)
    return found, gradients


def twice(tree):
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), tree)


def both(function, tree):
    """Another function of each of the two sequences, of which a leaf has two rows."""
    return jax.tree.map(lambda leaf: jnp.stack([function(0, leaf[0]), function(1, leaf[1])]), tree)


def assert_same(found, wanted):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)


def at(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


_MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]], bool)  # real steps: three of each sequence


@pytest.fixture(scope="module", params=NAMES)
def padded(request):
    """Two sequences with NaN in their padding; with all padding at the end, of zeros; with none."""
    name = request.param
    steps = steps_of(name)
    start, told = twice(steps.start), twice(steps.told)
    reset, last = np.zeros_like(_MASK), np.sort(_MASK)[:, ::-1]

    def spoil(i, leaf):
        return jnp.where(_MASK[i].reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, jnp.nan)

    short = real_steps(told)
    longer = jax.tree.map(
        lambda leaf: jnp.pad(leaf, [(0, 0), (0, 2)] + [(0, 0)] * (leaf.ndim - 2)), short
    )
    return (
        run(name, start, both(spoil, told), _MASK, reset),
        run(name, start, longer, last, reset),
        run(name, start, short, differentiated=name in ("lrua", "sdm")),  # others compile long
    )


def real_steps(tree):
    return both(lambda i, leaf: leaf[_MASK[i]], tree)


def first_steps(tree):
    return jax.tree.map(lambda leaf: leaf[:, :3], tree)


def test_padded_is_unpadded_bit_for_bit(padded):
    """The padding reads 0 and has a gradient of 0, which NaN is not.

    The parameters' gradients are sums over steps in another order.
    """
    ((memories, found), gradients), (wanted, wanted_gradients), _ = padded
    assert_same(real_steps((memories, found)), first_steps(wanted))
    assert np.abs(wanted[1]).max() > 0.05
    parameters, start, told = gradients
    wanted_parameters, wanted_start, wanted_told = wanted_gradients
    assert_same((start, real_steps(told)), (wanted_start, first_steps(wanted_told)))
    for one, other in zip(*map(jax.tree.leaves, (parameters, wanted_parameters)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    for leaf in (found, *floats(told)):
        assert not np.any(leaf[~_MASK])


def test_without_masks_it_is_the_same(padded):
    """But for rounding: it is another program."""
    _, (found, (parameters, start, told)), wanted = padded
    found = [first_steps(found), (parameters, start, first_steps(told))]
    for one, other in zip(found, wanted, strict=True):
        for a, b in zip(floats(one), floats(other), strict=other is not None):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_masked_step_leaves_every_bit_of_the_memory(padded):
    memories = padded[0][0][0]
    for before, after in (((0, 0), (0, 1)), ((0, 3), (0, 4)), ((1, 2), (1, 3))):
        assert_same(at(memories, *after), at(memories, *before))


@every
def test_packed_sequences_are_separate_ones(name):
    """Steps 0 and 1; then 3, after a reset at a masked step; then 4."""
    steps = steps_of(name)
    mask, reset = np.array([1, 1, 0, 1, 1], bool), np.array([0, 0, 1, 0, 1], bool)
    start, told = twice(steps.start), twice(steps.told)
    (memories, found), _ = run(name, start, told, np.stack([mask] * 2), np.stack([reset] * 2))
    before = jax.tree.map(lambda leaf: leaf[0, 2:4], memories)
    first = twice(steps.empty)
    if name == "CategoricalCell":  # what is drawn goes on
        first = dataclasses.replace(first, rng_key=before.rng_key)
    alone = np.zeros((2, _T), bool)
    alone[[0, 1], [3, 4]] = True
    (memories_alone, found_alone), _ = run(name, first, told, alone, np.zeros_like(alone))
    for i, t in enumerate((3, 4)):
        assert_same(found[0, t], found_alone[i, t])
        assert_same(at(memories, 0, t), at(memories_alone, i, t))
    assert_same(at(memories, 0, 2), at(first, 0))


@every
def test_what_is_told_in_bfloat16_leaves_the_carry_wide(name):
    """`lax.scan` refuses a carry whose type changes."""
    steps, dtype = steps_of(name), jnp.bfloat16
    if name in _CELLS:
        steps = steps._replace(step=step_of(_CELLS[name].clone(dtype=dtype, param_dtype=dtype)))
    parameters, told = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype), (steps.parameters, steps.told)
    )
    memories, found = jax.eval_shape(
        functools.partial(scan, steps), parameters, steps.start, told, _MASK[0], _MASK[1]
    )
    assert {leaf.dtype for leaf in floats(memories)} == {jnp.dtype(jnp.float32)}
    assert found.dtype == (dtype if name in _CELLS else jnp.float32)


@every
def test_what_is_no_bool_of_a_step_is_refused_in_one_line(name):
    steps = steps_of(name)
    told = jax.tree.map(lambda leaf: leaf[0], steps.told)
    for condition in ("mask", "reset"):
        for given, message in (
            (1, "is int32[]; it must be bool[]"),
            (np.ones(2, bool), "is bool[2]; it must be bool[]"),
            ("no", "is 'no'; it must be an array of bool"),
        ):
            conditions = {"mask": None, "reset": None} | {condition: given}
            with pytest.raises(ValueError) as caught:
                steps.step(steps.parameters, steps.start, told, **conditions)
            assert str(caught.value) == f"{condition} {message}"


def test_patterns_are_looked_at_where_they_are_not_masked():
    memory, wrong = sdm.init(_RNG_KEY, 3, 4), np.array([0.0, np.nan, 1.0, 1.0])
    written = sdm.write(memory, wrong, 2, mask=False)
    np.testing.assert_array_equal(written.contents, memory.contents)
    np.testing.assert_array_equal(sdm.read(memory, wrong, 2, mask=False), np.zeros(4))
    with pytest.raises(ValueError, match="pattern holds other numbers than -1 and 1"):
        sdm.write(memory, wrong, 2, mask=True)
