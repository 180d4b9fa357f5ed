// Rows of centers come first in every array of tokens, then those of edges: each part writes its
// rows where the next reads them, so nothing is joined or split.
#include "gnn_layer.h"

namespace petmad::cpu {
namespace {

constexpr size_t n_narrow = 12; // weights of a transformer layer
constexpr size_t n_wide = 22;   // with those of a wider node state

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

Tensor like(const Tensor& rows, int64_t n, int64_t width) {
    return torch::empty({n, width}, rows.options());
}

/// Of tokens [n_centers + n_edges, width], those of centers and those of edges.
Tensor centers_of(const Tensor& rows, const GnnInput& input) {
    return rows.narrow(0, 0, input.n_centers());
}

Tensor edges_of(const Tensor& rows, const GnnInput& input) {
    return rows.narrow(0, input.n_centers(), input.n_edges());
}

/// Norm after: tokens that leave the layer, [n_centers + n_edges, d_pet].
Tensor forward_post_norm(
    const TransformerWeights& w, const Tensor& mixed, bool keeps, TransformerKept& k
) {
    k.sums = torch::empty_like(k.rows);
    linear_forward(w.output, mixed, k.rows, k.sums);
    k.sum_statistics = empty_statistics(w.norm_attention, k.sums);
    k.mlp_rows = torch::empty_like(k.rows);
    norm_forward(w.norm_attention, k.sums, k.sum_statistics, k.mlp_rows);
    k.mlp_sums = torch::empty_like(k.rows);
    mlp_forward(w.mlp, k.mlp_rows, keeps, k.mlp, k.mlp_sums);
    k.mlp_statistics = empty_statistics(w.norm_mlp, k.mlp_sums);
    Tensor tokens = torch::empty_like(k.rows);
    norm_forward(w.norm_mlp, k.mlp_sums, k.mlp_statistics, tokens);
    return tokens;
}

/// Fills to.nodes and to.tokens where they are defined; k.rows holds the tokens of the edges.
void forward(
    const TransformerWeights& w, const GnnInput& input, const Tensor& nodes, bool keeps,
    TransformerKept& k, const GnnOutput& to
) {
    const int64_t d = k.rows.size(1);
    if (w.expanded) {
        linear_forward(w.contraction, nodes, {}, centers_of(k.rows, input));
    } else {
        centers_of(k.rows, input).copy_(nodes);
    }
    const NormWeights norm = w.pre_norm ? w.norm_attention : NormWeights{};
    k.statistics = empty_statistics(norm, k.rows);
    k.qkv = like(k.rows, k.rows.size(0), 3 * d);
    norm_linear_forward(norm, w.input, k.rows, k.statistics, k.qkv);
    const Tensor mixed = attention_forward(k.qkv, input.log_weights, input.starts, w.heads);
    Tensor center;
    if (w.pre_norm) {
        center = like(k.rows, input.n_centers(), d);
        linear_forward(w.output, centers_of(mixed, input), {}, center);
        k.mlp_rows = like(k.rows, input.n_edges(), d);
        linear_forward(w.output, edges_of(mixed, input), edges_of(k.rows, input), k.mlp_rows);
        mlp_forward(w.mlp, k.mlp_rows, keeps, k.mlp, to.tokens);
    } else {
        const Tensor tokens = forward_post_norm(w, mixed, keeps, k);
        center = centers_of(tokens, input);
        if (to.tokens.defined()) {
            to.tokens.copy_(edges_of(tokens, input));
        }
    }
    if (w.expanded) {
        k.center_rows = torch::empty_like(nodes);
        linear_forward(w.expansion, center, nodes, k.center_rows);
        mlp_forward(w.center_mlp, k.center_rows, keeps, k.center_mlp, to.nodes);
    } else if (to.nodes.defined()) {
        to.nodes.copy_(center);
    }
}

/// Norm after: from the adjoint of the tokens that leave, in place, to that of mixed values'
/// product, which is also that of the tokens that enter past the attention.
void backward_post_norm(const TransformerWeights& w, const TransformerKept& k, Tensor& d_tokens) {
    Tensor d_sums = torch::empty_like(k.rows);
    norm_backward(w.norm_mlp, k.mlp_sums, k.mlp_statistics, d_tokens, d_sums);
    mlp_backward(w.mlp, k.mlp_rows, k.mlp, d_sums, d_tokens);
    norm_backward(w.norm_attention, k.sums, k.sum_statistics, d_tokens, d_sums);
    d_tokens = d_sums;
}

/// Adjoints of the rows that enter, [n_centers + n_edges, d_pet]; and of the nodes into d_nodes if
/// that is defined. Adds to d_log_weights.
Tensor backward(
    const TransformerWeights& w, const GnnInput& input, const TransformerKept& k,
    const GnnOutput& d_output, Tensor d_nodes, Tensor d_log_weights
) {
    Tensor d_rows = torch::empty_like(k.rows); // of what leaves the attention, then of what enters
    Tensor d_residual;
    if (w.expanded) {
        d_residual = torch::empty_like(k.center_rows);
        mlp_backward(w.center_mlp, k.center_rows, k.center_mlp, d_output.nodes, d_residual);
        linear_backward(w.expansion, d_residual, {}, centers_of(d_rows, input));
    } else {
        centers_of(d_rows, input).copy_(d_output.nodes);
    }
    if (w.pre_norm) {
        mlp_backward(w.mlp, k.mlp_rows, k.mlp, d_output.tokens, edges_of(d_rows, input));
    } else {
        edges_of(d_rows, input).copy_(d_output.tokens);
        backward_post_norm(w, k, d_rows);
    }
    Tensor d_mixed = torch::empty_like(d_rows);
    linear_backward(w.output, d_rows, {}, d_mixed);
    Tensor d_qkv = torch::empty_like(k.qkv);
    Tensor d_bias = torch::empty_like(input.log_weights);
    attention_backward(k.qkv, input.log_weights, input.starts, w.heads, d_mixed, d_qkv, d_bias);
    d_log_weights.add_(d_bias);
    if (w.pre_norm) {
        centers_of(d_rows, input).zero_(); // attention replaces them: no way past it
    }
    const NormWeights norm = w.pre_norm ? w.norm_attention : NormWeights{};
    norm_linear_backward(norm, w.input, k.rows, k.statistics, d_qkv, d_rows);
    if (d_nodes.defined() && w.expanded) {
        linear_backward(w.contraction, centers_of(d_rows, input), d_residual, d_nodes);
    } else if (d_nodes.defined()) {
        d_nodes.copy_(centers_of(d_rows, input));
    }
    return d_rows;
}

void check_layer(const TransformerWeights& w, const GnnInput& input, int64_t d) {
    const Tensor tokens = input.geometry.new_empty({0, d});
    w.input.check(tokens, "gnn_layer");
    w.output.check(tokens, "gnn_layer");
    w.mlp.check(tokens);
    check_frozen({w.norm_attention.gain, w.norm_attention.bias, w.norm_mlp.gain, w.norm_mlp.bias});
    PETMAD_CHECK(
        input.nodes.size(1) == (w.expanded ? w.contraction.w.size(1) : d), "gnn_layer: nodes ",
        input.nodes.sizes(), " do not fit tokens of width ", d, "; pass the layer's own weights"
    );
    if (w.expanded) {
        w.contraction.check(input.nodes, "gnn_layer");
        w.expansion.check(tokens, "gnn_layer");
        w.center_mlp.check(input.nodes);
    }
}

} // namespace

c10::intrusive_ptr<HeldWeights> hold_weights(
    int64_t d_node, const std::vector<Tensor>& compress, const std::vector<Tensor>& layers,
    const std::string& norm, double epsilon, bool pre_norm, bool gated, const Heads& heads
) {
    PETMAD_CHECK(
        compress.size() == 5, "gnn_layer: got ", compress.size(), " weights of compress; pass 5"
    );
    const bool expanded = d_node != compress[3].size(0);
    const size_t n_each = expanded ? n_wide : n_narrow;
    PETMAD_CHECK(
        !layers.empty() && layers.size() % n_each == 0, "gnn_layer: got ", layers.size(),
        " weights of layers; pass ", n_each, " of each"
    );
    GnnWeights weights;
    weights.compress = {compress[0], compress[1], compress[2], compress[3], compress[4]};
    for (size_t first = 0; first < layers.size(); first += n_each) {
        weights.layers.push_back(transformer_weights(
            layers.data() + first, expanded, norm_kind(norm), epsilon, pre_norm, gated, heads
        ));
    }
    return c10::make_intrusive<HeldWeights>(std::move(weights));
}

std::vector<CenterBlock> center_blocks(const Tensor& starts, int64_t most_rows) {
    std::vector<CenterBlock> blocks;
    const auto* start = in<int64_t>(starts);
    const int64_t n_centers = starts.numel() - 1;
    for (int64_t first = 0; first < n_centers;) {
        int64_t last = first + 1;
        while (last < n_centers && start[last + 1] + last + 1 - start[first] - first <= most_rows) {
            ++last;
        }
        blocks.push_back({first, last - first, start[first], start[last] - start[first]});
        first = last;
    }
    return blocks;
}

GnnInput GnnInput::part(const CenterBlock& block) const {
    return {
        block.of_centers(nodes),
        block.of_edges(messages),
        block.of_edges(geometry),
        block.of_edges(species),
        block.of_edges(log_weights),
        starts.narrow(0, block.first, block.n_centers + 1) - block.first_edge,
    };
}

void check_shapes(const GnnWeights& weights, const GnnInput& input) {
    PETMAD_CHECK(
        input.nodes.dim() == 2 && input.starts.numel() == input.nodes.size(0) + 1
            && input.n_edges() == input.geometry.size(0) && !weights.layers.empty(),
        "gnn_layer: nodes ", input.nodes.sizes(), ", starts ", input.starts.sizes(),
        ", log_weights ", input.log_weights.sizes(), " and geometry ", input.geometry.sizes(),
        " do not fit together; pass one row per center and edge, and at least one layer"
    );
}

void check(const GnnWeights& weights, const GnnInput& input) {
    check_shapes(weights, input);
    weights.compress.check(input.geometry, input.messages, input.species);
    for (const TransformerWeights& layer : weights.layers) {
        check_layer(layer, input, weights.compress.w_out.size(0));
    }
}

void gnn_forward(
    const GnnWeights& weights, const GnnInput& input, bool keeps_wide, GnnKept& kept,
    const GnnOutput& output
) {
    const int64_t d = weights.compress.w_out.size(0);
    const int64_t n_rows = input.n_centers() + input.n_edges();
    const size_t n_layers = weights.layers.size();
    kept.layers.resize(n_layers);
    for (TransformerKept& layer : kept.layers) {
        layer.rows = like(input.geometry, n_rows, d);
    }
    kept.inner = like(input.geometry, input.n_edges(), weights.compress.inner());
    compress_forward(
        weights.compress, input.geometry, input.messages, input.species, kept.inner,
        edges_of(kept.layers[0].rows, input)
    );
    Tensor nodes = input.nodes;
    for (size_t l = 0; l < n_layers; ++l) {
        const bool is_last = l + 1 == n_layers;
        GnnOutput to = output;
        if (!is_last) {
            to = {torch::empty_like(nodes), edges_of(kept.layers[l + 1].rows, input)};
        }
        forward(weights.layers[l], input, nodes, keeps_wide, kept.layers[l], to);
        nodes = to.nodes;
    }
}

void gnn_backward(
    const GnnWeights& weights, const GnnInput& input, const GnnKept& kept,
    const GnnOutput& d_output, const GnnGradients& gradients
) {
    gradients.log_weights.zero_();
    GnnOutput d = d_output;
    Tensor d_rows;
    for (size_t l = weights.layers.size(); l-- > 0;) {
        const Tensor d_nodes = l > 0 ? torch::empty_like(d_output.nodes) : gradients.nodes;
        d_rows =
            backward(weights.layers[l], input, kept.layers[l], d, d_nodes, gradients.log_weights);
        d = {d_nodes, edges_of(d_rows, input)};
    }
    compress_backward(
        weights.compress, kept.inner, d.tokens, gradients.geometry, gradients.messages
    );
}

} // namespace petmad::cpu
