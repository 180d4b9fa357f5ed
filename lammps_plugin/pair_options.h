// The arguments of `pair_style petmad` and `pair_coeff`, parsed and checked apart from LAMMPS.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace petmad_lammps {

/// pair_style petmad MODEL.pt [keyword value ...]
struct PairOptions {
    std::string model;
    std::string device = "auto";    ///< cpu, cuda, cuda:N, or auto: cuda where there is one
    std::string precision = "auto"; ///< of matrix products: auto, fp64, fp32, tf32, fp16, bf16
    int n_threads = 0;              ///< CPU threads per rank; 0: those of LAMMPS
    int charge = 0;                 ///< total charge [e], read by conditioned models
    int spin_multiplicity = 1;      ///< 2S + 1, likewise
    bool is_conditioned = false;    ///< charge or spin was given
    bool direct_forces = false;     ///< forces of the direct head, not the energy's gradient
    bool uncertainty = false;       ///< evaluate uncertainties where energies are tallied
    std::string memory = "auto";    ///< what is kept: auto, keep, wide, layers, or MB
    bool check_golden = true;       ///< evaluate the file's golden structures on loading
    std::string mode = "auto";      ///< what becomes of ghosts: auto, images, exchange, recompute
    std::string gpu_aware = "auto"; ///< messages in GPU memory: yes, no, auto: as MPI says
    double halo = 0.0;              ///< Å, depth of recomputed ghosts; 0: the model's reach
};

/// Throws petmad::Error: no model, unknown keyword, a value that does not fit.
PairOptions parse_pair_options(const std::vector<std::string>& arguments);

/// The mode that `auto` stands for on so many ranks.
/// Throws petmad::Error: `images` on several ranks.
std::string resolve_mode(const std::string& wanted, int n_ranks);

/// Species of each type from 0, -1 for NULL, out of the elements of `pair_coeff * * ...`.
/// Throws petmad::Error: wrong number of elements, an element the model lacks, nothing but NULL.
std::vector<int32_t> parse_elements(
    const std::vector<std::string>& elements, int n_types,
    const std::vector<int64_t>& atomic_numbers
);

} // namespace petmad_lammps
