"""petmad: PET-MAD interatomic potentials in LAMMPS, ASE and PyTorch."""
