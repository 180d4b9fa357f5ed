// Row kernels of the network on a CPU: one table of functions per instruction set.
// All arrays are dense and row-major; n counts rows, w is their width.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace petmad::cpu {

/// Numbers in the widest vector, of 64 bytes.
template <typename T> constexpr int64_t lanes = 64 / static_cast<int64_t>(sizeof(T));

/// Packed matrices: columns in panels of this many, each panel [k, columns_per_panel].
constexpr int64_t columns_per_panel = 32;

/// c[n, m] = (add ? c : bias or 0) + a[n, k] @ b, b packed in panels.
template <typename T> struct Product {
    const T* panels = nullptr;
    const T* bias = nullptr; ///< [m], or none
    int64_t k = 0;
    int64_t m = 0;
    int64_t a_stride = 0; ///< from row to row
    int64_t c_stride = 0;
    bool add = false; ///< to c; then without bias
};

/// Attention among the tokens of each center: row i of a center, then its edges' rows
/// n_centers + starts[i] to n_centers + starts[i + 1].
template <typename T> struct AttentionInput {
    const T* qkv = nullptr;          ///< [n_centers + n_edges, 3, n_heads, d_head]
    const T* log_weights = nullptr;  ///< [n_edges] added to the scores of each key
    const int64_t* starts = nullptr; ///< [n_centers + 1]
    int64_t n_centers = 0;
    int64_t n_heads = 0;
    int64_t d_head = 0;
    T scale = 1;
    int64_t most_tokens = 0; ///< of any center, padded to whole panels
    T* scratch = nullptr;    ///< 64-byte aligned, attention_scratch() values
};

/// Values of scratch that attention and its backward pass need: heads of four arrays, the transpose
/// of one, two squares of scores, two biases.
template <typename T>
int64_t attention_scratch(int64_t most_tokens, int64_t n_heads, int64_t d_head) {
    const int64_t d_padded = (d_head + lanes<T> - 1) / lanes<T> * lanes<T>;
    return most_tokens * (4 * n_heads * d_padded + d_padded + 2 * most_tokens + 2);
}

template <typename T> struct Kernels {
    /// y = x / sqrt(mean(x²) + epsilon) * gain; keeps 1 / sqrt(...) per row.
    void (*rms_norm)(const T* x, const T* gain, T epsilon, int64_t n, int64_t w, T* y, T* rstd);
    /// dx += adjoint of rms_norm.
    void (*rms_norm_backward)(
        const T* x, const T* gain, const T* rstd, const T* dy, int64_t n, int64_t w, T* dx
    );
    /// y = (x - mean) / sqrt(var + epsilon) * gain + bias; keeps mean and 1 / sqrt(...) per row.
    void (*layer_norm)(
        const T* x, const T* gain, const T* bias, T epsilon, int64_t n, int64_t w, T* y,
        T* mean_rstd
    );
    /// dx += adjoint of layer_norm.
    void (*layer_norm_backward)(
        const T* x, const T* gain, const T* mean_rstd, const T* dy, int64_t n, int64_t w, T* dx
    );
    void (*silu)(const T* u, int64_t n, T* y);
    void (*silu_backward)(const T* u, const T* dy, int64_t n, T* du);
    /// y[n, w] = value * sigmoid(gate) from u[n, 2w] = [value, gate].
    void (*swiglu)(const T* u, int64_t n, int64_t w, T* y);
    void (*swiglu_backward)(const T* u, const T* dy, int64_t n, int64_t w, T* du);
    /// y[n] += x
    void (*add)(const T* x, int64_t n, T* y);
    /// x[n, w] += geometry[n, 4] @ weights[4, w] + table[species]
    void (*add_geometry)(
        const T* geometry, const T* weights, const T* table, const int64_t* species, int64_t n,
        int64_t w, T* x
    );
    /// See Product; rows of c do not overlap those of a.
    void (*multiply)(const Product<T>& product, const T* a, int64_t n, T* c);
    /// mixed[rows, n_heads * d_head] of the centers first to last - 1.
    void (*attention)(const AttentionInput<T>& input, int64_t first, int64_t last, T* mixed);
    /// Adjoints of qkv (written) and of log_weights (written) from that of mixed.
    void (*attention_backward)(
        const AttentionInput<T>& input, const T* d_mixed, int64_t first, int64_t last, T* d_qkv,
        T* d_log_weights
    );
};

/// The chosen table: the widest instruction set of this processor, unless told otherwise.
template <typename T> const Kernels<T>& kernels();

/// Names of the instruction sets that this build and this processor both know, best first.
std::vector<std::string> instruction_sets();

/// Name of the one in use.
std::string instruction_set();

/// Chooses one by name. Throws Error if it is not among instruction_sets().
void choose_instruction_set(const std::string& name);

} // namespace petmad::cpu
