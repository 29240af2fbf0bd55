"""What the commands set in their process's environment, and leave to the user."""

import importlib.metadata
import os
import platform
import subprocess
import sys

import pytest

import experiments

_SHOW = """
import os
from experiments import cli
cli.run(lambda: print(*(os.environ.get(name) for name in NAMES)))
"""
_KEPT = """
import os, threading, experiments
for _ in range(2):
    thread = threading.Thread(target=bytearray, args=(2 * 10**8,))
    thread.start()
    thread.join()
with open("/proc/self/statm") as file:
    print(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
"""
_CACHE, _BLAS = "JAX_COMPILATION_CACHE_DIR", "OPENBLAS_NUM_THREADS"


def show(names, *arguments, **environment):
    ours = (_CACHE, _BLAS, "OMP_NUM_THREADS", "NPROC")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-c", f"NAMES = {names}{_SHOW}", *arguments]
    return subprocess.check_output(command, env=kept | environment, text=True).split()


def test_a_command_keeps_its_programs_and_divides_no_small_matrix(tmp_path):
    shown = show((_CACHE, _BLAS), XDG_CACHE_HOME=str(tmp_path))
    assert shown == [str(tmp_path / "memjax/jax"), "1"]
    assert show(("NPROC",), "--threads=3") == ["3"]


def test_two_threads_are_not_left_to_wait_for_each_other():
    for jaxlib, cores in (("0.10.2", 2), ("0.11.0", 3)):
        assert experiments.lacks_threads(jaxlib, cores)
    for jaxlib, cores in (("0.10.2", 1), ("0.10.2", 4), ("0.9.2", 2), ("0.12.0", 2)):
        assert not experiments.lacks_threads(jaxlib, cores)
    here = experiments.lacks_threads(importlib.metadata.version("jaxlib"), experiments.num_cores())
    assert show(("NPROC",)) == ["4" if here else "None"]


def test_a_command_adds_its_flag_to_the_user_s_unless_it_is_there(monkeypatch):
    ynn, other = "--xla_cpu_experimental_ynn_fusion_type=", "--xla_cpu_use_fusion_emitters=true"
    monkeypatch.setenv("NPROC", "1")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.10.2")
    for before, after in ((other, f"{other} {ynn}"), ("", ynn), (f"{ynn}reduce", f"{ynn}reduce")):
        monkeypatch.setenv("XLA_FLAGS", before)
        importlib.reload(experiments)
        assert os.environ["XLA_FLAGS"] == after
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.8.0")
    monkeypatch.setenv("XLA_FLAGS", other)
    importlib.reload(experiments)
    assert os.environ["XLA_FLAGS"] == other


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's settings")
@pytest.mark.parametrize("environment", [{}, {"MALLOC_ARENA_MAX": "2"}])
def test_freed_memory_is_used_again_unless_the_user_chose(environment):
    command, variables = [sys.executable, "-c", _KEPT], os.environ | environment
    kept = int(subprocess.check_output(command, env=variables, text=True))  # bytes
    assert kept < 1e8 if environment else 2e8 < kept < 3.5e8  # of twice 200 MB


@pytest.mark.slow
def test_what_the_user_set_stays(tmp_path):
    shown = show((_CACHE, _BLAS), **{_CACHE: "mine", "OMP_NUM_THREADS": "2"})
    assert shown == ["mine", "None"]
    assert show((_BLAS,), **{_BLAS: "4"}) == ["4"]
    (tmp_path / "file").touch()  # no folder can be made there
    assert show((_CACHE,), XDG_CACHE_HOME=str(tmp_path / "file")) == ["None"]
