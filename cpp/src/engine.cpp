// One evaluation, read top to bottom: edges, network, folds, checks.
#include "petmad/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "cpu/kernels.h"
#include "cpu/products.h"
#include "cuda/kernels.h"
#include "domain.h"
#include "fold.h"
#include "memory.h"
#include "memory_plan.h"
#include "model.h"
#include "output_rows.h"
#include "petmad/error.h"
#include "self_test.h"
#include "stopwatch.h"

namespace petmad {
namespace {

constexpr int most_threads = 4096;

/// What the host program has set in torch for its own work, and would break ours: inference mode,
/// whose tensors have no gradients, and autocast, which rounds.
class PlainTorch {
    c10::InferenceMode no_inference_mode_{false};
    c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};

/// For tests: the CPU does what a GPU would, by the same lists, folds and transfers.
bool is_emulated(const EngineOptions& options) { return options.device == "emulated"; }

const EngineOptions& checked(const EngineOptions& options) {
    PETMAD_CHECK(
        options.n_threads >= 0 && options.n_threads <= most_threads,
        "`n_threads` must be 0 (as torch has it) to ", most_threads, ", got ", options.n_threads
    );
    return options;
}

/// Exact products while a file is tested: the file is judged, not the precision asked for.
class ExactProducts {
public:
    explicit ExactProducts(Model& model) : model_(model), before_(model.precision()) {
        if (before_ != Precision::fp64) {
            model_.set_precision(Precision::fp32);
        }
    }
    ~ExactProducts() { model_.set_precision(before_); }
    ExactProducts(const ExactProducts&) = delete;
    ExactProducts& operator=(const ExactProducts&) = delete;

private:
    Model& model_;
    Precision before_;
};

/// Nobody is told of the file's own structures.
class Quiet {
public:
    explicit Quiet(MemoryListener& listener) : listener_(listener) { listener.swap(kept_); }
    ~Quiet() { listener_.swap(kept_); }
    Quiet(const Quiet&) = delete;
    Quiet& operator=(const Quiet&) = delete;

private:
    MemoryListener& listener_;
    MemoryListener kept_;
};

void check_finite(const Results& results, const int64_t* labels) {
    const auto check = [&](const std::vector<double>& values, size_t width, const char* what) {
        for (size_t k = 0; k < values.size(); ++k) {
            const auto atom = static_cast<int64_t>(k / width);
            PETMAD_CHECK(
                std::isfinite(values[k]), "the model's ", what, " of atom ",
                labels ? labels[atom] : atom, " is ", values[k],
                "; look for overlapping atoms, or a structure far from the training data"
            );
        }
    };
    check(results.atomic_energies, 1, "energy");
    check(results.forces, 3, "force");
    for (const auto& [name, output] : results.outputs) {
        check(output.atoms, static_cast<size_t>(output.width), name.c_str());
    }
}

} // namespace

struct Engine::Impl {
    EngineOptions options;
    Model model;
    Results results;
    Statistics statistics;
    std::unique_ptr<Domain> domain;
    MemoryRequest memory;
    MemoryPlan memory_plan;
    std::mutex in_use;

    Impl(const std::string& path, const EngineOptions& chosen)
        : options(checked(chosen)),
          model(path, is_emulated(chosen) ? "cpu" : chosen.device, chosen.precision),
          memory(parse_memory(chosen.memory, chosen.n_processes)) {
        memory.on_gpu = model.device().is_cuda();
        if (model.precision() == Precision::fp64) {
            memory.bytes_per_number = sizeof(double); // a file of float32 was widened
        }
        if (memory.on_gpu && chosen.memory == "auto") {
            memory.available =
                memory_share(cuda::free_memory(model.device().index()), chosen.n_processes);
        }
    }

    void take_plan(const MemoryPlan& plan, bool ran_out) {
        memory_plan = plan;
        memory_plan.ran_out = ran_out;
        if (options.on_memory) {
            options.on_memory(memory_plan);
        }
    }

    /// Runs the network. Where memory runs out, it runs again one tier lower, and so does every
    /// later evaluation; not while other ranks wait for messages.
    Prediction predict(
        const StepEdges& edges, std::pair<int, int> conditions, int64_t halo, bool want_gradients,
        const std::vector<std::string>& outputs
    ) {
        for (bool ran_out = false;; ran_out = true) {
            memory_plan = {};
            const MemoryRequestGuard guard(memory, [this, ran_out](const MemoryPlan& plan) {
                take_plan(plan, ran_out);
            });
            try {
                return model.evaluate(
                    edges, conditions.first, conditions.second, halo, want_gradients, outputs
                );
            } catch (const OutOfMemory& error) {
                const auto lower = lower_request(memory_plan, memory);
                PETMAD_CHECK(
                    lower && halo <= 0, "out of memory (", describe(memory_plan),
                    "): ", error.what(),
                    lower ? "; ask for a lower tier (LAMMPS: `memory layers`), since ranks that "
                            "wait for messages cannot try again"
                          : "; use more ranks or GPUs, a smaller model or fewer atoms"
                );
                memory = *lower;
            }
        }
    }

    int64_t n_species() const { return static_cast<int64_t>(model.info().atomic_numbers.size()); }

    void set_threads() const {
        if (options.n_threads > 0 && at::get_num_threads() != options.n_threads) {
            at::set_num_threads(options.n_threads);
        }
    }

    /// Runs the network on the edges and folds its gradients into `results`.
    void
    run(const StepEdges& edges, std::pair<int64_t, int64_t> n_atoms, std::pair<int, int> conditions,
        const Domain* within, const Requests& requests) {
        const auto [n_owned, n_total] = n_atoms;
        const bool has_energy = model.info().has_energy;
        const bool want_gradients =
            has_energy && (requests.forces || requests.virial || requests.atomic_virials);
        HaloExchange* halo = within ? within->halo() : nullptr;
        const double exchange_before = halo ? halo->seconds() : 0.0;
        double seconds = 0.0;
        Prediction prediction;
        {
            const Stopwatch stopwatch(seconds);
            prediction =
                predict(edges, conditions, handle(within), want_gradients, requests.outputs);
        }
        statistics.reach_used = within ? within->reach_used(prediction.rings) : 0.0;
        const double exchange = halo ? halo->seconds() - exchange_before : 0.0;
        statistics.seconds_model += seconds - exchange;
        statistics.seconds_exchange += exchange;

        const Stopwatch stopwatch(statistics.seconds_fold);
        results.energy = has_energy ? 0.0 : NAN;
        results.atomic_energies.assign(has_energy ? n_owned : 0, 0.0);
        results.forces.assign(has_energy ? 3 * n_total : 0, 0.0);
        results.virial.fill(0.0);
        results.kept_edges.assign(n_owned, 0.0);
        results.atomic_virials.assign(has_energy && requests.atomic_virials ? 9 * n_total : 0, 0.0);
        for (size_t node = 0; node < prediction.energies.size(); ++node) {
            results.energy += prediction.energies[node];
            results.atomic_energies[edges.owned_atoms[node]] = prediction.energies[node];
        }
        for (size_t node = 0; node < prediction.kept_edges.size(); ++node) {
            results.kept_edges[edges.owned_atoms[node]] = prediction.kept_edges[node];
        }
        if (want_gradients) {
            fold(edges, prediction.gradients, results);
        }
        results.outputs = place(std::move(prediction.outputs), edges.owned_atoms, n_owned);
        statistics.n_owned = n_owned;
        statistics.n_ghost = n_total - n_owned;
        statistics.n_raw_edges = edges.n_within;
        count_edges(prediction);
        count_traffic(halo);
    }

    static int64_t handle(const Domain* within) {
        if (within == nullptr) {
            return 0;
        }
        return within->recomputes() ? recompute_handle
                                    : (within->halo() ? within->halo()->handle() : 0);
    }

    void count_edges(const Prediction& prediction) {
        const auto n_kept = static_cast<int64_t>(
            std::accumulate(prediction.kept_edges.begin(), prediction.kept_edges.end(), 0.0)
        );
        const auto& rows = prediction.layer_edges;
        statistics.n_kept_edges = n_kept;
        statistics.n_owned_edge_rows = n_kept * static_cast<int64_t>(rows.size());
        statistics.n_evaluated_edges = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    }

    void count_traffic(HaloExchange* halo) {
        const Traffic traffic = halo ? halo->take_traffic() : Traffic{};
        statistics.n_crossing_edges = halo ? static_cast<int64_t>(halo->live_edges().size()) : 0;
        statistics.bytes_sent = traffic.total();
        statistics.bytes_messages = traffic.messages;
        statistics.bytes_values = traffic.values;
    }

    /// Where lists are built and gradients folded by the kernels of GPUs; nowhere else than on the
    /// host without.
    std::optional<torch::Device> list_device() const {
        const bool has_kernels = model.device().is_cuda() && cuda::has_gpu_kernels();
        return has_kernels || is_emulated(options) ? std::optional(model.device()) : std::nullopt;
    }

    StepEdges edges_of(const System& system) const {
        const double cutoff = model.info().cutoff;
        const auto device = list_device();
        return device ? system_edges_on(*device, system, cutoff, n_species())
                      : system_edges(system, cutoff, n_species());
    }

    void refresh_domain(const DomainView& view, Transport* transport) {
        if (view.atoms_changed || !domain) {
            domain.reset(); // its exchange must leave before the next one enters
            domain = std::make_unique<Domain>(view, model.info(), transport, list_device());
            ++statistics.n_list_builds;
        }
    }
};

std::string kernels_on(const std::string& device) {
    if (device.rfind("cuda", 0) == 0) {
        return cuda::has_gpu_kernels() ? "petmad" : "torch";
    }
    return cpu::instruction_set() + ", " + cpu::product_library();
}

Engine::Engine(const std::string& path, const EngineOptions& options)
    : impl_([&] {
          const PlainTorch plain;
          return std::make_unique<Impl>(path, options);
      }()) {
    keep_freed_memory();
    if (options.check_golden) {
        check_golden();
    }
}

Engine::~Engine() = default;

const ModelInfo& Engine::info() const { return impl_->model.info(); }

Precision Engine::precision() const { return impl_->model.precision(); }

const MemoryPlan& Engine::memory_plan() const { return impl_->memory_plan; }

const Statistics& Engine::statistics() const { return impl_->statistics; }

const Results& Engine::evaluate(const System& system, const Requests& requests) {
    const PlainTorch plain;
    impl_->set_threads();
    const c10::DeviceGuard here(impl_->model.device());
    StepEdges edges;
    {
        const Stopwatch stopwatch(impl_->statistics.seconds_list);
        edges = impl_->edges_of(system);
        ++impl_->statistics.n_list_builds;
    }
    impl_->run(
        edges, {system.n_atoms, system.n_atoms}, {system.charge, system.spin_multiplicity}, nullptr,
        requests
    );
    check_finite(impl_->results, nullptr);
    return impl_->results;
}

const Results&
Engine::evaluate(const DomainView& view, Transport* transport, const Requests& requests) {
    const PlainTorch plain;
    impl_->set_threads();
    const c10::DeviceGuard here(impl_->model.device());
    const StepEdges* edges = nullptr;
    {
        const Stopwatch stopwatch(impl_->statistics.seconds_list);
        impl_->refresh_domain(view, transport);
        edges = &impl_->domain->step(view, transport);
    }
    impl_->run(
        *edges, {view.n_owned, view.n_total}, {view.charge, view.spin_multiplicity},
        impl_->domain.get(), requests
    );
    check_finite(impl_->results, view.labels);
    return impl_->results;
}

std::unique_lock<std::mutex> Engine::lock() { return std::unique_lock<std::mutex>(impl_->in_use); }

double Engine::check_golden() {
    const ExactProducts exact(impl_->model);
    const Quiet quiet(impl_->options.on_memory);
    const std::vector<Golden> structures = impl_->model.golden();
    PETMAD_CHECK(
        !structures.empty(), "'", info().path, "' has no golden structures to test itself with",
        "; export it again, or load it unchecked"
    );
    const auto evaluate_one = [this](
                                  const System& system, const Requests& requests
                              ) -> const Results& { return evaluate(system, requests); };
    const double worst = largest_deviation(structures, evaluate_one);
    impl_->statistics = {};
    impl_->memory_plan = {};
    const double tolerance = self_test_tolerance(info().dtype);
    PETMAD_CHECK(
        worst <= tolerance, "the self test of '", info().path, "' failed: its ", structures.size(),
        " golden structures come out with a relative deviation of ", worst, ", at most ", tolerance,
        " is allowed for ", info().dtype,
        "; the file is damaged, or this build of torch computes wrongly: export it again, or "
        "reinstall torch"
    );
    return worst;
}

} // namespace petmad
