"""Predictions beside the energy, by the engine and by ASE, against goldens."""

import ase
import numpy as np
import pytest
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from goldens import assert_close, golden_model, golden_structures
from variants import ATOMIC_NUMBERS

from petmad import PETMADCalculator
from petmad._engine import Engine
from petmad.export import export_model
from petmad.model import EdgeGraph, PETConfig, Potential, TargetSpec
from petmad.model_file import read_metadata


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Model files in float64, by variant."""
    folder = tmp_path_factory.mktemp("outputs")
    paths = {variant: folder / f"{variant}.pt" for variant in ("heads", "llpr")}
    for variant, path in paths.items():
        export_model(golden_model(variant), path, "float64")
    return paths


def arguments(structure):
    species = np.searchsorted(ATOMIC_NUMBERS, structure.numbers).astype(np.int32)
    return structure.positions, species, structure.cell, structure.pbc


def to_ase(structure) -> ase.Atoms:
    numbers, positions = structure.numbers, structure.positions
    return ase.Atoms(numbers, positions, cell=structure.cell, pbc=structure.pbc)


def test_a_file_tells_what_it_can_be_asked(files):
    info = Engine(str(files["llpr"])).info
    assert "energy_uncertainty" in info.outputs
    assert info.norm_outputs == ["energy_uncertainty"]
    assert info.n_members == 4
    metadata = read_metadata(files["heads"])
    assert metadata["outputs"] == list(Engine(str(files["heads"])).info.outputs)
    assert "non_conservative_stress" in metadata["outputs"]
    assert metadata["norm_outputs"] == []


def test_outputs_of_the_engine(files):
    engine = Engine(str(files["llpr"]))
    names = ["energy_uncertainty", "energy_ensemble", "cutoff_stats"]
    for key, (structure, theirs) in golden_structures("llpr").items():
        ours = engine.evaluate(*arguments(structure), outputs=names)
        atoms, sums = ours["outputs"], ours["sums"]
        assert_close(atoms["energy_uncertainty"], theirs["energy_uncertainty"], key)
        sigma = np.linalg.norm(sums["energy_uncertainty"])
        assert_close(sigma, theirs["total/energy_uncertainty"], key)
        assert_close(atoms["energy_ensemble"], theirs["energy_ensemble"], key)
        assert_close(sums["energy_ensemble"], theirs["total/energy_ensemble"], key)
        assert_close(ours["forces"], theirs["forces"], key)
        assert atoms["cutoff_stats"].shape == (len(structure), 2)


def test_nothing_is_evaluated_unasked(files):
    structure, _ = golden_structures("heads")["triclinic_0_1"]
    ours = Engine(str(files["heads"])).evaluate(*arguments(structure))
    assert ours["outputs"] == ours["sums"] == {}


def test_without_gradients(files):
    structure, theirs = golden_structures("heads")["triclinic_0_1"]
    engine = Engine(str(files["heads"]))
    names = ["non_conservative_force"]
    ours = engine.evaluate(*arguments(structure), outputs=names, gradients=False)
    assert_close(ours["energy"], theirs["energy"], "energy")
    forces = ours["outputs"]["non_conservative_force"]
    assert_close(forces, theirs["non_conservative_force"], "direct forces")
    assert not ours["forces"].any()
    assert not ours["virial"].any()


def test_unknown_output(files):
    structure, _ = golden_structures("heads")["triclinic_0_1"]
    with pytest.raises(ValueError, match=r"unknown output 'dipole'; this model has"):
        Engine(str(files["heads"])).evaluate(*arguments(structure), outputs=["dipole"])


def test_atoms_that_take_no_part_have_zeros(files):
    structure, _ = golden_structures("llpr")["ethanol_0_1"]
    positions, species, _, _ = arguments(structure)
    engine = Engine(str(files["llpr"]))
    marked = species.copy()
    marked[[2, 5]] = -1
    none = np.zeros(0, np.int32)
    name = "energy_uncertainty"
    ours = engine.evaluate_domain(
        positions, marked, len(species), none, none, outputs=[name]
    )
    kept = marked >= 0
    alone = engine.evaluate_domain(
        positions[kept], species[kept], kept.sum(), none, none, outputs=[name]
    )
    assert_close(ours["outputs"][name][kept], alone["outputs"][name], "the others")
    assert not ours["outputs"][name][~kept].any()
    assert_close(ours["sums"][name], alone["sums"][name], "sum")


@pytest.mark.parametrize("key", ["triclinic_0_1", "ethanol_0_1"])
def test_names_of_ase(files, key):
    structure, theirs = golden_structures("heads")[key]
    atoms = to_ase(structure)
    atoms.calc = calculator = PETMADCalculator(files["heads"])
    for name, golden_name in (
        ("non_conservative_forces", "non_conservative_force"),
        ("energy/pbe0", "energy/pbe0"),
        ("mtt::dos", "mtt::dos"),
        ("features", "features"),
    ):
        ours = calculator.get_property(name, atoms)
        assert_close(np.asarray(ours), theirs[golden_name], name)
    assert "energy/pbe0" in calculator.results  # what was asked for stays
    assert "non_conservative_force" not in calculator.extra_outputs
    if not atoms.pbc.all():
        with pytest.raises(PropertyNotImplementedError, match="per volume of a struct"):
            calculator.get_property("non_conservative_stress", atoms)
        return
    stress = calculator.get_property("non_conservative_stress", atoms)
    wanted = theirs["non_conservative_stress"].reshape(3, 3)
    assert_close(stress, wanted[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], "stress")


def test_uncertainty_by_ase(files):
    structure, theirs = golden_structures("llpr")["crystal_0_1"]
    atoms, calculator = to_ase(structure), PETMADCalculator(files["llpr"])
    calculator.calculate(
        atoms, ["energy_uncertainty", "energies_uncertainty", "energy_ensemble"]
    )
    found = calculator.results
    assert isinstance(found["energy_uncertainty"], float)
    assert_close(
        found["energy_uncertainty"], theirs["total/energy_uncertainty"], "whole"
    )
    assert_close(found["energies_uncertainty"], theirs["energy_uncertainty"], "atoms")
    assert_close(found["energy_ensemble"], theirs["total/energy_ensemble"], "ensemble")
    assert found["energy_ensemble"].mean() == pytest.approx(found["energy"], abs=1e-9)


def test_direct_forces_drive(files):
    structure, theirs = golden_structures("heads")["triclinic_0_1"]
    atoms = to_ase(structure)
    atoms.calc = PETMADCalculator(files["heads"], direct=True)
    direct = theirs["non_conservative_force"].reshape(-1, 3)
    assert np.abs(direct.mean(axis=0)).max() > 1e-3
    assert_close(atoms.get_forces(), direct - direct.mean(axis=0), "forces")
    wanted = theirs["non_conservative_stress"].reshape(3, 3)
    voigt = wanted[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    assert_close(atoms.get_stress(), voigt, "stress")
    assert_close(atoms.get_potential_energy(), theirs["energy"], "energy")
    stresses = atoms.get_stresses()  # those of the energy, as the class says
    atoms.calc = PETMADCalculator(files["heads"])
    assert_close(stresses.sum(axis=0), atoms.get_stress(), "stress of the energy")


def test_direct_forces_of_a_molecule(files):
    """Without a volume there is no stress, and ASE is told why."""
    atoms = to_ase(golden_structures("heads")["ethanol_0_1"][0])
    atoms.calc = PETMADCalculator(files["heads"], direct=True)
    assert np.isfinite(atoms.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError, match=r"has pbc \[False, False"):
        atoms.get_stress()


def test_direct_needs_a_direct_head(files):
    with pytest.raises(ValueError, match=r"`direct` needs a model with direct forces"):
        PETMADCalculator(files["llpr"], direct=True)


def test_direct_forces_with_the_gradient_stress(tmp_path):
    """A model with direct forces alone: the stress comes from the energy."""
    torch.manual_seed(2)
    targets = [
        TargetSpec("energy"),
        TargetSpec("non_conservative_force", "force", 3, True, "eV/A"),
    ]
    config = PETConfig(**golden_model("heads").config.to_dict())
    export_model(Potential(config, ATOMIC_NUMBERS, targets), tmp_path / "a.pt")
    atoms = to_ase(golden_structures("heads")["triclinic_0_1"][0])
    atoms.calc = PETMADCalculator(tmp_path / "a.pt", direct=True)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    atoms.calc = PETMADCalculator(tmp_path / "a.pt")
    np.testing.assert_array_equal(atoms.get_stress(), stress)
    assert np.abs(atoms.get_forces() - forces).max() > 0.01


def test_members_need_an_uncertainty():
    with pytest.raises(ValueError, match=r"`n_members` of target 'energy' must be 0"):
        TargetSpec("energy", n_members=3)


class FormatOne(torch.nn.Module):
    """An exported file as format 1 had it: plain modules, no lists of outputs."""

    atomic_numbers: list[int]
    targets: list[str]

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.petmad_model: int = 1
        self.format_version: int = 1
        self.name: str = "old"
        self.weights_hash: str = "0"
        self.dtype: str = "float32"
        self.atomic_numbers = potential.atomic_numbers
        self.targets = ["energy"]
        self.cutoff: float = potential.config.cutoff
        self.is_adaptive: bool = potential.config.is_adaptive
        self.reach_hops: int = potential.config.reach_hops
        self.reach: float = potential.config.reach
        self.is_conditioned: bool = False
        self.metadata_json: str = "{}"

    def forward(
        self,
        edge_vectors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
        reverse_edges: torch.Tensor,
        species: torch.Tensor,
        structures: torch.Tensor,
        charges: torch.Tensor,
        spin_multiplicities: torch.Tensor,
        halo: int,
        outputs: list[str],
    ) -> dict[str, torch.Tensor]:
        """As that of an exported model."""
        graph = EdgeGraph(
            edge_vectors,
            centers,
            neighbors,
            reverse_edges,
            species,
            structures,
            charges,
            spin_multiplicities,
            halo,
        )
        return self.potential(graph, outputs)


def test_files_of_format_one_still_load_and_evaluate(tmp_path):
    potential = golden_model("modern").to_dtype(torch.float32).requires_grad_(False)
    torch.jit.script(FormatOne(potential)).save(str(tmp_path / "old.pt"))
    export_model(potential, tmp_path / "new.pt")
    atoms = to_ase(golden_structures("modern")["triclinic_0_1"][0])
    forces = []
    for name in ("old.pt", "new.pt"):
        atoms.calc = PETMADCalculator(tmp_path / name, check=False)
        forces.append(atoms.get_forces())
    np.testing.assert_allclose(*forces, rtol=0, atol=1e-5 * np.abs(forces[1]).max())
    info = Engine(str(tmp_path / "old.pt"), check_golden=False).info
    assert info.outputs == ["energy"]
    assert info.norm_outputs == []
    assert info.n_members == 0
