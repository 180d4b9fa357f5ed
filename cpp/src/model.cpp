// The only C++ file that knows TorchScript.
#include "model.h"

#include <algorithm>
#include <new>

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include "archive.h"
#include "devices.h"
#include "petmad/error.h"
#include "precision.h"

namespace petmad {
namespace {

constexpr int64_t known_format = 3;

/// The sentence that matters in an exception of torch, without backtraces.
std::string reason(const std::exception& exception) {
    std::string text = exception.what();
    for (const char* backtrace : {"\nException raised from", "\nframe #"}) {
        text = text.substr(0, text.find(backtrace));
    }
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text;
}

/// Of a failure inside the model: what follows the traceback of the script.
std::string message_of_script(const std::exception& exception) {
    const std::string text = reason(exception);
    for (const std::string mark : {"builtins.ValueError: ", "\nRuntimeError: "}) {
        const size_t at = text.rfind(mark);
        if (at != std::string::npos) {
            return text.substr(at + mark.size());
        }
    }
    return text;
}

/// A script's interpreter leaves of an exception nothing but its text.
bool is_out_of_memory(const std::exception& exception) {
    const std::string text = exception.what();
    const auto says = [&](const char* words) { return text.find(words) != std::string::npos; };
    return dynamic_cast<const std::bad_alloc*>(&exception) != nullptr || says("out of memory")
           || says("can't allocate memory") || says("bad_alloc");
}

std::string first_line(const std::exception& exception) {
    const std::string text = reason(exception);
    return text.substr(0, text.find('\n'));
}

torch::jit::Module load(const std::string& path, const torch::Device& device) {
    check_archive(path);
    torch::jit::Module module;
    try {
        module = torch::jit::load(path, device);
    } catch (const std::exception& exception) {
        detail::fail(
            "cannot load '", path, "': ", first_line(exception),
            "; the file may be truncated or not a model: export or copy it again"
        );
    }
    PETMAD_CHECK(
        module.hasattr("petmad_model") && module.hasattr("format_version"), "'", path,
        "' is a TorchScript file, but not a petmad model; give a file written by `petmad export`"
    );
    const int64_t version = module.attr("format_version").toInt();
    PETMAD_CHECK(
        version <= known_format, "'", path, "' has format version ", version,
        ", this petmad reads up to ", known_format, "; install a newer petmad"
    );
    module.eval();
    return module;
}

std::vector<std::string> strings(const torch::jit::Module& module, const char* attribute) {
    std::vector<std::string> result;
    for (const torch::IValue& item : module.attr(attribute).toListRef()) {
        result.push_back(item.toStringRef());
    }
    return result;
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) {
        text += (text.empty() ? "" : ", ") + name;
    }
    return text;
}

std::vector<TensorInfo> read_tensors(const torch::jit::Module& module) {
    std::vector<TensorInfo> result;
    for (const torch::IValue& item : module.attr("tensors").toListRef()) {
        const auto& entry = item.toTupleRef().elements();
        result.push_back(
            {entry[0].toStringRef(), entry[1].toStringRef(), entry[2].toStringRef(),
             entry[3].toStringRef(), entry[4].toInt(), entry[5].toBool()}
        );
    }
    return result;
}

ModelInfo read_info(const torch::jit::Module& module, const std::string& path) {
    ModelInfo info;
    info.path = path;
    info.format_version = module.attr("format_version").toInt();
    info.name = module.attr("name").toStringRef();
    info.weights_hash = module.attr("weights_hash").toStringRef();
    info.dtype = module.attr("dtype").toStringRef();
    info.atomic_numbers = module.attr("atomic_numbers").toIntVector();
    info.targets = strings(module, "targets");
    // Files of the first release have no such lists, and no uncertainties.
    info.outputs = module.hasattr("outputs") ? strings(module, "outputs") : info.targets;
    if (module.hasattr("norm_outputs")) {
        info.norm_outputs = strings(module, "norm_outputs");
        info.n_members = module.attr("n_members").toInt();
    }
    if (module.hasattr("tensors")) { // since format 3
        info.tensors = read_tensors(module);
    }
    info.has_energy =
        std::find(info.targets.begin(), info.targets.end(), "energy") != info.targets.end();
    info.cutoff = module.attr("cutoff").toDouble();
    info.is_adaptive = module.attr("is_adaptive").toBool();
    info.reach_hops = module.attr("reach_hops").toInt();
    info.reach = module.attr("reach").toDouble();
    info.is_conditioned = module.attr("is_conditioned").toBool();
    info.metadata_json = module.attr("metadata_json").toStringRef();
    return info;
}

std::vector<double> doubles(const torch::Tensor& tensor) {
    const torch::Tensor dense = tensor.detach().cpu().to(torch::kFloat64).contiguous();
    const auto* values = dense.const_data_ptr<double>();
    return {values, values + dense.numel()};
}

std::vector<int64_t> integers(const torch::Tensor& tensor) {
    const torch::Tensor dense = tensor.cpu().contiguous();
    const auto* values = dense.const_data_ptr<int64_t>();
    return {values, values + dense.numel()};
}

/// Makes all float32 weights float64; the norms keep the epsilons of float32.
void widen(torch::jit::Module& module) {
    const auto widen_one = [](at::Tensor tensor) {
        if (tensor.scalar_type() == torch::kFloat32) {
            tensor.set_data(tensor.to(torch::kFloat64));
        }
    };
    for (const at::Tensor& weight : module.parameters()) {
        widen_one(weight);
    }
    for (const at::Tensor& weight : module.buffers()) {
        widen_one(weight);
    }
}

/// Runs backward passes in the calling thread, on GPUs too: their messages must leave from it.
class CallerThreadAutograd {
public:
    CallerThreadAutograd() {
        c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
    }
    ~CallerThreadAutograd() { c10::AutogradState::set_tls_state(before_); }
    CallerThreadAutograd(const CallerThreadAutograd&) = delete;
    CallerThreadAutograd& operator=(const CallerThreadAutograd&) = delete;

private:
    c10::AutogradState before_ = c10::AutogradState::get_tls_state();
};

} // namespace

struct Model::Impl {
    torch::Device device;
    torch::jit::Module module;
    ModelInfo info;
    Precision precision;

    Impl(const std::string& path, const std::string& device_name, Precision wanted)
        : device(checked_device(device_name)), module(load(path, device)),
          info(read_info(module, path)),
          precision(resolve_precision(wanted, info.dtype, device.is_cuda())) {
        if (precision == Precision::fp64) {
            widen(module);
        }
    }

    /// `rows` [n_owned nodes, width]: sums are made where the model runs.
    Output read(const torch::Tensor& rows, const std::string& name) const {
        const torch::Tensor values = rows.detach().to(torch::kFloat64);
        const auto& norms = info.norm_outputs;
        Output output;
        output.is_norm = std::find(norms.begin(), norms.end(), name) != norms.end();
        output.sum = doubles(values.sum(0));
        output.width = output.is_norm ? 1 : values.size(1);
        output.atoms = doubles(output.is_norm ? torch::linalg_vector_norm(values, 2, {1}) : values);
        return output;
    }

    torch::Tensor here(const torch::Tensor& tensor) const { return tensor.to(device); }

    /// What to ask of the module beside `further`.
    c10::List<std::string>
    all_outputs(int64_t halo, const std::vector<std::string>& further) const {
        c10::List<std::string> names({"cutoff_stats"});
        if (info.has_energy) {
            names.push_back("energy");
        }
        const bool can_recompute = module.hasattr("can_recompute");
        PETMAD_CHECK(
            can_recompute || halo != recompute_handle, "'", info.path,
            "' was exported before petmad could recompute ghosts; export it again, or use the "
            "exchange"
        );
        if (can_recompute && info.has_energy) { // tensors alone may do without layers
            names.push_back("layer_sizes");
        }
        if (halo == recompute_handle) {
            names.push_back("rings");
        }
        for (const std::string& name : further) {
            const auto& known = info.outputs;
            if (std::find(known.begin(), known.end(), name) == known.end()) {
                detail::fail("unknown output '", name, "'; this model has ", joined(known));
            }
            names.push_back(name);
        }
        return names;
    }

    c10::impl::GenericDict forward(
        const StepEdges& edges, const torch::Tensor& vectors, int charge, int spin_multiplicity,
        int64_t halo, const std::vector<std::string>& outputs
    ) {
        const auto integers = torch::TensorOptions().dtype(torch::kInt64).device(device);
        std::vector<torch::IValue> inputs{
            vectors,
            here(edges.centers),
            here(edges.neighbors),
            here(edges.reverse),
            here(edges.species),
            torch::zeros({edges.n_owned()}, integers),
            torch::full({1}, charge, integers),
            torch::full({1}, spin_multiplicity, integers),
            halo,
            all_outputs(halo, outputs),
        };
        return module.forward(inputs).toGenericDict();
    }
};

Model::Model(const std::string& path, const std::string& device, Precision precision)
    : impl_(std::make_unique<Impl>(path, device, precision)) {}

Model::~Model() = default;

const ModelInfo& Model::info() const { return impl_->info; }

torch::Device Model::device() const { return impl_->device; }

Precision Model::precision() const { return impl_->precision; }

void Model::set_precision(Precision precision) { impl_->precision = precision; }

Prediction Model::evaluate(
    const StepEdges& edges, int charge, int spin_multiplicity, int64_t halo, bool want_gradients,
    const std::vector<std::string>& names
) {
    // Profiling and fusing made the first three steps 0.3 to 0.5 s instead of 0.1 s (192 atoms,
    // d_pet 64, one thread), again for every new model, and later ones no faster.
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const CallerThreadAutograd in_this_thread;
    const ProductPrecisionGuard products(impl_->precision, impl_->device.is_cuda());
    const torch::AutoGradMode grad_mode(want_gradients);
    try {
        const torch::Tensor vectors =
            impl_->here(edges.vectors).detach().set_requires_grad(want_gradients);
        const auto outputs = impl_->forward(edges, vectors, charge, spin_multiplicity, halo, names);
        torch::Tensor energies = torch::zeros({0}, torch::kFloat64);
        if (impl_->info.has_energy) {
            energies = outputs.at("energy").toTensor();
        }
        Prediction prediction;
        prediction.energies = doubles(energies);
        prediction.kept_edges = doubles(outputs.at("cutoff_stats").toTensor().select(1, 1));
        if (outputs.contains("layer_sizes")) {
            prediction.layer_edges = integers(outputs.at("layer_sizes").toTensor().select(1, 1));
        }
        if (outputs.contains("rings")) {
            prediction.rings = integers(outputs.at("rings").toTensor());
        }
        for (const std::string& name : names) {
            prediction.outputs[name] = impl_->read(outputs.at(name).toTensor(), name);
        }
        if (want_gradients) {
            const torch::Tensor gradients =
                torch::autograd::grad({energies.sum()}, {vectors})[0].contiguous();
            prediction.gradients = gradients.to(edges.vectors.device());
        }
        return prediction;
    } catch (const std::exception& exception) {
        if (is_out_of_memory(exception)) {
            throw OutOfMemory(message_of_script(exception));
        }
        throw Error(message_of_script(exception));
    }
}

std::vector<Golden> Model::golden() const {
    std::vector<Golden> result;
    for (const torch::IValue& item : impl_->module.attr("golden").toListRef()) {
        const auto entries = item.toGenericDict();
        const auto at = [&](const char* key) { return entries.at(key).toTensor().cpu(); };
        Golden golden;
        golden.positions = doubles(at("positions"));
        golden.n_atoms = at("positions").size(0);
        for (const double species : doubles(at("species"))) {
            golden.species.push_back(static_cast<int32_t>(species));
        }
        const std::vector<double> cell = doubles(at("cell"));
        const std::vector<double> pbc = doubles(at("pbc"));
        std::copy_n(cell.begin(), 9, golden.cell.begin());
        std::copy_n(pbc.begin(), 3, golden.pbc.begin());
        golden.charge = at("charge").item<int>();
        golden.spin_multiplicity = at("spin_multiplicity").item<int>();
        golden.has_energy = entries.contains("energy");
        if (golden.has_energy) {
            golden.energy = at("energy").item<double>();
            golden.atomic_energies = doubles(at("atomic_energies"));
            golden.forces = doubles(at("forces"));
            golden.virial = doubles(at("virial"));
        }
        for (const TensorInfo& tensor : info().tensors) {
            golden.tensors[tensor.name] = doubles(at(("tensor/" + tensor.name).c_str()));
        }
        result.push_back(std::move(golden));
    }
    return result;
}

} // namespace petmad
