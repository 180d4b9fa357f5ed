// petmad/engine.h with numpy arrays.
#include "bindings.h"

#include <cstring>
#include <optional>

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "petmad/engine.h"
#include "petmad/error.h"
#include "python_transport.h"

namespace py = pybind11;

namespace {

template <typename T> using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

using Shape = std::vector<py::ssize_t>;

void check_shape(const py::array& array, const Shape& wanted, const char* name) {
    const Shape found(array.shape(), array.shape() + array.ndim());
    PETMAD_CHECK(
        found == wanted, "`", name, "` must have shape ",
        py::str(py::tuple(py::cast(wanted))).cast<std::string>(), ", got ",
        py::str(py::tuple(py::cast(found))).cast<std::string>(),
        "; pass one entry per atom, lattice vectors as rows"
    );
}

Array<double> to_numpy(const double* values, const Shape& shape) {
    Array<double> array(shape);
    std::memcpy(array.mutable_data(), values, sizeof(double) * static_cast<size_t>(array.size()));
    return array;
}

/// Numbers of one of some kinds (of numpy: b, i, u, f), so that no cast loses what they say.
template <typename T>
Array<T>
array_of(const py::object& given, const Shape& wanted, const char* kinds, const char* name) {
    const py::array array = py::array::ensure(given);
    PETMAD_CHECK(array, "`", name, "` must be an array of numbers; pass a numpy array");
    check_shape(array, wanted, name);
    const char* meaning = *kinds == 'b'             ? "true or false"
                          : std::strchr(kinds, 'f') ? "real numbers"
                                                    : "integers";
    PETMAD_CHECK(
        array.size() == 0 || std::strchr(kinds, array.dtype().kind()) != nullptr, "`", name,
        "` must be ", meaning, ", got ", py::str(array.dtype()).cast<std::string>(),
        "; convert it first, knowing what is lost"
    );
    return Array<T>::ensure(array);
}

Array<double> positions_of(const py::object& given) {
    const py::array array = py::array::ensure(given);
    const py::ssize_t n_atoms = array && array.ndim() > 0 ? array.shape(0) : 0;
    return array_of<double>(given, {n_atoms, 3}, "fiu", "positions");
}

/// Throws Error: no integers, or beyond what an index of species can be.
Array<int32_t> species_of(const py::object& given, py::ssize_t n_atoms) {
    const auto wide = array_of<int64_t>(given, {n_atoms}, "iu", "species");
    for (py::ssize_t i = 0; i < n_atoms; ++i) {
        PETMAD_CHECK(
            wide.data()[i] == static_cast<int32_t>(wide.data()[i]), "`species` of atom ", i, " is ",
            wide.data()[i], "; pass the model's dense index, see `info.atomic_numbers`"
        );
    }
    return Array<int32_t>::ensure(wide);
}

/// What an engine tells of itself, as it is between two evaluations.
template <typename T> T copied(petmad::Engine& engine, const T& (petmad::Engine::*tell)() const) {
    const py::gil_scoped_release no_gil;
    const auto alone = engine.lock();
    return (engine.*tell)();
}

using Names = std::vector<std::string>;

/// Further predictions: rows of atoms by name, and sums over the owned atoms by name.
void add_outputs(py::dict& result, const petmad::Outputs& outputs, py::ssize_t n_owned) {
    py::dict atoms;
    py::dict sums;
    for (const auto& [name, output] : outputs) {
        atoms[py::str(name)] = to_numpy(output.atoms.data(), {n_owned, output.width});
        sums[py::str(name)] =
            to_numpy(output.sum.data(), {static_cast<py::ssize_t>(output.sum.size())});
    }
    result["outputs"] = atoms;
    result["sums"] = sums;
}

/// The energy and what is derived from it.
void add_energy(py::dict& result, const petmad::Results& results, py::ssize_t n_owned) {
    const auto n_total = static_cast<py::ssize_t>(results.forces.size() / 3);
    result["energy"] = results.energy;
    result["atomic_energies"] = to_numpy(results.atomic_energies.data(), {n_owned});
    result["forces"] = to_numpy(results.forces.data(), {n_total, 3});
    result["virial"] = to_numpy(results.virial.data(), {3, 3});
    if (!results.atomic_virials.empty() || n_total == 0) {
        result["atomic_virials"] = to_numpy(results.atomic_virials.data(), {n_total, 3, 3});
    }
}

py::dict to_python(const petmad::Results& results, bool has_energy) {
    const auto n_owned = static_cast<py::ssize_t>(results.kept_edges.size());
    py::dict result;
    if (has_energy) {
        add_energy(result, results, n_owned);
    }
    result["kept_edges"] = to_numpy(results.kept_edges.data(), {n_owned});
    add_outputs(result, results.outputs, n_owned);
    return result;
}

py::dict evaluate(
    petmad::Engine& engine, const py::object& positions_, const py::object& species_,
    const py::object& cell_, const py::object& pbc_, int charge, int spin_multiplicity,
    bool atomic_virials, const Names& outputs, bool gradients
) {
    const Array<double> positions = positions_of(positions_);
    const py::ssize_t n_atoms = positions.shape(0);
    const Array<int32_t> species = species_of(species_, n_atoms);
    const auto cell = array_of<double>(cell_, {3, 3}, "fiu", "cell");
    const auto pbc = array_of<bool>(pbc_, {3}, "biu", "pbc");
    petmad::System system;
    system.n_atoms = n_atoms;
    system.positions = positions.data();
    system.species = species.data();
    std::copy_n(cell.data(), 9, system.cell.begin());
    std::copy_n(pbc.data(), 3, system.pbc.begin());
    system.charge = charge;
    system.spin_multiplicity = spin_multiplicity;
    petmad::Results results;
    {
        const py::gil_scoped_release no_gil;
        const auto alone = engine.lock();
        results = engine.evaluate(system, {gradients, gradients, atomic_virials, outputs});
    }
    return to_python(results, engine.info().has_energy);
}

py::dict evaluate_domain(
    petmad::Engine& engine, const py::object& positions_, const py::object& species_,
    int64_t n_owned, const Array<int32_t>& ghost_ranks, const Array<int32_t>& ghost_owners,
    const py::object& transport, bool atoms_changed, double skin, bool atomic_virials, int charge,
    int spin_multiplicity, const Names& outputs, bool gradients,
    const std::optional<Array<double>>& ghost_distances, double ghost_depth
) {
    const Array<double> positions = positions_of(positions_);
    const py::ssize_t n_total = positions.shape(0);
    const Array<int32_t> species = species_of(species_, n_total);
    PETMAD_CHECK(
        n_owned >= 0 && n_owned <= n_total, "`n_owned` is ", n_owned, " but there are ", n_total,
        " atoms; pass owned atoms first, then ghosts"
    );
    check_shape(ghost_ranks, {n_total - n_owned}, "ghost_ranks");
    check_shape(ghost_owners, {n_total - n_owned}, "ghost_owners");
    petmad::DomainView view;
    view.n_owned = n_owned;
    view.n_total = n_total;
    view.positions = positions.data();
    view.species = species.data();
    view.ghost_ranks = ghost_ranks.data();
    view.ghost_owners = ghost_owners.data();
    if (ghost_distances) {
        check_shape(*ghost_distances, {n_total - n_owned}, "ghost_distances");
        view.mode = petmad::GhostMode::recompute;
        view.ghost_distances = ghost_distances->data();
        view.ghost_depth = ghost_depth;
    }
    view.atoms_changed = atoms_changed;
    view.skin = skin;
    view.charge = charge;
    view.spin_multiplicity = spin_multiplicity;
    std::optional<PythonTransport> host;
    if (!transport.is_none()) {
        host.emplace(transport);
    }
    petmad::Results results;
    {
        const py::gil_scoped_release no_gil;
        const auto alone = engine.lock();
        results = engine.evaluate(
            view, host ? &*host : nullptr, {gradients, gradients, atomic_virials, outputs}
        );
    }
    return to_python(results, engine.info().has_energy);
}

} // namespace

void bind_engine(py::module_& module) {
    using petmad::Engine;
    py::class_<Engine>(module, "Engine", R"(An exported model, its neighbor list and its folds.

Args:
    path: file written by ``petmad export``.
    device: ``cpu``, ``cuda`` or ``cuda:N``.
    n_threads: CPU threads of torch; 0 leaves them as they are.
    check_golden: evaluate the file's golden structures once.
    precision: of matrix products: ``auto`` (the file's), ``fp64``, ``fp32``, on GPUs ``tf32``
        and ``fp16``, on CPUs with avx512_bf16 ``bf16``.
    memory: what is kept for the backward pass on a CPU: ``keep`` (everything), ``wide`` (not the
        MLPs' inner rows), ``layers`` (what enters and leaves a layer); ``auto``, the first of them
        that fits what the machine has free; or the MB that may be used.

Raises:
    ValueError: missing, damaged or foreign file, unknown device, a precision
        that it or the file does not have, an unknown ``memory``, failed self test.)")
        .def(
            py::init([](const std::string& path, const std::string& device, int n_threads,
                        bool check_golden, const std::string& precision,
                        const std::string& memory) {
                petmad::EngineOptions options;
                options.device = device;
                options.n_threads = n_threads;
                options.check_golden = check_golden;
                options.precision = petmad::parse_precision(precision);
                options.memory = memory;
                return std::make_unique<Engine>(path, options);
            }),
            py::arg("path"), py::arg("device") = "cpu", py::arg("n_threads") = 0,
            py::arg("check_golden") = true, py::arg("precision") = "auto",
            py::arg("memory") = "auto", py::call_guard<py::gil_scoped_release>()
        )
        .def_property_readonly(
            "precision", [](const Engine& engine) { return to_string(engine.precision()); },
            "What the network's matrix products run in."
        )
        .def_property_readonly(
            "memory_plan", [](Engine& engine) { return copied(engine, &Engine::memory_plan); },
            "Of the last evaluation."
        )
        .def_property_readonly("info", &Engine::info)
        .def_property_readonly(
            "statistics", [](Engine& engine) { return copied(engine, &Engine::statistics); },
            "Of the evaluations until now."
        )
        .def(
            "check_golden",
            [](Engine& engine) {
                const auto alone = engine.lock();
                return engine.check_golden();
            },
            py::call_guard<py::gil_scoped_release>(),
            "Largest deviation from the file's golden structures, relative to their forces."
        )
        .def(
            "evaluate", evaluate,
            R"(Evaluate a whole system.

Args:
    positions: [n_atoms, 3] Å.
    species: [n_atoms] the model's dense index, see ``info.atomic_numbers``.
    cell: [3, 3] Å, lattice vectors as rows.
    pbc: [3] bool.
    charge: total charge, read by conditioned models.
    spin_multiplicity: 2S + 1, likewise.
    atomic_virials: also return ``atomic_virials`` [n_atoms, 3, 3] eV.
    outputs: further predictions, out of ``info.outputs``.
    gradients: False leaves forces and virial 0 and saves the backward pass.

Returns:
    dict of ``energy`` [eV], ``atomic_energies`` [n_atoms], ``forces`` [n_atoms, 3] eV/Å,
    ``virial`` [3, 3] eV, ``kept_edges`` [n_atoms], the neighbors within the adaptive cutoff, and of
    the further predictions by name ``outputs`` [n_atoms, width] and ``sums`` over atoms, made in
    float64. Those of ``info.norm_outputs`` sum vectors, whose norm is the value. Those of
    ``info.tensors`` have rows of ``n_entries``: xyz, matrices row by row, or spherical components
    from -λ to λ. A model without energy gives ``kept_edges``, ``outputs`` and ``sums`` alone.

Raises:
    ValueError: arrays of other shapes or kinds of numbers, unknown species or outputs, a singular
        or collapsed cell, atoms that overlap or are nowhere, a charge or spin out of range.)",
            py::arg("positions"), py::arg("species"), py::arg("cell"), py::arg("pbc"),
            py::arg("charge") = 0, py::arg("spin_multiplicity") = 1,
            py::arg("atomic_virials") = false, py::arg("outputs") = Names{},
            py::arg("gradients") = true
        )
        .def(
            "evaluate_domain", evaluate_domain,
            R"(Evaluate the owned atoms of a domain.

Owned atoms come first, then ghosts, which carry their image. They reach the cutoff + ``skin``,
and what is beyond comes in messages; or, where ``ghost_distances`` are given, ``ghost_depth``, and
are evaluated again.

Args:
    positions: [n_total, 3] Å.
    species: [n_total]; -1 marks an atom that takes no part.
    n_owned: how many atoms are owned.
    ghost_ranks: [n_ghosts] rank that owns each ghost.
    ghost_owners: [n_ghosts] its index among that rank's owned atoms.
    transport: carries bytes between ranks; None where there is one rank.
    atoms_changed: False reuses the list of the last call.
    skin: Å beyond the cutoff that the list reaches.
    atomic_virials: also return ``atomic_virials``.
    charge: total charge, read by conditioned models.
    spin_multiplicity: 2S + 1, likewise.
    outputs: further predictions, out of ``info.outputs``.
    gradients: False leaves forces and virial 0 and saves the backward pass.
    ghost_distances: [n_ghosts] Å of each from the domain: recompute ghosts.
    ghost_depth: Å around the domain within which no ghost is missing.

Returns:
    As ``evaluate``; ``forces`` and ``atomic_virials`` cover the ghosts too, ``outputs`` and
    ``sums`` the owned atoms.)",
            py::arg("positions"), py::arg("species"), py::arg("n_owned"), py::arg("ghost_ranks"),
            py::arg("ghost_owners"), py::arg("transport") = py::none(),
            py::arg("atoms_changed") = true, py::arg("skin") = 0.0,
            py::arg("atomic_virials") = false, py::arg("charge") = 0,
            py::arg("spin_multiplicity") = 1, py::arg("outputs") = Names{},
            py::arg("gradients") = true, py::arg("ghost_distances") = py::none(),
            py::arg("ghost_depth") = 0.0
        );
}
