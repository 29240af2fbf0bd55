import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from memjax.memory import attention

pytestmark = pytest.mark.usefixtures("strict_ranks")


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("kind", attention.KINDS)
@pytest.mark.parametrize(("num_heads", "leading"), [(1, ()), (4, (3,)), (2, (2, 3))])
def test_weights_and_reads_against_loops(kind, num_heads, leading):
    shapes = ((*leading, 8), (5, 8), (5,), (5, 12))
    query, keys, bias, contents = (
        np.asarray(random(*shape, seed=i)) for i, shape in enumerate(shapes)
    )
    attend = partial(attention.attention_weights, kind=kind, num_heads=num_heads)
    weights = jax.jit(attend)(query, keys, bias)
    read = jax.jit(attention.read)(weights, contents)
    assert weights.shape == (*leading, num_heads, 5) and read.shape == (*leading, 12)
    part, content_part = 8 // num_heads, 12 // num_heads
    for index in np.ndindex(*leading, num_heads):
        *place, head = index
        columns = slice(head * part, (head + 1) * part)
        logits = np.array(
            [np.dot(query[(*place, columns)], keys[n, columns]) + bias[n] for n in range(5)]
        )
        function = scipy.special.softmax if kind == "softmax" else scipy.special.expit
        expected = function(logits)
        np.testing.assert_allclose(weights[index], expected, rtol=1e-4, atol=1e-6)
        columns = slice(head * content_part, (head + 1) * content_part)
        np.testing.assert_allclose(
            read[(*place, columns)], expected @ contents[:, columns], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", attention.KINDS)
def test_a_masked_slot_is_not_read_and_gradients_are_finite(kind):
    bias = jnp.array([0.0, -jnp.inf, 1.0])

    def total(query):
        return attention.attention_weights(query, random(3, 4), bias, kind=kind).sum()

    weights = attention.attention_weights(random(4), random(3, 4), bias, kind=kind)
    assert weights[0, 1] == 0
    assert np.all(np.isfinite(jax.grad(total)(random(4))))


def test_one_slot_is_read_whole_by_softmax():
    weights = attention.attention_weights(random(4), random(1, 4))
    np.testing.assert_array_equal(attention.read(weights, random(1, 6)), random(1, 6)[0])


def test_composition_begins_as_the_top_down_signal():
    generated, retrieved = random(2, 5), random(2, 5, seed=1)
    composition = attention.init_composition(5)
    found = attention.combine_mlp(composition, generated, retrieved)
    np.testing.assert_array_equal(found, generated)
    ones = [name for name, leaf in vars(composition).items() if np.all(leaf == 1)]
    assert ones == ["a3", "c3"]  # the paper's section 5; all the others are 0
    np.testing.assert_array_equal(
        attention.combine_sum(generated, retrieved), generated + retrieved
    )


def test_combine_mlp_against_its_equation():
    rng = np.random.default_rng(0)
    fields = {name: rng.normal(size=5) for name in vars(attention.init_composition(5))}
    composition = attention.Composition(**{k: jnp.asarray(v) for k, v in fields.items()})
    g, m = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    f = fields
    linear = f["a1"] + f["a2"] * m + f["a3"] * g + f["a4"] * g * m
    inner = f["c1"] + f["c2"] * m + f["c3"] * g + f["c4"] * g * m
    expected = linear + f["b1"] / (1 + np.exp(-inner))
    found = attention.combine_mlp(composition, jnp.asarray(g), jnp.asarray(m))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    single = attention.combine_mlp(composition, jnp.asarray(g[0, 0]), jnp.asarray(m[0, 0]))
    np.testing.assert_allclose(single, found[0, 0], rtol=1e-5)


def test_every_parameter_but_those_behind_b1_learns_from_the_start():
    gradient = jax.grad(lambda c: attention.combine_mlp(c, random(5), random(5, seed=1)).sum())(
        attention.init_composition(5)
    )
    moving = {name for name, leaf in vars(gradient).items() if np.all(leaf != 0)}
    assert moving == {"a1", "a2", "a3", "a4", "b1"}


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((random(4), random(3, 4)), {"kind": "hard"}, "kind is 'hard'; it must be one of softmax"),
        ((random(5), random(3, 4)), {}, r"query is \(5,\); it must be \[..., E\] with E = 4"),
        ((random(4), random(4)), {}, r"slot_keys is \(4,\); it must be \[N, E\]"),
        ((random(4), random(3, 4)), {"num_heads": 3}, "num_heads is 3; it must divide E = 4"),
        ((random(4), random(3, 4), random(4)), {}, r"bias is \(4,\); it must be \[N\] = \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        attention.attention_weights(*arguments, **options)


def test_reads_and_compositions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"weights is \(1, 3\).* N = 4"):
        attention.read(random(1, 3), random(4, 2))
    with pytest.raises(ValueError, match=r"weights is \(3,\); it must be \[\.\.\., H, N\]"):
        attention.read(random(3), random(3, 2))
    with pytest.raises(ValueError, match="num_heads is 3; it must divide C = 4"):
        attention.read(random(3, 5), random(5, 4))
    with pytest.raises(ValueError, match=r"retrieved is \(2,\); it must be as generated, \(3,\)"):
        attention.combine_mlp(attention.init_composition(3), random(3), random(2))


@pytest.mark.parametrize("name", vars(attention.init_composition(3)))
def test_each_part_of_a_composition_must_fit(name):
    given = random(2, 3)
    composition = dataclasses.replace(attention.init_composition(3), **{name: random(2)})
    other = "composition.a2" if name == "a1" else f"composition.{name}"
    with pytest.raises(ValueError, match=rf"{other} is .*; it must be as composition.a1"):
        attention.combine_mlp(composition, given, given)
    matrices = jax.tree.map(lambda leaf: leaf[None], attention.init_composition(3))
    with pytest.raises(ValueError, match=r"composition.a1 is \(1, 3\); it must be \[D\]"):
        attention.combine_mlp(matrices, given, given)
