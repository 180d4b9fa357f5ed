"""Test errors that others have published for the sets of examples/datasets.

Only numbers that were checked against their source are here; sets without an entry have
none yet, or none on these structures.
"""

from typing import Literal, NamedTuple


Kind = Literal["kernel", "neural network", "polynomial", "message passing"]
"""What a model is: a kernel or Gaussian process, a feed-forward network on descriptors
(Behler and Parrinello's, ANI), a linear expansion, or one that passes messages."""


class Published(NamedTuple):
    """Errors of one model on one set.

    Attributes:
        model: its name.
        kind: what it is.
        energy: [meV], of a structure or per atom as the set has it.
        forces: [meV/Å].
    """

    model: str
    kind: Kind
    energy: float
    forces: float


class TestSet(NamedTuple):
    """What a model is tested on.

    Attributes:
        file: in the folder of the training file.
        statistic: of the published errors, ``mae`` or ``rmse``.
        per_atom: whether energies are per atom, or of a structure.
        published: by others.
        source: of these.
    """

    file: str
    statistic: Literal["mae", "rmse"]
    per_atom: bool
    published: tuple[Published, ...] = ()
    source: str = ""


def _rmd17(file: str, rows: dict[str, tuple[float, float]]) -> TestSet:
    kinds: dict[str, Kind] = {
        "ACE": "polynomial",
        "FCHL": "kernel",
        "GAP": "kernel",
        "ANI": "neural network",
    }
    published = tuple(
        Published(model, kinds.get(model, "message passing"), *errors)
        for model, errors in rows.items()
    )
    source = "Batatia et al., NeurIPS 2022, table 2"
    return TestSet(file, "mae", False, published, source)


def _mlearn(element: str, rows: dict[str, tuple[float, float]]) -> TestSet:
    kinds: dict[str, Kind] = {"GAP": "kernel", "BP-NN": "neural network"}
    published = tuple(
        Published(model, kinds.get(model, "polynomial"), *errors)
        for model, errors in rows.items()
    )
    source = "Zuo et al., J. Phys. Chem. A 124, 731 (2020)"
    return TestSet(f"{element}_test.extxyz.xz", "mae", True, published, source)


ETHANOL = {
    "MACE": (0.4, 2.1),
    "Allegro": (0.4, 2.1),
    "NequIP": (0.4, 2.8),
    "BOTNet": (0.4, 3.2),
    "PaiNN": (2.7, 10.0),
    "ACE": (1.2, 7.3),
    "FCHL": (0.9, 6.2),
    "GAP": (3.5, 18.1),
    "ANI": (2.5, 13.4),
}
ASPIRIN = {
    "MACE": (2.2, 6.6),
    "Allegro": (2.3, 7.3),
    "NequIP": (2.3, 8.2),
    "BOTNet": (2.3, 8.5),
    "ACE": (6.1, 17.9),
    "FCHL": (6.2, 20.9),
    "GAP": (17.7, 44.9),
    "ANI": (16.6, 40.6),
}

TESTS: dict[str, list[TestSet]] = {
    "ethanol": [_rmd17("ethanol_test.extxyz.xz", ETHANOL)],
    "aspirin": [_rmd17("aspirin_test.extxyz.xz", ASPIRIN)],
    "bpa": [
        TestSet("test_300K.extxyz.xz", "rmse", False),
        TestSet("test_600K.extxyz.xz", "rmse", False),
    ],
    "mlearn_Li": [_mlearn("Li", {"GAP": (0.49, 10.0), "MTP": (0.49, 10.0)})],
    "mlearn_Mo": [_mlearn("Mo", {"GAP": (2.24, 90.0), "MTP": (2.83, 90.0)})],
    "mlearn_Si": [
        _mlearn(
            "Si", {"GAP": (2.91, 70.0), "MTP": (2.21, 60.0), "BP-NN": (9.25, 120.0)}
        )
    ],
    "mlearn_Cu": [_mlearn("Cu", {"GAP": (0.46, 10.0), "MTP": (0.41, 10.0)})],
    "lips": [TestSet("test.extxyz.xz", "mae", True)],
    "li3ps4": [TestSet("test.extxyz.xz", "mae", True)],
    "hea25": [TestSet("test.extxyz.xz", "mae", True)],
    "nacl_water": [TestSet("test.extxyz.xz", "rmse", True)],
}
"""By the name of the options file. Errors of mlearn's forces are rounded to 10 meV/Å in
their source, those of BP-NN are PyXtal_FF's."""
