"""Write the JSON Schemas of everything that convscope prints with --json or stores as JSON to docs/schemas.

    python dev/write_schemas.py [--check]

With --check nothing is written; the exit code is 1 if a file is out of date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from convscope._records import Record
from convscope.api.benchmark import BenchmarkResult
from convscope.api.explain import Explanation
from convscope.api.export import Export
from convscope.api.filter import FilterResult
from convscope.api.inspect import DatasetView
from convscope.api.lab import LabInfo
from convscope.api.tuning.cross_validation import CrossvalSummary
from convscope.api.tuning.search import SearchSummary
from convscope.api.tuning.search_folder import SearchConfig, StoredTrial
from convscope.backends.onnx.metadata import ModelMetadata
from convscope.data.audit.report import AuditReport
from convscope.deploy.answers import AnswerSummary
from convscope.deploy.foreign.record import ForeignModel
from convscope.deploy.prediction import Answer, PredictionList
from convscope.deploy.server.supervisor import ServerInfo
from convscope.deploy.verify import Verification
from convscope.evaluation.metrics import Evaluation
from convscope.integrations.ray.output import ScoringSummary
from convscope.network.cost import NetworkCost, PresetList
from convscope.pretrained.catalog import BackboneEntry, BackboneList
from convscope.runs.config import Manifest, MetricsRow, RunConfig, RunSummary

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

SCHEMAS: dict[str, tuple[type[Record], str]] = {
    "train": (RunSummary, "convscope train --json"),
    "crossval": (CrossvalSummary, "convscope crossval --json"),
    "search": (SearchSummary, "convscope search --json, and result.json in the folder of a search"),
    "search-config": (SearchConfig, "search.json in the folder of a search"),
    "search-trial": (StoredTrial, "a file in trials/ in the folder of a search"),
    "evaluate": (Evaluation, "convscope evaluate --json, and evaluation.json in a run folder"),
    "predict": (PredictionList, "convscope predict --json"),
    "predict-out": (AnswerSummary, "convscope predict --out --json"),
    "predict-ray": (ScoringSummary, "convscope predict --ray --json, and _SUCCESS in the folder of the answers"),
    "answer": (Answer, "one line of the .jsonl file that convscope predict --out writes"),
    "explain": (Explanation, "convscope explain --json"),
    "filter": (FilterResult, "convscope filter --json"),
    "export": (Export, "convscope export --json"),
    "verify": (Verification, "convscope verify --json"),
    "lab": (LabInfo, "convscope lab --json"),
    "serve": (ServerInfo, "convscope serve --json"),
    "presets": (PresetList, "convscope models --json"),
    "models": (NetworkCost, "convscope models ARCHITECTURE --json"),
    "backbones": (BackboneList, "convscope backbones --json"),
    "backbones-add": (BackboneEntry, "convscope backbones add --json"),
    "bench": (BenchmarkResult, "convscope bench --json"),
    "data-check": (AuditReport, "convscope data check --json"),
    "data-show": (DatasetView, "convscope data show --json"),
    "config": (RunConfig, "config.json in a run folder"),
    "manifest": (Manifest, "manifest.json in a run folder"),
    "metrics-row": (MetricsRow, "one line of metrics.jsonl in a run folder"),
    "foreign-model": (ForeignModel, "the JSON file that describes a model that convscope did not train"),
    "model-metadata": (ModelMetadata, "the metadata entry 'convscope' of model.onnx"),
}


def schema_text(name: str) -> str:
    """The content of docs/schemas/NAME.json."""
    record, title = SCHEMAS[name]
    schema = {"$schema": DIALECT, **record.model_json_schema(mode="serialization"), "title": title}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the files; the exit code."""
    outdated = []
    for name in SCHEMAS:
        path, text = FOLDER / f"{name}.json", schema_text(name)
        if path.exists() and path.read_text("utf-8") == text:
            continue
        outdated.append(path.name)
        if "--check" not in sys.argv:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    stale = [path for path in FOLDER.glob("*.json") if path.stem not in SCHEMAS]
    for path in stale:
        outdated.append(path.name)
        if "--check" not in sys.argv:
            path.unlink()
    if "--check" in sys.argv and outdated:
        sys.stderr.write(f"out of date: {', '.join(outdated)}; run: make schemas\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
