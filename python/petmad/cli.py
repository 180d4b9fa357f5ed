"""The ``petmad`` command: one function per subcommand, each importing what it needs."""

import argparse
import logging
import sys
from collections.abc import Sequence


def train(arguments: argparse.Namespace) -> None:
    """``petmad train``."""
    from petmad.training.options import load_options
    from petmad.training.trainer import train as run

    options = load_options(arguments.options)
    if arguments.output is not None:
        options.output = arguments.output
    best = run(options, resume=arguments.resume)
    print(f"best model: {best}\nexport it with: petmad export {best} -o model.pt")  # noqa: T201


def evaluate(arguments: argparse.Namespace) -> None:
    """``petmad evaluate``."""
    from petmad.data.structures import LabelKeys
    from petmad.training.evaluation import evaluate as run
    from petmad.training.evaluation import format_errors, load_predictor

    keys = LabelKeys(arguments.energy_key, arguments.forces_key, arguments.stress_key)
    errors = run(load_predictor(arguments.model), arguments.file, keys)
    print(format_errors(errors))  # noqa: T201


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="petmad", description="PET interatomic potentials: train, export, run."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("train", help="train a model on extended XYZ files")
    command.add_argument("options", help="options file (YAML)")
    command.add_argument(
        "--resume", metavar="CKPT", help="last.ckpt of an interrupted training"
    )
    command.add_argument(
        "--output", metavar="DIR", help="folder, instead of the options' one"
    )
    command.set_defaults(run=train)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "evaluate", help="errors of a model on an extended XYZ file"
    )
    command.add_argument("model", help="checkpoint (.ckpt) or exported model")
    command.add_argument("file", help="extended XYZ file, plain or .xz")
    for label in ("energy", "forces", "stress"):
        command.add_argument(
            f"--{label}-key", default=label, help=f"name of the {label}"
        )
    command.set_defaults(run=evaluate)


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
    except ValueError as error:
        print(f"petmad: error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
