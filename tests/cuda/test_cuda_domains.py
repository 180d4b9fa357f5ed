"""Several domains on one GPU: messages between them pass through pinned host memory."""

import numpy as np
import pytest
from domains import Structure, assemble, decompose, evaluate_domains
from structures import uniform
from variants import make_potential

from petmad._engine import Engine
from petmad.export import export_model


TOLERANCE = 1e-10


def crystal():
    """Five atoms in a cell smaller than the cutoff."""
    cell = np.array([[3.4, 0.0, 0.2], [0.3, 3.7, 0.0], [0.0, -0.4, 4.1]])
    spots = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1.2]]) / 2
    positions = spots @ cell + 0.1 * uniform("cuda crystal", 15).reshape(5, 3)
    species = np.array([1, 3, 2, 1, 3], dtype=np.int32)
    return Structure(positions, species, cell, np.ones(3, dtype=bool))


@pytest.mark.parametrize("variant", ["modern", "adaptive_solver", "classic"])
def test_domains_on_a_device_are_one_rank_on_the_cpu(variant, device, tmp_path):
    """Forwards and backwards, cutoffs and messages, on 1, 2 and 3 ranks."""
    path = str(tmp_path / "model.pt")
    export_model(make_potential(variant), path, dtype="float64")
    structure = crystal()
    wanted = Engine(path, check_golden=False).evaluate(*structure, atomic_virials=True)
    engines = [Engine(path, device.type, check_golden=False) for _ in range(3)]
    for n_ranks in (1, 2, 3):
        ranks = np.arange(5) % n_ranks
        cutoff = engines[0].info.cutoff
        domains = decompose(structure, ranks, n_ranks, cutoff)
        results = evaluate_domains(engines[:n_ranks], domains)
        for key, value in assemble(domains, results, 5).items():
            scale = np.abs(wanted[key]).max()
            error = np.abs(value - wanted[key]).max()
            assert error <= TOLERANCE * scale, (n_ranks, key)
