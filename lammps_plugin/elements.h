// Symbols and standard atomic masses: what LAMMPS types are checked against.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>

namespace petmad_lammps {

/// Symbol of Z = 1..102; "Z<number>" beyond.
std::string element_symbol(int64_t atomic_number);

/// Standard atomic mass of Z = 1..102 [g/mol] (of the longest-lived isotope where there is none);
/// 0 beyond.
double element_mass(int64_t atomic_number);

} // namespace petmad_lammps
