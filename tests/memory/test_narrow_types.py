"""The memory functions, but for the Gaussian ones, in narrow types: see `tests.narrow`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import addressing, attention, dnc, lrua, sdm
from tests import narrow, oracles
from tests.memory.test_dnc import allocation, cosine_softmax
from tests.narrow import normal, split, uniform

_N, _C, _H, _L = 7, 5, 2, 40
_KEY = jax.random.key(3)
_CHOSEN = np.repeat(np.arange(4), (600, 1, 30, 2))  # more often than bfloat16 counts


def plain(function, **options):
    return lambda values: (function(**values, **options), None)


def of_state(function, kind, **options):
    def call(values):
        memory, others = split(kind, values)
        return jax.tree.leaves(function(memory, **others, **options)), None

    return call


def by_name(function, **options):
    """An oracle of arguments that are called as the values are, less the state's name."""
    return lambda _, values: function(
        **{name.split(".")[-1]: value for name, value in values.items()}, **options
    )


def log_softmax(logits):
    return np.log(oracles.softmax(logits))


def similarity(query, slot_embeddings, kind):
    logits = query @ slot_embeddings.T
    if kind != "inner":
        logits = logits / np.linalg.norm(slot_embeddings, axis=1)
    return logits / np.linalg.norm(query, axis=-1, keepdims=True) if kind == "cosine" else logits


def sample(values):
    return addressing.sample(_KEY, **values, num_samples=_L)[::-1]


def sample_streaming(values):
    options = {"num_samples": _L, "kind": "inner", "chunk_size": 3}
    return addressing.sample_streaming(_KEY, **values, **options)[::-1]


def log_probs_at(addresses, values):
    logits = values.get("address_logits")
    logits = similarity(**values, kind="inner") if logits is None else logits
    return np.take_along_axis(log_softmax(logits), addresses, axis=-1)


def categorical_kl(posterior_logits, prior_logits):
    pairs = zip(posterior_logits, prior_logits, strict=True)
    return np.array([oracles.categorical_kl(*pair) for pair in pairs])


def attend(query, slot_keys, bias, kind):
    parts = query.reshape(-1, _H, 3), slot_keys.reshape(_N, _H, 3)
    logits = np.einsum("the,nhe->thn", *parts) + bias
    return oracles.softmax(logits) if kind == "softmax" else 1 / (1 + np.exp(-logits))


def combine(a1, a2, a3, a4, b1, c1, c2, c3, c4, generated, retrieved):
    g, m = generated, retrieved
    inner = c1 + c2 * m + c3 * g + c4 * g * m
    return a1 + a2 * m + a3 * g + a4 * g * m + b1 / (1 + np.exp(-inner))


def content_weights(contents, keys, strengths):
    pairs = zip(keys, strengths, strict=True)
    return np.array([cosine_softmax(contents, *pair) for pair in pairs])


def update_usage(usage, write_weights, read_weights, free_gate, **others):
    del others
    retention = np.prod(1 - free_gate[:, None] * read_weights, axis=0)
    return (usage + write_weights - usage * write_weights) * retention


def write_dnc(
    contents, usage, link, precedence_weights, write_weights, read_weights,
    code, write_key, erase, free_gate, write_strength, allocation_gate, write_gate,
):  # fmt: skip
    usage = update_usage(usage, write_weights, read_weights, free_gate)
    content = cosine_softmax(contents, write_key, write_strength)
    weights = allocation_gate * allocation(usage) + (1 - allocation_gate) * content
    weights = write_gate * weights
    contents = contents * (1 - np.outer(weights, erase)) + np.outer(weights, code)
    fading = 1 - weights[:, None] - weights
    link = (fading * link + np.outer(weights, precedence_weights)) * (1 - np.eye(_N))
    precedence_weights = (1 - weights.sum()) * precedence_weights + weights
    return contents, usage, link, precedence_weights, weights, read_weights


def read_dnc(
    contents, usage, link, precedence_weights, write_weights, read_weights,
    read_keys, read_strengths, read_modes,
):  # fmt: skip
    content = content_weights(contents, read_keys, read_strengths)
    modes = np.stack([read_weights @ link, content, read_weights @ link.T])
    weights = np.einsum("hm,mhn->hn", read_modes, modes)
    state = contents, usage, link, precedence_weights, write_weights, weights
    return weights @ contents, *state


def write_lrua(contents, usage_weights, read_weights, write_weights, codes, write_gate):
    del write_weights
    least_used = np.eye(_N)[np.argsort(usage_weights)[:_H]]
    weights = write_gate[:, None] * read_weights + (1 - write_gate[:, None]) * least_used
    kept = 1 - least_used.sum(axis=0)[:, None]
    return kept * contents + weights.T @ codes, usage_weights, read_weights, weights


def read_lrua(contents, usage_weights, read_weights, write_weights, read_keys, usage_decay):
    del read_weights
    weights = content_weights(contents, read_keys, np.ones(_H))
    usage_weights = usage_decay * usage_weights + (weights + write_weights).sum(axis=0)
    return weights @ contents, contents, usage_weights, weights, write_weights


def write_sdm(address_matrix, contents, pattern):
    selected = np.sum(address_matrix * np.sign(pattern) < 0, axis=1) <= 3
    return address_matrix, contents + np.outer(selected, pattern)


_TABLE = {"query": normal(3, 24), "slot_embeddings": normal(_N, 24)}
_KEYS = {"query": normal(3, 6), "slot_keys": normal(_N, 6), "bias": normal(_N)}
_COMPOSITION = {f"composition.{name}": normal(_C) for name in vars(attention.init_composition(1))}
_SIGNALS = {"generated": normal(3, _C), "retrieved": uniform(3, _C)}
_STRENGTHS = 1 + uniform(_H)
_DNC = {
    "memory.contents": normal(_N, _C),
    "memory.usage": uniform(_N),
    "memory.link": uniform(_N, _N) / _N,
    "memory.precedence_weights": uniform(1, _N)[0] / _N,
    "memory.write_weights": uniform(2, _N)[0] / _N,
    "memory.read_weights": uniform(_H, _N) / _N,
}
_LRUA = {
    "memory.contents": normal(_N, _C),
    "memory.usage_weights": 0.1 * np.arange(_N)[::-1],
    "memory.read_weights": oracles.softmax(normal(_H, _N)),
    "memory.write_weights": uniform(_H, _N),
}
_SDM = {"memory.address_matrix": np.sign(normal(_N, 8)), "memory.contents": normal(_N, 8)}

CASES = {
    **{
        f"similarity {kind}, elements of {scale}": (
            plain(addressing.similarity, kind=kind),
            by_name(similarity, kind=kind),
            {name: scale * value for name, value in _TABLE.items()},
        )
        for kind, scale in (
            *((kind, 1) for kind in addressing.KINDS),
            ("cosine", 60),  # squared norms and products that float16 can't hold
            ("cosine", 2e-3),
            ("key_normalized", 60),
        )
    },
    "sample": (sample, log_probs_at, {"address_logits": normal(_N)}),
    "sample_streaming": (sample_streaming, log_probs_at, _TABLE),
    "lookup": (
        plain(addressing.lookup, addresses=_CHOSEN),
        by_name(lambda contents: contents[_CHOSEN]),
        {"contents": normal(_N, 2)},
    ),
    "kl_divergence": (
        plain(addressing.kl_divergence),
        by_name(categorical_kl),
        {"posterior_logits": 3 * normal(2, 24), "prior_logits": 3 * normal(2, 24) + uniform(2, 24)},
    ),
    **{
        f"attention_weights {kind}": (
            plain(attention.attention_weights, kind=kind, num_heads=_H),
            by_name(attend, kind=kind),
            _KEYS,
        )
        for kind in attention.KINDS
    },
    "attention.read": (
        plain(attention.read),
        by_name(lambda weights, contents: weights[:, 0] @ contents),
        {"weights": uniform(3, 1, _N), "contents": normal(_N, _C)},
    ),
    "combine_sum": (
        plain(attention.combine_sum),
        by_name(lambda generated, retrieved: generated + retrieved),
        _SIGNALS,
    ),
    "combine_mlp": (
        of_state(attention.combine_mlp, attention.Composition),
        by_name(combine),
        _COMPOSITION | _SIGNALS,
    ),
    "dnc.write": (
        of_state(dnc.write, dnc.DNCState),
        by_name(write_dnc),
        _DNC
        | {name: normal(_C) for name in ("code", "write_key")}
        | {"erase": uniform(_C), "free_gate": uniform(_H)}
        | {"write_strength": 1.5, "allocation_gate": 0.4, "write_gate": 0.7},
    ),
    "dnc.read": (
        of_state(dnc.read, dnc.DNCState),
        by_name(read_dnc),
        _DNC
        | {"read_keys": normal(_H, _C), "read_strengths": _STRENGTHS, "read_modes": uniform(_H, 3)},
    ),
    "dnc.content_weights": (
        plain(dnc.content_weights),
        by_name(content_weights),
        {"contents": normal(_N, _C), "keys": normal(_H, _C), "strengths": _STRENGTHS},
    ),
    "dnc.update_usage": (
        of_state(dnc.update_usage, dnc.DNCState),
        by_name(update_usage),
        _DNC | {"free_gate": uniform(_H)},
    ),
    "dnc.allocation_weights": (
        plain(dnc.allocation_weights),
        by_name(allocation),
        {"usage": uniform(_N)},
    ),
    "lrua.write": (
        of_state(lrua.write, lrua.LRUAState),
        by_name(write_lrua),
        _LRUA | {"codes": normal(_H, _C), "write_gate": uniform(_H)},
    ),
    "lrua.read": (
        of_state(lrua.read, lrua.LRUAState),
        by_name(read_lrua),
        _LRUA | {"read_keys": normal(_H, _C), "usage_decay": 0.9},
    ),
    "lrua.least_used_weights": (
        plain(lrua.least_used_weights, num_heads=_H),
        by_name(lambda usage_weights: np.eye(_N)[np.argsort(usage_weights)[:_H]]),
        {"usage_weights": uniform(_N)},
    ),
    "sdm.write": (
        of_state(sdm.write, sdm.SparseState, radius=3),
        by_name(write_sdm),
        _SDM | {"pattern": np.sign(normal(8))},
    ),
}
_MAY_BE_OTHERS = {  # integers, any pytree, None
    "sdm.write": ("memory.address_matrix", "memory.contents"),
    "lookup": ("contents",),
    **{f"attention_weights {kind}": ("bias",) for kind in attention.KINDS},
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_within_one_rounding(name, dtype):
    narrow.assert_right(CASES[name], dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_numpy_and_lists_are_taken_and_what_is_no_array_of_reals_is_refused(name):
    narrow.assert_taken_from_numpy(CASES[name])
    narrow.assert_refused_in_one_line(CASES[name], but=_MAY_BE_OTHERS.get(name, ()))
