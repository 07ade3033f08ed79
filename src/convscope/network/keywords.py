"""The keyword table of the architecture language.

To add a layer, write its record, shape rule and row into the file of its family in `layers/`.
"""

from __future__ import annotations

from convscope.network.layers.context import Keyword
from convscope.network.layers.convolution import CONVOLUTION_KEYWORDS
from convscope.network.layers.dense import DENSE_KEYWORDS
from convscope.network.layers.elementwise import ELEMENTWISE_KEYWORDS
from convscope.network.layers.pooling import POOLING_KEYWORDS
from convscope.network.layers.residual import RESIDUAL_KEYWORDS
from convscope.network.layers.squeeze_excite import SQUEEZE_EXCITE_KEYWORDS

KEYWORDS: dict[str, Keyword] = {
    **CONVOLUTION_KEYWORDS,
    **ELEMENTWISE_KEYWORDS,
    **POOLING_KEYWORDS,
    **DENSE_KEYWORDS,
    **SQUEEZE_EXCITE_KEYWORDS,
    **RESIDUAL_KEYWORDS,
}
