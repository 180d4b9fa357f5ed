// Found again by the address of the weight, as long as the memory there is the same.
#include "packed_weights.h"

#include <map>
#include <mutex>
#include <tuple>

namespace petmad::cpu {
namespace {

using torch::Tensor;
using WeakStorage = c10::weak_intrusive_ptr<c10::StorageImpl>;
using Key = std::tuple<const void*, int64_t, int64_t, int64_t, int64_t, Direction, bool>;

struct Entry {
    WeakStorage storage;
    uint32_t version;
    Tensor panels;
};

std::mutex& lock() {
    static std::mutex mutex;
    return mutex;
}

std::map<Key, Entry>& entries() {
    static std::map<Key, Entry> all;
    return all;
}

uint32_t version_of(const Tensor& weight) {
    return weight.is_inference() ? 0 : static_cast<uint32_t>(weight._version());
}

WeakStorage storage_of(const Tensor& weight) { return weight.storage().getWeakStorageImpl(); }

Tensor pack(const Tensor& weight, Direction direction) {
    const Tensor matrix = (direction == Direction::forward ? weight.t() : weight).detach();
    const int64_t k = matrix.size(0);
    const int64_t n_panels = (matrix.size(1) + columns_per_panel - 1) / columns_per_panel;
    const Tensor padded =
        at::constant_pad_nd(matrix, {0, n_panels * columns_per_panel - matrix.size(1)});
    return padded.reshape({k, n_panels, columns_per_panel}).transpose(0, 1).contiguous();
}

/// Panels [n_panels, k, columns] as bfloat16 in pairs along k.
Tensor paired(const Tensor& panels) {
    const int64_t n_pairs = (panels.size(1) + 1) / 2;
    const Tensor even = at::constant_pad_nd(panels, {0, 0, 0, 2 * n_pairs - panels.size(1)});
    return even.reshape({panels.size(0), n_pairs, 2, columns_per_panel})
        .transpose(2, 3)
        .to(torch::kBFloat16)
        .contiguous();
}

void drop_those_of_freed_weights() {
    for (auto entry = entries().begin(); entry != entries().end();) {
        entry = entry->second.storage.expired() ? entries().erase(entry) : std::next(entry);
    }
}

} // namespace

Tensor packed(const Tensor& weight, Direction direction, bool as_bf16) {
    const Key key{weight.const_data_ptr(), weight.size(0), weight.size(1), weight.stride(0),
                  weight.stride(1),        direction,      as_bf16};
    const std::lock_guard<std::mutex> guard(lock());
    const auto found = entries().find(key);
    if (found != entries().end() && !found->second.storage.expired()
        && found->second.version == version_of(weight)
        && (as_bf16 || found->second.panels.scalar_type() == weight.scalar_type())
        && found->second.storage._unsafe_get_target() == storage_of(weight)._unsafe_get_target()) {
        return found->second.panels;
    }
    drop_those_of_freed_weights();
    Tensor panels = pack(weight, direction);
    if (as_bf16) {
        panels = paired(panels);
    }
    entries().insert_or_assign(key, Entry{storage_of(weight), version_of(weight), panels});
    return panels;
}

int64_t packed_bytes() {
    const std::lock_guard<std::mutex> guard(lock());
    int64_t sum = 0;
    for (const auto& [key, entry] : entries()) {
        sum += static_cast<int64_t>(entry.panels.nbytes());
    }
    return sum;
}

} // namespace petmad::cpu
