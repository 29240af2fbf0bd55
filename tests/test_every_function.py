"""What holds of every public function of the memories and the estimators, whatever it computes.

The functions are found, not listed; each needs an example in `tests/function_examples.py`. All runs
in float64, without silent broadcasting, and with NaNs looked for.
"""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from tests.function_cases import (
    DIFFERENTIABLE,
    FUNCTIONS,
    NAMES,
    RANDOM,
    WITH_ARGUMENTS,
    assert_close,
    case,
    dot,
    floats,
)
from tests.function_examples import EXAMPLES


def each(names, slow=()):
    """Of several examples of a function, all but the first are slow; so are those of `slow`."""
    params, seen = [], set()
    for name in names:
        is_slow = name.split()[0] in seen or name.split(".")[0] in slow
        seen.add(name.split()[0])
        params.append(pytest.param(name, marks=[pytest.mark.slow] * is_slow))
    return pytest.mark.parametrize("name", params)


every, with_arguments, differentiable = map(each, (NAMES, WITH_ARGUMENTS, DIFFERENTIABLE))


@pytest.fixture(autouse=True)
def strict():
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        yield


@pytest.fixture
def compilations():
    """One entry for each program that XLA compiles."""
    found = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    if hasattr(jax.monitoring, "unregister_event_duration_listener"):  # before JAX 0.8
        jax.monitoring.unregister_event_duration_listener(listen)


def test_each_function_has_an_example():
    given = {name.split()[0] for name in EXAMPLES}
    missing, unknown = sorted(FUNCTIONS.keys() - given), sorted(given - FUNCTIONS.keys())
    assert not missing, f"tests/function_examples.py has no example of {', '.join(missing)}"
    assert not unknown, f"tests/function_examples.py has examples of unknown {', '.join(unknown)}"


DEFAULTS = {
    "addressing.lookup": {"axis_name": None},
    "addressing.sample_streaming": {
        "kind": "key_normalized",
        "chunk_size": 2048,
        "axis_name": None,
        "slot_norms": None,
    },
    "addressing.top_k": {
        "kind": "key_normalized",
        "chunk_size": 2048,
        "axis_name": None,
        "slot_norms": None,
    },
    "product_keys.sample": {"kind": "inner"},
    "product_keys.top_k": {"kind": "inner"},
    "addressing.similarity": {"kind": "key_normalized", "slot_norms": None},
    "attention.attention_weights": {"bias": None, "kind": "softmax", "num_heads": 1},
    "causal.attend": {
        "log_decay": None,
        "mask": None,
        "reset": None,
        "inclusive": True,
        "method": "auto",
        "chunk_size": 32,
        "num_iterations": 32,
        "axis_name": None,
        "return_residual": False,
    },
    "dnc.init": {"num_heads": 1},
    "dnc.read": {"mask": None},
    "dnc.write": {"mask": None, "reset": None},
    "estimators.exact": {"num_samples": 1},
    "estimators.gumbel_softmax": {"temperature": 1.0, "straight_through": False},
    "estimators.gumbel_rao": {"temperature": 1.0, "num_noises": 16},
    "estimators.ovis": {"gamma": 0.0},
    "estimators.reinforce": {"baseline": 0.0},
    "estimators.reinmax": {"temperature": 1.0},
    "estimators.vimco": {"baseline": "arithmetic"},
    "kanerva.least_squares_weights": {"prior_var": 1.0},
    "kanerva.prior": {"scale": 1.0, "diagonal": False},
    "kanerva.read": {"noise_var": 0.0},
    "kanerva.write": {"method": "auto", "axis_name": None},
    "low_rank.prior": {"scale": 1.0},
    "low_rank.read": {"noise_var": 0.0},
    "lrua.init": {"num_heads": 1},
    "lrua.read": {"usage_decay": 0.95, "read_strengths": 1.0, "mask": None},
    "lrua.write": {"mask": None, "reset": None},
    "sdm.read": {"num_iterations": 1, "mask": None},
    "sdm.write": {"mask": None, "reset": None},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_stay(name):
    """Another default would change what users' programs compute."""
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    found = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert found == DEFAULTS.get(name, {})


@every
def test_compiled_is_eager_and_is_exported_and_compiled_once(name, compilations):
    of = case(name)
    found, expected = of.compiled(of.arguments()), of(of.arguments())
    before = len(compilations)
    of(of.arguments(scale=0.5))
    assert len(compilations) == before
    assert_close(found, expected)
    for outputs in (found, expected):
        leaves = jax.tree.leaves(outputs)
        places = {leaf.unsafe_buffer_pointer() for leaf in leaves}
        assert len(places) == len(leaves), "two leaves share memory: they can't be donated"
        assert not any(leaf.weak_type for leaf in leaves), "the next step would trace again"
        assert {leaf.dtype for leaf in floats(outputs)} <= {jnp.dtype(jnp.float64)}
    of.jitted.trace(of.arguments(scale=0.5), jax.random.PRNGKey(1))
    assert of.traces == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_taken_eagerly_are_compiled_once(name, compilations):
    of = case(name)

    def differentiate(arguments):
        value, pull_back = jax.vjp(of.numbers, arguments)
        return pull_back(jax.tree.map(jnp.ones_like, value))

    differentiate(of.arguments())
    before = len(compilations)
    differentiate(of.arguments(scale=0.5))
    assert len(compilations) == before


@with_arguments
def test_mapped_is_a_loop(name):
    of = case(name)
    values = jax.tree.map(lambda leaf: leaf.reshape(4, *leaf.shape[2:]), of.at_scaled[0])
    for i, arguments in enumerate(of.scaled):
        assert_close([leaf[i] for leaf in jax.tree.leaves(values)], of.compiled(arguments))


@differentiable
def test_derivatives_agree(name):
    """Forward, reverse under `jax.checkpoint`, both, and finite differences."""
    of, step = case(name), 1e-5
    kind, tangents = of.example.derivatives, of.directions(of.arguments(), 0)
    _, along, back, second = of.at_scaled
    expected = dot(back, tangents)
    if along is not None:
        np.testing.assert_allclose(dot(along, of.cotangents), expected, rtol=1e-8, atol=1e-10)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(second))
    if along is not None:  # without reverse mode too
        jax.eval_shape(lambda a: jax.jvp(of.numbers, (a,), (tangents,)), of.arguments())
    if kind == "estimator":
        return
    after, before = of.at(of.scaled, step), of.at(of.scaled, -step)
    rise = dot(floats(after[0]), of.cotangents) - dot(floats(before[0]), of.cotangents)
    np.testing.assert_allclose(rise / (2.0 * step), expected, rtol=1e-6, atol=1e-6)
    if kind == "second":
        rise = jax.tree.map(lambda a, b: np.asarray(a) - b, after[2], before[2])
        assert_close(second, jax.tree.map(lambda leaf: leaf / (2.0 * step), rise), 1e-5)


@each([name for name in DIFFERENTIABLE if EXAMPLES[name].edges])
def test_gradients_are_finite_at_the_edges(name):
    of = case(name)
    edges = [of.arguments(**changes) for changes in of.example.edges]
    _, along, back, _ = of.at((4 * edges)[:4])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((along, back)))


@each(WITH_ARGUMENTS, slow=["estimators"])  # `test_narrow_types` has them beside oracles
def test_low_precision_is_rounded_once(name):
    of = case(name)
    values, gradient = of.low(of.arguments(jnp.bfloat16))
    if of.takes_key:  # random numbers of another type are others
        expected = of.low(of.arguments(jnp.float32))
    else:
        exact, _, back, _ = jax.tree.map(lambda leaf: leaf[0, 0], of.at_scaled)
        expected = floats(exact), back
    given = {jnp.dtype(jnp.float32 if of.example.wide else jnp.bfloat16)}
    assert {leaf.dtype for leaf in values} <= given
    leaves = jax.tree.leaves((values, gradient))
    for a, b in zip(leaves, jax.tree.leaves(expected), strict=True):
        assert_close(a, b, max(2e-6, float(jnp.finfo(a.dtype).eps)))


@pytest.mark.skipif(jax.__version_info__ < (0, 8), reason="equal programs print differently")
@with_arguments
def test_float16_is_computed_as_bfloat16_is(name):
    of = case(name)
    programs = [str(of.low.trace(of.arguments(t)).jaxpr) for t in (jnp.float16, jnp.bfloat16)]
    programs = [re.sub("0x[0-9a-f]+", "", program) for program in programs]  # where objects lie
    half, brain = (program.replace("bf", "f").replace("bfloat", "float") for program in programs)
    assert half.split() == brain.split()


@with_arguments
def test_numpy_and_lists_are_arrays(name):
    of = case(name)
    expected, given = of(of.arguments()), jax.tree.map(np.asarray, of.arguments())
    lists = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in given.items()}
    found = of(lists)
    assert jax.tree.map(jnp.dtype, found) == jax.tree.map(jnp.dtype, expected)
    assert_close(found, expected)
    with jax.enable_x64(False):
        narrow = jax.make_jaxpr(lambda: of.numbers(given))().out_avals
    assert {leaf.dtype for leaf in narrow} <= {jnp.dtype(jnp.float32)}


@with_arguments
def test_what_is_no_real_number_is_refused_by_name(name):
    of = case(name)
    for argument, value in of.arguments().items():
        if not isinstance(value, jax.Array):
            continue
        for wrong in ("text", [[1.0], [1.0, 2.0]], value.astype(complex), object()):
            with pytest.raises(ValueError, match=argument) as refused:
                of(of.arguments() | {argument: wrong})
            assert "\n" not in str(refused.value)


@with_arguments
def test_integers_are_refused_or_right(name):
    of = case(name)
    for argument, value in of.arguments().items():
        if of.example.fixed:
            whole = jax.tree.map(lambda leaf: leaf.astype(jnp.int8), value)
        elif isinstance(value, jax.Array):  # what wraps, if it is multiplied
            whole = (16 + jnp.abs(2 * value)).astype(jnp.uint8)
        else:
            whole = jax.tree.map(lambda leaf: jnp.round(16 * leaf).astype(jnp.int32), value)
        try:
            found = of(of.arguments() | {argument: whole})
        except ValueError as refused:
            assert argument in str(refused) and "\n" not in str(refused)
            continue
        real = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), whole)
        assert_close(found, of(of.arguments() | {argument: real}), 1e-6)


@each(RANDOM)
def test_keys_of_every_kind(name):
    of = case(name)
    kinds = (jax.random.key, jax.random.PRNGKey)
    assert_close(*[jax.jit(of)(of.arguments(), key(0)) for key in kinds])
    with jax.default_prng_impl("unsafe_rbg"):
        for key in kinds:  # JAX's cache doesn't know the default
            jax.eval_shape(lambda *given: of(*given), of.arguments(), key(0))
        keys = jax.random.split(jax.random.key(0), 2)
        jax.eval_shape(jax.vmap(of, (None, 0)), of.arguments(), keys)


@with_arguments
def test_empty_batches(name):
    of = case(name)
    nothing = jax.tree.map(lambda leaf: leaf[None][:0], of.arguments())
    shapes = jax.eval_shape(jax.vmap(of), nothing)
    assert all(leaf.shape[0] == 0 for leaf in jax.tree.leaves(shapes))
    if of.example.leading:
        arguments = of.arguments()
        empty = {argument: arguments[argument][:0] for argument in of.example.leading}
        found = jax.jit(of)(arguments | empty)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.skipif(jax.__version_info__ < (0, 8), reason="JAX did not map all of its functions")
@with_arguments
def test_meshes_of_explicit_axes(name):
    """A batch over two devices, each element with its own memory, forward and backward."""
    of = case(name)
    mesh = AbstractMesh((2,), ("batch",), axis_types=(AxisType.Explicit,))

    def gradient(arguments):
        value, pull_back = jax.vjp(of.numbers, arguments)
        return value if of.example.derivatives == "none" else pull_back(value)[0]

    def place(leaf):
        sharding = NamedSharding(mesh, PartitionSpec("batch", *[None] * leaf.ndim))
        return jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype, sharding=sharding)

    arguments = jax.tree.map(place, of.arguments())
    with jax.sharding.use_abstract_mesh(mesh):
        gradients = jax.eval_shape(jax.vmap(gradient), arguments)
    assert all(leaf.sharding.spec[0] == "batch" for leaf in jax.tree.leaves(gradients))
