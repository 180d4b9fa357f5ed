// compute petmad/tensor: dipoles, polarizabilities and other tensors of the model, from the pass
// that makes the forces: the pair style asks which of them are wanted in a step, the computes know
// from the steps that thermo output, fixes and dumps announce.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <string>
#include <vector>

#include "compute.h"

#include "tensor_results.h"

namespace petmad_lammps {

class ComputeTensor final : public LAMMPS_NS::Compute {
public:
    ComputeTensor(LAMMPS_NS::LAMMPS* lmp, int n_arguments, char** arguments);
    ~ComputeTensor() override;

    void init() override;
    void compute_vector() override;
    void compute_peratom() override;
    double memory_usage() override;

    const std::string& target() const { return target_; }

private:
    const TensorResults& results() const;
    const petmad::TensorInfo& info() const;
    const petmad::Output& current() const;

    std::string target_;
    int n_rows_ = 0; ///< of array_atom
};

/// Targets that computes of this LAMMPS want evaluated in this step, without repetition.
std::vector<std::string> tensors_wanted(LAMMPS_NS::LAMMPS* lmp);

} // namespace petmad_lammps
