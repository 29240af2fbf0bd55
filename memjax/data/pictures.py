"""Picture files of one size as one array."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memjax.errors import UserError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

# As which mode a picture is read, by PIL's name of its own.
_READ_AS = {"1": "L", "L": "L", "LA": "L", "RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB"}


def read(names: Sequence[str], files: Sequence[Path | bytes]) -> np.ndarray:
    """Reads pictures of one size.

    A palette's entries are taken as colours, or as grey levels where all are grey. Pictures from
    a camera are turned upright. Where some are grey and some in colour, all are read as colour.

    Args:
      names: of the pictures, for messages.
      files: a path or the file's content, of each.

    Returns:
      uint8 `[D, H, W, C]`, C 1 where all are grey and 3 otherwise.

    Raises:
      UserError: with the name of a picture that can't be read, is transparent, animated, of 16
        bits or of another size than the first.
    """
    images: list[np.ndarray] = []
    # One after the other: PIL reads small pictures no faster in several threads.
    for name, file in zip(names, files, strict=True):
        image = _read_one(name, file)
        images.append(image)
        if image.shape[:2] != images[0].shape[:2]:
            (height, width), (first_height, first_width) = image.shape[:2], images[0].shape[:2]
            raise UserError(
                f"{name} is {width} wide and {height} high, {names[0]} {first_width} wide and "
                f"{first_height} high: make all pictures the same size"
            )
    num_channels = max(image.shape[-1] for image in images)
    together = np.empty((len(images), *images[0].shape[:2], num_channels), np.uint8)
    for row, image in zip(together, images, strict=True):
        row[:] = image  # grey levels go to all three channels
    return together


def _read_one(name: str, file: Path | bytes) -> np.ndarray:
    """uint8 `[H, W, 1]` or `[H, W, 3]`."""
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
            image = _to_array(name, picture)
    except UserError:
        raise
    except Exception as error:  # PIL's readers name damage in many ways
        raise UserError(
            f"{name} cannot be read as a picture ({one_line(error)}): mend or remove it"
        ) from error
    return image if image.ndim == 3 else image[..., None]


def _to_array(name: str, picture: "Image") -> np.ndarray:
    import PIL.ImageOps

    # PIL itself cuts colours of 16 bits down to 8, without a word.
    stored_as = [picture.mode, *(str(tile[3]) for tile in getattr(picture, "tile", ()))]
    if any(";16" in mode for mode in stored_as):
        raise UserError(f"{name} is of 16 bits: save it with 8, grey or RGB")
    if picture.mode not in _READ_AS:
        raise UserError(f"{name} is of the mode {picture.mode}: save it as grey or RGB, of 8 bits")
    if getattr(picture, "is_animated", False):
        raise UserError(f"{name} is animated: save one frame of it")
    mode = _READ_AS[picture.mode]
    picture = PIL.ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        if opaque.getchannel("A").getextrema() != (255, 255):
            raise UserError(f"{name} is transparent ({picture.mode}): save it without alpha")
        picture.info.pop("transparency", None)  # PIL would warn of it
    image = np.asarray(picture.convert(mode))
    if picture.mode == "P" and np.all(image == image[..., :1]):
        image = image[..., :1]
    return image
