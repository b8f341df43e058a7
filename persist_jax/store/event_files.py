"""Write a run's epochs as scalars for TensorBoard."""

import time
from collections.abc import Mapping
from pathlib import Path

from persist_jax._plumbing.extras import needed_by
from persist_jax.store.run import TENSORBOARD_FOLDER, runs_folder

with needed_by("--tensorboard", "watch"):
    from tensorboardX import event_file_writer
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary


class EventFile:
    """An event file of one run, `tensorboard/<network>/<regulariser>/<weight>/seed<k>/events...`.

    Training resumes after `epoch`. Each resumption adds a file, which tells TensorBoard to drop
    later epochs of earlier files.
    """

    def __init__(self, workdir: Path, folder: Path, epoch: int):
        own = workdir / TENSORBOARD_FOLDER / folder.relative_to(runs_folder(workdir))
        own.mkdir(parents=True, exist_ok=True)
        # Not a `SummaryWriter`: a full disk ends its thread, and its full queue would then block.
        self._writer = event_file_writer.EventsWriter(str(own / "events"), f".{epoch:06d}")
        self._write(epoch + 1, session_log=SessionLog(status=SessionLog.START))

    def append(self, row: Mapping[str, float | int | None]) -> None:
        """Add the scalars of an epoch; see `EpochLines.append`."""
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "epoch" and value is not None
        ]
        self._write(int(row["epoch"]), summary=Summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int, **content: SessionLog | Summary) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))
        self._writer.flush()
