"""Checkpoints that a kill or a full disk cannot spoil."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from sciwm.core.replacement import replacing


class WholeCheckpoints(TorchCheckpointIO):
    """Writes each checkpoint beside the old one, which it replaces when it is complete.

    Lightning writes to the system's folder for temporary files; where that is on another disk than
    the run, its move is a copy over the last good checkpoint, and can be cut short.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        written = io.BytesIO()  # zip files are not written from front to back
        torch.save(checkpoint, written)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            file.write(written.getbuffer())
