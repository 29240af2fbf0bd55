"""Arguments for every public function of the memories and the estimators.

`tests/test_every_function.py` finds the functions by itself and asks for an example of each.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from memjax.estimators import multi_sample
from memjax.memory import attention, causal, dnc, kanerva, low_rank, lrua, sdm

_N, _C, _E, _T, _H, _L = 5, 3, 4, 2, 2, 4
_INF = float("inf")


@dataclasses.dataclass(frozen=True)
class Example:
    """How a function is called.

    Attributes:
      arguments: by name: numbers in float64, alone or in states, all in bfloat16's and float16's
        range. A key that the function takes is not among them.
      options: what is no array, by name, and integers.
      edges: changes to `arguments`, at which a gradient must be finite.
      leading: names of arguments that share a first axis, which may be empty.
      derivatives: "second": the value's first and second derivatives are those that it gives;
        "first": only the first; "reverse": the same, in reverse mode only; "estimator": what it
        gives is not the value's derivative; "none": it gives none.
      wide: whether the result is float32 or wider whatever comes in.
      then: what of the result is defined, if not all of it.
      fixed: whether other numbers than these would mean nothing.
    """

    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    edges: tuple[dict[str, Any], ...] = ()
    leading: tuple[str, ...] = ()
    derivatives: str = "second"
    wide: bool = False
    then: Callable = lambda result: result
    fixed: bool = False


def numbers(*shape, seed=0):
    """Normal ones."""
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def shares(*shape, seed=0):
    """Numbers in (0.1, 0.9)."""
    return 0.1 + 0.8 / (1.0 + np.exp(-numbers(*shape, seed=seed)))


def kanerva_memory(diagonal=False, seed=0):
    root = numbers(_N, _N, seed=seed)
    row_cov = root @ root.T / _N + np.eye(_N)
    mean = numbers(_N, _C, seed=seed)
    return kanerva.KanervaState(mean, np.diagonal(row_cov).copy() if diagonal else row_cov)


def low_rank_memory():
    """Of rank 4, and room for `_T` writes."""
    factor = 0.25 * numbers(_N, 4) * np.array([1.0, 1.0, 0.0, 0.0])
    return low_rank.LowRankState(numbers(_N, _C), 1.0 + shares(_N), factor)


def causal_memory():
    """One that something was written into."""
    memory = kanerva_memory()
    return causal.CausalState(
        prior_mean=memory.mean,
        prior_root=np.linalg.cholesky(memory.row_cov),
        mean=numbers(_N, _C, seed=1),
        root=np.eye(_N) - 0.125 * shares(_N, _N),
        precision=memory.row_cov,
    )


def dnc_memory():
    return dnc.DNCState(
        contents=numbers(_N, _C),
        usage=shares(_N),
        link=0.125 * shares(_N, _N) * (1 - np.eye(_N)),
        precedence_weights=0.25 * shares(_N, seed=1),
        write_weights=0.25 * shares(_N, seed=2),
        read_weights=0.25 * shares(_H, _N),
    )


_NEW_DNC = dnc.DNCState(*map(np.zeros, [(_N, _C), _N, (_N, _N), _N, _N, (_H, _N)]))
_GATES = {
    "code": numbers(_C),
    "write_key": numbers(_C, seed=1),
    "write_strength": np.array(1.5),
    "erase": shares(_C),
    "free_gate": shares(_H),
    "allocation_gate": np.array(0.75),
    "write_gate": np.array(0.875),
}


def lrua_memory():
    return lrua.LRUAState(
        numbers(_N, _C), shares(_N), 0.25 * shares(_H, _N), 0.25 * shares(_H, _N, seed=1)
    )


_NEW_LRUA = lrua.LRUAState(*map(np.zeros, [(_N, _C), _N, (_H, _N), (_H, _N)]))
_SPARSE = {
    "memory": sdm.SparseState(np.sign(numbers(20, 8)), np.round(numbers(20, 8))),
    "radius": np.array(3.5),
}
_PATTERN = np.sign(numbers(8))
_EPISODE = {
    "memory": kanerva_memory(),
    "write_weights": numbers(_T, _N),
    "codes": numbers(_T, _C),
    "noise_var": np.array([0.5, 0.25]),
}
_WRITES = ("write_weights", "codes", "noise_var")
_UNDECAYED = {**_EPISODE, "read_weights": numbers(_T, _N, seed=1)}
_SEQUENCE = {**_UNDECAYED, "log_decay": np.array([-0.25, -1.0])}
_TABLE = {"query": numbers(_T, _E), "slot_embeddings": numbers(_N, _E)}
_PRODUCT = {
    "query": numbers(_T, _E),
    "first_keys": numbers(3, 1, seed=2),
    "second_keys": numbers(_N, 3, seed=3),
}
_SAMPLES = {"log_weights": numbers(_L), "address_log_probs": -shares(_L)}
_SET = {"log_weights": numbers(_L), "address_log_probs": np.log([0.4, 0.1, 0.25, 0.125])}
_NO_WEIGHT = (
    {"log_weights": np.full(_L, -_INF)},
    {"log_weights": np.array([-_INF, 0.5, -_INF, -_INF])},
)
_READ = {"memory": kanerva_memory(), "read_weights": numbers(3, _N), "noise_var": np.array(0.5)}
_BOTH = {"generated": numbers(_T, _C), "retrieved": numbers(_T, _C, seed=1)}
_LOGITS = {"address_logits": numbers(_N)}
_IMPOSSIBLE = ({"address_logits": np.array([-_INF, 0.5, 0.25, -_INF, 1.0])},)

# By "module.function", and a word where a function has several.
EXAMPLES = {
    "kanerva.prior": Example(options={"num_slots": _N, "code_size": _C}),
    **{
        f"kanerva.write {word}": Example(
            {**_EPISODE, "memory": kanerva_memory("diagonal" in word)},
            {"method": word.split()[-1]} if word != "diagonal" else {},
            leading=_WRITES,
            wide=True,
        )
        for word in ("batch", "information", "online", "diagonal", "diagonal online")
    },
    "kanerva.write_prefix": Example(_EPISODE, leading=_WRITES, wide=True),
    "kanerva.erase": Example(
        {**_EPISODE, "noise_var": np.array([32768.0, 16384.0])}, leading=_WRITES, wide=True
    ),
    "kanerva.log_evidence": Example(_EPISODE, leading=_WRITES, wide=True),
    "kanerva.read": Example(_READ, leading=("read_weights",), wide=True),
    "kanerva.read diagonal": Example(
        {**_READ, "memory": kanerva_memory(True)}, leading=("read_weights",), wide=True
    ),
    "kanerva.sample": Example({"memory": kanerva_memory()}, wide=True),
    "kanerva.sample diagonal": Example({"memory": kanerva_memory(True)}, wide=True),
    **{
        f"kanerva.kl_divergence{word}": Example(
            {
                "memory_posterior": kanerva_memory(diagonal),
                "memory_prior": kanerva_memory(diagonal, seed=1),
            },
            wide=True,
        )
        for word, diagonal in (("", False), (" diagonal", True))
    },
    "kanerva.address_weights": Example(
        {"lookup_key": numbers(_T, _E), "address_matrix": numbers(_N, _E)},
        edges=({"address_matrix": np.zeros((_N, _E))},),
        leading=("lookup_key",),
    ),
    "kanerva.least_squares_weights": Example(
        {
            "memory": kanerva_memory(),
            "codes": numbers(_T, _C),
            "noise_var": np.array(0.5),
            "prior_var": np.array(2.0),
        },
        leading=("codes",),
        wide=True,
    ),
    "low_rank.prior": Example(options={"num_slots": _N, "code_size": _C, "rank": 2}),
    "low_rank.write": Example(
        {**_EPISODE, "memory": low_rank_memory()},
        leading=_WRITES,
        derivatives="first",
        wide=True,
        then=low_rank.to_dense,  # the signs of its factor's columns are nobody's
    ),
    "low_rank.read": Example(
        {**_READ, "memory": low_rank_memory()}, leading=("read_weights",), wide=True
    ),
    "low_rank.to_dense": Example({"memory": low_rank_memory()}, wide=True),
    "causal.begin": Example({"memory": kanerva_memory()}, wide=True),
    "causal.begin diagonal": Example({"memory": kanerva_memory(True)}, wide=True),
    "causal.posterior": Example({"memory": causal_memory()}, wide=True),
    **{
        f"causal.attend {method}": Example(
            {**given, "memory": causal_memory()},
            {"method": method},
            leading=tuple(given.keys() - {"memory"}),
            then=lambda result: result[:2],
        )
        # "state" is recurrent with decays.
        for method, given in (("recurrent", _UNDECAYED), ("chunk", _SEQUENCE))
    },
    "causal.attend state": Example(_SEQUENCE, wide=True, then=lambda result: result[2]),
    **{
        f"addressing.similarity {kind}": Example(
            _TABLE, {"kind": kind}, edges=({"query": np.zeros((_T, _E))},), leading=("query",)
        )
        for kind in ("key_normalized", "cosine")
    },
    "addressing.sample": Example(_LOGITS, {"num_samples": _L}, edges=_IMPOSSIBLE),
    "addressing.sample_streaming": Example(
        _TABLE,
        {"num_samples": _L, "chunk_size": 2},
        edges=({"slot_embeddings": np.zeros((_N, _E))},),
        leading=("query",),
        derivatives="reverse",
    ),
    "addressing.sample_streaming norms": Example(
        _TABLE | {"slot_norms": 1.0 + np.arange(_N)},
        {"num_samples": _L, "chunk_size": 2},
        leading=("query",),
        derivatives="reverse",
    ),
    "addressing.top_k": Example(_TABLE, {"k": 2, "chunk_size": 2}, leading=("query",)),
    "addressing.slot_norms": Example(
        {"slot_embeddings": _TABLE["slot_embeddings"]},
        edges=({"slot_embeddings": np.zeros((_N, _E))},),
        leading=("slot_embeddings",),
        wide=True,
    ),
    "product_keys.top_k": Example(_PRODUCT, {"k": 3}, leading=("query",)),
    "product_keys.sample": Example(_PRODUCT | {"query": numbers(_E)}, {"num_samples": _L}),
    "addressing.lookup": Example(
        {"contents": {"image": numbers(_N, _C)}}, {"addresses": np.array([0, 2], np.int32)}
    ),
    "addressing.kl_divergence": Example(
        {"posterior_logits": numbers(_T, _N), "prior_logits": numbers(_T, _N, seed=1)},
        edges=({"posterior_logits": np.array([[-_INF, 0.0, 1.0, 2.0, -_INF]] * _T)},),
        leading=("posterior_logits", "prior_logits"),
    ),
    **{
        f"attention.attention_weights {kind}": Example(
            {"query": numbers(_T, _E), "slot_keys": numbers(_N, _E), "bias": numbers(_N)},
            {"kind": kind, "num_heads": _H},
            edges=({"bias": np.array([-_INF, 0.0, 0.0, -_INF, 0.0])},),
            leading=("query",),
        )
        for kind in attention.KINDS
    },
    "attention.read": Example(
        {"weights": shares(_T, 1, _N), "contents": numbers(_N, _C)}, leading=("weights",)
    ),
    "attention.init_composition": Example(options={"size": _C}),
    "attention.combine_sum": Example(_BOTH, leading=tuple(_BOTH)),
    "attention.combine_mlp": Example(
        {
            "composition": attention.Composition(*(numbers(_C, seed=i) for i in range(9))),
            **_BOTH,
        },
        leading=tuple(_BOTH),
    ),
    "dnc.init": Example(options={"num_slots": _N, "code_size": _C, "num_heads": _H}),
    "dnc.write": Example({"memory": dnc_memory(), **_GATES}, edges=({"memory": _NEW_DNC},)),
    "dnc.read": Example(
        {
            "memory": dnc_memory(),
            "read_keys": numbers(_H, _C),
            "read_strengths": 1.0 + shares(_H),
            "read_modes": shares(_H, 3),
        },
        edges=({"memory": _NEW_DNC, "read_keys": np.zeros((_H, _C))},),
    ),
    "dnc.content_weights": Example(
        {"contents": numbers(_N, _C), "keys": numbers(_H, _C), "strengths": 1.0 + shares(_H)},
        edges=({"contents": np.zeros((_N, _C))},),
    ),
    "dnc.update_usage": Example({"memory": dnc_memory(), "free_gate": shares(_H)}),
    "dnc.allocation_weights": Example(
        {"usage": shares(_N)}, edges=({"usage": np.zeros(_N)}, {"usage": np.ones(_N)})
    ),
    "lrua.init": Example(options={"num_slots": _N, "code_size": _C, "num_heads": _H}),
    "lrua.write": Example(
        {"memory": lrua_memory(), "codes": numbers(_H, _C), "write_gate": shares(_H)},
        edges=({"memory": _NEW_LRUA},),
    ),
    "lrua.read": Example(
        {
            "memory": lrua_memory(),
            "read_keys": numbers(_H, _C),
            "usage_decay": np.array(0.9375),
            "read_strengths": np.array(1.5),
        },
        edges=({"memory": _NEW_LRUA},),
    ),
    "lrua.least_used_weights": Example({"usage_weights": shares(_N)}, {"num_heads": _H}),
    "sdm.init": Example(options={"num_slots": 20, "pattern_size": 8}),
    "sdm.select": Example({**_SPARSE, "query": _PATTERN}, derivatives="none", fixed=True),
    "sdm.write": Example({**_SPARSE, "pattern": _PATTERN}, derivatives="none", fixed=True),
    "sdm.read": Example({**_SPARSE, "query": _PATTERN}, derivatives="none", fixed=True),
    "estimators.iwae": Example({"log_weights": numbers(_L)}, edges=_NO_WEIGHT),
    **{
        f"estimators.vimco {baseline}": Example(
            _SAMPLES, {"baseline": baseline}, edges=_NO_WEIGHT, derivatives="estimator"
        )
        for baseline in multi_sample.BASELINES
    },
    "estimators.reinforce": Example(
        {**_SAMPLES, "baseline": np.array(0.25)}, edges=_NO_WEIGHT, derivatives="estimator"
    ),
    "estimators.nvil": Example(
        {**_SAMPLES, "baseline": np.array(0.25)}, edges=_NO_WEIGHT, derivatives="estimator"
    ),
    "estimators.reweighted_wake_sleep": Example(
        _SAMPLES, edges=_NO_WEIGHT, derivatives="estimator"
    ),
    "estimators.gumbel_softmax": Example(
        {**_LOGITS, "temperature": np.array(0.75)}, {"num_samples": _L}, edges=_IMPOSSIBLE
    ),
    "estimators.gumbel_softmax straight-through": Example(
        {**_LOGITS, "temperature": np.array(0.75)},
        {"num_samples": _L, "straight_through": True},
        edges=_IMPOSSIBLE,
        derivatives="estimator",
    ),
    "estimators.rloo": Example(_SAMPLES, edges=_NO_WEIGHT, derivatives="estimator"),
    "estimators.ovis": Example(
        {**_SAMPLES, "gamma": np.array(0.5)}, edges=_NO_WEIGHT, derivatives="estimator"
    ),
    "estimators.unordered_set": Example(_SET, edges=_NO_WEIGHT, derivatives="estimator"),
    "estimators.sum_and_sample": Example(
        _SET, {"num_top": 1}, edges=_NO_WEIGHT, derivatives="estimator"
    ),
    "estimators.sample_without_replacement": Example(
        _LOGITS, {"num_samples": 3}, edges=_IMPOSSIBLE
    ),
    "estimators.sample_top_and_rest": Example(
        _LOGITS, {"num_samples": 3, "num_top": 1}, edges=_IMPOSSIBLE
    ),
    "estimators.gumbel_rao": Example(
        {**_LOGITS, "temperature": np.array(0.75)},
        {"num_samples": _L, "num_noises": 2},
        edges=_IMPOSSIBLE,
        derivatives="estimator",
    ),
    "estimators.reinmax": Example(
        {**_LOGITS, "temperature": np.array(1.25)},
        {"num_samples": _L},
        edges=_IMPOSSIBLE,
        derivatives="estimator",
    ),
    "estimators.relax": Example(
        _LOGITS,
        {
            "bound": lambda addresses: (addresses**2).sum(),
            "control": lambda perturbed: (perturbed**2).sum(),
            "num_samples": _L,
        },
        derivatives="estimator",
    ),
    "estimators.dreg": Example(
        {"log_weights": numbers(_L), "latent": numbers(_L, _C)},
        edges=({"log_weights": np.full(_L, -_INF)},),
        derivatives="estimator",
    ),
    "estimators.gdreg": Example(
        {
            "log_weights": numbers(_L),
            "latent": numbers(_L, _C),
            "prior_latent": numbers(_L, _C),
        },
        edges=({"log_weights": np.full(_L, -_INF)},),
        derivatives="estimator",
    ),
    "estimators.exact": Example(
        {"log_weights": numbers(_L), "address_log_probs": -1.0 - shares(_L)},
        {"num_samples": 2},
        edges=({"address_log_probs": np.array([-_INF, -1.0, -0.5, -_INF])},),
    ),
}
