"""oneDNN's convolutions as XLA calls them: a C library, and a function that numba compiles.

Addresses are integers. The numbers are those of oneDNN's `dnnl_types.h`.
"""

import ctypes
import functools
import hashlib
import math
import os
import threading
from importlib import metadata
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending

_W = 1  # the role of the kernel among x, w and y
_Shape = tuple[int, ...]
# A row for each plan: its name, 0 for none; the role of what it computes; the convolution, the copy
# of the kernel, the engine; the layouts of x, w, y, the kernel as oneDNN wants it, and scratch;
# oneDNN's names of the convolution's three arguments; how many threads.
_PLANS = np.zeros((4096, 14), np.int64)
_ERROR = ctypes.create_string_buffer(b"oneDNN fails")
_lock = threading.Lock()


def _load() -> ctypes.CDLL:
    """Its threads wait asleep: in a loop they would take the cores from other work."""
    try:
        files = metadata.files("onednn-cpu-gomp") or ()
        path = next(file.locate() for file in files if file.name == "libdnnl.so.3")
    except (metadata.PackageNotFoundError, StopIteration) as error:
        raise ImportError("oneDNN is not installed") from error
    policy = os.environ.get("OMP_WAIT_POLICY")
    os.environ["OMP_WAIT_POLICY"] = policy or "passive"
    try:
        return ctypes.CDLL(str(path))
    finally:
        if policy is None:
            del os.environ["OMP_WAIT_POLICY"]


_LIBRARY = _load()
_LIBRARY.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p


def _make(name: str, *arguments: Any) -> ctypes.c_void_p:
    made = ctypes.c_void_p()
    if status := getattr(_LIBRARY, f"dnnl_{name}")(ctypes.byref(made), *arguments):
        raise RuntimeError(f"oneDNN: {name} fails with status {status}")
    return made


def _numbers(*values: int) -> Any:
    return (ctypes.c_int64 * 12)(*values)


_ENGINE = _make("engine_create", 1, ctypes.c_size_t(0))  # the CPU
_NUM_THREADS = min(len(os.sched_getaffinity(0)), int(os.environ.get("NPROC") or 2**31))  # as XLA
# A thread that is woken for less than some 0.5 ms of work costs more than it brings.
_PRODUCTS_PER_THREAD = 30_000_000


@functools.cache
def plan(role: int, x: _Shape, w: _Shape, y: _Shape, window: _Shape) -> int:
    """Makes what oneDNN needs, in a row of its own; its name is the same in every process.

    So a compiled program that JAX has kept finds it: a program is lowered before it is looked for.
    oneDNN chooses the kernel's layout. So the kernel is copied: first, or last if it is the result.

    Args:
      role: what is computed: 0 for x, 1 for w, 2 for y.
      x: shape of the images `[B, H, W, C]`.
      w: of the kernel `[h, w, C, F]`.
      y: of the outputs `[B, H', W', F]`.
      window: the strides, and the padding before and after, axis by axis.

    Raises:
      RuntimeError: oneDNN refuses them, or there are more plans than rows.
    """
    num_products = math.prod(y) * math.prod(w[:3])
    num_threads = max(1, min(_NUM_THREADS, num_products // _PRODUCTS_PER_THREAD))
    _LIBRARY.omp_set_num_threads(num_threads)  # which oneDNN plans for
    options = _make("primitive_attr_create")
    _LIBRARY.dnnl_primitive_attr_set_scratchpad_mode(options, 1)  # ours, as any thread may call
    layouts = []
    for shape, axes in ((x, (0, 3, 1, 2)), (w, (3, 2, 0, 1)), (y, (0, 3, 1, 2))):
        sizes = (4, _numbers(*(shape[axis] for axis in axes)), 3)  # 3: float32
        strides = _numbers(*(math.prod(shape[axis + 1 :]) for axis in axes))
        layouts.append(_make("memory_desc_create_with_strides", *sizes, strides))
        if shape is w:
            free = _make("memory_desc_create_with_tag", *sizes, 1)

    numbers = [_numbers(*n) for n in (window[:2], (0, 0), window[2::2], window[3::2])]
    arrays = [layouts[0], free, None, layouts[2]]  # None: a bias
    kind = "convolution_{}_primitive_desc_create"
    desc = _make(kind.format("forward"), _ENGINE, 64, 1, *arrays, *numbers, options)
    if role == 0:
        kind = kind.format("backward_data")
        desc = _make(kind, _ENGINE, 1, *arrays[:2], arrays[3], *numbers, desc, options)
    if role == _W:
        kind = kind.format("backward_weights")
        desc = _make(kind, _ENGINE, 1, *arrays, *numbers, desc, options)

    for what in (132 if role == _W else 131, 136):
        layout = _LIBRARY.dnnl_primitive_desc_query_md(desc, what, 0)
        layouts.append(ctypes.c_void_p(layout))
    ends = (layouts[3], layouts[1]) if role == _W else (layouts[1], layouts[3])
    copy = _make("reorder_primitive_desc_create", ends[0], _ENGINE, ends[1], _ENGINE, None)
    primitives = [_make("primitive_create", each) for each in (desc, copy)]
    addresses = [handle.value for handle in (*primitives, _ENGINE, *layouts)]
    names = ((129, 33, 145), (1, 161, 145), (1, 33, 17))[role]
    digest = hashlib.sha256(repr((role, x, w, y, window)).encode()).digest()
    name = int.from_bytes(digest[:7], "little")
    with _lock:
        row = int(np.argmin(_PLANS[:, 0]))
        if _PLANS[row, 0]:
            raise RuntimeError(f"oneDNN: more than {len(_PLANS)} kinds of convolutions")
        _PLANS[row, 1:] = np.array([role, *addresses, *names, num_threads])
        _PLANS[row, 0] = name
    return name


# What numba compiles. XLA's structures, in `xla/ffi/api/c_api.h`, are words of 8 bytes.

_word = numba.types.int64
_intrinsic: Any = extending.intrinsic


@_intrinsic
def _pointer(_, address):
    def cast(context, builder, signature, arguments):
        del context, signature
        return builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())

    return numba.types.CPointer(_word)(address), cast


@_intrinsic
def _call(_, function, argument):
    def call(context, builder, signature, arguments):
        del context, signature
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], kind), arguments[1:])

    return _word(function, argument), call


@numba.njit
def _words(address, count):
    return numba.carray(_pointer(address), count)


def _function(name: str, count: int) -> Any:
    """One of the library's, of so many integers."""
    function = getattr(_LIBRARY, name)
    function.argtypes, function.restype = [ctypes.c_int64] * count, ctypes.c_int
    return function


_set_threads = _function("omp_set_num_threads", 1)
_create_stream = _function("dnnl_stream_create", 3)
_destroy_stream = _function("dnnl_stream_destroy", 1)
_create_memory = _function("dnnl_memory_create", 4)
_destroy_memory = _function("dnnl_memory_destroy", 1)
_execute = _function("dnnl_primitive_execute", 4)
_FIRST, (_NUM_ROWS, _ROW_SIZE) = _PLANS.ctypes.data, _PLANS.shape
_TEXT = ctypes.addressof(_ERROR)


@numba.njit
def _run(row, data):
    """Carries out a row's plan on the addresses of x, w and y; 0, or what went wrong."""
    _, role, convolution, copy, engine = row[:5]
    made, memories = np.zeros(1, np.int64), np.zeros(5, np.int64)
    _set_threads(row[13])  # of the calling thread
    status = _create_stream(made.ctypes.data, engine, 1)
    stream = made[0]
    for i in range(5):
        address = data[i] if i < 3 else -1  # -1: allocated
        status |= _create_memory(memories.ctypes.data + 8 * i, row[5 + i], engine, address)
    x, w, y, kernel, scratch = memories
    given = np.array([row[10], x, row[11], kernel, row[12], y, 80, scratch])
    ends = (kernel, w) if role == _W else (w, kernel)
    copied = np.array([1, ends[0], 17, ends[1]])
    if status == 0 and role != _W:
        status = _execute(copy, stream, 2, copied.ctypes.data)
    if status == 0:
        status = _execute(convolution, stream, 4, given.ctypes.data)
    if status == 0 and role == _W:
        status = _execute(copy, stream, 2, copied.ctypes.data)
    for memory in memories:
        _destroy_memory(memory)
    _destroy_stream(stream)
    return status


@numba.cfunc(_word(_word))
def handle(address):
    """What XLA calls with the address of a frame: computes, and returns 0 or an error's address."""
    frame = _words(address, 21)
    if frame[1]:  # XLA asks for the version of its interface: 0.1, the first
        _words(_words(frame[1], 4)[3], 4)[3] = 1 << 32
        return 0
    name = _words(_words(_words(frame[20], 1)[0], 2)[1], 1)[0]
    row = _words(_FIRST, _ROW_SIZE)
    for i in range(_NUM_ROWS):
        row = _words(_FIRST + 8 * _ROW_SIZE * i, _ROW_SIZE)
        if row[0] == name:
            break
    data, given = np.empty(3, np.int64), 0
    for i in range(3):
        if i == row[1]:
            data[i] = _words(_words(frame[14], 1)[0], 4)[3]
        else:
            data[i] = _words(_words(frame[9], 2)[given], 4)[3]
            given += 1
    if row[0] == name and _run(row, data) == 0:
        return 0
    error = np.array([32, 0, _TEXT, 13])  # 13: internal
    return _call(_words(frame[2], 7)[6], error.ctypes.data)
