"""Time and memory against slots, episodes, devices and seeds: python -m benchmarks.scale.

An address sample of a table [slots, 128], materialised, streamed, and sharded over 8 devices,
beside the floor: the time to read the table once, by adding it up. Training steps as they grow.
Each part runs in a process of its own, with the devices that it takes (simulated on a CPU).
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import steps
from experiments import cli
from experiments.configs import kanerva_digits, vma_mnist_recall
from experiments.reporting import format_table, write_json
from memjax import plotting, training
from memjax.evaluation import Curves
from memjax.memory import addressing
from memjax.training import step as step_lib

_PART = flags.DEFINE_string("part", "", "One part, in this process; empty: all of them.")
_OUTPUT = flags.DEFINE_string("output", "runs/scale", "Folder of tables and of the picture.")
_MAX_SLOTS = flags.DEFINE_integer("max_slots", 10_000_000, "The largest table: 5 GB at 10^7.")
_MIN_SLOTS = flags.DEFINE_integer("min_slots", 1_000, "The smallest table.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Calls of each; the fastest counts.")

_EMBEDDING_SIZE, _SAMPLES, _SHARDS, _QUERIES, _SEEDS = 128, 4, 8, 32, 8


def main() -> None:
    """Runs all parts, prints their tables, and draws the times on logarithmic axes."""
    if _PART.value:
        rows = PARTS[_PART.value][1]()
        write_json(Path(_OUTPUT.value) / f"{_PART.value}.json", {"table": rows})
        return
    for name, (num_devices, _) in PARTS.items():
        count = f"--xla_force_host_platform_device_count={num_devices}"
        environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {count}"}
        command = [sys.executable, "-m", "benchmarks.scale", *sys.argv[1:], f"--part={name}"]
        subprocess.run(command, env=environment, check=True)
        rows = json.loads((Path(_OUTPUT.value) / f"{name}.json").read_text())["table"]
        print(f"{name}\n{format_table(rows)}\n", flush=True)
        if name in ("addresses", "slots"):
            draw(name, rows)


def draw(name: str, rows: list[dict[str, Any]]) -> None:
    """Milliseconds against slots, both as logarithms; prints each line's slope at its end."""
    columns = [column for column in rows[0] if column.endswith(" ms")]
    slots = np.log10([row["slots"] for row in rows])
    lines = {c.removesuffix(" ms"): np.log10([row[c] for row in rows]) for c in columns}
    for column, line in lines.items():
        if len(line) > 1:
            print(f"slope of {column} on log axes, last decade: {line[-1] - line[-2]:.2f}")
    panel = Curves("log10 of slots", "log10 of ms", {k: (slots, v) for k, v in lines.items()})
    plotting.curves(Path(_OUTPUT.value) / f"{name}.png", {name: panel})


def measure_addresses() -> list[dict[str, Any]]:
    """An address sample of L = 4 for one query, and what the process grows by meanwhile."""
    mesh = Mesh(np.array(jax.devices()[:_SHARDS]), ("devices",))
    rows = []
    for num_slots in decades(_MIN_SLOTS.value, _MAX_SLOTS.value):
        sample = partial(
            addressing.sample_streaming,
            num_samples=_SAMPLES,
            chunk_size=min(1_250, num_slots // _SHARDS),
        )
        split = PartitionSpec("devices")
        sharded = jax.shard_map(
            partial(sample, axis_name="devices"),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(), split),
            out_specs=PartitionSpec(),
        )
        row: dict[str, Any] = {"slots": num_slots}
        groups: tuple[tuple[Any, dict[str, Callable]], ...] = (
            (
                None,
                {
                    "floor": lambda rng_key, query, table: jnp.sum(table),
                    "streamed": sample,
                    "streamed, inner": partial(sample, kind="inner"),
                    "materialised": materialised,
                },
            ),
            (NamedSharding(mesh, split), {f"sharded over {mesh.size}": sharded}),
        )
        for sharding, functions in groups:
            slots = table(num_slots, sharding)
            arguments = (jax.random.key(0), jnp.ones(_EMBEDDING_SIZE), slots)
            calls = {name: partial(jax.jit(f), *arguments) for name, f in functions.items()}
            if sharding is None:
                slot_norms = jax.jit(addressing.slot_norms)(slots)
                given = {"norms given": sample, "top 32": best}
                calls |= {
                    name: partial(jax.jit(f), *arguments, slot_norms=slot_norms)
                    for name, f in given.items()
                }
            row |= {f"{name} ms": value for name, value in fastest_each(calls).items()}
            row |= {f"{name} extra MB": extra_megabytes(call) for name, call in calls.items()}
            del slots, arguments, calls
        row["streamed / floor"] = row["streamed ms"] / row["floor ms"]
        row["inner / floor"] = row["streamed, inner ms"] / row["floor ms"]
        row["norms given / floor"] = row["norms given ms"] / row["floor ms"]
        row["top 32 / floor"] = row["top 32 ms"] / row["floor ms"]
        rows.append(row)
    return rows


def measure_slots() -> list[dict[str, Any]]:
    """A step of Adam on learned slots for 32 queries: gradients of 4 log probabilities each."""
    optimizer = optax.adam(1e-3)
    queries = jax.random.normal(jax.random.key(1), (_QUERIES, _EMBEDDING_SIZE))

    def step(draw: Callable, slots: Any, opt_state: Any) -> Any:
        gradient = jax.grad(lambda slots: jnp.sum(draw(jax.random.key(0), queries, slots)[1]))
        updates, opt_state = optimizer.update(gradient(slots), opt_state)
        return optax.apply_updates(slots, updates), opt_state

    streamed = partial(addressing.sample_streaming, num_samples=_SAMPLES)
    rows = []
    for num_slots in decades(_MIN_SLOTS.value, min(_MAX_SLOTS.value, 1_000_000)):
        slots = table(num_slots)
        state = slots, optimizer.init(slots)
        row: dict[str, Any] = {"slots": num_slots}
        for name, draw in (("materialised", materialised), ("streamed", streamed)):
            row |= fastest_each({f"{name} ms": partial(jax.jit(partial(step, draw)), *state)})
        rows.append(row)
    return rows


def measure_episodes() -> list[dict[str, Any]]:
    """A Kanerva Machine's training step against the episodes, of 32 images, in a batch."""
    rows = []
    for num_episodes in (1, 4, 16, 64):
        row = {"episodes": num_episodes, "step ms": kanerva_step(num_episodes)}
        rows.append(row | {"ms an episode": row["step ms"] / num_episodes})
    return rows


def measure_devices() -> list[dict[str, Any]]:
    """A VMA's training step of 64 queries on this process's devices.

    Not a Kanerva Machine's: simulated devices share the CPU's threads, and where as many wait for
    batched LAPACK calls as there are threads, XLA's runtime blocks for good.
    """
    config = vma_mnist_recall.get_config()
    config.episodes.batch_size = 64
    experiment = training.build(config, steps.random_images(4_096, 28, 28))
    call = steps.compile_steps(experiment, 1)
    return [{"devices": jax.device_count(), "step ms": fastest_each({"": call})[""]}]


def measure_seeds() -> list[dict[str, Any]]:
    """A VMA's whole training step for 8 seeds at once, by vmap, beside 8 separate ones."""
    config = vma_mnist_recall.get_config()
    states = []
    for seed in range(_SEEDS):
        config.seed = seed
        experiment = training.build(config, steps.random_images(4_096, 28, 28))
        states.append(training.init_state(experiment))
    arrays = jax.device_put(experiment.train.arrays)

    def step(state: training.TrainState, arrays: Any) -> training.TrainState:
        return step_lib.train_step(experiment, state, arrays, jnp.int32(0))

    one = partial(jax.jit(step), states[0], arrays)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    all_at_once = partial(jax.jit(jax.vmap(step, in_axes=(0, None))), stacked, arrays)
    row = fastest_each({"one ms": one, "vmapped ms": all_at_once})
    return [{"seeds": _SEEDS, "separate ms": _SEEDS * row["one ms"], **row}]


def kanerva_step(num_episodes: int) -> float:
    """Milliseconds of `kanerva_digits`' training step."""
    config = kanerva_digits.get_config()
    config.episodes.num_episodes = num_episodes
    return fastest_each({"": steps.compile_steps(training.build(config), 1)})[""]


def best(rng_key: Any, query: Any, slots: Any, slot_norms: Any) -> Any:
    """The 32 best slots."""
    del rng_key
    return addressing.top_k(query, slots, 32, chunk_size=1_250, slot_norms=slot_norms)


def materialised(rng_key: Any, query: Any, slots: Any) -> Any:
    """`sample_streaming`'s law, by all logits at once."""
    logits = addressing.similarity(query, slots)
    if query.ndim == 1:
        return addressing.sample(rng_key, logits, _SAMPLES)
    rng_keys = jax.random.split(rng_key, len(query))
    return jax.vmap(partial(addressing.sample, num_samples=_SAMPLES))(rng_keys, logits)


def table(num_slots: int, sharding: NamedSharding | None = None) -> jax.Array:
    """Embeddings `[num_slots, 128]`: a random block, again and again."""
    block = np.random.default_rng(0).standard_normal((1_000, _EMBEDDING_SIZE), np.float32)

    def rows(index: Any) -> np.ndarray:
        first, last, _ = index[0].indices(num_slots)
        return np.resize(block, (last - first, _EMBEDDING_SIZE))

    if sharding is None:
        return jax.device_put(rows((slice(None),)), jax.devices()[0])
    return jax.make_array_from_callback((num_slots, _EMBEDDING_SIZE), sharding, rows)


def fastest_each(calls: dict[str, Callable]) -> dict[str, float]:
    """Milliseconds of the quickest call of each, in turns: others may be using the machine."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for warm in range(1 + _ROUNDS.value):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if warm:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * min(values) for name, values in seconds.items()}


def extra_megabytes(call: Callable) -> float:
    """By how much a warm call's peak exceeds what the process holds (Linux; NaN elsewhere)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        return float("nan")
    before = _status("VmRSS")
    jax.block_until_ready(call())
    return (_status("VmHWM") - before) / 1024


def decades(first: int, last: int) -> list[int]:
    """first, 10 first, ... up to last."""
    return [first * 10**i for i in range(12) if first * 10**i <= last]


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


PARTS: dict[str, tuple[int, Callable[[], list[dict[str, Any]]]]] = {
    "addresses": (_SHARDS, measure_addresses),
    "slots": (1, measure_slots),
    "episodes": (1, measure_episodes),
    "devices_1": (1, measure_devices),
    "devices_2": (2, measure_devices),
    "devices_4": (4, measure_devices),
    "devices_8": (8, measure_devices),
    "seeds": (1, measure_seeds),
}

if __name__ == "__main__":
    cli.run(main)
