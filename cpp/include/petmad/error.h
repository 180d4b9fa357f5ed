// The one exception of the core, and the check that throws it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace petmad {

/// Bad input or a failed evaluation; what() says what was wrong, what was found, how to mend it.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// There was not enough memory; less may be kept, see MemoryTier.
class OutOfMemory : public Error {
public:
    using Error::Error;
};

namespace detail {
template <typename... Parts> [[noreturn]] void fail(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw Error(text.str());
}
} // namespace detail

} // namespace petmad

/// Throws petmad::Error with the streamed parts unless `condition` holds.
#define PETMAD_CHECK(condition, ...)                                                               \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            ::petmad::detail::fail(__VA_ARGS__);                                                   \
        }                                                                                          \
    } while (false)
