"""What Lightning runs: one training step, one validation step, the optimizer."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import lightning
import torch

from petmad.data import Batch
from petmad.data.augmentation import random_rotation
from petmad.model import Potential

from .compiled import CompiledPrediction
from .direct import (
    direct_labels,
    direct_targets,
    direct_terms,
    of_heads,
    true_direct,
)
from .loss import (
    Labels,
    Levels,
    energy_scales,
    known_counts,
    level_names,
    loss_terms,
    predict_with,
    scaled_targets,
    times,
)
from .metrics import Errors
from .optimizer import make_optimizer
from .options import TrainingOptions
from .stages import Stage, learning_rate_at, stage_at, stages_of
from .tensors import (
    TensorErrors,
    TensorTarget,
    gather,
    in_units,
    known_components,
    scaled_tensors,
    tensor_terms,
)
from .turning import turning_terms


LOG = logging.getLogger(__name__)


class TrainingModule(lightning.LightningModule):
    """A potential in training.

    Args:
        potential: with its composition and scale fitted.
        options: of the training.
        n_steps: optimizer steps of the whole training.
        targets: tensors to train beside the energy, or instead of it.
        energies: those to train, by level of theory; default: all of the model.
    """

    def __init__(
        self,
        potential: Potential,
        options: TrainingOptions,
        n_steps: int,
        targets: Sequence[TensorTarget] = (),
        energies: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.potential = potential
        self.options = options
        self.averaged = None
        if options.ema_decay > 0:
            self.averaged = copy.deepcopy(potential).requires_grad_(False)
        self.compiled = CompiledPrediction(potential) if options.compile else None
        self.stages = stages_of(options, n_steps)
        self.direct = [spec.name for spec in direct_targets(options)]
        self.direct_errors = Errors()
        self.targets = list(targets)
        if energies is None:
            energies = level_names(potential)
        self.level_names = list(energies)
        self.has_energy = bool(self.level_names)
        self.errors = Errors(self.level_names)
        self.n_skipped = 0
        self.n_skipped_in_a_row = 0
        self.tensor_errors = TensorErrors(self.targets)
        self.loss_sums = [0.0, 0]

    @property
    def result(self) -> Potential:
        """The model to validate and to keep: the average where there is one."""
        return self.potential if self.averaged is None else self.averaged

    @property
    def stage(self) -> Stage:
        """The part of the training that the next step is in."""
        return stage_at(self.stages, self.global_step)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then update the average of the weights."""
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:
            # A short memory at first, so that the initial weights are soon forgotten.
            memory = (1 + self.global_step) / (10 + self.global_step)
            weight = 1 - min(self.options.ema_decay, memory)
            torch._foreach_lerp_(
                list(self.averaged.parameters()),
                [p.detach() for p in self.potential.parameters()],
                weight,
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the count of skipped steps."""
        checkpoint["n_skipped"] = self.n_skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.n_skipped = checkpoint.get("n_skipped", 0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As the options say."""
        return make_optimizer(self.potential, self.options)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate, a function of the step instead of a scheduler."""
        step, warmup = self.global_step, self.options.warmup_fraction
        for group in self.optimizers().param_groups:
            group["lr"] = learning_rate_at(self.stage, step, warmup)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss of a batch."""
        terms, _, tensors = self.terms(self.potential, batch, create_graph=True)
        rotation = random_rotation(self.options.seed, self.global_step, batch_idx)
        if any(target.options.spread_weight > 0 for target in self.targets):
            counts = self.shared_counts(known_components(tensors, self.targets))
            terms |= turning_terms(
                self.potential, batch, tensors, self.targets, rotation, counts
            )
        loss = total(terms)
        if loss is None:  # none of its labels is known; processes keep step with others
            return self.zero()
        logged = {f"train/loss_{name}": term.detach() for name, term in terms.items()}
        logged["train/loss"] = loss.detach()
        logged["train/learning_rate"] = self.optimizers().param_groups[0]["lr"]
        logged["train/skipped"] = float(self.n_skipped)
        self.log_dict(logged, batch_size=len(batch.n_atoms))
        if not self.direct and self.trainer.world_size > 1:
            # DDP wants a gradient of everything: of heads whose labels are unknown, of
            # what forces do not depend on; with direct heads it looks for what rests.
            loss = loss + self.zero()
        return loss

    def zero(self) -> torch.Tensor:
        """The loss of no label, a function of all that is trained."""
        parameters = [p for p in self.potential.parameters() if p.requires_grad]
        return 0 * torch.stack([p.sum() for p in parameters]).sum()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave the weights as they are where the gradient is not finite.

        Gradients are joined by now: processes that share the step agree.

        Raises:
            ValueError: too many steps in a row.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            self.n_skipped_in_a_row = 0
            return
        self.n_skipped += 1
        self.n_skipped_in_a_row += 1
        if self.n_skipped_in_a_row > self.options.max_skipped:
            raise ValueError(
                f"the gradient is not finite at step {self.global_step}, "
                f"{self.n_skipped_in_a_row} in a row; lower `training.learning_rate`, "
                "or look for structures with extreme labels; last.ckpt holds the last "
                "finite state that was saved"
            )
        LOG.warning(
            "step %d skipped: its gradient is not finite (%d so far)",
            self.global_step,
            self.n_skipped,
        )
        for parameter in parameters:
            parameter.grad = None  # then the optimizer passes it over

    def terms(
        self, potential: Potential, batch: Batch, create_graph: bool = False
    ) -> tuple[dict[str, torch.Tensor], Labels | None, dict[str, torch.Tensor]]:
        """Terms of the loss, raw labels, and raw values of other targets.

        Tensors are summed over structures unless they belong to atoms; direct heads are
        told per atom.
        """
        names = [spec.name for spec, _ in self.targets] + self.direct
        loss = self.stage.loss
        terms, predicted = {}, None
        if self.has_energy:
            levels = Levels(self.level_names, batch.levels)
            if create_graph and loss.needs_gradients and self.compiled is not None:
                predicted, atomic = self.compiled(batch.graph, names, levels)
            else:
                predicted, atomic = predict_with(
                    potential,
                    batch.graph,
                    names,
                    raw=True,
                    create_graph=create_graph,
                    levels=levels,
                    with_gradients=loss.needs_gradients or not create_graph,
                )
            labels = scaled_targets(self.potential, batch, self.level_names)
            terms = loss_terms(
                *self.in_units_of_the_loss(predicted, labels, batch),
                batch.n_atoms,
                loss,
                self.shared_counts(known_counts(labels)) if create_graph else None,
            )
            terms |= self.direct_terms(atomic, batch, create_graph)
        else:
            atomic = potential(batch.graph, names, raw=True)
        tensors = {
            spec.name: gather(spec, atomic[spec.name], batch.graph)
            for spec, _ in self.targets
        }
        if self.targets:
            scaled, counts = scaled_tensors(self.potential, batch, self.targets), None
            if create_graph:
                counts = self.shared_counts(known_components(scaled, self.targets))
            terms |= tensor_terms(tensors, scaled, batch.n_atoms, self.targets, counts)
        tensors |= {name: atomic[name] for name in self.direct}
        return terms, predicted, tensors

    def direct_terms(
        self, atomic: dict[str, torch.Tensor], batch: Batch, is_shared: bool
    ) -> dict[str, torch.Tensor]:
        """Terms of the direct heads; with ``is_shared``, of a step of all processes."""
        if not self.direct:
            return {}
        predicted = direct_labels(self.potential, atomic, batch)
        known = known_counts(true_direct(batch))
        counts = self.shared_counts(known) if is_shared else None
        return direct_terms(self.potential, predicted, batch, self.stage.loss, counts)

    def in_units_of_the_loss(
        self, predicted: Labels, targets: Labels, batch: Batch
    ) -> tuple[Labels, Labels]:
        """Both as they are, in units of the scale, or in eV and Å."""
        if self.stage.loss.units == "scale":
            return predicted, targets
        levels = Levels(self.level_names, batch.levels)
        scales = energy_scales(self.potential, levels)
        graph = batch.graph
        return times(predicted, scales, graph), times(targets, scales, graph)

    def shared_counts(self, counts: torch.Tensor) -> torch.Tensor | None:
        """Means over the processes of a step; None where there is one."""
        if self.trainer.world_size == 1:
            return None
        return self.trainer.strategy.reduce(counts, reduce_op="mean")

    def on_validation_epoch_start(self) -> None:
        """Forget the errors of the last validation."""
        self.errors.reset()
        self.direct_errors.reset()
        self.tensor_errors.reset()
        self.loss_sums = [0.0, 0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the errors of a batch."""
        with torch.enable_grad():
            terms, predicted, tensors = self.terms(self.result, batch)
        loss = total(terms)
        if loss is not None:
            n_structures = len(batch.n_atoms)
            self.loss_sums[0] += float(loss.detach()) * n_structures
            self.loss_sums[1] += n_structures
        scaled = scaled_tensors(self.potential, batch, self.targets)
        self.tensor_errors.add(
            in_units(self.potential, {name: tensors[name] for name in scaled}),
            in_units(self.potential, scaled),
            batch.n_atoms,
        )
        if self.direct:
            self.direct_errors.add(
                direct_labels(self.potential, tensors, batch),
                of_heads(true_direct(batch), self.direct),
                batch.n_atoms,
            )
        if predicted is None:
            return
        targets = scaled_targets(self.potential, batch, self.level_names)
        scales = energy_scales(self.potential, Levels(self.level_names, batch.levels))
        self.errors.add(
            times(Labels(*(v.detach() for v in predicted)), scales, batch.graph),
            times(targets, scales, batch.graph),
            batch.n_atoms,
            batch.levels,
        )

    def on_validation_epoch_end(self) -> None:
        """Join the ranks' errors and log them."""
        sums = torch.cat(
            [
                self.errors.sums.flatten(),
                self.direct_errors.sums.flatten(),
                self.tensor_errors.sums.flatten(),
                torch.tensor(self.loss_sums, dtype=torch.float64),
            ]
        )
        sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum").cpu()
        first = 0
        for errors in (self.errors, self.direct_errors, self.tensor_errors):
            stop = first + errors.sums.numel()
            errors.sums, first = sums[first:stop].reshape_as(errors.sums), stop
        results: dict[str, Any] = self.errors.compute()
        for name, value in self.direct_errors.compute().items():
            if name.endswith("_prod"):
                results[name] *= value
            else:
                results[f"direct_{name}"] = value
        tensors = self.tensor_errors.compute()
        for name in self.tensor_errors.names:
            for kind in ("mae", "rmse"):
                results[f"{kind}_prod"] *= tensors.get(f"{name}_{kind}", 1.0)
        results.update(tensors)
        results["loss"] = float(sums[-2] / sums[-1])
        shown = ("energy_mae", "forces_mae")
        for name, value in results.items():
            self.log(
                f"valid/{name}", value, prog_bar=name in shown, rank_zero_only=False
            )


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """The loss; None where there is no term, no label of a batch being known."""
    return torch.stack(list(terms.values())).sum() if terms else None
