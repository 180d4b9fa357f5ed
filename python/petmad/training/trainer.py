"""``petmad train``: from options to a trained model."""

import contextlib
import datetime
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

import petmad
from petmad.data import Sample
from petmad.data.files import file_sha256
from petmad.data.lazy import few, of_level
from petmad.model import Potential, TargetSpec
from petmad.output_files import replaced

from . import checkpoint
from .adapt import adapt_compositions
from .baseline import fit_composition, fit_scale, force_spread, has_forces
from .callbacks import Checkpoints, ValidationLog
from .checkpoint_io import WholeFiles
from .direct import direct_targets, fit_direct_scales
from .folder import check_free, claimed
from .known import check_known, count_labels
from .loaders import count_steps, train_loader, valid_loader
from .loss import ENERGY, level_names
from .memory import keep_freed_memory
from .module import TrainingModule
from .options import Options, TrainingOptions, parse_options
from .ranks import is_first, one_voice
from .splits import Splits, all_files, files_by_option, load_splits
from .stages import losses_of
from .start import Start, complete, load_start
from .tensor_baseline import fit_tensor_baseline
from .tensors import block_slices, tensor_targets
from .trained import count_parameters, select_parameters, trained_energies
from .unread import check_new, without_effect


LOG = logging.getLogger(__name__)
LARGE_FORCES = 20.0
"""Ratio of forces to energy scale that earns a hint: 4 for alloys, 210 for water."""


def train(options: Options, resume: str | Path | None = None) -> Path:
    """Train a model.

    Args:
        options: see :mod:`petmad.training.options`.
        resume: ``last.ckpt`` of an interrupted training with the same options.

    Returns:
        Path of the best checkpoint.

    Raises:
        ValueError: options or data are wrong; raised before training starts.
    """
    with one_voice(options.training):
        return _train(options, resume)


def _train(options: Options, resume: str | Path | None) -> Path:
    training, folder = options.training, Path(options.output)
    if resume is None:
        check_new(training)
    writes = is_first(training)
    if writes:
        check_free(folder, resume)
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    keep_freed_memory()
    for finding in without_effect(options):
        LOG.warning("%s; leave it out", finding)
    start = load_start(options)
    options = complete(options, start)
    splits = load_splits(options)
    check_known(splits, options)
    n_steps = count_steps(splits.train, training)
    if start is None:
        potential = make_initial(splits, options)
    else:
        potential = continue_from(start, splits, options)
    select_parameters(potential, options, [] if start is None else start.new_targets)
    if resume is not None:
        check_resumable(resume, potential, options)
    with claimed(folder, resume) if writes else contextlib.nullcontext():
        return fit(potential, splits, options, n_steps, resume)


def fit(
    potential: Potential,
    splits: Splits,
    options: Options,
    n_steps: int,
    resume: str | Path | None,
) -> Path:
    """Let Lightning train, ``n_steps`` an epoch; returns the path of the best model."""
    training, folder = options.training, Path(options.output)
    checkpoints = Checkpoints(
        folder,
        training.monitor,
        training.checkpoint_steps,
        provenance(options),
        None if resume is None else Path(resume).parent,
    )
    trainer = make_trainer(training, folder, checkpoints)
    if trainer.is_global_zero:
        checkpoints.bring_best()
        text = yaml.safe_dump(options.to_dict(), sort_keys=False, allow_unicode=True)
        with replaced(folder / "options.yaml") as file:
            file.write_text(text, encoding="utf-8")
        LOG.info("%s", summary(options, potential, splits, n_steps))
    targets = tensor_targets(options)
    module = TrainingModule(
        potential,
        training,
        training.epochs * n_steps,
        targets,
        trained_energies(options),
    )
    with warnings.catch_warnings():
        # Few workers, and steps fewer than the log interval, are the user's choices.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        # Errors of validation are joined before they are logged.
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
        # Of processes that share a step: matrices of one row, which are small.
        warnings.filterwarnings("ignore", message="Grad strides do not match.*")
        # Of mixed precision: normalization in bfloat16 with weights in float32.
        warnings.filterwarnings("ignore", message=".*dispatch to fused implement.*")
        # Lightning 2.6 uses a torch name that torch 2.13 has deprecated.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer.fit(
            module,
            train_loader(splits.train, training, trainer, [t.spec for t in targets]),
            valid_loader(splits.valid, training, trainer),
            ckpt_path=resume,
            weights_only=True,
        )
    return checkpoints.best_path


def make_initial(splits: Splits, options: Options) -> Potential:
    """A model with seeded random weights and fitted composition and scale."""
    training = options.training
    lightning.seed_everything(training.seed, verbose=False)
    targets = tensor_targets(options)
    energies = [TargetSpec(name) for name in trained_energies(options)]
    direct = direct_targets(training)
    potential = checkpoint.make_potential(
        options.model,
        splits.atomic_numbers,
        energies + direct + [target.spec for target in targets],
        training.dtype,
    )
    sharpen(potential, training.embedding_gain)
    if energies:
        fit_baseline(potential, splits.train, training)
    fit_direct_scales(potential, splits.train, direct)
    fit_tensor_baseline(potential, splits.train, targets)
    return potential


def continue_from(start: Start, splits: Splits, options: Options) -> Potential:
    """The model to start from, what it does not have yet fitted to the data."""
    adapt_compositions(start.potential, start.new_targets, splits.train, options)
    direct = direct_targets(options.training)
    new = [spec for spec in direct if spec.name in start.new_targets]
    fit_direct_scales(start.potential, splits.train, new)
    targets = [t for t in tensor_targets(options) if t.spec.name in start.new_targets]
    fit_tensor_baseline(start.potential, splits.train, targets)
    return start.potential


def sharpen(potential: Potential, gain: float) -> None:
    """Scale the initial embedding of edge vectors; see ``training.embedding_gain``."""
    with torch.no_grad():
        for layer in potential.network.gnn_layers:
            for parameter in layer.edge_embedder.parameters():
                parameter.mul_(gain)


def fit_baseline(
    potential: Potential, samples: Sequence[Sample], options: TrainingOptions
) -> None:
    """Fit composition and scale of every energy and store them in the model.

    A level of theory without forces has the scale of the first, if that is by forces.
    """
    for level, name in enumerate(level_names(potential)):
        chosen = of_level(samples, level)
        index = potential.target_names.index(name)
        composition = fit_composition(chosen, len(potential.atomic_numbers))
        if level == 0 or options.energy_scale != "forces" or has_forces(chosen):
            scale = fit_scale(chosen, composition, options.energy_scale)
        potential.compositions[index].data.copy_(composition[:, None])
        potential.scales[index].data.fill_(scale)
        learns_forces = any(loss.forces.weight > 0 for loss in losses_of(options))
        if options.energy_scale == "energy" and learns_forces:
            ratio = force_spread(chosen) / scale
            if ratio > LARGE_FORCES:
                LOG.warning(
                    "forces [eV/Å] are %.0f times the energy scale [eV]; "
                    "`training.energy_scale: forces` will learn faster",
                    ratio,
                )


def check_resumable(path: str | Path, potential: Potential, options: Options) -> None:
    """Refuse to resume from a checkpoint of another model, schedule or data.

    Raises:
        ValueError: names the first difference.
    """
    ours = checkpoint.read(path)
    if not ours["resumable"]:
        raise ValueError(
            f"{path} holds a model but no state of its training; resume from last.ckpt "
            "in the same folder"
        )
    now = {
        "atomic_numbers": potential.atomic_numbers,
        **potential.config.to_dict(),
        **options.to_dict()["training"],
        "finetune": options.to_dict()["finetune"],
        **_data_options(options.to_dict()["data"]),
        "targets": options.to_dict()["targets"],
    }
    # Read anew, so that options it does not know yet have their defaults.
    stored = parse_options(ours["provenance"]["options"], str(path))
    values = stored.to_dict()
    then = {
        "atomic_numbers": ours["atomic_numbers"],
        **ours["model"],
        **values["training"],
        "finetune": values["finetune"],
        **_data_options(values["data"]),
        "targets": values["targets"],
    }
    may_change = {"device", "threads", "num_workers", "checkpoint_steps", "log_steps"}
    for name in sorted(set(now) - may_change):
        if then.get(name) != now[name]:
            raise ValueError(
                f"cannot resume from {path}: its `{name}` is {then.get(name)}, the "
                f"options say {now[name]}; resume with the options it was trained with "
                "(options.yaml beside it)"
            )
    hashes = _hashes(options, provenance(options))
    for place, before in _hashes(stored, ours["provenance"]).items():
        if before != hashes.get(place):
            raise ValueError(
                f"cannot resume from {path}: the data files are not those it was "
                f"trained on (the SHA-256 of `{place}`, or their order, differ); "
                "restore them or train anew"
            )


def _data_options(data: dict[str, Any]) -> dict[str, Any]:
    """What labels are called, their units, and how structures are chosen and split."""
    names = ("energy", "forces", "stress", "virial")
    fields = [f"{name}_{part}" for name in names for part in ("key", "unit")]
    fields += ["levels", "require_forces", "max_force"]
    fields += ["valid_fraction", "split_seed", "group_key"]
    return {name: data.get(name) for name in fields}


def _hashes(options: Options, origin: dict[str, Any]) -> dict[str, list[str | None]]:
    """SHA-256 of the files of a training, in order, by the option that names them."""
    known = origin["data_sha256"]
    return {
        place: [known.get(file) for file in files]
        for place, files in files_by_option(options).items()
    }


def provenance(options: Options) -> dict[str, Any]:
    """Versions, options, and the files that were read with their SHA-256."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "petmad_version": petmad.__version__,
        "torch_version": str(torch.__version__),
        "started": now.isoformat(timespec="seconds"),
        "seed": options.training.seed,
        "options": options.to_dict(),
        "data_sha256": {file: file_sha256(file) for file in all_files(options)},
    }


def make_trainer(
    options: TrainingOptions, folder: Path, checkpoints: Checkpoints
) -> lightning.Trainer:
    """Lightning's trainer for these options."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    n_gpus = torch.cuda.device_count()
    if options.device == "gpu" and n_gpus < options.devices:
        raise ValueError(
            f"`training.device` is gpu and `training.devices` {options.devices}, but "
            f"torch {torch.__version__} sees {n_gpus} GPUs; install a CUDA build of "
            "torch, or set `training.device: cpu`"
        )
    on_cpu = options.device == "cpu" or not torch.cuda.is_available()
    on_terminal = sys.stdout.isatty()
    callbacks: list[Callback] = [checkpoints, ValidationLog()]
    if on_terminal:  # logs have a line per validation instead
        callbacks.append(TQDMProgressBar())
    return lightning.Trainer(
        accelerator=options.device,
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=_strategy(options),
        precision="bf16-mixed" if options.mixed_precision else None,
        max_epochs=options.epochs,
        gradient_clip_val=options.gradient_clip or None,
        check_val_every_n_epoch=options.validate_every,
        log_every_n_steps=options.log_steps,
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
        callbacks=callbacks,
        plugins=[WholeFiles()],
        enable_progress_bar=on_terminal,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        # With several threads torch adds in any order unless told otherwise.
        deterministic=on_cpu,
    )


def _strategy(options: TrainingOptions) -> str:
    """Lightning's name for how processes share a step."""
    if options.n_processes == 1:
        return "auto"
    # Heads rest in stages whose loss has no weight for them.
    return "ddp_find_unused_parameters_true" if direct_targets(options) else "ddp"


def summary(
    options: Options, potential: Potential, splits: Splits, n_steps: int
) -> str:
    """What is about to be trained, in a few lines."""
    n_trained, n_parameters = count_parameters(potential)
    chosen = few(splits.train)
    n_atoms = sum(len(sample.species) for sample in chosen)
    n_edges = sum(len(sample.centers) for sample in chosen)
    is_compiled = options.training.compile
    first_step = "; the first is compiled, a minute or two" if is_compiled else ""
    return "\n".join(
        [
            f"structures: {len(splits.train)} training, {len(splits.valid)} validation",
            count_labels(chosen),
            f"edges per atom: {n_edges / n_atoms:.1f} within {options.model.cutoff} Å",
            *(_describe_target(potential, i) for i in range(len(potential.targets))),
            f"parameters: {n_trained} trained of {n_parameters}",
            f"steps: {options.training.epochs} epochs of {n_steps}{first_step}",
            f"writing to: {options.output}",
        ]
    )


def _describe_target(potential: Potential, index: int) -> str:
    """Composition and scale of a target, in a line or two."""
    spec, scales = potential.targets[index], potential.scales[index][0]
    if spec.blocks:
        parts = [
            f"order {block[0]}: {float(scales[part][0]):.4g}"
            for block, part in block_slices(spec)
        ]
        return f"{spec.name}: {spec.readout}, scale of {', '.join(parts)} {spec.unit}"
    energies = potential.compositions[index][:, 0].tolist()
    composition = ", ".join(
        f"{energy:.4f} (Z = {z})"
        for z, energy in zip(potential.atomic_numbers, energies, strict=True)
    )
    if spec.kind in ("force", "stress"):
        unit = "eV/Å" if spec.kind == "force" else "eV/atom"
        return f"{spec.name}: direct head, scale {float(scales[0]):.4g} {unit}"
    prefix = "" if spec.name == ENERGY else f"{spec.name}: "
    return (
        f"{prefix}composition: {composition} eV\n"
        f"{prefix}energy scale: {float(scales[0]):.6g} eV"
    )
