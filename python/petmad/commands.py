"""What each ``petmad`` command does; a function imports what it alone needs.

All take their arguments as parsed by :mod:`petmad.cli`, print their answer, and raise
ValueError, RuntimeError or OSError for what the user can mend.
"""

import argparse
from pathlib import Path
from typing import Any

from .output_files import (
    check_distinct,
    check_output,
    check_output_folder,
    export_hint,
    output_or_default,
)


def train(arguments: argparse.Namespace) -> None:
    """``petmad train``."""
    _train(arguments, "train")


def finetune(arguments: argparse.Namespace) -> None:
    """``petmad finetune``."""
    _train(arguments, "finetune")


def _train(arguments: argparse.Namespace, command: str) -> None:
    if arguments.describe:
        from petmad.training.reference import options_reference

        print(options_reference())
        return
    from petmad.training.options import load_options
    from petmad.training.ranks import is_first

    if command == "train":
        from petmad.training.trainer import train as run
    else:
        from petmad.training.finetune import finetune as run
    if arguments.options is None:
        raise ValueError(
            f"give an options file; `petmad {command} --describe` prints one"
        )
    options = load_options(arguments.options)
    if arguments.output is not None:
        options.output = arguments.output
    check_output_folder(options.output)
    if arguments.resume is None:  # else these are the options that it writes anew
        written, mend = Path(options.output) / "options.yaml", "another `--output`"
        check_distinct(written, arguments.options, mend=mend)
    best = run(options, resume=arguments.resume)
    if is_first(options.training):
        print(f"best model: {best}\n{export_hint(best)}")


def evaluate(arguments: argparse.Namespace) -> None:
    """``petmad evaluate``."""
    from petmad.training.evaluation_command import run

    for line in run(arguments):
        print(line)


def data(arguments: argparse.Namespace) -> None:
    """``petmad data``."""
    from petmad.data.convert import convert as run
    from petmad.data.structures import check_unit

    check_output(arguments.output, *arguments.files)
    check_unit("virial", arguments.virial_key, arguments.virial_unit)
    # Labels of a further level are not those that the main one has.
    prefix = f"{arguments.level}_" if arguments.level else ""
    for label in ("energy", "forces", "stress"):
        if getattr(arguments, f"{label}_key") is None:
            setattr(arguments, f"{label}_key", prefix + label)
    result = run(
        arguments.files,
        arguments.output,
        _label_keys(arguments, virial=arguments.virial_key),
        not arguments.allow_no_forces,
        arguments.level,
        not arguments.no_check,
    )
    print("\n".join(result.findings))
    print(f"wrote {result.n_frames} frames to {arguments.output}")


def _label_keys(arguments: argparse.Namespace, **other: str | None) -> Any:
    """Names and units of the labels that the command line tells."""
    from petmad.data.structures import LabelKeys

    return LabelKeys(
        arguments.energy_key,
        arguments.forces_key,
        arguments.stress_key,
        energy_unit=arguments.energy_unit,
        forces_unit=arguments.forces_unit,
        stress_unit=arguments.stress_unit,
        virial_unit=arguments.virial_unit or "eV",
        section="",
        **other,
    )


def uncertainty(arguments: argparse.Namespace) -> None:
    """``petmad uncertainty``."""
    from petmad.training.uncertainty_command import run

    for line in run(arguments):
        print(line)


def export(arguments: argparse.Namespace) -> None:
    """``petmad export``."""
    from petmad.export import export_model
    from petmad.training.checkpoint import load_potential

    default = "model.pt2" if arguments.aoti else "model.pt"
    output = output_or_default(arguments.output, default)
    check_output(output, arguments.checkpoint)
    potential, provenance = load_potential(arguments.checkpoint)
    if arguments.aoti:
        from petmad.aoti import export_ahead

        if arguments.name is not None:
            raise ValueError("`--name` is not kept with `--aoti`; leave it out")
        export_ahead(potential, output, arguments.dtype)
        print(f"wrote {output}: {arguments.dtype}, for processors like this one")
        return
    metadata = export_model(
        potential, output, arguments.dtype, arguments.name, provenance
    )
    print(
        f"wrote {output}: {metadata['name']}, {metadata['dtype']}, "
        f"{metadata['n_parameters']} parameters, "
        f"weights {metadata['weights_hash'][:12]}"
    )


def convert(arguments: argparse.Namespace) -> None:
    """``petmad convert``."""
    from petmad.conversion.command import run

    if arguments.to == "petmad":
        arguments.output = output_or_default(arguments.output, "model.pt")
    elif arguments.output is None:
        raise ValueError("name the file to write for metatrain with `-o theirs.ckpt`")
    check_output(arguments.output, arguments.checkpoint, *(arguments.check or ()))
    for line in run(arguments):
        print(line)


def info(arguments: argparse.Namespace) -> None:
    """``petmad info``."""
    from petmad.model_file import format_metadata, read_metadata

    metadata = read_metadata(arguments.model)
    print(format_metadata(metadata))
    if arguments.check:
        from petmad._engine import Engine

        print(memory_per_atom(metadata))
        deviation = Engine(arguments.model, check_golden=False).check_golden()
        print(f"golden structures: reproduced, largest deviation {deviation:.1e}")


def memory_per_atom(metadata: dict[str, Any]) -> str:
    """What an evaluation with forces needs on a CPU, by memory tier."""
    import torch

    from petmad._ops import load_ops
    from petmad.fast_network import network_sizes
    from petmad.model import PETConfig

    load_ops()
    dtype = getattr(torch, metadata["dtype"])
    sizes = network_sizes(PETConfig.from_dict(metadata["hypers"]), dtype)

    def needs(*counts: int) -> list[float]:
        return [b / 1e3 for b in torch.ops.petmad.memory_needs(sizes, list(counts))]

    tiers = ("keep", "wide", "layers")
    # Of many, since `layers` has a block's rows beside, which stop growing.
    many, more = needs(0, 0, 10**6), needs(0, 0, 2 * 10**6)
    per_edge = [(b - a) / 1e6 for a, b in zip(many, more, strict=True)]
    parts = zip(tiers, needs(1, 0, 0), per_edge, strict=True)
    text = "; ".join(
        f"{tier} {a:.0f} + {b:.1f} per kept neighbor" for tier, a, b in parts
    )
    raw = needs(0, 1, 0)[0]
    return (
        f"memory per atom on a CPU [kB]: {text}; {raw:.2f} per neighbor in the cutoff"
    )


def demo(arguments: argparse.Namespace) -> None:
    """``petmad demo``."""
    from petmad.demo.run import DemoOptions, run_demo

    check_output_folder(arguments.output)
    run_demo(
        DemoOptions(
            Path(arguments.output),
            arguments.ranks,
            arguments.nvt_steps,
            arguments.nve_steps,
            None if arguments.model is None else Path(arguments.model),
        )
    )


def lammps(arguments: argparse.Namespace) -> None:
    """``petmad lammps``."""
    from petmad.lammps import plugin_file

    file = plugin_file()
    print(
        f"plugin load {file}\n"
        f"# or, for every start of LAMMPS: export LAMMPS_PLUGIN_PATH={file.parent}"
    )


EXTRAS = {
    train: "train",
    finetune: "train",
    evaluate: "train",
    uncertainty: "train",
    data: "train",
    export: "train",
    convert: "train",
    demo: "demo",
}
"""Optional dependencies of each command, as named in an install."""
