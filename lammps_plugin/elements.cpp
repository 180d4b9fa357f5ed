// SPDX-License-Identifier: GPL-2.0-only
#include "elements.h"

#include <array>

namespace petmad_lammps {

namespace {

struct Element {
    const char* symbol;
    double mass;
};

constexpr std::array<Element, 102> elements{{
    // clang-format off
    {"H", 1.008}, {"He", 4.003}, {"Li", 6.940}, {"Be", 9.012}, {"B", 10.810}, {"C", 12.011},
    {"N", 14.007}, {"O", 15.999}, {"F", 18.998}, {"Ne", 20.180}, {"Na", 22.990},
    {"Mg", 24.305}, {"Al", 26.982}, {"Si", 28.085}, {"P", 30.974}, {"S", 32.060},
    {"Cl", 35.450}, {"Ar", 39.948}, {"K", 39.098}, {"Ca", 40.078}, {"Sc", 44.956},
    {"Ti", 47.867}, {"V", 50.941}, {"Cr", 51.996}, {"Mn", 54.938}, {"Fe", 55.845},
    {"Co", 58.933}, {"Ni", 58.693}, {"Cu", 63.546}, {"Zn", 65.380}, {"Ga", 69.723},
    {"Ge", 72.630}, {"As", 74.922}, {"Se", 78.971}, {"Br", 79.904}, {"Kr", 83.798},
    {"Rb", 85.468}, {"Sr", 87.620}, {"Y", 88.906}, {"Zr", 91.224}, {"Nb", 92.906},
    {"Mo", 95.950}, {"Tc", 97.907}, {"Ru", 101.070}, {"Rh", 102.906}, {"Pd", 106.420},
    {"Ag", 107.868}, {"Cd", 112.414}, {"In", 114.818}, {"Sn", 118.710}, {"Sb", 121.760},
    {"Te", 127.600}, {"I", 126.904}, {"Xe", 131.293}, {"Cs", 132.905}, {"Ba", 137.327},
    {"La", 138.905}, {"Ce", 140.116}, {"Pr", 140.908}, {"Nd", 144.242}, {"Pm", 144.913},
    {"Sm", 150.360}, {"Eu", 151.964}, {"Gd", 157.250}, {"Tb", 158.925}, {"Dy", 162.500},
    {"Ho", 164.930}, {"Er", 167.259}, {"Tm", 168.934}, {"Yb", 173.054}, {"Lu", 174.967},
    {"Hf", 178.490}, {"Ta", 180.948}, {"W", 183.840}, {"Re", 186.207}, {"Os", 190.230},
    {"Ir", 192.217}, {"Pt", 195.084}, {"Au", 196.967}, {"Hg", 200.592}, {"Tl", 204.380},
    {"Pb", 207.200}, {"Bi", 208.980}, {"Po", 208.982}, {"At", 209.987}, {"Rn", 222.018},
    {"Fr", 223.020}, {"Ra", 226.025}, {"Ac", 227.028}, {"Th", 232.038}, {"Pa", 231.036},
    {"U", 238.029}, {"Np", 237.048}, {"Pu", 244.064}, {"Am", 243.061}, {"Cm", 247.070},
    {"Bk", 247.070}, {"Cf", 251.080}, {"Es", 252.083}, {"Fm", 257.095}, {"Md", 258.098},
    {"No", 259.101},
    // clang-format on
}};

} // namespace

std::string element_symbol(int64_t atomic_number) {
    const auto index = static_cast<size_t>(atomic_number - 1);
    return index < elements.size() ? elements[index].symbol : "Z" + std::to_string(atomic_number);
}

double element_mass(int64_t atomic_number) {
    const auto index = static_cast<size_t>(atomic_number - 1);
    return index < elements.size() ? elements[index].mass : 0.0;
}

} // namespace petmad_lammps
