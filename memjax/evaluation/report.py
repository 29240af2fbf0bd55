"""What an evaluation says of a run: a table, pictures, files."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import chex
import numpy as np
from PIL import Image

from memjax.errors import UserError, check_one_of

_KINDS = ("", "npz", "png")


class Curves(NamedTuple):
    """One panel of lines.

    Attributes:
      x_label: of the x axis.
      y_label: of the y axis.
      lines: by name, the x and the y of each.
      scale: of both axes, "linear" or "log".
      spread: by name, how far a line's band reaches above and below each y; lines may be missing.
      borders: where on the x axis a thin line divides groups.
    """

    x_label: str
    y_label: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    scale: str = "linear"
    spread: Mapping[str, Sequence[float]] = MappingProxyType({})
    borders: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
      table: rows of named numbers or words, all with the same names.
      grids: pictures by name; each has rows, by name, of images `[n, H, W, C]` in [0, 1].
      curves: pictures by name; each has panels, by name.
      matrices: pictures by name; each has panels, by name, of a matrix.
      axes: what stands along a matrix's columns and rows, for each picture in `matrices`.
      files: by path in a folder that the caller chooses, what else is worth keeping.
      ink: whether grey images are drawn as ink on paper; else they are photographs.
    """

    table: list[dict[str, Any]]
    grids: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Curves]] = dataclasses.field(default_factory=dict)
    matrices: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    ink: bool = False

    def write_files(self, folder: str | Path) -> None:
        """Writes `files` into `folder`; numbered pictures of an earlier evaluation are removed."""
        paths = {Path(folder) / name: content for name, content in self.files.items()}
        for parent in {path.parent for path in paths} - {Path(folder)}:
            parent.mkdir(parents=True, exist_ok=True)
            for path in parent.glob("[0-9]*.png"):
                if path.stem.isdecimal() and path not in paths:
                    path.unlink()
        for path, content in paths.items():
            path.write_bytes(content)


def check_save(save: str, image_shape: Sequence[int]) -> None:
    """Refuses what `image_files` can't make of images (H, W, C).

    Raises:
      UserError: another kind of file, or PNGs of neither grey nor colour images.
    """
    check_one_of("save", save, _KINDS)
    if save == "png" and image_shape[-1] not in (1, 3):
        raise UserError(f"save is 'png'; the images have {image_shape[-1]} channels, not 1 or 3")


def image_files(name: str, images: chex.Array, save: str) -> dict[str, bytes]:
    """Images as a report's files, which `data.load` reads; values outside [0, 1] are cut.

    Args:
      name: of the file, or of the folder.
      images: `[..., H, W, C]`.
      save: "npz" for NAME.npz with float32 `images` `[n, H, W, C]`; "png" for NAME/0000.png, ...;
        "" for none.
    """
    flat = np.clip(np.asarray(images, np.float32), 0.0, 1.0).reshape(-1, *images.shape[-3:])
    buffer = io.BytesIO()
    if save == "npz":
        np.savez_compressed(buffer, images=flat)
        return {f"{name}.npz": buffer.getvalue()}
    return {f"{name}/{i:04}.png": _png(x) for i, x in enumerate(flat) if save == "png"}


def _png(image: np.ndarray) -> bytes:
    pixels = np.rint(image * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()
