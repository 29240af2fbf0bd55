"""What holds of every state, a new one too: they are found, not listed."""

import contextlib
import dataclasses
import importlib
import importlib.util
import pickle
import pkgutil
import sys

import flax.linen as nn
import flax.serialization
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax.errors import UserError
from memjax.memory import states
from memjax.memory.kanerva import KanervaState
from memjax.memory.states import state


def example(cls):
    """An instance with arrays that can be told apart; a typed key where a field is one."""
    fields = enumerate(dataclasses.fields(cls), start=1)
    return cls(
        **{
            field.name: jax.random.key(i) if field.name == "rng_key" else jnp.arange(float(i))
            for i, field in fields
        }
    )


def found_states():
    """The dataclasses of the library that are pytrees."""
    for package in ("memory", "estimators", "nets", "training"):
        folder = importlib.import_module(f"{memjax.__name__}.{package}")
        for module in pkgutil.walk_packages(folder.__path__, f"{folder.__name__}."):
            for cls in vars(importlib.import_module(module.name)).values():
                if not isinstance(cls, type) or cls.__module__ != module.name:
                    continue
                if not dataclasses.is_dataclass(cls) or issubclass(cls, nn.Module):
                    continue
                with contextlib.suppress(UserError):  # what refuses arrays is no state
                    if not jax.tree_util.all_leaves([example(cls)]):
                        yield cls


_STATES = list(found_states())


def assert_equal(found, expected):
    assert type(found) is type(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_they_are_found():
    names = {cls.__name__ for cls in _STATES}
    assert names >= {"KanervaState", "LowRankState", "DNCState", "LRUAState", "SparseState"}
    assert names >= {"Composition", "CategoricalState", "TrainState"}


@pytest.mark.parametrize("cls", _STATES)
def test_a_state_is_frozen_and_can_be_saved(cls):
    value = example(cls)
    for field in dataclasses.fields(cls):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    other = jax.tree.map(
        lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else 0 * leaf, value
    )
    saved = flax.serialization.to_bytes(value)
    assert_equal(flax.serialization.from_bytes(other, saved), value)
    assert_equal(pickle.loads(pickle.dumps(value)), value)
    exported = jax.export.export(jax.jit(lambda value: (value, {"twice": value})))(value)
    restored = jax.export.deserialize(exported.serialize())
    assert_equal(restored.call(value)[1]["twice"], value)


def test_flax_may_be_imported_later(monkeypatch):
    finder = states._RegisterOnceImported()
    monkeypatch.setattr(flax, "serialization", flax.serialization)  # both are put back
    monkeypatch.delitem(sys.modules, "flax.serialization")
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    assert finder.find_spec("json") is None and finder in sys.meta_path
    again = importlib.import_module("flax.serialization")
    assert finder not in sys.meta_path
    value = example(KanervaState)
    assert_equal(again.from_bytes(value, again.to_bytes(value)), value)


def test_a_program_without_flax_gets_the_finder_first(monkeypatch):
    """Other finders would find Flax before it; and it finds nothing where there is no Flax."""
    monkeypatch.delitem(sys.modules, "flax.serialization")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    spec = importlib.util.spec_from_file_location("states_anew", states.__file__)
    anew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(anew)
    assert isinstance(sys.meta_path[0], anew._RegisterOnceImported)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert sys.meta_path[0].find_spec("flax.serialization") is None


def test_what_does_not_fit_is_refused():
    @state
    class Pair:
        left: jax.Array
        right: jax.Array

    pair = Pair(jnp.ones(2), jnp.zeros(3))
    saved = flax.serialization.to_state_dict(pair)
    with pytest.raises(ValueError, match=r"Pair has fields \['left', 'right'\]; saved were"):
        flax.serialization.from_state_dict(pair, {"left": saved["left"]})


def test_a_class_may_be_defined_again():
    """As where a notebook's cell runs twice."""
    for _ in range(2):

        @state
        class Single:
            mean: jax.Array

        single = Single(jnp.ones(2))
        assert_equal(
            flax.serialization.from_bytes(single, flax.serialization.to_bytes(single)), single
        )
