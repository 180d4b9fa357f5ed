// The zip archive that a model file is, looked at before torch reads it.
#pragma once

#include <string>

namespace petmad {

/// Compares the checksums of all entries, which torch does not; refuses what is no archive, damaged
/// or not written by `petmad export`.
void check_archive(const std::string& path);

} // namespace petmad
