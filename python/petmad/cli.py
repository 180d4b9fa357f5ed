"""The command line of ``petmad``: arguments of each command; how errors are told."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from petmad import commands


FILES = "extended XYZ, plain, .xz or .gz, or an ASE database: .db or .aselmdb"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="petmad", description="PET interatomic potentials: train, export, run."
    )
    parser.add_argument("--version", action="version", version=_version())
    parsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(parsers)
    _add_data(parsers)
    _add_evaluate(parsers)
    _add_uncertainty(parsers)
    _add_export(parsers)
    _add_convert(parsers)
    _add_info(parsers)
    _add_demo(parsers)
    _add_lammps(parsers)
    return parser


def _add_train(parsers: argparse._SubParsersAction) -> None:
    for name, run, text in (
        ("train", commands.train, "train a model on labelled structures"),
        (
            "finetune",
            commands.finetune,
            "train on from a model, and tell what it forgot",
        ),
    ):
        command = parsers.add_parser(name, help=text)
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


def _add_data(parsers: argparse._SubParsersAction) -> None:
    parent = parsers.add_parser("data", help="files of labelled structures")
    actions = parent.add_subparsers(required=True, metavar="ACTION")
    command = actions.add_parser(
        "convert", help="check files and write one memory-mapped file (ASE-LMDB)"
    )
    command.add_argument("files", nargs="+", help=FILES)
    command.add_argument("-o", "--output", required=True, help=".aselmdb, to write")
    _add_labels(command, "as it is called in the output")
    command.set_defaults(energy_unit="eV", forces_unit="eV/Å", stress_unit="eV/Å^3")
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
    command.add_argument(
        "--no-check",
        action="store_true",
        help="do not compare energies with forces, stress, and those of other files",
    )
    command.set_defaults(run=commands.data)


def _add_labels(
    command: argparse.ArgumentParser,
    name: str,
    default_unit: str = "{unit}",
    virial: str = "none",
    precedence: str = "read where there is no stress",
) -> None:
    """Options for names and units of labels.

    Args:
        command: to add them to.
        name: says what stands for a name that is not given.
        default_unit: likewise for a unit.
        virial: likewise for the name of the virial.
        precedence: says when the virial is read.
    """
    for label, unit in (
        ("energy", "eV"),
        ("forces", "eV/Å"),
        ("stress", "eV/Å^3"),
    ):
        default = name.format(label=label)
        command.add_argument(
            f"--{label}-key", help=f"name of the {label}; default: {default}"
        )
        default = default_unit.format(unit=unit)
        command.add_argument(f"--{label}-unit", help=f"its unit; default: {default}")
    command.add_argument(
        "--virial-key",
        help=f"name of the virial, -volume times stress, {precedence}; "
        f"default: {virial}",
    )
    default = default_unit.format(unit="eV")
    command.add_argument("--virial-unit", help=f"its unit; default: {default}")


def _add_evaluate(parsers: argparse._SubParsersAction) -> None:
    command = parsers.add_parser(
        "evaluate", help="errors of a model on labelled structures"
    )
    command.add_argument("model", help="checkpoint (.ckpt) or exported model")
    command.add_argument(
        "files",
        nargs="+",
        metavar="file",
        help=f"{FILES}; the errors of several are told together and one by one",
    )
    _add_labels(
        command,
        "as in training, else {label}",
        "as in training, else {unit}",
        "as in training, else none",
        "read instead of the stress unless that is named, too",
    )
    command.add_argument("--subset-key", help="name of what tells subsets apart")
    command.add_argument(
        "--target",
        default="energy",
        help="energy of a checkpoint, e.g. energy/r2scan; frames without it are left "
        "out; default: energy",
    )
    command.add_argument(
        "--lebedev",
        type=_count,
        default=0,
        metavar="ORDER",
        help="measure the spread over a grid of rotations of this order; default: not",
    )
    command.add_argument(
        "--average",
        type=_count,
        default=0,
        metavar="ORDER",
        help="average energies, forces and stress over a grid of rotations and "
        "inversions of this order, 48 for order 3; default: not",
    )
    _add_device(command)
    for name, text in (
        ("errors", "write errors as JSON"),
        ("predictions", "write predictions, tensors too, as extended XYZ"),
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
        type=_count,
        default=32,
        help="random rotations over which tensors are compared with themselves; 0 for "
        "none; default: 32",
    )
    command.set_defaults(run=commands.evaluate)


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device",
        default="auto",
        help="auto (a GPU where there is one), cpu, cuda or cuda:N; default: auto",
    )


def _pair(text: str) -> tuple[str, str]:
    """``TARGET=KEY`` as a pair."""
    target, equals, key = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be TARGET=KEY, got {text!r}")
    return target, key


def _count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be 0, 1, 2 ..., got {text}")
    return int(text)


def _at_least(smallest: int) -> Callable[[str], int]:
    """Whole numbers from one on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < smallest:
            raise argparse.ArgumentTypeError(
                f"must be a whole number, {smallest} or more, got {text}"
            )
        return int(text)

    return read


def _not_negative(text: str) -> float:
    """A number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number, 0 or more, got {text}")
    return value


def _add_uncertainty(parsers: argparse._SubParsersAction) -> None:
    parent = parsers.add_parser("uncertainty", help="error bars for a trained model")
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
    command.add_argument(
        "--energy-key",
        help="label in these files; default: as in training, else energy",
    )
    command.add_argument(
        "--energy-unit", help="its unit; default: as in training, else eV"
    )
    command.add_argument(
        "--target", default="energy", help="name of the energy; default: energy"
    )
    command.add_argument(
        "--members",
        type=_count,
        default=128,
        help="size of the ensemble; 0 for none; default: 128",
    )
    command.add_argument(
        "--regularizer",
        type=_not_negative,
        help="of the covariance, relative to its diagonal; 0: the smallest that works; "
        "default: by the likelihood of the validation errors",
    )
    command.add_argument(
        "--calibration",
        choices=("absolute", "squared"),
        default="absolute",
        help="mean of errors that the multiplier is fitted to; default: absolute",
    )
    _add_device(command)
    command.set_defaults(run=commands.uncertainty)


def _add_export(parsers: argparse._SubParsersAction) -> None:
    command = parsers.add_parser("export", help="write a model file from a checkpoint")
    command.add_argument("checkpoint", help="best.ckpt or last.ckpt of a training")
    command.add_argument(
        "-o",
        "--output",
        help="file to write; default: model.pt, or model.pt2, if there is none",
    )
    command.add_argument(
        "--dtype",
        default="float32",
        help="of the network: float32 or float64; default: float32",
    )
    command.add_argument("--name", help="shown in logs; default: the file's name")
    command.add_argument(
        "--aoti",
        action="store_true",
        help="write machine code by AOTInductor (*.pt2), for Python alone",
    )
    command.set_defaults(run=commands.export)


def _add_convert(parsers: argparse._SubParsersAction) -> None:
    command = parsers.add_parser("convert", help="from and to checkpoints of metatrain")
    command.add_argument(
        "checkpoint",
        help="PET or LLPR checkpoint (.ckpt), or a published name: pet-mad-s@1.5.0",
    )
    command.add_argument(
        "-o",
        "--output",
        help="model file, or .ckpt: checkpoint; default: model.pt, if there is none",
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
        help="compare with reference numbers (JSON) of structures (any file of ASE)",
    )
    command.add_argument(
        "--tolerance",
        type=_not_negative,
        help="of the check, relative; default: by dtype",
    )
    command.add_argument(
        "--to",
        choices=("petmad", "metatrain"),
        default="petmad",
        help="metatrain: write a petmad checkpoint or model file for it",
    )
    command.set_defaults(run=commands.convert)


def _add_info(parsers: argparse._SubParsersAction) -> None:
    command = parsers.add_parser("info", help="print what a model file says of itself")
    command.add_argument("model", help="file written by `petmad export`")
    command.add_argument(
        "--check", action="store_true", help="evaluate its golden structures here"
    )
    command.set_defaults(run=commands.info)


def _add_demo(parsers: argparse._SubParsersAction) -> None:
    command = parsers.add_parser("demo", help="run water in LAMMPS on 2 ranks")
    command.add_argument("--output", default="petmad-demo", help="folder of results")
    for name, smallest, default, text in (
        ("ranks", 1, 2, "MPI ranks"),
        ("nvt-steps", 0, 800, "with thermostat"),
        ("nve-steps", 40, 1200, "without; the drift needs 40 or more"),
    ):
        command.add_argument(
            f"--{name}",
            type=_at_least(smallest),
            default=default,
            help=f"{text}; default: {default}",
        )
    command.add_argument("--model", help="exported model of O and H to use instead")
    command.set_defaults(run=commands.demo)


def _add_lammps(parsers: argparse._SubParsersAction) -> None:
    command = parsers.add_parser("lammps", help="print how any LAMMPS loads the plugin")
    command.set_defaults(run=commands.lammps)


def _version() -> str:
    import petmad

    return f"petmad {petmad.__version__}"


INTERRUPTED = 130
"""Exit status, as shells have it after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors of the user's input end in one message and status 1."""
    _prepare_streams()
    parsed = make_parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("petmad").setLevel(logging.INFO)
    try:
        parsed.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has enough, as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, SystemExit) as stop:
        # a training that gets SIGTERM ends so, in Lightning, without a status
        print(
            "petmad: stopped before the end; a training goes on with `--resume` and "
            "its last.ckpt",
            file=sys.stderr,
        )
        status = getattr(stop, "code", None) or INTERRUPTED
        return status if isinstance(status, int) else INTERRUPTED
    except (ValueError, RuntimeError, OSError) as error:
        print(f"petmad: error: {_explain(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = commands.EXTRAS.get(parsed.run, "ase")
        print(
            f"petmad: error: this command needs {error.name}, which is not installed; "
            f"`pip install 'petmad[{extra}]'` brings it",
            file=sys.stderr,
        )
        return 1
    return 0


def _prepare_streams() -> None:
    """Streams that are closed swallow what is printed; letters they lack are spelt."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _explain(error: Exception) -> str:
    """The message of an error; of one of the system's, which file it is about."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    path = "a file" if error.filename is None else error.filename
    return (
        f"{path} cannot be read or written: {error.strerror}; mend the path or its "
        "permissions"
    )


if __name__ == "__main__":
    sys.exit(main())
