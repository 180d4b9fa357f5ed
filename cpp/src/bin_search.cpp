#include "bin_search.h"

#include <algorithm>
#include <cmath>

#include "sort_keys.h"

namespace petmad {
namespace {

constexpr int64_t group = cpu::points_per_group;
constexpr float out_of_reach = 1e30F; // its square is infinite

int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

int32_t place(uint64_t key) { return static_cast<int32_t>(key & 0xffffffff); }
int32_t atom(uint64_t key) { return static_cast<int32_t>(key >> 32); }

} // namespace

void Cloud::resize(int64_t n) {
    const int64_t n_whole = (n + group - 1) / group * group;
    for (auto* values : {&x, &y, &z}) {
        values->resize(n_whole);
        std::fill(values->begin() + n, values->end(), out_of_reach);
    }
}

BinSearch::BinSearch(const SearchInput& input, const Lattice& lattice, const Bins& bins)
    : input_(input), lattice_(lattice), bins_(bins), kernels_(cpu::search_kernels()), n_bits_(1) {
    while (input.n_atoms >> n_bits_ > 0) {
        ++n_bits_;
    }
}

void BinSearch::operator()(int64_t bin, BinEdges& found, int64_t* counts) {
    first_ = bins_.starts[bin];
    last_ = bins_.end_of_centers(bin, input_.n_centers);
    if (last_ == first_) {
        return;
    }
    bound_centers();
    list_runs(bin);
    gather();
    sort_candidates();
    find_all(counts);
    found = edges_; // of exact size
}

/// Their box, and what float32 decides within reach of it.
void BinSearch::bound_centers() {
    double extent = 0.0;
    const std::array<const double*, 3> coordinates{bins_.x.data(), bins_.y.data(), bins_.z.data()};
    for (int k = 0; k < 3; ++k) {
        const auto [low, high] =
            std::minmax_element(coordinates[k] + first_, coordinates[k] + last_);
        middle_[k] = 0.5 * (*low + *high);
        half_[k] = static_cast<float>(0.5 * (*high - *low));
        extent = std::max(extent, 0.5 * (*high - *low));
    }
    // rounding of wrapped positions, then of float32 coordinates and distances
    const double margin = 1e-6 * input_.cutoff + std::ldexp(extent + input_.cutoff, -20);
    const double inner = std::max(input_.cutoff - margin, 0.0);
    const double outer = input_.cutoff + margin;
    sure_ = static_cast<float>(inner * inner);
    limit_ = static_cast<float>(outer * outer);
}

/// In ascending order of images for each atom.
void BinSearch::list_runs(int64_t bin) {
    const auto& n = bins_.n_bins;
    const std::array<int64_t, 3> home{bin / (n[1] * n[2]), bin / n[2] % n[1], bin % n[2]};
    std::array<int64_t, 3> low{};
    std::array<int64_t, 3> high{};
    for (int k = 0; k < 3; ++k) {
        low[k] = home[k] - bins_.range[k];
        high[k] = home[k] + bins_.range[k];
        if (!lattice_.pbc[k]) {
            low[k] = std::max<int64_t>(low[k], 0);
            high[k] = std::min<int64_t>(high[k], n[k] - 1);
        }
    }
    runs_.clear();
    int64_t n_near = 0;
    Shift image{};
    for (int64_t a = low[0]; a <= high[0]; ++a) {
        image[0] = floor_divide(a, n[0]);
        for (int64_t b = low[1]; b <= high[1]; ++b) {
            image[1] = floor_divide(b, n[1]);
            const int64_t row = ((a - image[0] * n[0]) * n[1] + b - image[1] * n[1]) * n[2];
            for (int64_t c = low[2]; c <= high[2];) { // bins of one image stand in a row
                image[2] = floor_divide(c, n[2]);
                const int64_t from = c - image[2] * n[2];
                const int64_t n_row = std::min(high[2] - c + 1, n[2] - from);
                const int64_t first = bins_.starts[row + from];
                const int64_t n_atoms = bins_.starts[row + from + n_row] - first;
                if (a == home[0] && b == home[1] && c <= home[2] && home[2] < c + n_row) {
                    home_run_ = static_cast<int64_t>(runs_.size());
                }
                runs_.push_back({first, n_atoms, image, n_near});
                n_near += n_atoms;
                c += n_row;
            }
        }
    }
    near_.resize(n_near);
    run_of_.resize(n_near);
}

void BinSearch::gather() {
    for (size_t r = 0; r < runs_.size(); ++r) {
        const Run& run = runs_[r];
        const auto copy = [&](const std::vector<double>& from, int k, std::vector<float>& to) {
            const double offset = run.image[0] * lattice_.rows[0][k]
                                  + run.image[1] * lattice_.rows[1][k]
                                  + run.image[2] * lattice_.rows[2][k] - middle_[k];
            const double* source = from.data() + run.first;
            float* target = to.data() + run.begin;
            for (int64_t at = 0; at < run.n; ++at) {
                target[at] = static_cast<float>(source[at] + offset);
            }
        };
        copy(bins_.x, 0, near_.x);
        copy(bins_.y, 1, near_.y);
        copy(bins_.z, 2, near_.z);
        std::fill_n(run_of_.begin() + run.begin, run.n, static_cast<int32_t>(r));
    }
}

/// Of those gathered, the ones near the box of the centers, in ascending order of (atom, image).
void BinSearch::sort_candidates() {
    slots_.resize(std::max(slots_.size(), near_.x.size() + group));
    const std::array<float, 3> low{-half_[0], -half_[1], -half_[2]};
    const int64_t n =
        kernels_.near_box(near_.points(), low.data(), half_.data(), limit_, slots_.data());
    keys_.resize(n);
    for (int64_t k = 0; k < n; ++k) {
        const Run& run = runs_[run_of_[slots_[k]]];
        const auto number = static_cast<uint64_t>(bins_.atoms[run.first + slots_[k] - run.begin]);
        keys_[k] = number << 32 | static_cast<uint64_t>(slots_[k]);
    }
    sort_by_atom(keys_, spare_, n_bits_);
    const bool has_images = std::any_of(runs_.begin(), runs_.end(), [](const Run& run) {
        return run.n > 0 && run.image != Shift{};
    });
    candidates_.resize(n);
    atoms_.resize(n);
    images_.resize(has_images ? n : 0);
    for (int64_t k = 0; k < n; ++k) {
        const int32_t at = place(keys_[k]);
        candidates_.x[k] = near_.x[at];
        candidates_.y[k] = near_.y[at];
        candidates_.z[k] = near_.z[at];
        atoms_[k] = atom(keys_[k]);
        if (has_images) {
            images_[k] = Image(runs_[run_of_[at]].image);
        }
    }
}

void BinSearch::find_all(int64_t* counts) {
    edges_.neighbors.clear();
    edges_.images.clear();
    slots_.resize(std::max(slots_.size(), keys_.size() + group));
    const Run& home = runs_[home_run_];
    int64_t self = 0;
    for (int64_t at = first_; at < last_; ++at) {
        while (place(keys_[self]) != home.begin + at - home.first) {
            ++self;
        }
        const int64_t n = find(at, self);
        const size_t before = edges_.neighbors.size();
        edges_.neighbors.resize(before + n);
        for (int64_t k = 0; k < n; ++k) {
            edges_.neighbors[before + k] = atoms_[slots_[k]];
        }
        if (!images_.empty()) {
            edges_.images.resize(before + n);
            for (int64_t k = 0; k < n; ++k) {
                edges_.images[before + k] = images_[slots_[k]];
            }
        }
        counts[bins_.atoms[at]] = n;
    }
}

/// Writes the slots of a center's neighbors; the center is candidate `self`.
int64_t BinSearch::find(int64_t at, int64_t self) {
    float& x = candidates_.x[self];
    const std::array<float, 3> center{x, candidates_.y[self], candidates_.z[self]};
    x = out_of_reach;
    const cpu::Selection near =
        kernels_.near_point(candidates_.points(), center.data(), sure_, limit_, slots_.data());
    x = center[0];
    if (near.is_sure) {
        return near.n;
    }
    const auto is_none = [&](int32_t slot) { return !is_edge(bins_.atoms[at], slot); };
    const auto end = slots_.begin() + near.n;
    return std::remove_if(slots_.begin(), end, is_none) - slots_.begin();
}

/// Whether a candidate is within the cutoff of a center, by what callers see as edge vector.
bool BinSearch::is_edge(int64_t center, int32_t slot) const {
    const Shift image = images_.empty() ? Shift{} : images_[slot].cells();
    const Shift shift = total_shift(image, bins_.wrap(center), bins_.wrap(atoms_[slot]));
    const Vec3 vector = displacement(input_.positions, center, atoms_[slot], shift, lattice_.rows);
    return dot(vector, vector) <= input_.cutoff * input_.cutoff;
}

} // namespace petmad
