"""Numerical constants of PET, each part of the definition of the numbers.

They live in a module because TorchScript reads ``constants.NAME`` but no global
variable.
"""

DISTANCE_EPSILON = 1e-15
"""Keeps the distances of coincident atoms finite: r = |v| + ε and d = sqrt(v·v + ε)."""
WEIGHT_FLOOR = 1e-15
"""Weight in the softmax of an edge at its cutoff, instead of a logarithm of zero."""
TAPER_EPSILON = 1e-6
"""Ends of the Bump's taper; tan() and its derivative stay finite."""
SLOPE_FLOOR = 1e-6
"""Smallest slope [1/Å] a Newton step of the cutoff solver divides by."""
SOLVER_ITERATIONS = 10
"""Newton steps of the cutoff solver; no early exit."""
GRID_START = 0.5
"""First probe radius of the grid method [Å]."""
GRID_FLOOR = 1e-12
"""Smallest spread of the grid method's weights."""
COULOMB = 14.399645478425668
"""Coulomb constant [eV Å / e²]."""
ZBL_SCREENING_LENGTH = 0.46850
"""Screening length of ZBL before division by the sum of Z**0.23 [Å]."""
RECOMPUTE = -1
"""Handle of no exchange: edges of ghosts are listed too, and evaluated here again."""
