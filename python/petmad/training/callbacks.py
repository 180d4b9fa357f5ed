"""Checkpoints of a training: ``best.ckpt`` to use, ``last.ckpt`` to resume from."""

from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from . import checkpoint
from .module import TrainingModule


class Checkpoints(Callback):
    """Write ``last.ckpt`` every few steps and after each epoch, ``best.ckpt`` when it improves.

    Args:
        folder: where to write.
        monitor: name of the validation number, lowest is best.
        every_n_steps: between writes of ``last.ckpt`` inside an epoch.
        provenance: kept in every checkpoint.
    """

    def __init__(
        self, folder: Path, monitor: str, every_n_steps: int, provenance: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._monitor = f"valid/{monitor}"
        self._every_n_steps = every_n_steps
        self._provenance = provenance
        self.best_score = float("inf")

    @property
    def best_path(self) -> Path:
        """Where the best model is."""
        return self._folder / "best.ckpt"

    @property
    def last_path(self) -> Path:
        """Where the state to resume from is."""
        return self._folder / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training must know."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.best_score = state_dict["best_score"]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: TrainingModule, checkpoint_dict: dict
    ) -> None:
        """Put our part into Lightning's checkpoint, so that it can be exported as well."""
        checkpoint_dict[checkpoint.KEY] = checkpoint.describe(
            pl_module.potential, self._provenance
        )

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: TrainingModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save inside an epoch; its last step is left to the end of the epoch."""
        is_last = batch_idx + 1 == trainer.num_training_batches
        if trainer.global_step % self._every_n_steps == 0 and not is_last:
            trainer.save_checkpoint(self.last_path)

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: TrainingModule
    ) -> None:
        """Keep the model if it is the best so far."""
        if trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self._monitor])
        if score < self.best_score:
            self.best_score = score
            if trainer.is_global_zero:
                step = {"epoch": trainer.current_epoch, "step": trainer.global_step}
                metrics = {
                    name.removeprefix("valid/"): float(value)
                    for name, value in trainer.callback_metrics.items()
                    if name.startswith("valid/")
                }
                checkpoint.save(
                    self.best_path,
                    pl_module.potential,
                    {**self._provenance, **step, "validation": metrics},
                )

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: TrainingModule
    ) -> None:
        """Save after each epoch."""
        trainer.save_checkpoint(self.last_path)
