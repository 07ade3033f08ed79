"""Training in the workers of Ray Train, which start as the user's own job says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import convscope
from convscope._reporting import SilentReporter
from convscope.integrations.torchrun import train_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),  # Ray uses its own old names
]
OPTIONS: dict[str, Any] = {"model": "flatten", "epochs": 2, "threads": 1, "precision": "float32", "init": "none"}


@pytest.mark.usefixtures("cluster")
def test_train_model_in_workers_of_ray_train_has_the_losses_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    run, folder = tmp_path / "together", str(Path.cwd())

    def train() -> None:
        import torch.distributed as dist

        os.chdir(folder)
        (tmp_path / f"rank {dist.get_rank()} of {dist.get_world_size()}").touch()
        train_model("digits", run=run, reporter=SilentReporter(), **OPTIONS)

    trainer = TorchTrainer(
        train, scaling_config=ScalingConfig(num_workers=2), run_config=RunConfig(storage_path=str(tmp_path / "ray"))
    )
    trainer.fit()
    assert sorted(path.name for path in tmp_path.glob("rank *")) == ["rank 0 of 2", "rank 1 of 2"]
    alone = convscope.train_model("digits", run=tmp_path / "alone", reporter=SilentReporter(), **OPTIONS)
    together = convscope.open_run(run)
    losses = [[epoch["train_loss"] for epoch in one.history] for one in (together, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert together.evaluation is not None
    assert alone.evaluation is not None
    assert together.evaluation.accuracy == alone.evaluation.accuracy
