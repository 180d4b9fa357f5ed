"""The ``petmad`` command: one function per subcommand, each importing what it needs."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any


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
    best = run(options, resume=arguments.resume)
    print(f"best model: {best}\nexport it with: petmad export {best} -o model.pt")


def evaluate(arguments: argparse.Namespace) -> None:
    """``petmad evaluate``."""
    from petmad.data.reading import lacks_label
    from petmad.training.evaluation import format_errors, load_predictor
    from petmad.training.report import evaluate as run
    from petmad.training.report import format_breakdown

    keys = _label_keys(arguments, group=arguments.subset_key)
    predictor = load_predictor(arguments.model, arguments.target)
    has_labels = not lacks_label(arguments.file, arguments.energy_key)
    has_tensors = _evaluate_tensors(arguments)
    if not predictor.has_energy or (has_tensors and not has_labels):
        return
    result = run(
        arguments.model, arguments.file, keys, arguments.target, arguments.lebedev
    )
    print(format_errors(result.errors["overall"]))
    print(format_breakdown(result.errors))
    for path, write in (
        (arguments.errors, result.write_errors),
        (arguments.predictions, result.write_predictions),
        (arguments.report, result.write_report),
    ):
        if path is not None:
            write(path)
            print(f"wrote {path}")


def _evaluate_tensors(arguments: argparse.Namespace) -> bool:
    """Errors of the tensor targets, in plain torch; tells whether there are any."""
    from petmad.export import load_exported
    from petmad.training.checkpoint import load_potential
    from petmad.training.tensor_evaluation import (
        evaluate_tensors,
        format_tensor_errors,
        label_keys,
        make_targets,
    )

    load = load_potential if arguments.model.endswith(".ckpt") else load_exported
    potential, provenance = load(arguments.model)
    if not make_targets(potential):
        return False
    keys = {**label_keys(provenance), **dict(arguments.target_key)}
    errors = evaluate_tensors(potential, arguments.file, keys, arguments.rotations)
    print(format_tensor_errors(potential, errors))
    return True


def data(arguments: argparse.Namespace) -> None:
    """``petmad data``."""
    from petmad.data.convert import convert as run

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

    potential, provenance = load_potential(arguments.checkpoint)
    metadata = export_model(
        potential, arguments.output, arguments.dtype, arguments.name, provenance
    )
    print(
        f"wrote {arguments.output}: {metadata['name']}, {metadata['dtype']}, "
        f"{metadata['n_parameters']} parameters, "
        f"weights {metadata['weights_hash'][:12]}"
    )


def convert(arguments: argparse.Namespace) -> None:
    """``petmad convert``."""
    from petmad.conversion.command import run

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
    parts = zip(tiers, needs(1, 0, 0), needs(0, 0, 1), strict=True)
    text = "; ".join(
        f"{tier} {a:.0f} + {b:.1f} per kept neighbor" for tier, a, b in parts
    )
    raw = needs(0, 1, 0)[0]
    return (
        f"memory per atom on a CPU [kB]: {text}; {raw:.2f} per neighbor in the cutoff"
    )


def demo(arguments: argparse.Namespace) -> None:
    """``petmad demo``."""
    from pathlib import Path

    from petmad.demo.run import DemoOptions, run_demo

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


FILES = "extended XYZ, plain, .xz or .gz, or an ASE database: .db or .aselmdb"
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


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="petmad", description="PET interatomic potentials: train, export, run."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_data(commands)
    _add_evaluate(commands)
    _add_uncertainty(commands)
    _add_export(commands)
    _add_convert(commands)
    _add_info(commands)
    _add_demo(commands)
    _add_lammps(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    for name, run, text in (
        ("train", train, "train a model on labelled structures"),
        ("finetune", finetune, "train on from a model, and tell what it forgot"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("options", nargs="?", help="options file (YAML)")
        command.add_argument(
            "--describe",
            action="store_true",
            help="print all options with their defaults",
        )
        command.add_argument(
            "--resume", metavar="CKPT", help="last.ckpt of an interrupted training"
        )
        command.add_argument(
            "--output", metavar="DIR", help="folder, instead of the options' one"
        )
        command.set_defaults(run=run)


def _add_data(commands: argparse._SubParsersAction) -> None:
    parent = commands.add_parser("data", help="files of labelled structures")
    actions = parent.add_subparsers(required=True, metavar="ACTION")
    command = actions.add_parser(
        "convert", help="check files and write one memory-mapped file (ASE-LMDB)"
    )
    command.add_argument("files", nargs="+", help=FILES)
    command.add_argument("-o", "--output", required=True, help=".aselmdb, to write")
    _add_labels(command, "as it is called in the output")
    command.add_argument("--virial-key", help="name of the virial [eV]; default: none")
    command.add_argument(
        "--level",
        default="",
        metavar="NAME",
        help="of theory: call the labels NAME_energy ..., beside others of a frame",
    )
    command.add_argument(
        "--allow-no-forces",
        action="store_true",
        help="let frames have no forces, rather than stop at one",
    )
    command.set_defaults(run=data)


def _add_labels(command: argparse.ArgumentParser, default: str = "") -> None:
    """Options for names and units of labels.

    Args:
        command: to add them to.
        default: says what stands for a name that is not given; without, it is that of
            the label.
    """
    for label, unit in (
        ("energy", "eV"),
        ("forces", "eV/Å"),
        ("stress", "eV/Å^3"),
    ):
        command.add_argument(
            f"--{label}-key",
            default=None if default else label,
            help=f"name of the {label}" + (default and f"; default: {default}"),
        )
        command.add_argument(f"--{label}-unit", default=unit, help="its unit")


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "evaluate", help="errors of a model on labelled structures"
    )
    command.add_argument("model", help="checkpoint (.ckpt) or exported model")
    command.add_argument("file", help=FILES)
    _add_labels(command)
    command.add_argument("--subset-key", help="name of what tells subsets apart")
    command.add_argument(
        "--target", default="energy", help="energy of a checkpoint, e.g. energy/r2scan"
    )
    command.add_argument(
        "--lebedev",
        type=int,
        default=0,
        metavar="ORDER",
        help="measure the spread over a grid of rotations of this order; default: not",
    )
    for name, text in (
        ("errors", "write errors as JSON"),
        ("predictions", "write predictions as extended XYZ"),
        ("report", "write a report as one HTML file"),
    ):
        command.add_argument(f"--{name}", metavar="FILE", help=text)
    command.add_argument(
        "--target-key",
        action="append",
        default=[],
        type=_pair,
        metavar="TARGET=KEY",
        help="name of a tensor target's label; default: as in training",
    )
    command.add_argument(
        "--rotations",
        type=int,
        default=32,
        help="random rotations over which tensors are compared with themselves",
    )
    command.set_defaults(run=evaluate)


def _pair(text: str) -> tuple[str, str]:
    """``TARGET=KEY`` as a pair."""
    target, equals, key = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be TARGET=KEY, got {text!r}")
    return target, key


def _add_uncertainty(commands: argparse._SubParsersAction) -> None:
    parent = commands.add_parser("uncertainty", help="error bars for a trained model")
    actions = parent.add_subparsers(required=True, metavar="ACTION")
    command = actions.add_parser("fit", help="fit them without training again (LLPR)")
    command.add_argument("model", help="checkpoint, or exported model")
    command.add_argument(
        "-o", "--output", help="checkpoint to write; default: beside, .llpr.ckpt"
    )
    for part in ("train", "valid"):
        command.add_argument(
            f"--{part}",
            nargs="+",
            metavar="FILE",
            help="files; default: those of the training",
        )
    command.add_argument("--energy-key", default="energy", help="label in these files")
    command.add_argument("--target", default="energy", help="name of the energy")
    command.add_argument(
        "--members", type=int, default=128, help="size of the ensemble; 0 for none"
    )
    command.add_argument(
        "--regularizer",
        type=float,
        help="of the covariance, relative to its diagonal; 0: the smallest that works; "
        "default: by the likelihood of the validation errors",
    )
    command.add_argument(
        "--calibration",
        choices=("absolute", "squared"),
        default="absolute",
        help="mean of errors that the multiplier is fitted to",
    )
    command.set_defaults(run=uncertainty)


def _add_export(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("export", help="write a model file from a checkpoint")
    command.add_argument("checkpoint", help="best.ckpt or last.ckpt of a training")
    command.add_argument("-o", "--output", default="model.pt", help="file to write")
    command.add_argument(
        "--dtype", default="float32", help="of the network: float32 or float64"
    )
    command.add_argument("--name", help="shown in logs; default: the file's name")
    command.set_defaults(run=export)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "convert", help="from and to checkpoints of metatrain"
    )
    command.add_argument(
        "checkpoint",
        help="PET or LLPR checkpoint (.ckpt), or a published name: pet-mad-s@1.5.0",
    )
    command.add_argument(
        "-o", "--output", default="model.pt", help="model file, or .ckpt: checkpoint"
    )
    command.add_argument("--target", help="energy to run, e.g. energy/pbe0")
    command.add_argument(
        "--keep",
        nargs="*",
        metavar="TARGET",
        help="further targets to keep; default: all, with no name: none",
    )
    command.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help="of the network; default: the checkpoint's",
    )
    command.add_argument("--name", help="shown in logs; default: the file's name")
    command.add_argument(
        "--revision", help="commit of the published models; default: the newest"
    )
    command.add_argument(
        "--check",
        nargs=2,
        metavar=("STRUCTURES", "REFERENCE"),
        help="compare with reference numbers (JSON) of structures (extended XYZ)",
    )
    command.add_argument(
        "--tolerance", type=float, help="of the check, relative; default: by dtype"
    )
    command.add_argument(
        "--to",
        choices=("petmad", "metatrain"),
        default="petmad",
        help="metatrain: write a petmad checkpoint or model file for it",
    )
    command.set_defaults(run=convert)


def _add_info(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("info", help="print what a model file says of itself")
    command.add_argument("model", help="file written by `petmad export`")
    command.add_argument(
        "--check", action="store_true", help="evaluate its golden structures here"
    )
    command.set_defaults(run=info)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("demo", help="run water in LAMMPS on 2 ranks")
    command.add_argument("--output", default="petmad-demo", help="folder of results")
    command.add_argument("--ranks", type=int, default=2, help="MPI ranks")
    command.add_argument("--nvt-steps", type=int, default=800, help="with thermostat")
    command.add_argument("--nve-steps", type=int, default=1200, help="without")
    command.add_argument("--model", help="exported model of O and H to use instead")
    command.set_defaults(run=demo)


def _add_lammps(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "lammps", help="print how any LAMMPS loads the plugin"
    )
    command.set_defaults(run=lammps)


def _version() -> str:
    import petmad

    return f"petmad {petmad.__version__}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors of the user's input end in one message and status 1."""
    parsed = make_parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("petmad").setLevel(logging.INFO)
    try:
        parsed.run(parsed)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        print(f"petmad: error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(parsed.run, "ase")
        print(
            f"petmad: error: this command needs {error.name}, which is not installed; "
            f"`pip install 'petmad[{extra}]'` brings it",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
