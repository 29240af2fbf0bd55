"""The DNC and the LRUA in the Kanerva Machine's place: memories whose writing is learned.

Source: appendix D of Wu et al., The Kanerva Machine, 2018 (KM below).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax.errors import check_at_least_one
from memjax.memory import dnc, lrua
from memjax.models.episodic import EpisodicVAE
from memjax.nets import MLP, distributions

_LRUA_STRENGTH = 10.0  # where it begins
# Where parts of the interfaces begin, before their nonlinearities. Gates that begin at one half
# blur every image over many slots, and few trainings leave that.
_DNC_START = {
    "read_strengths": (9.0,),
    "read_modes": (0.0, 4.0, 0.0),  # backward, content, forward
    "erase": (3.0,),
    "free_gate": (-3.0,),
    "allocation_gate": (3.0,),
    "write_gate": (3.0,),
}
_LRUA_START = {"write_gate": (-4.0,)}


class ControlledMachine(EpisodicVAE):
    """An `EpisodicVAE` whose memory is moved by what a controller emits; KM appendix D.

    The controller, an MLP, takes y and z when writing and y alone when reading. It is not recurrent
    and nothing but the memory goes from writing to reading. Images are written in their order; each
    reading begins at the state after the last of them and leaves it as it is. At first each image
    is written to a slot of its own, kept there, and read by content.

    Attributes, beside `EpisodicVAE`'s:
      num_slots: N.
      num_heads: H, read heads.
      controller_size: hidden units of the controller.
    """

    num_slots: int = 64
    num_heads: int = 1
    controller_size: int = 200

    def setup(self):
        """Names the parameters; checks what the config says."""
        super().setup()
        check_at_least_one(
            num_slots=self.num_slots,
            num_heads=self.num_heads,
            controller_size=self.controller_size,
        )
        sizes = self._interface_sizes().values()
        self.controller = MLP((self.controller_size,), sum(sizes))
        self.output = nn.Dense(self.code_size)

    def _interface_sizes(self) -> dict[str, int]:
        """What the controller emits, and how many numbers each part has."""
        raise NotImplementedError

    def _start(self) -> Mapping[str, Sequence[float]]:
        """What is added to parts that the controller emits, repeated over heads or entries."""
        raise NotImplementedError

    def _step(self, memory: Any, emitted: dict[str, chex.Array]) -> Any:
        """The memory after one write, and a read whose result is dropped."""
        raise NotImplementedError

    def _retrieve(self, memory: Any, emitted: dict[str, chex.Array]) -> chex.Array:
        """What is read, `[H, C]`."""
        raise NotImplementedError

    def _write_codes(
        self, rng_key: chex.PRNGKey, memory: Any, address: chex.Array, codes: dist.Distribution
    ) -> Any:
        emitted = self._emit(address, distributions.draw(rng_key, codes))
        memory = jax.tree.map(lambda leaf: leaf.astype(address.dtype), memory)

        @jax.checkpoint  # a step computed again costs less than one kept: its link is [N, N]
        def step(memory: Any, emitted: dict[str, chex.Array]) -> tuple[Any, None]:
            return self._step(memory, emitted), None

        return jax.lax.scan(step, memory, emitted)[0]

    def _latent_prior(self, memory: Any, address: chex.Array) -> dist.Distribution:
        emitted = self._emit(address, jnp.zeros(self.code_size, address.dtype))
        mean = self.output(self._retrieve(memory, emitted).reshape(-1))
        return dist.Normal(mean, jnp.full_like(mean, math.sqrt(self.noise_var))).to_event(1)

    def _emit(self, address: chex.Array, codes: chex.Array) -> dict[str, chex.Array]:
        """The parts of the controller's output, `[..., size]` each."""
        sizes = self._interface_sizes()
        splits = [sum(list(sizes.values())[:i]) for i in range(1, len(sizes))]
        parts = jnp.split(self.controller(address, codes), splits, axis=-1)
        emitted = dict(zip(sizes, parts, strict=True))
        for name, values in self._start().items():
            start = jnp.resize(jnp.asarray(values, emitted[name].dtype), (sizes[name],))
            emitted[name] += jnp.broadcast_to(start, emitted[name].shape)  # for strict ranks
        return emitted


class DNCMachine(ControlledMachine):
    """A `ControlledMachine` with the Differentiable Neural Computer's memory."""

    def memory_prior(self) -> dnc.DNCState:
        """An empty memory."""
        return _in_float32(dnc.init(self.num_slots, self.code_size, self.num_heads))

    def _interface_sizes(self) -> dict[str, int]:
        heads, size = self.num_heads, self.code_size
        return {
            "read_keys": heads * size,
            "read_strengths": heads,
            "read_modes": heads * 3,
            "code": size,
            "write_key": size,
            "write_strength": 1,
            "erase": size,
            "free_gate": heads,
            "allocation_gate": 1,
            "write_gate": 1,
        }

    def _start(self) -> Mapping[str, Sequence[float]]:
        return _DNC_START

    def _step(self, memory: dnc.DNCState, emitted: dict[str, chex.Array]) -> dnc.DNCState:
        memory = dnc.write(
            memory,
            emitted["code"],
            write_key=emitted["write_key"],
            write_strength=_at_least_one(emitted["write_strength"][0]),
            erase=jax.nn.sigmoid(emitted["erase"]),
            free_gate=jax.nn.sigmoid(emitted["free_gate"]),
            allocation_gate=jax.nn.sigmoid(emitted["allocation_gate"][0]),
            write_gate=jax.nn.sigmoid(emitted["write_gate"][0]),
        )
        return self._read(memory, emitted)[1]

    def _retrieve(self, memory: dnc.DNCState, emitted: dict[str, chex.Array]) -> chex.Array:
        return self._read(memory, emitted)[0]

    def _read(
        self, memory: dnc.DNCState, emitted: dict[str, chex.Array]
    ) -> tuple[chex.Array, dnc.DNCState]:
        return dnc.read(
            memory,
            read_keys=emitted["read_keys"].reshape(self.num_heads, -1),
            read_strengths=_at_least_one(emitted["read_strengths"]),
            read_modes=jax.nn.softmax(emitted["read_modes"].reshape(self.num_heads, 3), axis=-1),
        )


class LRUAMachine(ControlledMachine):
    """A `ControlledMachine` with least-recently-used access; what it writes is its key.

    Heads learn how sharply they read: the paper's strength of 1 blurs 64 slots.
    """

    def setup(self):
        """Names the parameters; checks what the config says."""
        super().setup()
        start = nn.initializers.constant(math.log(_LRUA_STRENGTH))
        self.read_log_strengths = self.param("read_log_strengths", start, (self.num_heads,))

    def memory_prior(self) -> lrua.LRUAState:
        """An empty memory."""
        return _in_float32(lrua.init(self.num_slots, self.code_size, self.num_heads))

    def _interface_sizes(self) -> dict[str, int]:
        return {"keys": self.num_heads * self.code_size, "write_gate": self.num_heads}

    def _start(self) -> Mapping[str, Sequence[float]]:
        return _LRUA_START

    def _step(self, memory: lrua.LRUAState, emitted: dict[str, chex.Array]) -> lrua.LRUAState:
        keys = emitted["keys"].reshape(self.num_heads, -1)
        memory = lrua.write(memory, keys, jax.nn.sigmoid(emitted["write_gate"]))
        return self._read(memory, keys)[1]

    def _retrieve(self, memory: lrua.LRUAState, emitted: dict[str, chex.Array]) -> chex.Array:
        return self._read(memory, emitted["keys"].reshape(self.num_heads, -1))[0]

    def _read(self, memory: lrua.LRUAState, keys: chex.Array) -> tuple[chex.Array, lrua.LRUAState]:
        return lrua.read(memory, keys, read_strengths=jnp.exp(self.read_log_strengths))


def _in_float32(memory: Any) -> Any:
    """The memory in float32, the parameters' type, even if JAX's default is wider."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), memory)


def _at_least_one(values: chex.Array) -> chex.Array:
    """The DNC's oneplus, 1 + log(1 + e^x)."""
    return 1.0 + jax.nn.softplus(values)
