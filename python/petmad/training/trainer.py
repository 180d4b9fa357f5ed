"""``petmad train``: from an options file to a trained model."""

import datetime
import logging
import warnings
from pathlib import Path
from typing import Any, Optional

import lightning
import numpy as np
import petmad
import torch
import yaml
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from petmad.data import Sample, Structure, StructureDataset, collate, make_sample, read_structures
from petmad.data.sampler import ResumableBatchSampler, steps_per_epoch
from petmad.data.structures import LabelKeys, check_species, file_sha256, species_of
from petmad.model import Potential, TargetSpec
from torch.utils.data import DataLoader

from . import checkpoint
from .baseline import fit_composition, fit_scale
from .callbacks import Checkpoints
from .module import TrainingModule
from .options import DataOptions, Options


def train(options: Options, resume: Optional[str | Path] = None) -> Path:
    """Train a model.

    Args:
        options: see :mod:`petmad.training.options`.
        resume: ``last.ckpt`` of an interrupted training with the same options.

    Returns:
        Path of the best checkpoint.

    Raises:
        ValueError: options or data are wrong; raised before training starts.
    """
    training = options.training
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    lightning.seed_everything(training.seed, verbose=False)
    train_structures, valid_structures = load_splits(options)
    atomic_numbers = sorted(options.data.atomic_numbers or species_of(train_structures))
    check_species(train_structures + valid_structures, atomic_numbers)
    cutoff = options.model.cutoff
    train_samples = [make_sample(s, atomic_numbers, cutoff) for s in train_structures]
    valid_samples = [make_sample(s, atomic_numbers, cutoff) for s in valid_structures]

    potential = checkpoint.make_potential(
        options.model, atomic_numbers, [TargetSpec()], training.dtype
    )
    sharpen(potential, training.embedding_gain)
    fit_baseline(potential, train_samples, options)
    if resume is not None:
        check_resumable(resume, potential)

    n_batches = steps_per_epoch(len(train_samples), training.batch_size, training.devices)
    module = TrainingModule(potential, training, training.epochs * n_batches)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.yaml").write_text(yaml.safe_dump(options.to_dict(), sort_keys=False))
    checkpoints = Checkpoints(
        folder, training.monitor, training.checkpoint_steps, provenance(options)
    )
    trainer = make_trainer(options, folder, checkpoints)
    sampler = ResumableBatchSampler(
        len(train_samples),
        training.batch_size,
        training.seed,
        current_step=lambda: trainer.global_step,
        rank=trainer.global_rank,
        n_ranks=trainer.world_size,
    )
    loader = ResumableLoader(
        StructureDataset(train_samples, training.seed if training.rotate else None),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=training.num_workers,
    )
    mine = valid_samples[trainer.global_rank :: trainer.world_size]
    chunks = [mine[i : i + training.batch_size] for i in range(0, len(mine), training.batch_size)]
    valid_loader = DataLoader(chunks, batch_size=None, collate_fn=collate)
    _announce(options, potential, train_samples, valid_samples, n_batches)
    with warnings.catch_warnings():
        # Few workers and a log interval above the epoch's length are choices of the user.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        trainer.fit(module, loader, valid_loader, ckpt_path=resume)
    return checkpoints.best_path


class ResumableLoader(DataLoader):
    """A loader whose position is the trainer's step; tells Lightning that it can resume."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the sampler reads the step."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""


def load_splits(options: Options) -> tuple[list[Structure], list[Structure]]:
    """Training and validation structures.

    Raises:
        ValueError: a file or label is wrong, or a split is empty.
    """
    data = options.data
    keys = LabelKeys(data.energy_key, data.forces_key, data.stress_key)
    needs_forces = options.training.loss.forces.weight > 0

    def read(files: str | list[str]) -> list[Structure]:
        return [s for file in _as_list(files) for s in read_structures(file, keys, needs_forces)]

    structures = read(data.train)
    if data.valid is not None:
        return structures, read(data.valid)
    return split(structures, data)


def split(
    structures: list[Structure], data: DataOptions
) -> tuple[list[Structure], list[Structure]]:
    """Keep a random part aside for validation; both keep the order of the file.

    Raises:
        ValueError: there are too few structures for the fraction.
    """
    n_valid = round(data.valid_fraction * len(structures))
    if not 0 < n_valid < len(structures):
        raise ValueError(
            f"`data.valid_fraction` {data.valid_fraction} of {len(structures)} structures leaves "
            f"{len(structures) - n_valid} for training and {n_valid} for validation; change it, "
            "or give a file with `data.valid`"
        )
    order = np.random.default_rng(data.split_seed).permutation(len(structures))
    valid = set(order[len(structures) - n_valid :].tolist())
    return (
        [s for i, s in enumerate(structures) if i not in valid],
        [s for i, s in enumerate(structures) if i in valid],
    )


def fit_baseline(potential: Potential, samples: list[Sample], options: Options) -> None:
    """Fit composition and scale and store them in the model."""
    composition = fit_composition(samples, len(potential.atomic_numbers))
    scale = fit_scale(samples, composition, options.training.energy_scale)
    potential.compositions[0].data.copy_(composition[:, None])
    potential.scales[0].data.fill_(scale)


def sharpen(potential: Potential, gain: float) -> None:
    """Scale the initial embedding of edge vectors; see ``training.embedding_gain``."""
    with torch.no_grad():
        for layer in potential.network.gnn_layers:
            for parameter in layer.edge_embedder.parameters():
                parameter.mul_(gain)


def check_resumable(path: str | Path, potential: Potential) -> None:
    """Refuse to resume from a checkpoint of another model.

    Raises:
        ValueError: names the first difference.
    """
    ours = checkpoint.read(path)
    now = {"atomic_numbers": potential.atomic_numbers, **potential.config.to_dict()}
    then = {"atomic_numbers": ours["atomic_numbers"], **ours["model"]}
    for name, value in now.items():
        if then.get(name) != value:
            raise ValueError(
                f"cannot resume from {path}: its `{name}` is {then.get(name)}, the options give "
                f"{value}; resume with the options it was trained with (options.yaml beside it)"
            )


def provenance(options: Options) -> dict[str, Any]:
    """Versions, options, and the data files with their SHA-256."""
    files = _as_list(options.data.train) + _as_list(options.data.valid)
    return {
        "petmad_version": getattr(petmad, "__version__", "unknown"),
        "torch_version": str(torch.__version__),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": options.training.seed,
        "options": options.to_dict(),
        "data_sha256": {Path(file).name: file_sha256(file) for file in files},
    }


def make_trainer(options: Options, folder: Path, checkpoints: Checkpoints) -> lightning.Trainer:
    """Lightning's trainer for these options."""
    training = options.training
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return lightning.Trainer(
        accelerator=training.device,
        devices=training.devices,
        strategy="ddp" if training.devices > 1 else "auto",
        max_epochs=training.epochs,
        gradient_clip_val=training.gradient_clip or None,
        check_val_every_n_epoch=training.validate_every,
        log_every_n_steps=training.log_steps,
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
        callbacks=[checkpoints, TQDMProgressBar(refresh_rate=1)],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        deterministic=True,
    )


def _announce(
    options: Options,
    potential: Potential,
    train_samples: list[Sample],
    valid_samples: list[Sample],
    n_batches: int,
) -> None:
    n_parameters = sum(p.numel() for p in potential.parameters() if p.requires_grad)
    n_edges = sum(len(s.centers) for s in train_samples)
    n_atoms = sum(len(s.species) for s in train_samples)
    composition = potential.compositions[0][:, 0].tolist()
    lines = [
        f"training structures {len(train_samples)}, validation {len(valid_samples)}; "
        f"{n_atoms / len(train_samples):.1f} atoms each, {n_edges / n_atoms:.1f} edges per atom",
        f"parameters {n_parameters}, steps per epoch {n_batches}, epochs "
        f"{options.training.epochs}",
        f"energy scale {float(potential.scales[0][0, 0]):.6g} eV, composition [eV] "
        + ", ".join(
            f"Z={z}: {e:.6f}" for z, e in zip(potential.atomic_numbers, composition, strict=True)
        ),
        f"writing to {options.output}",
    ]
    lightning.pytorch.utilities.rank_zero_info("\n".join(lines))


def _as_list(files: str | list[str] | None) -> list[str]:
    if files is None:
        return []
    return [files] if isinstance(files, str) else files
