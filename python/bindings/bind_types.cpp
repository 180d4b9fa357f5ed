// petmad/types.h: what a model says about itself, and what an evaluation cost.
#include "bindings.h"

#include <pybind11/stl.h>

#include "petmad/memory_plan.h"
#include "petmad/types.h"

void bind_types(pybind11::module_& module) {
    using petmad::ModelInfo;
    using petmad::Statistics;
    using petmad::TensorInfo;
    pybind11::class_<TensorInfo>(module, "TensorInfo", "A tensor target.")
        .def_readonly("name", &TensorInfo::name)
        .def_readonly("kind", &TensorInfo::kind)
        .def_readonly("unit", &TensorInfo::unit)
        .def_readonly("origin", &TensorInfo::origin)
        .def_readonly("n_entries", &TensorInfo::n_entries)
        .def_readonly("per_atom", &TensorInfo::per_atom);
    pybind11::class_<ModelInfo>(module, "ModelInfo", "What an exported file says about itself.")
        .def_readonly("path", &ModelInfo::path)
        .def_readonly("format_version", &ModelInfo::format_version)
        .def_readonly("name", &ModelInfo::name)
        .def_readonly("weights_hash", &ModelInfo::weights_hash)
        .def_readonly("dtype", &ModelInfo::dtype)
        .def_readonly("atomic_numbers", &ModelInfo::atomic_numbers)
        .def_readonly("targets", &ModelInfo::targets)
        .def_readonly("outputs", &ModelInfo::outputs)
        .def_readonly("norm_outputs", &ModelInfo::norm_outputs)
        .def_readonly("tensors", &ModelInfo::tensors)
        .def_readonly("has_energy", &ModelInfo::has_energy)
        .def_readonly("n_members", &ModelInfo::n_members)
        .def_readonly("cutoff", &ModelInfo::cutoff)
        .def_readonly("is_adaptive", &ModelInfo::is_adaptive)
        .def_readonly("reach_hops", &ModelInfo::reach_hops)
        .def_readonly("reach", &ModelInfo::reach)
        .def_readonly("is_conditioned", &ModelInfo::is_conditioned)
        .def_readonly("metadata_json", &ModelInfo::metadata_json);
    using petmad::MemoryPlan;
    pybind11::class_<MemoryPlan>(module, "MemoryPlan", "What an evaluation needs, and does.")
        .def_readonly("bytes", &MemoryPlan::bytes, "Of each tier: keep, wide, layers.")
        .def_readonly("n_centers", &MemoryPlan::n_centers)
        .def_readonly("available", &MemoryPlan::available, "Bytes; 0: not known.")
        .def_readonly("fits", &MemoryPlan::fits)
        .def_readonly("ran_out", &MemoryPlan::ran_out, "The tier before ran out of memory.")
        .def_property_readonly("tier", [](const MemoryPlan& plan) { return to_string(plan.tier); })
        .def("__str__", &petmad::describe);
    pybind11::class_<Statistics>(module, "Statistics", "Sizes, times and bytes of an evaluation.")
        .def_readonly("n_owned", &Statistics::n_owned)
        .def_readonly("n_ghost", &Statistics::n_ghost)
        .def_readonly("n_raw_edges", &Statistics::n_raw_edges)
        .def_readonly("n_kept_edges", &Statistics::n_kept_edges)
        .def_readonly("n_crossing_edges", &Statistics::n_crossing_edges)
        .def_readonly("n_evaluated_edges", &Statistics::n_evaluated_edges)
        .def_readonly("n_owned_edge_rows", &Statistics::n_owned_edge_rows)
        .def_readonly("reach_used", &Statistics::reach_used)
        .def_readonly("bytes_sent", &Statistics::bytes_sent)
        .def_readonly("bytes_messages", &Statistics::bytes_messages)
        .def_readonly("bytes_values", &Statistics::bytes_values)
        .def_readonly("n_list_builds", &Statistics::n_list_builds)
        .def_readonly("seconds_list", &Statistics::seconds_list)
        .def_readonly("seconds_exchange", &Statistics::seconds_exchange)
        .def_readonly("seconds_model", &Statistics::seconds_model)
        .def_readonly("seconds_fold", &Statistics::seconds_fold);
}
