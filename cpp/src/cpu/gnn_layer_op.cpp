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

constexpr size_t n_narrow = 12; // weights of a transformer layer
constexpr size_t n_wide = 22;   // with those of a wider node state

/// Weights of the whole operator, held by the backward pass.
struct HeldWeights : torch::CustomClassHolder {
    GnnWeights weights;
    explicit HeldWeights(GnnWeights all) : weights(std::move(all)) {}
};

TransformerWeights transformer_weights(
    const Tensor* w, bool expanded, NormKind kind, double epsilon, bool pre_norm, bool gated,
    const Heads& heads
) {
    TransformerWeights t;
    t.pre_norm = pre_norm;
    t.expanded = expanded;
    t.heads = heads;
    t.norm_attention = {kind, w[0], w[1], epsilon};
    t.input = {w[2], w[3]};
    t.output = {w[4], w[5]};
    t.norm_mlp = {kind, w[6], w[7], epsilon};
    t.mlp = {pre_norm ? t.norm_mlp : NormWeights{}, {w[8], w[9]}, {w[10], w[11]}, gated, true};
    if (expanded) {
        t.contraction = {w[12], w[13]};
        t.expansion = {w[14], w[15]};
        t.center_mlp = {{kind, w[16], w[17], epsilon}, {w[18], w[19]}, {w[20], w[21]}, gated, true};
    }
    return t;
}

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

/// Calls function(first, last) for blocks of centers.
template <typename Function>
void for_center_blocks(const Tensor& starts, const Function& function) {
    const auto* start = in<int64_t>(starts);
    const int64_t n_centers = starts.numel() - 1;
    for (int64_t first = 0; first < n_centers;) {
        int64_t last = first + 1;
        while (last < n_centers
               && start[last + 1] + last + 1 - start[first] - first <= rows_per_layer_block) {
            ++last;
        }
        function(first, last);
        first = last;
    }
}

Tensor rows_of(const Tensor& rows, int64_t first, int64_t last) {
    return rows.defined() ? rows.narrow(0, first, last - first) : rows;
}

/// Appends what the tier keeps of each block to saved.
void forward_in_blocks(
    const GnnWeights& weights, const GnnInput& input, const GnnOutput& output, MemoryTier tier,
    variable_list& saved
) {
    const auto* start = in<int64_t>(input.starts);
    for_center_blocks(input.starts, [&](int64_t first, int64_t last) {
        GnnKept kept;
        gnn_forward(
            weights, input.part(first, last), tier == MemoryTier::keep, kept,
            {rows_of(output.nodes, first, last), rows_of(output.tokens, start[first], start[last])}
        );
        if (tier != MemoryTier::layers) {
            for_each(kept, [&](const Tensor& tensor) { saved.push_back(tensor); });
        }
    });
}

/// saved: the input, and behind it what forward_in_blocks has appended, if anything.
void backward_in_blocks(
    const GnnWeights& weights, const GnnInput& input, const variable_list& saved,
    const GnnOutput& d_output, const GnnGradients& gradients
) {
    const auto* start = in<int64_t>(input.starts);
    size_t next = n_inputs;
    for_center_blocks(input.starts, [&](int64_t first, int64_t last) {
        const auto of_edges = [&](const Tensor& rows) {
            return rows_of(rows, start[first], start[last]);
        };
        const GnnInput part = input.part(first, last);
        GnnKept kept;
        if (saved.size() == n_inputs) {
            gnn_forward(weights, part, true, kept, {});
        } else {
            kept.layers.resize(weights.layers.size());
            for_each(kept, [&](Tensor& tensor) { tensor = saved[next++]; });
        }
        gnn_backward(
            weights, part, kept, {rows_of(d_output.nodes, first, last), of_edges(d_output.tokens)},
            {rows_of(gradients.nodes, first, last), of_edges(gradients.messages),
             of_edges(gradients.geometry), of_edges(gradients.log_weights)}
        );
    });
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
    PETMAD_CHECK(
        compress.size() == 5, "gnn_layer: got ", compress.size(), " weights of compress; pass 5"
    );
    const bool expanded = nodes.size(-1) != compress[3].size(0);
    const size_t n_each = expanded ? n_wide : n_narrow;
    PETMAD_CHECK(
        !layers.empty() && layers.size() % n_each == 0, "gnn_layer: got ", layers.size(),
        " weights of layers; pass ", n_each, " of each"
    );
    GnnWeights weights;
    weights.compress = {compress[0], compress[1], compress[2], compress[3], compress[4]};
    for (size_t first = 0; first < layers.size(); first += n_each) {
        weights.layers.push_back(transformer_weights(
            layers.data() + first, expanded, norm_kind(norm), epsilon, pre_norm, gated,
            {n_heads, scale}
        ));
    }
    const auto held = c10::make_intrusive<HeldWeights>(std::move(weights));
    const variable_list found =
        GnnLayer::apply(nodes, messages, geometry, log_weights, species, starts, held);
    return {found[0], found[1]};
}

} // namespace petmad::cpu
