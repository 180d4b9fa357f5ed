"""Infrared spectrum from the dipole that in.infrared wrote, with a picture.

python examples/tensors/infrared.py dipole.txt --output infrared.png
"""

import argparse

import matplotlib as mpl

from petmad.spectra import Spectrum, infrared, read_series


BANDS = {"bend": (1550.0, 1750.0), "O-H stretch": (3300.0, 3700.0)}
"""Where the bands of water are expected [cm⁻¹]."""


def plot(spectrum: Spectrum, path: str) -> None:
    """The spectrum up to 4500 cm⁻¹, expected bands shaded."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
    shown = spectrum.wavenumbers <= 4500.0
    axes.plot(spectrum.wavenumbers[shown], spectrum.absorption[shown], lw=1.2)
    for name, band in BANDS.items():
        axes.axvspan(*band, alpha=0.15, color="tab:orange", lw=0)
        axes.annotate(
            name, (sum(band) / 2, 0.97), xycoords=("data", "axes fraction"), va="top",
            ha="center",
        )  # fmt: skip
    axes.set(xlabel="wavenumber (cm⁻¹)", ylabel="absorption · index (cm⁻¹)")
    axes.set(xlim=(0, 4500), ylim=0)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Read, transform, print the largest absorption of each band, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", help="file of fix ave/time in in.infrared")
    parser.add_argument("--timestep", type=float, default=0.5, help="of the run, fs")
    parser.add_argument("--resolution", type=float, default=20.0, help="cm⁻¹")
    parser.add_argument("--output", default="infrared.png", help="picture to write")
    parser.add_argument("--table", help="text file of the spectrum to write")
    arguments = parser.parse_args()
    series = read_series(arguments.series, arguments.timestep)
    spectrum = infrared(
        series.dipoles,
        series.interval,
        series.volume,
        series.temperature,
        arguments.resolution,
    )
    picoseconds = 1e-3 * series.interval * (len(series.dipoles) - 1)
    print(
        f"{picoseconds:.1f} ps, every {series.interval:g} fs, "
        f"{series.temperature:.1f} K, {series.volume:.1f} Å³"
    )
    for name, band in BANDS.items():
        print(f"{name:12} {spectrum.peak(*band):7.0f} cm⁻¹")
    if arguments.table:
        header = "wavenumber (cm⁻¹)  absorption coefficient times index (cm⁻¹)"
        rows = [spectrum.wavenumbers, spectrum.absorption]
        with open(arguments.table, "w", encoding="utf-8") as file:
            file.write(f"# {header}\n")
            file.writelines(f"{x:.3f} {y:.6g}\n" for x, y in zip(*rows, strict=True))
    plot(spectrum, arguments.output)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
