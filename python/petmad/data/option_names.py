"""What messages call an option: as a file of options has it, or as it is typed.

A section is that of the file: ``data``, ``data.levels.NAME``; or empty, where labels
are named on the command line.
"""


def option(section: str, name: str) -> str:
    """An option of labels, such as ``energy_key``."""
    return f"`{section}.{name}`" if section else f"`--{name.replace('_', '-')}`"


def group_option(section: str) -> str:
    """What names the label that groups structures."""
    if section:
        return "`data.group_key` (of an evaluation: subset key)"
    return "`--subset-key`"


def tensor_option(section: str, target: str) -> str:
    """What names the label of a tensor target."""
    return f"`targets.{target}.key`" if section else f"`--target-key {target}=KEY`"


def without_forces(section: str) -> str:
    """How to go on without forces."""
    if section:
        return (
            f"admit frames without forces with `{section}.require_forces: false`, or "
            "train on energies alone with `training.loss.forces.weight: 0`"
        )
    return "admit frames without forces with `--allow-no-forces`"


def without_check(section: str) -> str:
    """How to leave out the comparison of labels."""
    return "`data.check_gradients: false`" if section else "`--no-check`"


def other_units(section: str) -> str:
    """What to do with files of several units."""
    if section:
        return (
            f"give {option(section, 'energy_unit')}, and files of another unit as a "
            "level of their own in `data.levels`"
        )
    return "convert files of another unit on their own, with `--energy-unit`"
