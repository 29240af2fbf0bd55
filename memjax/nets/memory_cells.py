"""Memories as recurrent cells, for larger models: `nn.RNN(KanervaCell(...))` is a causal layer.

Each step reads, then writes, so that what comes out at t depends on what stands before t and on
the input at t. The carry is the memory. Inputs have any leading axes, `[..., D]`, each with a
memory of its own, and any floating-point type. What is kept and what comes out is float32 or wider:
the carry keeps its type.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from memjax import estimators
from memjax.errors import UserError, check_at_least_one
from memjax.memory import addressing, kanerva
from memjax.memory.kanerva import KanervaState
from memjax.memory.states import state
from memjax.nets.inputs import as_floats, over_axes


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


class KanervaCell(nn.RNNCellBase):
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

    features: int
    num_slots: int = 32
    code_size: int = 32
    address_size: int = 32
    noise_var: float = 0.1

    @nn.compact
    def __call__(self, memory: KanervaState, inputs: chex.Array) -> tuple[KanervaState, chex.Array]:
        """`[..., D]` to `[..., features]`."""
        _check_carry(memory.mean, memory.row_cov)
        inputs = as_floats("inputs", inputs)
        shape = (self.num_slots, self.address_size)
        address_matrix = self.param("address_matrix", nn.initializers.normal(1.0), shape)
        read_key = nn.Dense(self.address_size, name="read_key")(inputs)
        write_key = nn.Dense(self.address_size, name="write_key")(inputs)
        read_weights = addressing.similarity(read_key, address_matrix, "cosine")
        write_weights = addressing.similarity(write_key, address_matrix, "cosine")
        code = nn.Dense(self.code_size, name="code")(inputs)
        # Both sides of code = weights @ memory + noise, so that the noise is divided by the gate.
        root_gate = jnp.exp(0.5 * nn.log_sigmoid(nn.Dense(1, name="gate")(inputs)))

        def read_and_write(
            memory: KanervaState, read_weights: Any, write_weights: Any, code: Any
        ) -> tuple[KanervaState, chex.Array]:
            found, _ = kanerva.read(memory, read_weights)
            written = write_weights[None], code[None]
            after = kanerva.write(memory, *written, self.noise_var, method="online")
            return jax.tree.map(lambda new, old: new.astype(old.dtype), after, memory), found

        memory, found = over_axes(read_and_write, inputs.ndim - 1)(
            memory, read_weights, root_gate * write_weights, root_gate * code
        )
        return memory, nn.Dense(self.features, name="output")(found.astype(inputs.dtype))

    @nn.nowrap
    def initialize_carry(self, rng: chex.PRNGKey, input_shape: tuple[int, ...]) -> KanervaState:
        """An empty memory for inputs `[..., D]`."""
        del rng
        check_at_least_one(
            num_slots=self.num_slots, code_size=self.code_size, address_size=self.address_size
        )
        memory = kanerva.prior(self.num_slots, self.code_size)
        batch = tuple(input_shape[:-1])
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, batch + leaf.shape), memory)

    @property
    def num_feature_axes(self) -> int:
        """Axes of one input."""
        return 1


class CategoricalCell(nn.RNNCellBase):
    """A memory of slots, one of which is read, as a cell; the address of VMA, eq. 5, sampled.

    The oldest slot is overwritten. The address is drawn from the softmax of the similarities to the
    keys and passes a straight-through Gumbel-softmax gradient, which is biased. An empty memory
    reads as zeros. `nn.RNN` draws the same addresses at every call unless it is given `init_key`.

    Attributes:
      features: of the output.
      num_slots: N.
      code_size: C.
      address_size: S.
      temperature: of the gradient's relaxation.
    """

    features: int
    num_slots: int = 32
    code_size: int = 32
    address_size: int = 32
    temperature: float = 1.0

    @nn.compact
    def __call__(
        self, memory: CategoricalState, inputs: chex.Array
    ) -> tuple[CategoricalState, chex.Array]:
        """`[..., D]` to `[..., features]`."""
        _check_carry(memory.keys, memory.codes, memory.log_gates)
        inputs = as_floats("inputs", inputs)
        query = nn.Dense(self.address_size, name="read_key")(inputs)
        key = nn.Dense(self.address_size, name="write_key")(inputs)
        code = nn.Dense(self.code_size, name="code")(inputs)
        log_gate = nn.log_sigmoid(nn.Dense(1, name="gate")(inputs))[..., 0]

        def read_and_write(
            memory: CategoricalState, query: Any, key: Any, code: Any, log_gate: Any
        ) -> tuple[CategoricalState, chex.Array]:
            rng_key, address_rng_key = jax.random.split(memory.rng_key)
            written = memory.num_writes > 0
            logits = addressing.similarity(query, memory.keys) + memory.log_gates
            logits = jnp.where(written, logits, 0.0)  # with all at -inf, no address has a law
            address = estimators.gumbel_softmax(
                address_rng_key, logits, 1, self.temperature, straight_through=True
            )
            found = jnp.where(written, address[0] @ memory.codes, 0.0)
            slot = memory.num_writes % self.num_slots
            return (
                CategoricalState(
                    keys=memory.keys.at[slot].set(key.astype(memory.keys.dtype)),
                    codes=memory.codes.at[slot].set(code.astype(memory.codes.dtype)),
                    log_gates=memory.log_gates.at[slot].set(
                        log_gate.astype(memory.log_gates.dtype)
                    ),
                    num_writes=memory.num_writes + 1,
                    rng_key=rng_key,
                ),
                found,
            )

        memory, found = over_axes(read_and_write, inputs.ndim - 1)(
            memory, query, key, code, log_gate
        )
        return memory, nn.Dense(self.features, name="output")(found.astype(inputs.dtype))

    @nn.nowrap
    def initialize_carry(self, rng: chex.PRNGKey, input_shape: tuple[int, ...]) -> CategoricalState:
        """An empty memory for inputs `[..., D]`; `rng` is what the reads draw from."""
        check_at_least_one(
            num_slots=self.num_slots, code_size=self.code_size, address_size=self.address_size
        )
        batch = tuple(input_shape[:-1])
        return CategoricalState(
            keys=jnp.zeros((*batch, self.num_slots, self.address_size)),
            codes=jnp.zeros((*batch, self.num_slots, self.code_size)),
            log_gates=jnp.full((*batch, self.num_slots), -jnp.inf),
            num_writes=jnp.zeros(batch, jnp.int32),
            rng_key=jax.random.split(rng, batch),
        )

    @property
    def num_feature_axes(self) -> int:
        """Axes of one input."""
        return 1


def _check_carry(*arrays: chex.Array) -> None:
    for array in arrays:
        if not jnp.issubdtype(array.dtype, jnp.floating) or jnp.finfo(array.dtype).bits < 32:
            raise UserError(f"memory is {array.dtype}; it must be float32 or wider")
