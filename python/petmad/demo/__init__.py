"""The main job on a bundled default: MD of water in LAMMPS with a small trained PET."""
