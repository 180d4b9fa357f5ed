// What the engine does where memory runs out.
//
// Usage: short_of_memory MODEL; pretends so while the layers run, in ever lower tiers, and prints
// for each evaluation the energy and the plan, or the message.
#include <cstdio>
#include <new>
#include <vector>

#include "petmad/engine.h"
#include "petmad/error.h"

int main(int n_arguments, char** arguments) {
    if (n_arguments != 2) {
        return 2;
    }
    const std::vector<double> positions{0.1, 0.2, 0.3, 1.9, 0.4, 0.1, 0.3, 2.2, 2.4};
    const std::vector<int32_t> species{0, 1, 1};
    petmad::System system;
    system.n_atoms = 3;
    system.positions = positions.data();
    system.species = species.data();
    int n_short = 0; // tiers without enough memory
    petmad::EngineOptions options;
    options.on_memory = [&n_short](const petmad::MemoryPlan& plan) {
        if (static_cast<int>(plan.tier) < n_short) {
            throw std::bad_alloc();
        }
    };
    petmad::Engine engine(arguments[1], options);
    for (const int n : {0, 1, 1, 2, 3}) {
        n_short = n;
        try {
            const double energy = engine.evaluate(system).energy;
            std::printf("%.17g | %s\n", energy, describe(engine.memory_plan()).c_str());
        } catch (const petmad::Error& error) {
            std::printf("%s\n", error.what());
        }
    }
    return 0;
}
