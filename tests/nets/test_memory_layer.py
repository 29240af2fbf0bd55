import jax
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.nets import MemoryLayer


def inputs():
    return np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)


def test_a_new_memory_changes_nothing():
    """The element-wise MLP starts at the top-down signal; section 5."""
    layer = MemoryLayer(5, num_slots=3)
    variables = layer.init(jax.random.key(0), inputs())
    outputs, weights = layer.apply(variables, inputs())
    assert weights.shape == (4, 3)
    plain = MemoryLayer(5)
    params = {name: variables["params"][name] for name in ("dense", "norm")}
    expected, nothing = plain.apply({**variables, "params": params}, inputs())
    assert nothing is None
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_slots": -1}, r"num_slots is -1; it must be 0 \(no memory\) or more"),
        ({"attention": "hard"}, "attention is 'hard'; it must be one of softmax, sigmoid"),
        ({"composition": "product"}, "composition is 'product'; it must be one of mlp, sum"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        MemoryLayer(5, **fields).init(jax.random.key(0), inputs())
