"""How Lightning writes our checkpoints: whole or not at all.

By itself it writes under ``TMPDIR`` and moves the file from there. To another file
system that is a copy over the old checkpoint, half of which may be all that is left.
"""

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO

from .checkpoint import write_atomically


class WholeFiles(TorchCheckpointIO):
    """Writes beside the old file, and replaces it; Lightning asks the first process."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,
    ) -> None:
        """Write a checkpoint; ``storage_options`` have no meaning here."""
        write_atomically(path, checkpoint)
