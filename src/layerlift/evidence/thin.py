"""Some of many pixels."""

import numpy as np


def thin_out(where: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of at most `limit` of the True pixels of (H, W), evenly spread."""
    width = where.shape[1]
    places = np.flatnonzero(where)
    places = places[:: max(1, -(-len(places) // limit))]
    return places // width, places % width
