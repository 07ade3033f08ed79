"""Time convscope's `Predictor`: latency_convscope.py MODEL THREADS."""

from __future__ import annotations

import sys

from convscope import Predictor
from latency_loop import measure

predictor = Predictor(sys.argv[1], threads=int(sys.argv[2]))
measure(predictor.predict_proba, predictor.predict_proba)
