// The engine as a C++ host program sees it: torch-free headers, one library, no Python.
//
// Usage: engine_without_python MODEL; prints the energies of a system and of the same
// system as a domain with images, and the message of a missing file.
#include <cstdio>
#include <vector>

#include "petmad/engine.h"
#include "petmad/error.h"

namespace {

constexpr double edge = 5.0;
constexpr int n_images = 2; // on either side: 10 Å, more than any cutoff of the test

petmad::System whole(const std::vector<double>& positions, const std::vector<int32_t>& species) {
    petmad::System system;
    system.n_atoms = static_cast<int64_t>(species.size());
    system.positions = positions.data();
    system.species = species.data();
    system.cell = {edge, 0, 0, 0, edge, 0, 0, 0, edge};
    system.pbc = {true, true, true};
    return system;
}

double
as_domain(petmad::Engine& engine, std::vector<double> positions, std::vector<int32_t> species) {
    const auto n_owned = static_cast<int32_t>(species.size());
    std::vector<int32_t> owners;
    for (int a = -n_images; a <= n_images; ++a) {
        for (int b = -n_images; b <= n_images; ++b) {
            for (int c = -n_images; c <= n_images; ++c) {
                for (int32_t i = 0; i < n_owned && (a != 0 || b != 0 || c != 0); ++i) {
                    positions.push_back(positions[3 * i] + a * edge);
                    positions.push_back(positions[3 * i + 1] + b * edge);
                    positions.push_back(positions[3 * i + 2] + c * edge);
                    species.push_back(species[i]);
                    owners.push_back(i);
                }
            }
        }
    }
    petmad::DomainView view;
    view.n_owned = n_owned;
    view.n_total = static_cast<int64_t>(species.size());
    view.positions = positions.data();
    view.species = species.data();
    view.ghost_owners = owners.data();
    return engine.evaluate(view, nullptr).energy;
}

} // namespace

int main(int n_arguments, char** arguments) {
    if (n_arguments != 2) {
        return 2;
    }
    const std::vector<double> positions{0.1, 0.2, 0.3, 1.9, 0.4, 0.1, 0.3, 2.2, 2.4};
    const std::vector<int32_t> species{0, 1, 1};
    petmad::Engine engine(arguments[1]);
    std::printf("%.17g\n", engine.evaluate(whole(positions, species)).energy);
    std::printf("%.17g\n", as_domain(engine, positions, species));
    try {
        const petmad::Engine missing("/no/such.pt");
    } catch (const petmad::Error& error) {
        std::printf("%s\n", error.what());
    }
    return 0;
}
