"""Second derivatives of what is mapped and compiled, where JAX trusts our derivative rules.

The rule of a `custom_jvp` must batch as its function does. Under `jit` and `checkpoint` JAX does
not look: results are of a wrong shape, or wrong where two sizes are equal. So no two are here.
"""

import jax
import pytest

from tests.function_cases import DIFFERENTIABLE, case

_MAPPED = 11  # no other size


_OURS = ("causal", "kanerva", "low_rank")  # modules that may have such rules


def _places():
    """Functions, and which of their arrays is mapped while the others are not."""
    for name in DIFFERENTIABLE:
        of = case(name)
        if name.startswith(_OURS) and of.example.derivatives == "second":
            for place in range(len(jax.tree.leaves(of.arguments()))):
                yield pytest.param(name, place, marks=[pytest.mark.slow] * (place > 0))


@pytest.mark.parametrize(("name", "place"), list(_places()))
def test_one_array_mapped(name, place):
    of = case(name)
    if "custom_jvp" not in str(jax.make_jaxpr(of.numbers)(of.arguments())):
        return
    leaves, structure = jax.tree.flatten(of.arguments())
    axes = [0 if index == place else None for index in range(len(leaves))]
    leaves[place] = jax.numpy.stack([leaves[place]] * _MAPPED)
    mapped = jax.jit(jax.vmap(of.numbers, (structure.unflatten(axes),)))

    def slope(arguments):
        return jax.jvp(mapped, (arguments,), (arguments,))[1]

    arguments = structure.unflatten(leaves)
    value = jax.eval_shape(of.numbers, of.arguments())
    curvature = jax.eval_shape(lambda a: jax.jvp(slope, (a,), (a,))[1], arguments)
    assert [leaf.shape for leaf in curvature] == [(_MAPPED, *leaf.shape) for leaf in value]
