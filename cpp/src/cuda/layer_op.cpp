// A whole GNN layer on GPUs, made of the operators beside this file. In tier `layers` it runs in
// blocks of centers that keep nothing but what enters: the backward pass runs each block again,
// recorded, and asks autograd for its adjoints.
#include <atomic>

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "../cpu/gnn_layer.h"
#include "../memory_plan.h"
#include "network_ops.h"
#include "tensors.h"

namespace petmad::cuda {
namespace {

using cpu::CenterBlock;
using cpu::GnnInput;
using cpu::GnnOutput;
using cpu::GnnWeights;
using cpu::HeldWeights;
using cpu::LinearWeights;
using cpu::MlpWeights;
using cpu::NormKind;
using cpu::NormWeights;
using cpu::TransformerWeights;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::atomic<int64_t>& most_rows() {
    static std::atomic<int64_t> rows{rows_per_gpu_block};
    return rows;
}

Tensor linear_of(const NormWeights& norm, const LinearWeights& linear, const Tensor& x) {
    return norm_linear(
        x, cpu::norm_name(norm.kind), norm.gain, norm.bias, norm.epsilon, linear.w, linear.b
    );
}

Tensor mlp_of(const MlpWeights& w, const Tensor& x) {
    return mlp(
        x, cpu::norm_name(w.norm.kind), w.norm.gain, w.norm.bias, w.norm.epsilon, w.first.w,
        w.first.b, w.second.w, w.second.b, w.gated ? "SwiGLU" : "SiLU", w.residual,
        w.activate_output
    );
}

Tensor normed(const NormWeights& norm, const Tensor& x) {
    cpu::check_frozen({norm.gain, norm.bias});
    return norm.kind == NormKind::rms
               ? at::rms_norm(x, {x.size(1)}, norm.gain, norm.epsilon)
               : at::layer_norm(x, {x.size(1)}, norm.gain, norm.bias, norm.epsilon);
}

/// See petmad.model.transformer.
GnnOutput transformed(const TransformerWeights& w, const GnnInput& input, const GnnOutput& from) {
    const NormWeights none;
    const Tensor nodes = w.expanded ? linear_of(none, w.contraction, from.nodes) : from.nodes;
    Tensor rows = torch::cat({nodes, from.tokens});
    const NormWeights& norm = w.pre_norm ? w.norm_attention : none;
    const Tensor qkv = linear_of(norm, w.input, rows);
    const Tensor mixed = attention(qkv, input.log_weights, input.starts, w.heads.n, w.heads.scale);
    const Tensor attended = linear_of(none, w.output, mixed);
    const std::vector<int64_t> sizes{input.n_centers(), input.n_edges()};
    GnnOutput to;
    if (w.pre_norm) {
        const auto parts = attended.split_with_sizes(sizes);
        to = {parts[0], mlp_of(w.mlp, from.tokens + parts[1])};
    } else {
        rows = normed(w.norm_attention, rows + attended);
        const auto parts = normed(w.norm_mlp, mlp_of(w.mlp, rows)).split_with_sizes(sizes);
        to = {parts[0], parts[1]};
    }
    if (w.expanded) {
        to.nodes = mlp_of(w.center_mlp, from.nodes + linear_of(none, w.expansion, to.nodes));
    }
    return to;
}

GnnOutput layer_of(const GnnWeights& weights, const GnnInput& input) {
    const auto& w = weights.compress;
    GnnOutput output{
        input.nodes, compress(
                         input.geometry, input.messages, input.species, w.table, w.w_geometry,
                         w.w_message, w.w_out, w.b_out
                     )
    };
    for (const TransformerWeights& layer : weights.layers) {
        output = transformed(layer, input, output);
    }
    return output;
}

/// Runs the block again; adjoints of its nodes, messages, geometry and log_weights from those of
/// what leaves it. The first two are undefined unless wanted.
variable_list block_adjoints(
    const GnnWeights& weights, GnnInput input, const GnnOutput& d_output, bool of_nodes,
    bool of_messages
) {
    const torch::AutoGradMode recorded(true);
    const MemoryTierGuard keeps_all(MemoryTier::keep); // of this thread, autograd's own on a GPU
    variable_list wanted;
    const auto want = [&](Tensor& rows) {
        rows = rows.detach().requires_grad_(true);
        wanted.push_back(rows);
    };
    want(input.geometry);
    want(input.log_weights);
    if (of_nodes) {
        want(input.nodes);
    }
    if (of_messages) {
        want(input.messages);
    }
    const GnnOutput output = layer_of(weights, input);
    const variable_list found = torch::autograd::grad(
        {output.nodes, output.tokens}, wanted, {d_output.nodes, d_output.tokens}
    );
    return {
        of_nodes ? found[2] : Tensor(),
        of_messages ? found.back() : Tensor(),
        found[0],
        found[1],
    };
}

struct LayerInBlocks : torch::autograd::Function<LayerInBlocks> {
    static variable_list forward(
        AutogradContext* context, const Tensor& nodes, const Tensor& messages,
        const Tensor& geometry, const Tensor& log_weights, const Tensor& species,
        const Tensor& starts, const c10::intrusive_ptr<HeldWeights>& held
    ) {
        const at::AutoDispatchBelowADInplaceOrView below;
        const c10::DeviceGuard guard(geometry.device());
        const GnnInput input{dense(nodes),   dense(messages),    dense(geometry),
                             dense(species), dense(log_weights), dense(starts)};
        const Tensor on_host = input.starts.cpu(); // waits for the stream
        const GnnOutput output{
            torch::empty_like(input.nodes),
            torch::empty(
                {input.n_edges(), held->weights.compress.w_out.size(0)}, geometry.options()
            )
        };
        for (const CenterBlock& block : cpu::center_blocks(on_host, most_rows())) {
            const GnnOutput part = layer_of(held->weights, input.part(block));
            block.of_centers(output.nodes).copy_(part.nodes);
            block.of_edges(output.tokens).copy_(part.tokens);
        }
        context->save_for_backward(
            {input.nodes, input.messages, input.geometry, input.species, input.log_weights,
             input.starts, on_host}
        );
        context->saved_data["most_rows"] = most_rows().load();
        context->saved_data["weights"] = c10::IValue::make_capsule(held);
        return {output.nodes, output.tokens};
    }

    static variable_list backward(AutogradContext* context, const variable_list& d) {
        cpu::check_once();
        const auto held = c10::static_intrusive_pointer_cast<HeldWeights>(
            context->saved_data["weights"].toCapsule()
        );
        const variable_list s = context->get_saved_variables();
        const GnnInput input{s[0], s[1], s[2], s[3], s[4], s[5]};
        const c10::DeviceGuard guard(input.geometry.device());
        const bool of_nodes = context->needs_input_grad(0);
        const bool of_messages = context->needs_input_grad(1);
        const Tensor d_nodes = of_nodes ? torch::empty_like(input.nodes) : Tensor();
        const Tensor d_messages = of_messages ? torch::empty_like(input.messages) : Tensor();
        const Tensor d_geometry = torch::empty_like(input.geometry);
        const Tensor d_log_weights = torch::empty_like(input.log_weights);
        const int64_t rows = context->saved_data["most_rows"].toInt();
        for (const CenterBlock& block : cpu::center_blocks(s[6], rows)) {
            const GnnOutput d_output{block.of_centers(d[0]), block.of_edges(d[1])};
            const variable_list found =
                block_adjoints(held->weights, input.part(block), d_output, of_nodes, of_messages);
            if (of_nodes) {
                block.of_centers(d_nodes).copy_(found[0]);
            }
            if (of_messages) {
                block.of_edges(d_messages).copy_(found[1]);
            }
            block.of_edges(d_geometry).copy_(found[2]);
            block.of_edges(d_log_weights).copy_(found[3]);
        }
        return {d_nodes, d_messages, d_geometry, d_log_weights, Tensor(), Tensor(), Tensor()};
    }
};

} // namespace

void set_rows_per_block(int64_t rows) { most_rows() = rows; }

std::tuple<Tensor, Tensor> gnn_layer(
    const Tensor& nodes, const Tensor& messages, const Tensor& geometry, const Tensor& species,
    const Tensor& log_weights, const Tensor& starts, const std::vector<Tensor>& compress,
    const std::vector<Tensor>& layers, const std::string& norm, double epsilon, bool pre_norm,
    bool gated, int64_t n_heads, double scale
) {
    const auto held = cpu::hold_weights(
        nodes.size(-1), compress, layers, norm, epsilon, pre_norm, gated, {n_heads, scale}
    );
    const GnnInput input{nodes, messages, geometry, species, log_weights, starts};
    cpu::check_shapes(held->weights, input);
    if (memory_tier() != MemoryTier::layers) {
        const GnnOutput output = layer_of(held->weights, input);
        return {output.nodes, output.tokens};
    }
    const variable_list found =
        LayerInBlocks::apply(nodes, messages, geometry, log_weights, species, starts, held);
    return {found[0], found[1]};
}

} // namespace petmad::cuda
