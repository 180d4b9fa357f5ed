// The stub that LAMMPS opens at every start. It registers the pair style and opens the real
// library, and torch with it, on first use: linked into this file, torch would add a second to
// every start. Everything it asks of LAMMPS goes through C functions, so that it can tell a foreign
// LAMMPS or a foreign torch apart before any class layout matters. SPDX-License-Identifier:
// GPL-2.0-only
#include "plugin_abi.h"

#include <dlfcn.h>
#include <link.h>

#include <fstream>
#include <string>

namespace {

constexpr int error_all = 2;
constexpr const char* library_name = "libpetmad_lammps.so";

std::string folder_of(const std::string& path) { return path.substr(0, path.find_last_of('/')); }

std::string folder_of_this_file() {
    static const char anchor = 0;
    Dl_info info;
    return dladdr(&anchor, &info) != 0 ? folder_of(info.dli_fname) : ".";
}

/// Path of the torch library already in this process, empty without.
std::string loaded_torch() {
    std::string found;
    const auto visit = [](dl_phdr_info* info, size_t, void* result) {
        const std::string path = info->dlpi_name;
        const bool is_torch = path.find("/libtorch_cpu.so") != std::string::npos;
        if (is_torch) {
            *static_cast<std::string*>(result) = path;
        }
        return is_torch ? 1 : 0;
    };
    dl_iterate_phdr(visit, &found);
    return found;
}

/// The version in torch's own version.py, without its +local part; empty where there is no such
/// file.
std::string torch_version_in(const std::string& torch_folder) {
    std::ifstream file(torch_folder + "/version.py");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("__version__", 0) == 0) {
            const auto begin = line.find_first_of("'\"") + 1;
            return line.substr(begin, line.find_first_of("+'\"", begin) - begin);
        }
    }
    return {};
}

/// Empty, or what is wrong with the LAMMPS at hand.
std::string lammps_complaint(void* lmp) {
    const int version = lammps_version(lmp);
    const int tagint = lammps_extract_setting(lmp, "tagint");
    const int bigint = lammps_extract_setting(lmp, "bigint");
    if (version == PETMAD_LAMMPS_VERSION && tagint == PETMAD_TAGINT_BYTES
        && bigint == PETMAD_BIGINT_BYTES) {
        return {};
    }
    const auto describe = [](int date, int tag, int big) {
        return "LAMMPS " + std::to_string(date) + " (tagint " + std::to_string(8 * tag)
               + ", bigint " + std::to_string(8 * big) + " bit)";
    };
    return "the plugin was built for "
           + describe(PETMAD_LAMMPS_VERSION, PETMAD_TAGINT_BYTES, PETMAD_BIGINT_BYTES)
           + ", but this is " + describe(version, tagint, bigint)
           + "; install that LAMMPS, or rebuild petmad with -DPETMAD_LAMMPS_SOURCE_DIR=<its "
             "sources>";
}

/// Empty, or what is wrong with the torch that would be loaded.
std::string torch_complaint() {
    const std::string loaded = loaded_torch();
    const std::string folder =
        loaded.empty() ? folder_of_this_file() + "/../../torch" : folder_of(folder_of(loaded));
    const std::string version = torch_version_in(folder);
    if (version.empty() || version == PETMAD_TORCH_VERSION) {
        return {};
    }
    return "the plugin was built for torch " PETMAD_TORCH_VERSION ", but torch " + version
           + " is in " + folder + "; run: pip install torch==" PETMAD_TORCH_VERSION
           + ", or rebuild petmad with: pip install --no-build-isolation --force-reinstall "
             "--no-deps .";
}

void* open_library() {
    static void* library =
        dlopen((folder_of_this_file() + "/" + library_name).c_str(), RTLD_NOW | RTLD_LOCAL);
    return library;
}

/// Why the library does not open, and what to do about it.
std::string unopened(const std::string& reason) {
    const bool is_lammps = reason.find("LAMMPS_NS") != std::string::npos;
    return std::string("cannot open ") + library_name + ": " + reason
           + (is_lammps ? "; this LAMMPS has the right version but was built with another C++ ABI "
                          "or without an exported symbol table: build LAMMPS and petmad with the "
                          "same compiler, and LAMMPS as a shared library or with -rdynamic"
                        : "; torch " PETMAD_TORCH_VERSION " must be installed beside petmad: "
                          "pip install torch==" PETMAD_TORCH_VERSION);
}

/// A function of the library; stops LAMMPS where there is none. The complaints come here and not at
/// start-up, where they would disturb those who use this LAMMPS for something else.
void* find_factory(void* lmp, const char* style, const char* name) {
    std::string complaint = lammps_complaint(lmp);
    if (complaint.empty()) {
        complaint = torch_complaint();
    }
    void* factory = nullptr;
    if (complaint.empty()) {
        void* library = open_library();
        factory = library != nullptr ? dlsym(library, name) : nullptr;
        if (factory == nullptr) {
            const char* reason = dlerror();
            complaint = unopened(reason != nullptr ? reason : "failed before in this process");
        }
    }
    if (factory == nullptr) {
        lammps_error(lmp, error_all, (std::string(style) + ": " + complaint).c_str());
    }
    return factory;
}

/// PluginRecord::factory of the pair style.
void* make_pair(void* lmp) {
    void* factory = find_factory(lmp, "pair_style petmad", "petmad_make_pair");
    return factory != nullptr ? reinterpret_cast<void* (*)(void*)>(factory)(lmp) : nullptr;
}

void* make_compute(
    const char* style, const char* name, void* lmp, int n_arguments, char** arguments
) {
    void* factory = find_factory(lmp, style, name);
    using Make = void* (*)(void*, int, char**);
    return factory != nullptr ? reinterpret_cast<Make>(factory)(lmp, n_arguments, arguments)
                              : nullptr;
}

/// PluginRecord::factory of the computes.
void* make_load(void* lmp, int n_arguments, char** arguments) {
    return make_compute("compute petmad/load", "petmad_make_load", lmp, n_arguments, arguments);
}

void* make_tensor(void* lmp, int n_arguments, char** arguments) {
    return make_compute("compute petmad/tensor", "petmad_make_tensor", lmp, n_arguments, arguments);
}

} // namespace

extern "C" void lammpsplugin_init(void* lmp, void* handle, void* register_plugin) {
    PluginRecord record{
        PETMAD_LAMMPS_VERSION_TEXT,
        "pair",
        "petmad",
        "Point Edge Transformer models exported by petmad",
        "the petmad developers",
        reinterpret_cast<void*>(&make_pair),
        handle,
    };
    reinterpret_cast<RegisterPlugin>(register_plugin)(&record, lmp);
    record.style = "compute";
    record.name = "petmad/load";
    record.info = "Kept edges of each atom, a weight for load balancing";
    record.factory = reinterpret_cast<void*>(&make_load);
    reinterpret_cast<RegisterPlugin>(register_plugin)(&record, lmp);
    record.name = "petmad/tensor";
    record.info = "Dipoles, polarizabilities and other tensors of the model";
    record.factory = reinterpret_cast<void*>(&make_tensor);
    reinterpret_cast<RegisterPlugin>(register_plugin)(&record, lmp);
}
