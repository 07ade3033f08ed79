"""`convscope train --processes N`: torch's elastic launcher runs the same command in N processes on this machine.

    python -m convscope.cli.commands.train_processes train ...    what each of them runs

A process that is killed or crashes ends the attempt; all are started again and continue from the last checkpoint. An
error that would come again ends the training: the process writes its exit code into the launcher's folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from convscope._files import write_atomically
from convscope._records import Record
from convscope.api.training.options import TrainOptions
from convscope.cli.console import print_message
from convscope.errors import PeerError

LAUNCHER = "CONVSCOPE_LAUNCHER"  # variable with the launcher's folder
EXIT_CODE_FILE = "exit-code"
MAX_RESTARTS = 10
SIGNALED = 128


class Before(Record):
    """The run that a training goes on from."""

    resume: Path | None = Field(
        default=None,
        description="Continue a stopped or killed training from its last checkpoint.",
        json_schema_extra={"metavar": "RUN"},
    )
    more_epochs: int | None = Field(
        default=None, ge=1, description="With --resume: train a finished run for more epochs, into a new run."
    )

    @property
    def new_run_options(self) -> set[str]:
        """The options that name and train the new run, if there is one."""
        return {"more_epochs", "run"} if self.more_epochs else set()


def launch(processes: int, data: str | None, options: TrainOptions, before: Before) -> int:
    """Run the present command in several processes, and return its exit code.

    Args:
        processes: their number.
        data: the data of the command.
        options: its options; the run folder is chosen now, so that a restart finds it.
        before: the run that it goes on from.

    Raises:
        UsageError: the run folder is not free.
    """
    words = _without_processes(sys.argv[1:])
    if options.run is not None:
        from convscope.runs.folder import require_unused

        require_unused(options.run)
    elif before.resume is None or before.more_epochs:
        words[1:1] = ["--run", str(_choose_run(data, options, before.resume))]
    with tempfile.TemporaryDirectory(prefix="convscope-") as folder:
        os.environ[LAUNCHER] = folder
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "")
        return _run_elastically(["-P", "-m", __name__, *words], processes, Path(folder))


def _without_processes(words: list[str]) -> list[str]:
    """The command without the option `--processes`.

    >>> _without_processes(["train", "digits", "--processes", "2", "--seed", "1", "--processes=3"])
    ['train', 'digits', '--seed', '1']
    """
    kept, is_value = [], False
    for word in words:
        if not is_value and word != "--processes" and not word.startswith("--processes="):
            kept.append(word)
        is_value = word == "--processes"
    return kept


def _choose_run(data: str | None, options: TrainOptions, resume: Path | None) -> Path:
    """The next free folder, named before the data are read."""
    from convscope.network.presets import PRESETS
    from convscope.runs.folder import RUNS_FOLDER, next_run_folder

    if resume is not None:
        return next_run_folder(resume.parent, resume.name, "more")
    return next_run_folder(
        RUNS_FOLDER, Path(data or "default").stem, options.model if options.model in PRESETS else "model"
    )


def _run_elastically(arguments: list[str], processes: int, folder: Path) -> int:
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=MAX_RESTARTS,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
    )
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except SignalException as error:
        return SIGNALED + int(error.sigval)
    except ChildFailedError:
        if not (folder / EXIT_CODE_FILE).exists():
            print_message(f"convscope: training lost a process {MAX_RESTARTS + 1} times: see the messages before")
    return int((folder / EXIT_CODE_FILE).read_text()) if (folder / EXIT_CODE_FILE).exists() else 1


def main() -> None:
    """Run the command in one of the processes."""
    from convscope.cli.main import main as run_command

    file = Path(os.environ[LAUNCHER], EXIT_CODE_FILE)
    if file.exists():  # the training ended while another process was lost
        return
    code = 1
    try:
        run_command()
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception:
        sys.excepthook(*sys.exc_info())
    if code >= SIGNALED or code == PeerError.exit_code:
        sys.exit(code)
    if code or os.environ["RANK"] == "0":
        with suppress(OSError):
            write_atomically(file, str(code))


if __name__ == "__main__":
    main()
