// One GNN layer of the network on a CPU, forward and input-gradient backward, without a record for
// autograd. Nothing in it reaches beyond a center and its edges, so that any run of centers can be
// evaluated by itself, with the same bits.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/ivalue.h>

#include "attention_op.h"
#include "compress_op.h"
#include "mlp_rows.h"

namespace petmad::cpu {

/// A transformer layer; see petmad.model.transformer.
struct TransformerWeights {
    bool pre_norm = true;  ///< norms before attention and MLP, else after their residuals
    bool expanded = false; ///< the node state is wider than a token
    NormWeights norm_attention, norm_mlp;
    LinearWeights input, output; ///< of the attention
    Heads heads;
    MlpWeights mlp; ///< its norm is norm_mlp where pre_norm
    LinearWeights contraction, expansion;
    MlpWeights center_mlp;
};

struct GnnWeights {
    CompressWeights compress;
    std::vector<TransformerWeights> layers;
};

/// Weights of a whole operator, held by its backward pass.
struct HeldWeights : torch::CustomClassHolder {
    GnnWeights weights;
    explicit HeldWeights(GnnWeights all) : weights(std::move(all)) {}
};

/// From the arguments of gnn_layer(), see gnn_layer_op.h, for node states `d_node` wide.
/// Throws Error: another number of weights.
c10::intrusive_ptr<HeldWeights> hold_weights(
    int64_t d_node, const std::vector<Tensor>& compress, const std::vector<Tensor>& layers,
    const std::string& norm, double epsilon, bool pre_norm, bool gated, const Heads& heads
);

/// A run of centers and their edges.
struct CenterBlock {
    int64_t first = 0, n_centers = 0;
    int64_t first_edge = 0, n_edges = 0;

    /// Its own of all rows; undefined stays undefined.
    Tensor of_centers(const Tensor& rows) const {
        return rows.defined() ? rows.narrow(0, first, n_centers) : rows;
    }
    Tensor of_edges(const Tensor& rows) const {
        return rows.defined() ? rows.narrow(0, first_edge, n_edges) : rows;
    }
};

/// All centers in blocks of at most so many rows, of centers and edges, or of one center.
/// starts: [n_centers + 1] on the host.
std::vector<CenterBlock> center_blocks(const Tensor& starts, int64_t most_rows);

/// What enters: rows of centers, then of edges sorted by center.
struct GnnInput {
    Tensor nodes;       ///< [n_centers, d_node]
    Tensor messages;    ///< [n_edges, d_pet], or [n_edges, 0] in the first layer
    Tensor geometry;    ///< [n_edges, 4]
    Tensor species;     ///< [n_edges] int64, of neighbors
    Tensor log_weights; ///< [n_edges]
    Tensor starts;      ///< [n_centers + 1] first edge of each center

    int64_t n_centers() const { return starts.numel() - 1; }
    int64_t n_edges() const { return log_weights.numel(); }
    GnnInput part(const CenterBlock& block) const;
};

/// What leaves, or the adjoints of that.
struct GnnOutput {
    Tensor nodes;  ///< [n_centers, d_node]
    Tensor tokens; ///< [n_edges, d_pet]
};

/// Adjoints of the input; nodes and messages are undefined where nobody asks.
struct GnnGradients {
    Tensor nodes, messages, geometry, log_weights;
};

/// What the backward pass of a transformer layer reads.
struct TransformerKept {
    Tensor rows;       ///< [n_centers + n_edges, d_pet] tokens that enter
    Tensor statistics; ///< of their norm
    Tensor qkv;        ///< [n_centers + n_edges, 3 d_pet]
    Tensor sums;       ///< norm after: tokens plus attention, [n_centers + n_edges, d_pet]
    Tensor sum_statistics;
    Tensor mlp_rows; ///< what enters the MLP: edges, and centers too where the norm comes after
    MlpKept mlp;
    Tensor mlp_sums; ///< norm after: what leaves the MLP
    Tensor mlp_statistics;
    Tensor center_rows; ///< [n_centers, d_node] what enters the MLP of the centers
    MlpKept center_mlp;
};

struct GnnKept {
    Tensor inner; ///< [n_edges, d_pet] of compress
    std::vector<TransformerKept> layers;
};

/// Throws Error: numbers of rows that do not fit together, no layer.
void check_shapes(const GnnWeights& weights, const GnnInput& input);

/// The same, and: widths that do not fit, a species that the table lacks, weights that ask for
/// gradients.
void check(const GnnWeights& weights, const GnnInput& input);

/// Fills the output, where defined, and `kept`.
void gnn_forward(
    const GnnWeights& weights, const GnnInput& input, bool keeps_wide, GnnKept& kept,
    const GnnOutput& output
);

/// Fills those of the gradients that are defined.
void gnn_backward(
    const GnnWeights& weights, const GnnInput& input, const GnnKept& kept,
    const GnnOutput& d_output, const GnnGradients& gradients
);

} // namespace petmad::cpu
