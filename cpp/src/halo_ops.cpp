// Rows of tensors into messages and back, with the adjoints. Messages of a GPU stay in its memory
// where the transport reads that (GPU-aware MPI), and pass through pinned host memory elsewhere.
#include "halo_ops.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>

#include "halo_exchange.h"

namespace petmad {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t row_bytes(const Tensor& rows) {
    int64_t n_values = 1;
    for (int64_t d = 1; d < rows.dim(); ++d) {
        n_values *= rows.size(d);
    }
    return n_values * static_cast<int64_t>(rows.element_size());
}

Tensor index_tensor(const std::vector<int64_t>& values, const Tensor& like) {
    return torch::tensor(values, torch::kInt64).to(like.device());
}

/// Room for a message of `n_rows` rows like these, where the transport reads and writes it.
Tensor empty_message(int64_t n_rows, const Tensor& like, const HaloExchange& halo) {
    std::vector<int64_t> shape = like.sizes().vec();
    shape[0] = n_rows;
    if (like.is_cpu() || halo.reads_device_memory()) {
        return torch::empty(shape, like.options());
    }
    return torch::empty(shape, like.options().device(torch::kCPU).pinned_memory(true));
}

/// The rows as a message, complete: the transport knows nothing of streams.
Tensor as_message(const Tensor& rows, const HaloExchange& halo) {
    if (rows.is_cpu()) {
        return rows.contiguous();
    }
    Tensor message = empty_message(rows.size(0), rows, halo);
    message.copy_(rows, /*non_blocking=*/true);
    c10::impl::VirtualGuardImpl(rows.device().type()).getStream(rows.device()).synchronize();
    return message;
}

/// A received message, on the device of the computation.
Tensor from_message(const Tensor& message, const Tensor& like) {
    return message.to(like.device(), /*non_blocking=*/true);
}

const char* bytes_of(const Tensor& rows) { return static_cast<const char*>(rows.const_data_ptr()); }
char* bytes_in(Tensor& rows) { return static_cast<char*>(rows.mutable_data_ptr()); }

/// Adjoint of ghost_values: what the copies felt goes home and is added to the owned rows.
Tensor gather_home(const Tensor& gradients, int64_t handle) {
    HaloExchange& halo = HaloExchange::from_handle(handle);
    const int64_t n_owned = gradients.size(0) - halo.n_remote();
    const Tensor remote = as_message(gradients.narrow(0, n_owned, halo.n_remote()), halo);
    Tensor received =
        empty_message(static_cast<int64_t>(halo.sent_nodes().size()), gradients, halo);
    halo.from_ghosts(bytes_of(remote), bytes_in(received), row_bytes(remote));
    Tensor home = gradients.narrow(0, 0, n_owned).clone();
    const Tensor nodes = index_tensor(halo.sent_nodes(), gradients);
    const Tensor rows = from_message(received, gradients);
    // Rank by rank: within a rank's rows no atom comes twice, so a GPU adds them in one order.
    int64_t at = 0;
    for (const int64_t count : halo.sent_counts()) {
        home.index_add_(0, nodes.narrow(0, at, count), rows.narrow(0, at, count));
        at += count;
    }
    return home;
}

struct GhostValues : torch::autograd::Function<GhostValues> {
    static Tensor forward(AutogradContext* context, const Tensor& owned, int64_t halo) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        context->saved_data["halo"] = halo;
        return ghost_values(owned, halo);
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        return {gather_home(gradients[0], context->saved_data["halo"].toInt()), Tensor()};
    }
};

struct ReversedRows : torch::autograd::Function<ReversedRows> {
    static Tensor
    forward(AutogradContext* context, const Tensor& rows, const Tensor& reverse, int64_t halo) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        context->saved_data["halo"] = halo;
        context->save_for_backward({reverse});
        return reversed_rows(rows, reverse, halo);
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        const Tensor reverse = context->get_saved_variables()[0];
        const int64_t halo = context->saved_data["halo"].toInt();
        return {reversed_rows(gradients[0], reverse, halo), Tensor(), Tensor()};
    }
};

} // namespace

Tensor ghost_values(const Tensor& owned, int64_t handle) {
    HaloExchange& halo = HaloExchange::from_handle(handle);
    const Tensor sent =
        as_message(owned.index_select(0, index_tensor(halo.sent_nodes(), owned)), halo);
    Tensor remote = empty_message(halo.n_remote(), owned, halo);
    halo.to_ghosts(bytes_of(sent), bytes_in(remote), row_bytes(sent));
    return torch::cat({owned, from_message(remote, owned)}, 0);
}

std::tuple<Tensor, Tensor>
live_edges(const Tensor& keep, const Tensor& reverse_edges, int64_t handle) {
    HaloExchange& halo = HaloExchange::from_handle(handle);
    const Tensor own = keep.cpu().contiguous();
    const Tensor partners = reverse_edges.cpu().contiguous();
    const bool* is_kept_here = own.const_data_ptr<bool>();
    const auto* partner = partners.const_data_ptr<int64_t>();
    const int64_t n_edges = own.size(0);
    std::vector<char> is_live(n_edges);
    for (int64_t e = 0; e < n_edges; ++e) {
        is_live[e] = is_kept_here[e] && partner[e] >= 0 && is_kept_here[partner[e]] ? 1 : 0;
    }
    halo.agree(is_kept_here, is_live.data());

    std::vector<int64_t> kept;
    std::vector<int64_t> kept_of_step(n_edges, -1);
    for (int64_t e = 0; e < n_edges; ++e) {
        if (is_live[e] != 0) {
            kept_of_step[e] = static_cast<int64_t>(kept.size());
            kept.push_back(e);
        }
    }
    halo.select_live(kept_of_step);
    std::vector<int64_t> reverse_kept;
    for (const int64_t e : kept) {
        reverse_kept.push_back(partner[e] >= 0 ? kept_of_step[partner[e]] : -1);
    }
    return {index_tensor(kept, keep), index_tensor(reverse_kept, keep)};
}

Tensor reversed_rows(const Tensor& rows, const Tensor& reverse_kept, int64_t handle) {
    HaloExchange& halo = HaloExchange::from_handle(handle);
    const Tensor crossing = index_tensor(halo.live_edges(), rows);
    const Tensor own = as_message(rows.index_select(0, crossing), halo);
    Tensor reversed = empty_message(own.size(0), rows, halo);
    halo.swap_edges(bytes_of(own), bytes_in(reversed), row_bytes(own));
    Tensor result = rows.index_select(0, reverse_kept.clamp_min(0));
    return result.index_copy_(0, crossing, from_message(reversed, rows));
}

Tensor ghost_values_autograd(const Tensor& owned, int64_t halo) {
    return GhostValues::apply(owned, halo);
}

Tensor reversed_rows_autograd(const Tensor& rows, const Tensor& reverse_kept, int64_t halo) {
    return ReversedRows::apply(rows, reverse_kept, halo);
}

} // namespace petmad
