"""What holds of every memory function and estimator, whatever it computes."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import estimators
from memjax.memory import addressing, attention, dnc, kanerva, low_rank, lrua, sdm

_N, _C, _T, _H, _L = 5, 3, 4, 2, 4
_POSTERIORS = ("kanerva", "low_rank")  # float32 or wider, whatever comes in


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def kanerva_memory(diagonal=False):
    mean, root = arrays((_N, _C), (_N, _N))
    row_cov = root @ root.T / _N + jnp.eye(_N)
    return kanerva.KanervaState(mean, jnp.diagonal(row_cov) if diagonal else row_cov)


def low_rank_memory():
    return low_rank.write(low_rank.prior(_N, _C, _T), *arrays((_T, _N), (_T, _C)), 0.5)


def low_rank_write(*arguments):
    """As a covariance: the signs of its factor's columns are nobody's."""
    return low_rank.to_dense(low_rank.write(*arguments))


def dnc_memory():
    gates = dnc_gates()
    return dnc.write(dnc.init(_N, _C, _H), *arrays((_C,)), **gates)


def dnc_gates():
    write_key, erase = arrays((_C,), (_C,))
    return {
        "write_key": write_key,
        "write_strength": jnp.float32(1.5),
        "erase": jax.nn.sigmoid(erase),
        "free_gate": jnp.array([0.2, 0.7]),
        "allocation_gate": jnp.float32(0.6),
        "write_gate": jnp.float32(0.9),
    }


def dnc_write(memory, code, gates):
    return dnc.write(memory, code, **gates)


def dnc_read(memory, keys, strengths, modes):
    return dnc.read(memory, read_keys=keys, read_strengths=strengths, read_modes=modes)


def lrua_memory():
    return lrua.write(lrua.init(_N, _C, _H), *arrays((_H, _C)), jnp.array([0.3, 0.8]))


def patterns():
    return jnp.sign(arrays((8,))[0])


def sdm_memory():
    return sdm.init(jax.random.key(0), 20, 8)


def with_key(function):
    """The key last, as seeds of the other arguments' type."""
    return lambda *arguments: function(jax.random.key(0), *arguments)


_EPISODE = arrays((_T, _N), (_T, _C))
_SAMPLES = arrays((_L,), (_L,))
# Each: the function, and arguments that are arrays or states, all of them floating-point.
_CASES = {
    **{
        f"kanerva.write {method}": (
            partial(kanerva.write, method=method),
            (kanerva_memory(), *_EPISODE, jnp.full(_T, 0.5)),
        )
        for method in kanerva.WRITE_METHODS
    },
    "kanerva.write diagonal": (kanerva.write, (kanerva_memory(True), *_EPISODE, jnp.float32(0.5))),
    "kanerva.write_prefix": (
        kanerva.write_prefix,
        (kanerva_memory(), *_EPISODE, jnp.float32(0.5)),
    ),
    "kanerva.read": (kanerva.read, (kanerva_memory(), _EPISODE[0], jnp.float32(0.5))),
    "kanerva.read diagonal": (kanerva.read, (kanerva_memory(True), _EPISODE[0], jnp.float32(0.5))),
    "kanerva.sample": (with_key(kanerva.sample), (kanerva_memory(),)),
    "kanerva.kl_divergence": (
        kanerva.kl_divergence,
        (kanerva_memory(), jax.tree.map(lambda leaf: 2 * leaf, kanerva_memory())),
    ),
    "kanerva.address_weights": (kanerva.address_weights, tuple(arrays((_T, 6), (_N, 6)))),
    "kanerva.least_squares_weights": (
        kanerva.least_squares_weights,
        (kanerva_memory(), _EPISODE[1], jnp.float32(0.5), jnp.float32(1.0)),
    ),
    "low_rank.write": (low_rank_write, (low_rank_memory(), *_EPISODE, jnp.float32(0.5))),
    "low_rank.read": (low_rank.read, (low_rank_memory(), _EPISODE[0], jnp.float32(0.5))),
    "low_rank.to_dense": (low_rank.to_dense, (low_rank_memory(),)),
    **{
        f"addressing.similarity {kind}": (
            partial(addressing.similarity, kind=kind),
            tuple(arrays((_T, 6), (_N, 6))),
        )
        for kind in addressing.KINDS
    },
    "addressing.sample": (
        with_key(partial(addressing.sample, num_samples=_L)),
        tuple(arrays((_N,))),
    ),
    "addressing.sample_streaming": (
        with_key(partial(addressing.sample_streaming, num_samples=_L, chunk_size=2)),
        tuple(arrays((_T, 6), (_N, 6))),
    ),
    "addressing.lookup": (
        lambda contents: addressing.lookup(contents, jnp.array([0, 2])),
        tuple(arrays((_N, _C))),
    ),
    "addressing.kl_divergence": (addressing.kl_divergence, tuple(arrays((_T, _N), (_T, _N)))),
    **{
        f"attention.attention_weights {kind}": (
            partial(attention.attention_weights, kind=kind, num_heads=_H),
            tuple(arrays((_T, 6), (_N, 6), (_N,))),
        )
        for kind in attention.KINDS
    },
    "attention.read": (attention.read, tuple(arrays((_T, 1, _N), (_N, _C)))),
    "attention.combine_sum": (attention.combine_sum, tuple(arrays((_T, _C), (_T, _C)))),
    "attention.combine_mlp": (
        attention.combine_mlp,
        (attention.init_composition(_C), *arrays((_T, _C), (_T, _C))),
    ),
    "dnc.write": (dnc_write, (dnc_memory(), *arrays((_C,)), dnc_gates())),
    "dnc.read": (
        dnc_read,
        (dnc_memory(), *arrays((_H, _C)), jnp.full(_H, 2.0), jnp.full((_H, 3), 1 / 3)),
    ),
    "lrua.write": (lrua.write, (lrua_memory(), *arrays((_H, _C)), jnp.array([0.3, 0.8]))),
    "lrua.read": (lrua.read, (lrua_memory(), *arrays((_H, _C)))),
    "sdm.select": (sdm.select, (sdm_memory(), patterns(), jnp.float32(3))),
    "sdm.write": (sdm.write, (sdm_memory(), patterns(), jnp.float32(3))),
    "sdm.read": (sdm.read, (sdm_memory(), patterns(), jnp.float32(3))),
    "estimators.iwae": (estimators.iwae, (_SAMPLES[0],)),
    **{
        f"estimators.vimco {baseline}": (
            partial(estimators.vimco, baseline=baseline),
            tuple(_SAMPLES),
        )
        for baseline in ("arithmetic", "geometric")
    },
    "estimators.reinforce": (estimators.reinforce, tuple(_SAMPLES)),
    "estimators.nvil": (estimators.nvil, (*_SAMPLES, jnp.float32(0.3))),
    "estimators.reweighted_wake_sleep": (estimators.reweighted_wake_sleep, tuple(_SAMPLES)),
    "estimators.gumbel_softmax": (
        with_key(partial(estimators.gumbel_softmax, num_samples=_L)),
        tuple(arrays((_N,))),
    ),
    "estimators.exact": (
        lambda log_weights, logits: estimators.exact(log_weights, jax.nn.log_softmax(logits)),
        tuple(arrays((_N,), (_N,))),
    ),
}


def test_no_function_is_forgotten():
    modules = (addressing, attention, dnc, kanerva, low_rank, lrua, sdm)
    public = {f"estimators.{name}" for name in estimators.__all__}
    for module in modules:
        public |= {
            f"{module.__name__.split('.')[-1]}.{name}"
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__
            and callable(value)
            and not isinstance(value, type)
            and not name.startswith("_")
        }
    without_arrays = {"kanerva.prior", "low_rank.prior", "dnc.init", "lrua.init", "sdm.init"}
    helpers = {
        "kanerva.full_precision",
        "attention.init_composition",
        "dnc.content_weights",
        "dnc.update_usage",
        "dnc.allocation_weights",
        "lrua.least_used_weights",
    }
    assert public - without_arrays - helpers == {name.split()[0] for name in _CASES}


@pytest.mark.parametrize("name", _CASES)
def test_jit_is_eager_vmap_is_a_loop_and_nothing_retraces(name):
    function, arguments = _CASES[name]
    traces = 0

    def counted(*arguments):
        nonlocal traces
        traces += 1
        return function(*arguments)

    with jax.numpy_rank_promotion("raise"):
        jitted = jax.jit(counted)
        compiled = jitted(*arguments)
        other = jax.tree.map(lambda leaf: 0.9 * leaf, arguments)
        if name.startswith("sdm"):
            other = arguments
        pair = [compiled, jitted(*other)]
        assert traces == 1
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), arguments, other)
        mapped = jax.jit(jax.vmap(function))(*both)
        assert_close(function(*arguments), compiled)
    assert_close(mapped, jax.tree.map(lambda *leaves: jnp.stack(leaves), *pair))


@pytest.mark.parametrize("name", _CASES)
def test_types_come_out_as_they_go_in(name):
    """But for posteriors, which are never narrower than float32."""
    function, arguments = _CASES[name]
    with jax.enable_x64(True):
        wide = cast(arguments, jnp.float64)
        assert floating_types(jax.eval_shape(function, *wide)) <= {jnp.dtype(jnp.float64)}
    narrow = jax.eval_shape(function, *cast(arguments, jnp.bfloat16))
    posterior = name.startswith(_POSTERIORS) and "address" not in name
    expected = jnp.float32 if posterior else jnp.bfloat16
    assert floating_types(narrow) <= {jnp.dtype(expected)}


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def cast(arguments, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), arguments)


def floating_types(shapes):
    return {
        leaf.dtype for leaf in jax.tree.leaves(shapes) if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


def test_states_are_frozen():
    for memory in (kanerva_memory(), low_rank_memory(), dnc_memory(), lrua_memory(), sdm_memory()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            memory.mean = None
