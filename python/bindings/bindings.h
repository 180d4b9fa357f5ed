// One function per header of the core.
#pragma once

#include <pybind11/pybind11.h>

void bind_types(pybind11::module_& module);
void bind_engine(pybind11::module_& module);
