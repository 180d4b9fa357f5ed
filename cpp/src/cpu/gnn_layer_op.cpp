// A layer runs in blocks of centers, one after the other, so that rows stay in the cache and arrays
// small enough for the allocator to use again: the cost of an atom does not grow with the system.
// What each memory tier keeps of a block: everything, all but the MLPs' inner rows, or nothing but
// what enters; then the block runs forward again before it runs backward.
#include "gnn_layer_op.h"

#include <torch/csrc/autograd/custom_function.h>

#include "../memory_plan.h"
#include "gnn_layer.h"

namespace petmad::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Every tensor of what a layer keeps, in one order.
template <typename Kept, typename Visit> void for_each(Kept& kept, const Visit& visit) {
    visit(kept.inner);
    for (auto& k : kept.layers) {
        for (auto* tensor :
             {&k.rows, &k.statistics, &k.qkv, &k.sums, &k.sum_statistics, &k.mlp_rows,
              &k.mlp.statistics, &k.mlp.inner, &k.mlp_sums, &k.mlp_statistics, &k.center_rows,
              &k.center_mlp.statistics, &k.center_mlp.inner}) {
            visit(*tensor);
        }
    }
}

/// Tensors among the saved ones that are the layer's input.
constexpr size_t n_inputs = 6;

/// Appends what the tier keeps of each block to saved.
void forward_in_blocks(
    const GnnWeights& weights, const GnnInput& input, const GnnOutput& output, MemoryTier tier,
    variable_list& saved
) {
    for (const CenterBlock& block : center_blocks(input.starts, rows_per_layer_block)) {
        GnnKept kept;
        gnn_forward(
            weights, input.part(block), tier == MemoryTier::keep, kept,
            {block.of_centers(output.nodes), block.of_edges(output.tokens)}
        );
        if (tier != MemoryTier::layers) {
            for_each(kept, [&](const Tensor& tensor) { saved.push_back(tensor); });
        }
    }
}

/// saved: the input, and behind it what forward_in_blocks has appended, if anything.
void backward_in_blocks(
    const GnnWeights& weights, const GnnInput& input, const variable_list& saved,
    const GnnOutput& d_output, const GnnGradients& gradients
) {
    size_t next = n_inputs;
    for (const CenterBlock& block : center_blocks(input.starts, rows_per_layer_block)) {
        const GnnInput part = input.part(block);
        GnnKept kept;
        if (saved.size() == n_inputs) {
            gnn_forward(weights, part, true, kept, {});
        } else {
            kept.layers.resize(weights.layers.size());
            for_each(kept, [&](Tensor& tensor) { tensor = saved[next++]; });
        }
        gnn_backward(
            weights, part, kept,
            {block.of_centers(d_output.nodes), block.of_edges(d_output.tokens)},
            {block.of_centers(gradients.nodes), block.of_edges(gradients.messages),
             block.of_edges(gradients.geometry), block.of_edges(gradients.log_weights)}
        );
    }
}

struct GnnLayer : torch::autograd::Function<GnnLayer> {
    static variable_list forward(
        AutogradContext* context, const Tensor& nodes, const Tensor& messages,
        const Tensor& geometry, const Tensor& log_weights, const Tensor& species,
        const Tensor& starts, const c10::intrusive_ptr<HeldWeights>& held
    ) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        const auto dense = [](const Tensor& rows) { return rows.detach().contiguous(); };
        const GnnInput input{dense(nodes),   dense(messages),    dense(geometry),
                             dense(species), dense(log_weights), dense(starts)};
        const GnnWeights& weights = held->weights;
        check(weights, input);
        const GnnOutput output{
            torch::empty_like(input.nodes),
            torch::empty({input.n_edges(), weights.compress.w_out.size(0)}, geometry.options())
        };
        const MemoryTier tier = memory_tier();
        variable_list saved{input.nodes,   input.messages,    input.geometry,
                            input.species, input.log_weights, input.starts};
        if (tier != MemoryTier::layers) {
            saved[0] = saved[1] = Tensor(); // read by another forward pass alone
        }
        forward_in_blocks(weights, input, output, tier, saved);
        context->save_for_backward(saved);
        context->saved_data["weights"] = c10::IValue::make_capsule(held);
        return {output.nodes, output.tokens};
    }

    static variable_list backward(AutogradContext* context, const variable_list& d) {
        check_once();
        const auto held = c10::static_intrusive_pointer_cast<HeldWeights>(
            context->saved_data["weights"].toCapsule()
        );
        const variable_list s = context->get_saved_variables();
        const GnnInput input{s[0], s[1], s[2], s[3], s[4], s[5]};
        const GnnOutput d_output{d[0].contiguous(), d[1].contiguous()};
        GnnGradients gradients;
        gradients.geometry = torch::empty_like(input.geometry);
        gradients.log_weights = torch::empty_like(input.log_weights);
        if (context->needs_input_grad(0)) {
            gradients.nodes = torch::empty_like(d_output.nodes);
        }
        if (context->needs_input_grad(1)) {
            const int64_t width = held->weights.compress.w_message.size(1);
            gradients.messages = torch::empty({input.n_edges(), width}, input.geometry.options());
        }
        backward_in_blocks(held->weights, input, s, d_output, gradients);
        return {gradients.nodes,
                gradients.messages,
                gradients.geometry,
                gradients.log_weights,
                Tensor(),
                Tensor(),
                Tensor()};
    }
};

} // namespace

std::tuple<Tensor, Tensor> gnn_layer(
    const Tensor& nodes, const Tensor& messages, const Tensor& geometry, const Tensor& species,
    const Tensor& log_weights, const Tensor& starts, const std::vector<Tensor>& compress,
    const std::vector<Tensor>& layers, const std::string& norm, double epsilon, bool pre_norm,
    bool gated, int64_t n_heads, double scale
) {
    const auto held = hold_weights(
        nodes.size(-1), compress, layers, norm, epsilon, pre_norm, gated, {n_heads, scale}
    );
    const variable_list found =
        GnnLayer::apply(nodes, messages, geometry, log_weights, species, starts, held);
    return {found[0], found[1]};
}

} // namespace petmad::cpu
