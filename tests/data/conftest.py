import numpy as np
import pytest

from memjax import data


@pytest.fixture(scope="module")
def arrays():
    """60 images of 4 classes of different sizes; image i is all i, its label negative for none."""
    images = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 3, 2, 1))
    labels = np.repeat([0, 1, 2, 3], [10, 20, 12, 18])
    return data.ImageArrays.create(images, labels)
