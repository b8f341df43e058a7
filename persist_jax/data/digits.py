"""scikit-learn's digits: 1797 images of 8 x 8 pixels, without a download."""

import numpy as np

from persist_jax._plumbing.extras import needed_by


def digits() -> dict[str, np.ndarray]:
    """Return the digits in scikit-learn's order: the first 1500 to train, the last 297 to test.

    Different people wrote the train and the test digits.

    Returns:
        `train_x`, `test_x`: `(N, 8, 8, 1)` float32 from 0 to 16; `train_y`, `test_y`: `(N,)` int32.

    Example:
        >>> digits()["train_x"].shape
        (1500, 8, 8, 1)
    """
    with needed_by("digits", "experiment"):
        from sklearn.datasets import load_digits

    stored = load_digits()
    x = stored.images[..., None].astype(np.float32)
    y = stored.target.astype(np.int32)
    return {"train_x": x[:1500], "train_y": y[:1500], "test_x": x[1500:], "test_y": y[1500:]}
