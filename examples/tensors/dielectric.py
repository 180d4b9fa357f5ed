"""Static dielectric constant from the dipole that in.infrared wrote, with a picture.

python examples/tensors/dielectric.py dipole.txt --output dielectric.png

The error is that of the mean over blocks, which must be much longer than the dipole's
correlation time: 10 ps and more in water, so that tens of picoseconds give no more than
the order of magnitude.
"""

import argparse

import matplotlib as mpl
import numpy as np

from petmad.spectra import Series, dielectric_constant, read_series


REFRACTIVE = 1.78
"""Square of the refractive index of water in visible light, taken for ε∞."""


def plot(series: Series, electronic: float, path: str) -> None:
    """The constant over the length of the run that is used, a check for convergence."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
    lengths = np.linspace(len(series.dipoles) // 20, len(series.dipoles), 40, dtype=int)
    values = [
        dielectric_constant(
            series.dipoles[: max(n, 4)],
            series.volume,
            series.temperature,
            electronic,
            n_blocks=2,
        ).value
        for n in lengths
    ]
    axes.plot(1e-3 * series.interval * lengths, values)
    axes.set(xlabel="length of the run (ps)", ylabel="dielectric constant")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Read, average, print the value with its error, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", help="file of fix ave/time in in.infrared")
    parser.add_argument("--timestep", type=float, default=0.5, help="of the run, fs")
    parser.add_argument("--electronic", type=float, default=REFRACTIVE, help="ε∞")
    parser.add_argument("--blocks", type=int, default=5, help="for the error")
    parser.add_argument("--output", default="dielectric.png", help="picture to write")
    arguments = parser.parse_args()
    series = read_series(arguments.series, arguments.timestep)
    result = dielectric_constant(
        series.dipoles,
        series.volume,
        series.temperature,
        arguments.electronic,
        arguments.blocks,
    )
    block = 1e-3 * series.interval * len(series.dipoles) / arguments.blocks
    print(
        f"dielectric constant {result.value:.1f} ± {result.error:.1f} "
        f"({arguments.blocks} blocks of {block:.1f} ps)"
    )
    plot(series, arguments.electronic, arguments.output)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
