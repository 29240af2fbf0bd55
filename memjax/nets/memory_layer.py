"""A fully connected layer that may read a memory of learned slots: MEM-VAE's building block."""

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from memjax.errors import UserError, check_one_of
from memjax.memory import attention
from memjax.nets.inputs import Net, as_reals

COMPOSITIONS = ("mlp", "sum")
_SLOT_SCALE = 0.01  # standard deviation of the slots at first


class MemoryLayer(Net):
    """h = f_c(h_g, h_m): what the layer makes of its input, and what that finds in the memory.

        h_g = relu(batch_norm(W h_in + b))      the top-down signal
        h_a = kind(A h_g + b_A)                 how much of each slot is read
        h_m = sum_n h_a[n] slots[n]

    Source: Li et al., Learning to Generate with Memory, 2016, section 3.3. f_c is the element-wise
    MLP and a ReLU, or the bare sum. Initial values are the paper's (section 5), at which the MLP
    gives h_g. The bias b is idle under batch normalisation; the paper's table 3 counts it.

    Attributes:
      size: units, D.
      num_slots: N; 0 for a plain layer, h = h_g.
      attention: kind, one of `memjax.memory.attention.KINDS`.
      composition: f_c, one of `COMPOSITIONS`.
      batch_norm: whether to normalise.
      batch_axes: the mapped axes that make up a batch, beside the leading axes of the input.
    """

    size: int
    num_slots: int = 0
    attention: str = "sigmoid"
    composition: str = "mlp"
    batch_norm: bool = True
    batch_axes: Sequence[str] = ()

    def setup(self):
        """Names the parameters."""
        _check(self)
        glorot = nn.initializers.glorot_uniform()
        self.dense = nn.Dense(self.size, kernel_init=glorot, **self._types)
        if self.batch_norm:
            axes: Any = tuple(self.batch_axes) or None  # Flax takes several, and says one
            self.norm = nn.BatchNorm(axis_name=axes, **self._types)
        if self.num_slots:
            shape = (self.num_slots, self.size)
            self.slot_keys = self.param("slot_keys", glorot, shape, self.param_dtype)
            self.slot_bias = self.param(
                "slot_bias", nn.initializers.zeros, shape[:1], self.param_dtype
            )
            normal = nn.initializers.normal(_SLOT_SCALE)
            self.slots = self.param("slots", normal, shape, self.param_dtype)
            if self.composition == "mlp":
                self.combination = self.param(
                    "combination",
                    lambda _: _cast(attention.init_composition(self.size), self.param_dtype),
                )

    def __call__(
        self, inputs: chex.Array, *, train: bool = False, disabled: bool = False
    ) -> tuple[chex.Array, chex.Array | None]:
        """Maps `[..., I]` to h `[..., D]`, and tells h_a `[..., N]`, None without slots.

        Args:
          inputs: h_in.
          train: normalise by the batch's statistics, not by the running averages.
          disabled: put a vector of ones in place of h_m; the paper's appendix C.
        """
        generated = self._generate(as_reals("inputs", inputs), train)
        if not self.num_slots:
            return generated, None
        parameters = self.slot_keys, self.slot_bias, self.slots
        slot_keys, slot_bias, slots = _cast(parameters, self.dtype)
        weights = attention.attention_weights(generated, slot_keys, slot_bias, kind=self.attention)
        retrieved = attention.read(weights, slots)
        retrieved = jnp.ones_like(retrieved) if disabled else retrieved
        return self.combine(generated, retrieved), weights[..., 0, :]

    def combine(self, generated: chex.Array, retrieved: chex.Array) -> chex.Array:
        """f_c of h_g and h_m, both `[..., D]`."""
        generated = as_reals("generated", generated, self.dtype)
        retrieved = as_reals("retrieved", retrieved, self.dtype)
        if self.composition == "sum":
            return attention.combine_sum(generated, retrieved)
        combination = _cast(self.combination, self.dtype)
        return nn.relu(attention.combine_mlp(combination, generated, retrieved))

    def _generate(self, inputs: chex.Array, train: bool) -> chex.Array:
        hidden = self.dense(inputs)
        if self.batch_norm:
            hidden = self.norm(hidden, use_running_average=not train)
        return nn.relu(hidden)


def _cast(tree: Any, dtype: Any) -> Any:
    return tree if dtype is None else jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def _check(layer: MemoryLayer) -> None:
    if layer.num_slots < 0:
        raise UserError(f"num_slots is {layer.num_slots}; it must be 0 (no memory) or more")
    check_one_of("attention", layer.attention, attention.KINDS)
    check_one_of("composition", layer.composition, COMPOSITIONS)
