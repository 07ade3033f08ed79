"""Array types of data sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]  # (n, height, width, channels), 0..255, channels 1 gray, 3 RGB or 4 RGBA
Labels = NDArray[np.int64]  # (n,), indices of classes; also used for other indices
