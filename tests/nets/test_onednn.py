"""oneDNN's convolutions against XLA's in float64, which `test_convolutions` checks by Flax's."""

import ctypes
import os
import subprocess
import sys
from functools import partial
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nets import _onednn
from memjax.nets.convolutions import Conv, ConvTranspose, Dense

try:
    metadata.version("onednn-cpu-gomp")
    ctypes.CDLL("libgomp.so.1")  # which oneDNN takes from the system
except (metadata.PackageNotFoundError, OSError):
    pytest.skip("oneDNN is not installed", allow_module_level=True)

_NETS = {  # net, inputs
    "down from one channel": (Conv(5, 4, 2), (3, 5, 4, 1)),
    "down": (Conv(5, 4, 2), (3, 6, 4, 3)),
    "down, 3 x 3, odd": (Conv(5, 3, 2), (3, 5, 7, 3)),
    "3 x 3": (Conv(4, 3), (3, 5, 4, 2)),
    "3 x 3 to one channel": (Conv(1, 3), (3, 5, 4, 4)),
    "up to one channel": (ConvTranspose(1), (3, 3, 2, 4)),
    "up": (ConvTranspose(5), (3, 3, 1, 4)),
    "dense": (Dense(5), (3, 5, 4, 2)),
}


@pytest.fixture(autouse=True)
def wanted(monkeypatch):
    monkeypatch.setenv("MEMJAX_ONEDNN", "1")


@pytest.mark.parametrize("name", _NETS)
def test_values_and_derivatives_are_those_of_lax_in_float64(name):
    """Under `vmap`, which maps our models over images, and `checkpoint`; and a kernel for each."""
    net, shape = _NETS[name]
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, *shape)).astype(np.float32)
    params = jax.tree.map(np.asarray, net.init(jax.random.key(0), inputs[0]))

    def total(params, inputs):
        return jnp.sum(jnp.sin(jax.vmap(net.apply, (None, 0))(params, inputs)))

    def found(params, inputs):
        grad = jax.grad(total, (0, 1))
        return (
            jax.vmap(net.apply, (None, 0))(params, inputs),
            grad(params, inputs),
            jax.grad(jax.checkpoint(total), (0, 1))(params, inputs),
            jax.jvp(grad, (params, inputs), (params, inputs))[1],
            jax.vmap(lambda x: jax.grad(total)(params, x[None]))(inputs),
            jax.vmap(lambda p: net.apply(p, inputs[0]))(_two(params)),
        )

    ours = jax.jit(found)
    assert "memjax_onednn_convolution" in ours.lower(params, inputs).as_text()
    with jax.enable_x64(True):
        in_float64 = jax.tree.map(partial(np.asarray, dtype=np.float64), (params, inputs))
        exact = jax.tree.map(np.asarray, jax.jit(found)(*in_float64))
    values = jax.tree.map(np.asarray, ours(params, inputs))
    for one, other in zip(jax.tree.leaves(values), jax.tree.leaves(exact), strict=True):
        assert one.dtype == np.float32
        assert other.dtype == np.float64
        assert np.abs(one - other).max() <= 1e-5 * max(1.0, np.abs(other).max())


def _two(params):
    return jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_what_is_not_float32_stays_with_xla(dtype):
    assert _onednn.takes(jnp.ones(1))
    assert not _onednn.takes(jnp.ones(1), jnp.ones(1, dtype))


def test_the_environment_turns_it_off(monkeypatch):
    monkeypatch.setenv("MEMJAX_ONEDNN", "0")
    assert not _onednn.takes(jnp.ones(1))


def test_what_has_no_plan_stays_with_xla(monkeypatch):
    net, shape = _NETS["down"]
    params = net.init(jax.random.key(0), jnp.ones(shape))
    expected = net.apply(params, jnp.ones(shape))
    library = _onednn._library()
    library.plan.cache_clear()
    monkeypatch.setattr(library, "_PLANS", np.ones_like(library._PLANS))
    lowered = jax.jit(lambda p, x: net.apply(p, x)).lower(params, jnp.ones(shape))
    assert "memjax_onednn_convolution" not in lowered.as_text()
    found = lowered.compile()(params, jnp.ones(shape))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (12, 1), (13, 2), (1000, 4)])
def test_threads_are_as_many_as_there_is_work_for(monkeypatch, batch, threads):
    library = _onednn._library()
    library.plan.cache_clear()
    monkeypatch.setattr(library, "_NUM_THREADS", 4)
    x, w, y = (batch, 32, 32, 16), (3, 3, 16, 32), (batch, 32, 32, 32)  # 4.7 M products an image
    name = library.plan(2, x, w, y, (1, 1, 1, 1, 1, 1))
    (row,) = np.flatnonzero(library._PLANS[:, 0] == name)
    library.plan.cache_clear()
    assert library._PLANS[row, -1] == threads
    library._PLANS[row, 0] = 0  # it is planned for threads that this process has not


def test_calls_outside_jit_compile_once():
    images, kernel = jnp.ones((3, 6, 4, 3)), jnp.ones((3, 3, 3, 5))
    _onednn.convolve(images, kernel, (1, 1), "SAME")
    with jax.no_tracing():
        _onednn._convolve_p.bind(
            images, kernel, role="y", shape=(3, 6, 4, 5), window=(1, 1, 1, 1, 1, 1)
        )


def test_what_is_exported_runs_anywhere():
    net, shape = _NETS["down"]
    inputs = jnp.ones(shape)
    params = net.init(jax.random.key(0), inputs)
    exported = jax.export.export(jax.jit(net.apply))(params, inputs)
    assert "memjax_onednn_convolution" not in exported.mlir_module()
    np.testing.assert_allclose(
        exported.call(params, inputs), net.apply(params, inputs), rtol=1e-5, atol=1e-6
    )


def test_it_runs_where_jax_is_told_not_to_compile():
    net, shape = _NETS["up"]
    inputs = jnp.ones(shape)
    params = net.init(jax.random.key(0), inputs)
    wanted = jax.jit(net.apply)(params, inputs)
    with jax.disable_jit():
        found = net.apply(params, inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_no_images_give_no_outputs():
    net, (_, *shape) = _NETS["3 x 3"]
    inputs = jnp.ones((0, *shape))
    params = net.init(jax.random.key(0), jnp.ones((1, *shape)))
    assert net.apply(params, inputs).shape == (0, 5, 4, 4)
    gradients = jax.grad(lambda p: net.apply(p, inputs).sum())(params)
    assert all(np.all(g == 0.0) for g in jax.tree.leaves(gradients))


def test_nothing_is_made_twice_for_one_shape():
    net, shape = _NETS["up"]
    params = net.init(jax.random.key(0), jnp.ones(shape))
    library = _onednn._library()
    jax.jit(net.apply)(params, jnp.ones(shape))
    made = library.plan.cache_info().misses
    jax.jit(lambda p, x: 2 * net.apply(p, x))(params, jnp.ones(shape))
    assert library.plan.cache_info().misses == made


_COMPUTE = """
import jax, numpy as np
from memjax.nets.convolutions import Conv
net = Conv(16, 3)
inputs = np.random.default_rng(0).normal(size=(64, 14, 14, 16)).astype(np.float32)
params = net.init(jax.random.key(0), inputs)
step = jax.jit(jax.grad(lambda p, x: (net.apply(p, x) ** 2).mean()))
found = step(params, inputs)
"""


def _run(script, **environment):
    command = [sys.executable, "-c", _COMPUTE + script]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "NPROC": "4"} | environment
    return subprocess.run(command, env=environment, timeout=120, check=True, capture_output=True)


@pytest.mark.slow
def test_a_process_ends_while_xla_computes():
    _run("for _ in range(200): found = step(found, inputs)")


@pytest.mark.slow
def test_it_takes_as_many_threads_as_xla():
    told = "import os; print(len(os.listdir('/proc/self/task')))"
    one, many = (
        int(_run(told, NPROC="1", OMP_NUM_THREADS=number).stdout) for number in ("1", "16")
    )
    assert many - one < 8


@pytest.mark.slow
def test_kept_programs_serve_other_processes_with_and_without_onednn(tmp_path):
    kept = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    kept |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "XLA_FLAGS": ""}
    told = "print(float(abs(found['params']['kernel']).sum()))"
    outputs, counts = [], []
    for wanted in ("1", "1", "0"):
        outputs.append(float(_run(told, MEMJAX_ONEDNN=wanted, **kept).stdout))
        counts.append(len(list(tmp_path.glob("*-cache"))))
    np.testing.assert_allclose(outputs, outputs[0], rtol=1e-5)
    assert 0 < counts[0] == counts[1] < counts[2]  # the second process found the first's
