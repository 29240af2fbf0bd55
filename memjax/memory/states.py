"""One decorator for every state: a frozen dataclass that JAX, `jax.export` and Flax can carry.

Flax is not imported here, nor needed: a program that imports `flax.serialization`, before memjax or
after it, finds the states registered there.
"""

import contextlib
import dataclasses
import importlib.abc
import importlib.util
import sys
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.export
import jax.numpy as jnp

_Class = TypeVar("_Class")

_FLAX = "flax.serialization"
_STATES: list[type] = []


@dataclass_transform(frozen_default=True)
def state(cls: type[_Class]) -> type[_Class]:
    """Makes of a class with annotated fields, all of them pytrees, a state.

    That is a frozen dataclass, a pytree with the fields as children, which `jax.export` serialises
    within a function's signature, and `flax.serialization` as a dict of its fields. Typed random
    keys are saved as their data.
    """
    dataclasses.dataclass(frozen=True)(cls)
    names = _names(cls)
    jax.tree_util.register_dataclass(cls, data_fields=names, meta_fields=[])
    # A notebook's cell that runs again makes a second class of the name: JAX keeps the first.
    with contextlib.suppress(ValueError):
        jax.export.register_pytree_node_serialization(
            cls,
            serialized_name=f"{cls.__module__}.{cls.__qualname__}",
            serialize_auxdata=lambda _: b"",
            deserialize_auxdata=lambda _: (),
        )
    _STATES.append(cls)
    if _FLAX in sys.modules:
        _register_with_flax(sys.modules[_FLAX], cls)
    return cls


def _names(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _register_with_flax(serialization: Any, cls: type) -> None:
    names = _names(cls)

    def to_dict(value: Any) -> dict[str, Any]:
        return {name: serialization.to_state_dict(_saved(getattr(value, name))) for name in names}

    def from_dict(value: Any, saved: dict[str, Any]) -> Any:
        if set(saved) != set(names):
            raise ValueError(f"{cls.__name__} has fields {names}; saved were {sorted(saved)}")
        fields = {name: _restored(serialization, value, name, saved[name]) for name in names}
        return dataclasses.replace(value, **fields)

    serialization.register_serialization_state(cls, to_dict, from_dict)


def _is_key(value: Any) -> bool:
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _saved(value: Any) -> Any:
    return jax.random.key_data(value) if _is_key(value) else value


def _restored(serialization: Any, value: Any, name: str, saved: Any) -> Any:
    """Field `name` as saved; of the state `value` only structure and types are used."""
    before = getattr(value, name)
    after = serialization.from_state_dict(_saved(before), saved, name=name)
    if _is_key(before):
        return jax.random.wrap_key_data(after, impl=jax.random.key_impl(before))
    return after


class _RegisterOnceImported(importlib.abc.MetaPathFinder):
    """Registers the states when `flax.serialization` is first imported, and steps aside."""

    def find_spec(self, name, path=None, target=None):
        if name != _FLAX:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                for cls in _STATES:
                    _register_with_flax(module, cls)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if _FLAX not in sys.modules:
    sys.meta_path.insert(0, _RegisterOnceImported())
