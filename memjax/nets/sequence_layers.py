"""Memories as causal layers of sequence models: `[..., T, D]` in, `[..., T, features]` out.

Three rules of what a head's memory holds, with the same projections and gates, so that they can be
compared: `KanervaLayer`, exact ridge regression at each step; `DeltaLayer`, one gradient step of
it; `LinearAttentionLayer`, sums alone. All hand back the memory with which the sequence goes on:
a layer called token by token gives what it gives for the whole.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from memjax.errors import UserError, check_at_least_one
from memjax.memory import causal, kanerva, masking, streaming
from memjax.nets.inputs import Net, as_booleans, as_floats, as_reals, check_memory, over_axes


class _Steps(NamedTuple):
    """The inputs of one head."""

    keys: chex.Array  # [T, N], of unit length
    codes: chex.Array  # [T, C]
    queries: chex.Array  # [T, N], of unit length
    gates: chex.Array  # [T], in (0, 1): how much is written
    log_decay: chex.Array | None  # [T]
    mask: chex.Array | None  # bool [T]
    reset: chex.Array | None  # bool [T]


class _SequenceLayer(Net):
    """Projections, gates and heads around a rule; the memory is float32 or wider.

    Attributes:
      features: of the output.
      num_heads: each with a memory of its own.
      key_size: N.
      code_size: C.
      decays: whether what was written decays, by a learned gate for each head and step.
    """

    features: int
    num_heads: int = 4
    key_size: int = 32
    code_size: int = 32
    decays: bool = True

    @nn.compact
    def __call__(
        self,
        inputs: chex.Array,
        memory: Any = None,
        *,
        mask: chex.Array | None = None,
        segment_ids: chex.Array | None = None,
    ) -> tuple[chex.Array, Any]:
        """Writes and reads at each step.

        Args:
          inputs: `[..., T, D]`.
          memory: that an earlier call handed back, or None for an empty one.
          mask: bool `[..., T]`; False for padding, which does nothing, whatever stands in it, and
            gives 0.
          segment_ids: integers `[..., T]` that do not decrease, of sequences packed into one; each
            but the first begins from `memory`.

        Returns:
          The outputs `[..., T, features]`, and the memory after the last step.

        Raises:
          UserError: shapes, memories, masks or segments that do not fit.
        """
        inputs = as_reals("inputs", inputs)
        if inputs.ndim < 2:
            raise UserError(f"inputs has shape {list(inputs.shape)}; it must be [..., T, D]")
        *batch, length, _ = inputs.shape
        mask = as_booleans("mask", mask, (*batch, length))
        reset = _resets(segment_ids, (*batch, length))
        inputs = masking.hide(mask, inputs)
        if memory is None:
            memory = self.initial_memory(batch, jnp.promote_types(inputs.dtype, jnp.float32))
        else:
            wanted = jax.eval_shape(lambda: self.initial_memory(batch))
            check_memory(memory, wanted, len(batch) + 1)
        gates = jax.nn.sigmoid(self._gate("write_gate", inputs, 0.0))
        steps = _Steps(
            keys=_of_unit_length(self._project("key", inputs, self.key_size)),
            codes=self._project("code", inputs, self.code_size),
            queries=_of_unit_length(self._project("query", inputs, self.key_size)),
            gates=self._scale_gates(gates),
            log_decay=self._log_decay(inputs),
            mask=_for_heads(mask, self.num_heads),
            reset=_for_heads(reset, self.num_heads),
        )
        found, memory = over_axes(self._mix, len(batch) + 1)(memory, steps)
        found = jnp.moveaxis(found, -3, -2).reshape(*batch, length, -1)
        gate = nn.silu(self._dense("output_gate", inputs, found.shape[-1]))
        found = gate * nn.RMSNorm(**self._types)(found).astype(gate.dtype)
        return masking.hide(mask, self._dense("output", found, self.features)), memory

    @nn.nowrap
    def initial_memory(self, batch: Sequence[int] = (), dtype: Any = jnp.float32) -> Any:
        """An empty memory for inputs `[*batch, T, D]`; `dtype` is float32 or wider."""
        check_at_least_one(
            num_heads=self.num_heads, key_size=self.key_size, code_size=self.code_size
        )
        if jnp.finfo(dtype).bits < 32:
            raise UserError(f"dtype is {jnp.dtype(dtype)}; it must be float32 or wider")
        shape = (*batch, self.num_heads)
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x.astype(dtype), shape + x.shape), self._empty()
        )

    def _dense(self, name: str, inputs: chex.Array, size: int) -> chex.Array:
        return nn.Dense(size, name=name, **self._types)(inputs)

    def _project(self, name: str, inputs: chex.Array, size: int) -> chex.Array:
        """`[..., H, T, size]`, in float32 or wider."""
        found = self._dense(name, inputs, self.num_heads * size)
        found = as_floats(name, found.reshape(*found.shape[:-1], self.num_heads, size))
        return jnp.moveaxis(found, -2, -3)

    def _gate(self, name: str, inputs: chex.Array, bias: float) -> chex.Array:
        """`[..., H, T]`, in float32 or wider: small differences of decays add up over time."""
        initial = nn.initializers.constant(bias)
        dense = nn.Dense(
            self.num_heads,
            dtype=jnp.promote_types(inputs.dtype, jnp.float32),
            param_dtype=self.param_dtype,
            bias_init=initial,
            name=name,
        )
        return jnp.moveaxis(dense(inputs), -1, -2)

    def _log_decay(self, inputs: chex.Array) -> chex.Array | None:
        return nn.log_sigmoid(self._gate("decay_gate", inputs, 4.0)) if self.decays else None

    def _scale_gates(self, gates: chex.Array) -> chex.Array:
        return gates

    def _empty(self) -> Any:
        """One head's memory."""
        return jnp.zeros((self.key_size, self.code_size))

    def _mix(self, memory: Any, steps: _Steps) -> tuple[chex.Array, Any]:
        """What one head reads, `[T, C]`, and its memory afterwards."""
        raise NotImplementedError


class KanervaLayer(_SequenceLayer):
    """A Gaussian memory along the sequence, exact at each step; see `memjax.memory.causal`.

    MesaNet's layer (von Oswald et al. 2025), with a learned noise of the writes: what is read at a
    step is the ridge regression of all codes up to there on their keys.

    Attributes:
      method: of `causal.attend`.
      chunk_size: of its method "chunk".
      num_iterations: of the same.
    """

    method: str = "auto"
    chunk_size: int = 32
    num_iterations: int = 32

    def _scale_gates(self, gates: chex.Array) -> chex.Array:
        """One over the noise's variance."""
        initial = nn.initializers.constant(math.log(0.1))
        log_noise_var = self.param("log_noise_var", initial, (self.num_heads,), self.param_dtype)
        return gates * jnp.exp(-as_floats("log_noise_var", log_noise_var))[:, None]

    def _empty(self) -> causal.CausalState:
        return causal.begin(kanerva.prior(self.key_size, self.code_size, diagonal=True))

    def _mix(self, memory: Any, steps: _Steps) -> tuple[chex.Array, Any]:
        means, _, memory = causal.attend(
            memory,
            steps.keys,
            steps.codes,
            steps.queries,
            1.0 / steps.gates,
            log_decay=steps.log_decay,
            mask=steps.mask,
            reset=steps.reset,
            method=self.method,
            chunk_size=self.chunk_size,
            num_iterations=self.num_iterations,
        )
        return means, memory


class DeltaLayer(_SequenceLayer):
    """The gated delta rule (Yang et al. 2025): one gradient step towards the code at each write.

    M <- d M + g k (c - k d M), for a decay d and a gate g; it reads q M.
    """

    def _mix(self, memory: Any, steps: _Steps) -> tuple[chex.Array, Any]:
        def write(memory: chex.Array, key: chex.Array, code: chex.Array) -> chex.Array:
            return jnp.outer(key, code - key @ memory)

        return _scan(write, memory, steps)


class LinearAttentionLayer(_SequenceLayer):
    """Gated linear attention (Katharopoulos et al. 2020): M <- d M + g k c; it reads q M."""

    def _mix(self, memory: Any, steps: _Steps) -> tuple[chex.Array, Any]:
        return _scan(lambda memory, key, code: jnp.outer(key, code), memory, steps)


def _scan(write: Callable, start: chex.Array, steps: _Steps) -> tuple[chex.Array, chex.Array]:
    """Memories `[N, C]` to which a rule adds at each step."""

    def step(memory: chex.Array, told: _Steps) -> tuple[chex.Array, chex.Array]:
        memory = masking.begin(told.reset, lambda _: start, memory)
        decayed = memory if told.log_decay is None else jnp.exp(told.log_decay) * memory
        after = decayed + told.gates * write(decayed, told.keys, told.codes)
        memory = masking.keep(told.mask, after, memory)
        return memory, told.queries @ memory

    start, steps = streaming.align((start, steps))  # under `shard_map`, what is carried varies
    start = start.astype(jnp.result_type(start, steps.codes, steps.gates))
    # GPUs and TPUs would round what is added up over all steps.
    with jax.default_matmul_precision("highest"):
        memory, found = jax.lax.scan(step, start, steps)
    return found, memory


def _of_unit_length(vectors: chex.Array) -> chex.Array:
    size = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(size + jnp.finfo(vectors.dtype).eps)


def _for_heads(array: chex.Array | None, num_heads: int) -> chex.Array | None:
    if array is None:
        return None
    return jnp.broadcast_to(array[..., None, :], (*array.shape[:-1], num_heads, array.shape[-1]))


def _resets(segment_ids: Any, shape: tuple[int, ...]) -> chex.Array | None:
    """True where another segment begins."""
    if segment_ids is None:
        return None
    ids = jnp.asarray(segment_ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer) or ids.shape != shape:
        raise UserError(
            f"segment_ids is {ids.dtype}{list(ids.shape)}; it must be of integers {list(shape)}"
        )
    if not isinstance(ids, jax.core.Tracer):
        known = np.asarray(ids)
        if back := known[..., :-1][np.diff(known) < 0].tolist():
            raise UserError(f"segment_ids go back after {back[0]}; they must not decrease")
    first = jnp.zeros((*shape[:-1], min(1, shape[-1])), bool)
    return jnp.concatenate([first, ids[..., 1:] != ids[..., :-1]], axis=-1)
