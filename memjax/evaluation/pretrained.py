"""Trained models that come with memjax, a file each: parameters in float16, config, numbers.

A file is an `.npz` without pickles: an array for each of the model's variables, by its path, and
`about`, a JSON text with the config, the step and what evaluations of this very file found.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from memjax.errors import UserError, check_one_of
from memjax.training.checkpoints import by_path

PREFIX = "pretrained:"
_FOLDER = Path(__file__).parents[1] / "pretrained"
_ABOUT = "about"


class Pretrained(NamedTuple):
    """What a file holds.

    Attributes:
      config: of the training, without its `data_dir` and `init_from`.
      step: how many were taken.
      evaluations: by task, its `options` and the `table` that they gave.
      arrays: the variables, by their paths.
    """

    config: ConfigDict
    step: int
    evaluations: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, np.ndarray]

    def variables(self, like: Any) -> Any:
        """The variables in the structure and the types of `like`.

        Raises:
          UserError: they are another model's.
        """
        wanted = by_path(like)
        if {p: x.shape for p, x in wanted.items()} != {p: x.shape for p, x in self.arrays.items()}:
            raise UserError("the pretrained parameters are not those of this model")
        leaves = [jnp.asarray(self.arrays[path], leaf.dtype) for path, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)


def names() -> list[str]:
    """Of all pretrained models."""
    return sorted(path.stem for path in _FOLDER.glob("*.npz"))


def read(name: str) -> Pretrained:
    """What the file of that name holds.

    Raises:
      UserError: there is none, or it is damaged.
    """
    check_one_of("pretrained model", name, names())
    try:
        with np.load(_FOLDER / f"{name}.npz", allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"the pretrained model {name} can't be read: {error}") from error
    about = json.loads(str(arrays.pop(_ABOUT)))
    config = ConfigDict(about["config"], convert_dict=True)
    return Pretrained(config, about["step"], about["evaluations"], arrays)


def write(
    name: str,
    config: Mapping[str, Any],
    step: int,
    variables: Any,
    evaluations: Mapping[str, Mapping[str, Any]],
) -> Path:
    """The file of that name, made or made anew; see `Pretrained` for what it holds."""
    paths = {"data_dir": "", "init_from": ""}
    about = {"config": {**config, **paths}, "step": step, "evaluations": evaluations}
    arrays: dict[str, Any] = {_ABOUT: np.array(json.dumps(about))}
    arrays |= {path: _in_half(np.asarray(leaf)) for path, leaf in by_path(variables).items()}
    _FOLDER.mkdir(exist_ok=True)
    path = _FOLDER / f"{name}.npz"
    np.savez_compressed(path, **arrays)
    return path


def rounded(variables: Any) -> Any:
    """Variables as they come out of a file, of their own types."""
    return jax.tree.map(lambda x: jnp.asarray(_in_half(np.asarray(x)), x.dtype), variables)


def _in_half(array: np.ndarray) -> np.ndarray:
    """In float16, if its numbers are within its range."""
    fits = np.all(np.abs(array) <= np.finfo(np.float16).max)
    return array.astype(np.float16) if array.dtype == np.float32 and fits else array
