"""Memories as recurrent cells, for larger models: `nn.RNN(KanervaCell(...))` is a causal layer.

Each step reads, then writes: the output at t depends on the inputs before t and at t. The carry is
the memory. Inputs have any leading axes, `[..., D]`, each with a memory of its own, and any
floating-point type. The carry is float32 or wider and keeps its type,
whatever `dtype` the projections and the output have.

A masked input does nothing, whatever its values, NaN included: the memory stays as it was, the
output is 0, and no gradient passes. With masks and resets of a batch `[B, T]`:

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, inputs, mask=None, reset=None):  # inputs [B, T, D]
            cell = KanervaCell(features=8)
            memory = cell.initialize_carry(jax.random.key(0), inputs[:, 0].shape)
            step = nn.scan(
                lambda cell, memory, now: cell(memory, now[0], mask=now[1], reset=now[2]),
                variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1,
            )
            return step(cell, memory, (inputs, mask, reset))[1]
"""

import dataclasses
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from memjax import estimators
from memjax.errors import check_at_least_one
from memjax.memory import addressing, kanerva, masking
from memjax.memory.kanerva import KanervaState
from memjax.memory.states import state
from memjax.nets.inputs import Net, as_booleans, as_floats, as_reals, check_memory, over_axes


@state
class CategoricalState:
    """What a `CategoricalCell` has written; the oldest is overwritten.

    Attributes:
      keys: `[..., N, S]`.
      codes: `[..., N, C]`.
      log_gates: `[..., N]`; -inf for a slot that nothing was written to.
      num_writes: int32 `[...]`.
      rng_key: `[...]`, of the reads to come.
    """

    keys: chex.Array
    codes: chex.Array
    log_gates: chex.Array
    num_writes: chex.Array
    rng_key: chex.PRNGKey


class _Cell(Net, nn.RNNCellBase):
    """Projections, masks and resets around a memory."""

    features: int
    num_slots: int = 32
    code_size: int = 32
    address_size: int = 32

    @nn.compact
    def __call__(
        self,
        memory: Any,
        inputs: chex.Array,
        *,
        mask: chex.Array | None = None,
        reset: chex.Array | None = None,
    ) -> tuple[Any, chex.Array]:
        """Reads, then writes: `[..., D]` to `[..., features]`.

        Args:
          memory: the carry.
          inputs: `[..., D]`.
          mask: bool `[...]`; False for padding, which does nothing and gives 0.
          reset: bool `[...]`; True where a sequence begins again before this step, masked or not,
            with an empty memory.

        Raises:
          UserError: a carry that is narrow or does not fit, nor masks and resets; integers.
        """
        inputs = as_reals("inputs", inputs)
        batch = inputs.shape[:-1]
        wanted = jax.eval_shape(lambda: self._begin(jax.random.key(0), batch))
        check_memory(memory, wanted, len(batch))
        mask = as_booleans("mask", mask, batch)
        reset = as_booleans("reset", reset, batch)
        inputs = masking.hide(mask, inputs)
        sizes = {"read_key": self.address_size, "write_key": self.address_size}
        sizes |= {"code": self.code_size, "gate": 1}
        projected = {
            name: nn.Dense(size, name=name, **self._types)(inputs) for name, size in sizes.items()
        }
        told = self._tell(*(as_floats(name, value) for name, value in projected.items()))

        def step(memory: Any, mask: Any, reset: Any, told: Any) -> tuple[Any, chex.Array]:
            memory = masking.begin(reset, self._empty, memory)
            after, found = self._read_and_write(memory, *told)
            return masking.keep(mask, after, memory), found

        memory, found = over_axes(step, inputs.ndim - 1)(memory, mask, reset, told)
        output = nn.Dense(self.features, name="output", **self._types)
        return memory, masking.hide(mask, output(found.astype(projected["code"].dtype)))

    @nn.nowrap
    def initialize_carry(self, rng: chex.PRNGKey, input_shape: tuple[int, ...]) -> Any:
        """An empty memory for inputs `[..., D]`; `rng` is what a `CategoricalCell` draws from."""
        check_at_least_one(
            num_slots=self.num_slots, code_size=self.code_size, address_size=self.address_size
        )
        return self._begin(rng, tuple(input_shape[:-1]))

    @property
    def num_feature_axes(self) -> int:
        """Axes of one input."""
        return 1

    def _tell(self, *projected: chex.Array) -> tuple[chex.Array, ...]:
        """What goes to the memory, in float32 or wider; keys, code and gate `[..., size]`."""
        raise NotImplementedError

    @nn.nowrap
    def _begin(self, rng: chex.PRNGKey, batch: tuple[int, ...]) -> Any:
        """Empty memories."""
        raise NotImplementedError

    @nn.nowrap
    def _empty(self, memory: Any) -> Any:
        """One memory like another, but empty."""
        raise NotImplementedError

    @nn.nowrap
    def _read_and_write(self, memory: Any, *told: chex.Array) -> tuple[Any, chex.Array]:
        """One memory after the write, and what was read before."""
        raise NotImplementedError


class KanervaCell(_Cell):
    """A Gaussian memory, written by Bayes' rule, as a cell; Wu et al. 2018, eqs. 5, 6, 9-11.

    The address matrix and all projections are learned; a sequence starts with an empty memory. A
    learned gate in [0, 1] divides the noise of a write: at 0 nothing is written.

    Attributes:
      features: of the output.
      num_slots: N.
      code_size: C.
      address_size: S; keys have unit norm.
      noise_var: of an open write, positive.
    """

    noise_var: float = 0.1

    @nn.nowrap
    def _begin(self, rng: chex.PRNGKey, batch: tuple[int, ...]) -> KanervaState:
        memory = kanerva.prior(self.num_slots, self.code_size)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, batch + leaf.shape), memory)

    def _tell(self, *projected: chex.Array) -> tuple[chex.Array, ...]:
        read_key, write_key, code, gate = projected
        shape = (self.num_slots, self.address_size)
        normal = nn.initializers.normal(1.0)
        address_matrix = self.param("address_matrix", normal, shape, self.param_dtype)
        address_matrix = as_floats("address_matrix", address_matrix)
        read_weights = addressing.similarity(read_key, address_matrix, "cosine")
        write_weights = addressing.similarity(write_key, address_matrix, "cosine")
        # Both sides of code = weights @ memory + noise, so that the noise is divided by the gate.
        root_gate = jnp.exp(0.5 * nn.log_sigmoid(gate))
        return read_weights, root_gate * write_weights, root_gate * code

    @nn.nowrap
    def _empty(self, memory: KanervaState) -> KanervaState:
        num_slots, code_size = memory.mean.shape
        empty = kanerva.prior(num_slots, code_size, diagonal=memory.row_cov.ndim == 1)
        return _as_types_of(memory, empty)

    @nn.nowrap
    def _read_and_write(self, memory: KanervaState, *told: chex.Array) -> tuple[Any, chex.Array]:
        read_weights, write_weights, code = told
        found, _ = kanerva.read(memory, read_weights)
        written = write_weights[None], code[None]
        after = kanerva.write(memory, *written, self.noise_var, method="online")
        return _as_types_of(memory, after), found


class CategoricalCell(_Cell):
    """A memory of slots, one of which is read, as a cell; the address of VMA, eq. 5, sampled.

    The oldest slot is overwritten. The address is drawn from the softmax of the similarities to the
    keys and passes a straight-through Gumbel-softmax gradient, which is biased. An empty memory
    reads as zeros. `nn.RNN` draws the same addresses at every call unless it is given `init_key`. A
    reset leaves the random key as it is: what is drawn goes on.

    Attributes:
      features: of the output.
      num_slots: N.
      code_size: C.
      address_size: S.
      temperature: of the gradient's relaxation.
    """

    temperature: float = 1.0

    @nn.nowrap
    def _begin(self, rng: chex.PRNGKey, batch: tuple[int, ...]) -> CategoricalState:
        return CategoricalState(
            keys=jnp.zeros((*batch, self.num_slots, self.address_size)),
            codes=jnp.zeros((*batch, self.num_slots, self.code_size)),
            log_gates=jnp.full((*batch, self.num_slots), -jnp.inf),
            num_writes=jnp.zeros(batch, jnp.int32),
            rng_key=jax.random.split(rng, batch),
        )

    def _tell(self, *projected: chex.Array) -> tuple[chex.Array, ...]:
        read_key, write_key, code, gate = projected
        return read_key, write_key, code, nn.log_sigmoid(gate)[..., 0]

    @nn.nowrap
    def _empty(self, memory: CategoricalState) -> CategoricalState:
        empty = masking.zeros_like(dataclasses.replace(memory, rng_key=None))
        nothing = jnp.full_like(memory.log_gates, -jnp.inf)
        return dataclasses.replace(empty, log_gates=nothing, rng_key=memory.rng_key)

    @nn.nowrap
    def _read_and_write(
        self, memory: CategoricalState, *told: chex.Array
    ) -> tuple[Any, chex.Array]:
        query, key, code, log_gate = told
        rng_key, address_rng_key = jax.random.split(memory.rng_key)
        written = memory.num_writes > 0
        logits = addressing.similarity(query, memory.keys) + memory.log_gates
        logits = jnp.where(written, logits, 0.0)  # with all at -inf, no address has a law
        address = estimators.gumbel_softmax(
            address_rng_key, logits, 1, self.temperature, straight_through=True
        )
        found = jnp.where(written, address[0] @ memory.codes, 0.0)
        slot = memory.num_writes % self.num_slots
        after = CategoricalState(
            keys=memory.keys.at[slot].set(key.astype(memory.keys.dtype)),
            codes=memory.codes.at[slot].set(code.astype(memory.codes.dtype)),
            log_gates=memory.log_gates.at[slot].set(log_gate.astype(memory.log_gates.dtype)),
            num_writes=memory.num_writes + 1,
            rng_key=rng_key,
        )
        return after, found


def _as_types_of(memory: KanervaState, other: KanervaState) -> KanervaState:
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), other, memory)
