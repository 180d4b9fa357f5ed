"""What a training leaves behind: checkpoints, and a line per validation."""

import datetime
import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from petmad.output_files import replaced

from . import checkpoint
from .metrics import UNITS
from .module import TrainingModule


LOG = logging.getLogger(__name__)


class Checkpoints(Callback):
    """Writes ``last.ckpt`` every few steps, ``best.ckpt`` when the model improves.

    Args:
        folder: where to write.
        monitor: name of the validation number, lowest is best.
        every_n_steps: between writes of ``last.ckpt`` inside an epoch.
        provenance: kept in every checkpoint.
        earlier: folder of the file to resume from, if any.
    """

    def __init__(
        self,
        folder: Path,
        monitor: str,
        every_n_steps: int,
        provenance: dict[str, Any],
        earlier: Path | None = None,
    ) -> None:
        self._folder = folder
        self._monitor = monitor
        self._every_n_steps = every_n_steps
        self._provenance = provenance
        self._earlier_best = None if earlier is None else earlier / "best.ckpt"
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
        """Inverse of :meth:`state_dict`; a score counts as long as its model is there.

        All processes decide alike: of the folders only the new one changes meanwhile,
        by :meth:`bring_best`.
        """
        earlier = self._earlier_best
        if self.best_path.exists() or (earlier is not None and earlier.exists()):
            self.best_score = state_dict["best_score"]

    def bring_best(self) -> None:
        """Copy the best model from the folder of the file to resume from, if needed."""
        earlier = self._earlier_best
        if earlier is None or self.best_path.exists() or not earlier.exists():
            return
        with replaced(self.best_path) as whole:
            shutil.copyfile(earlier, whole)

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: TrainingModule,
        checkpoint_dict: dict,
    ) -> None:
        """Put our part into Lightning's checkpoint, so that it can be exported too."""
        checkpoint_dict[checkpoint.KEY] = checkpoint.describe(
            pl_module.result, self._provenance, resumable=True
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
        metrics = validation_metrics(trainer)
        score = metrics[self._monitor]
        if math.isnan(score) and trainer.is_global_zero:
            LOG.warning(
                "validation: %s is not a number; best.ckpt stays as it is",
                self._monitor,
            )
        if not score < self.best_score:
            return
        self.best_score = score
        if trainer.is_global_zero:
            step = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            checkpoint.save(
                self.best_path,
                pl_module.result,
                {**self._provenance, **step, "validation": metrics},
            )

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: TrainingModule
    ) -> None:
        """Save after each epoch."""
        trainer.save_checkpoint(self.last_path)


class ValidationLog(Callback):
    """One line of errors per validation, and the time that is left."""

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: TrainingModule
    ) -> None:
        """Begin to count the time."""
        self._started = time.monotonic()
        self._first_epoch = trainer.current_epoch

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: TrainingModule
    ) -> None:
        """Log the errors."""
        if not trainer.is_global_zero:
            return
        errors = validation_metrics(trainer)
        parts = [
            f"{name} {errors[f'{name}_mae']:.3f} {unit} "
            f"(RMSE {errors[f'{name}_rmse']:.3f})"
            for prefix in self._prefixes(pl_module)
            for name, unit in (
                (f"{prefix}{name}", unit) for name, unit in UNITS.items()
            )
            if f"{name}_mae" in errors
        ]
        parts += [
            f"{name} {errors[f'{name}_mae']:.4g} {unit} "
            f"(RMSE {errors[f'{name}_rmse']:.4g})"
            for name, unit in pl_module.tensor_errors.units.items()
            if f"{name}_mae" in errors
        ]
        done, total = trainer.current_epoch + 1, trainer.max_epochs
        LOG.info(
            "epoch %d of %d: MAE of %s%s",
            done,
            total,
            "; ".join(parts),
            self._time_left(done, total),
        )

    @staticmethod
    def _prefixes(pl_module: TrainingModule) -> list[str]:
        """Of names of errors: of all, of levels of theory, of direct heads."""
        direct = ["direct_"] if pl_module.direct else []
        return ["", *(f"{level}:" for level in pl_module.errors.levels), *direct]

    def _time_left(self, done: int, total: int) -> str:
        """By the time that the epochs since the start, or a resumption, took."""
        if done == total:
            return ""
        per_epoch = (time.monotonic() - self._started) / (done - self._first_epoch)
        left = round(per_epoch * (total - done))
        return f"; {datetime.timedelta(seconds=left)} left"


def validation_metrics(trainer: lightning.Trainer) -> dict[str, float]:
    """Numbers of the last validation, by their names without ``valid/``."""
    return {
        name.removeprefix("valid/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("valid/")
    }
