// What crosses between ranks: values of ghost atoms, and rows of edges whose reversed edge lives
// elsewhere. Decides what travels and in which order; the bytes go through a Transport.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "geometry.h"
#include "petmad/transport.h"
#include "petmad/types.h"

namespace petmad {

/// An atom that another rank owns, by that rank's own numbering.
struct RemoteAtom {
    int rank = 0;
    int64_t owner = 0;

    bool operator<(const RemoteAtom& other) const {
        return rank != other.rank ? rank < other.rank : owner < other.owner;
    }
    bool operator==(const RemoteAtom& other) const {
        return rank == other.rank && owner == other.owner;
    }
};

/// An edge from an atom here to one that `peer` owns; its reversed edge is in the peer's list.
struct CrossingEdge {
    int64_t raw_edge = 0;
    int64_t center = 0; ///< this rank's numbering
    RemoteAtom neighbor;
    Vec3 vector{}; ///< Å
};

/// Bytes sent by one rank.
struct Traffic {
    int64_t messages = 0; ///< rows of edges and their adjoints
    int64_t values = 0;   ///< values of ghosts and their adjoints
    int64_t plan = 0;     ///< what the matching of edges and the agreement on live ones takes

    int64_t total() const { return messages + values + plan; }
};

/// How many rows go to each rank, and come from it.
using RowCounts = std::vector<int64_t>;

/// The plan of one edge list. Both sides of a pair of ranks hold the same edges in the same order.
class HaloExchange {
public:
    /// Collective. `remote_atoms` ascending; `node_of_atom` gives the network's index of each owned
    /// atom (-1: takes no part). Edges without partner are dropped if longer than `certain_radius`.
    /// Throws Error: a shorter edge without partner, a ghost of an atom its rank does not own.
    HaloExchange(
        Transport& transport, const std::vector<RemoteAtom>& remote_atoms,
        const std::vector<CrossingEdge>& edges, const std::vector<int64_t>& node_of_atom,
        double certain_radius
    );
    ~HaloExchange();
    HaloExchange(const HaloExchange&) = delete;
    HaloExchange& operator=(const HaloExchange&) = delete;

    /// Number under which the ops find this plan; never 0.
    int64_t handle() const { return handle_; }
    /// The plan of a handle; throws Error if there is none.
    static HaloExchange& from_handle(int64_t handle);

    /// Whether messages may stay in a GPU's memory.
    bool reads_device_memory() const { return transport_->reads_device_memory(); }

    int64_t n_remote() const { return n_remote_; }
    /// Owned nodes whose values other ranks need, rank by rank; one may occur several times.
    const std::vector<int64_t>& sent_nodes() const { return sent_nodes_; }
    /// How many of sent_nodes() each rank needs, none of them twice.
    const RowCounts& sent_counts() const { return sent_counts_; }
    /// Raw edges with a partner elsewhere, rank by rank.
    /// Kept edges with a partner elsewhere, rank by rank; set by select_live.
    const std::vector<int64_t>& live_edges() const { return live_edges_; }

    /// Which raw edge is which edge of this step (-1: beyond the cutoff; null: the same), and what
    /// carries its messages.
    void begin_step(const std::vector<int64_t>* step_of_raw_edge, Transport& transport);

    /// Collective: sets `is_live` of each crossing step edge to 1 if both its ends keep it, else 0.
    void agree(const bool* keep, char* is_live);
    /// Numbers the live crossing edges by `kept_of_step` (-1: dropped).
    void select_live(const std::vector<int64_t>& kept_of_step);

    /// Collective: rows of sent_nodes() out, rows of the remote atoms in.
    void to_ghosts(const char* sent, char* remote, int64_t row_bytes);
    /// Collective: the way back; rows of the remote atoms out, rows of sent_nodes() in.
    void from_ghosts(const char* remote, char* sent, int64_t row_bytes);
    /// Collective: rows of live_edges() out, those of their reversed edges in.
    void swap_edges(const char* own, char* reversed, int64_t row_bytes);

    /// What was sent since the last call.
    Traffic take_traffic() { return std::exchange(traffic_, {}); }
    /// Time in the messages of steps, since construction.
    double seconds() const { return seconds_; }

private:
    std::vector<Bytes>
    requests(const std::vector<RemoteAtom>& remote_atoms, const std::vector<CrossingEdge>& edges);
    void match(
        const std::vector<CrossingEdge>& edges, const std::vector<int64_t>& node_of_atom,
        const std::vector<Bytes>& received, double certain_radius
    );
    /// Returns the number of bytes sent.
    int64_t swap(
        const char* out, const RowCounts& out_counts, char* in, const RowCounts& in_counts,
        int64_t row_bytes
    );

    Transport* transport_;
    int rank_ = 0;
    int n_ranks_ = 1;
    int64_t handle_ = 0;
    int64_t n_remote_ = 0;
    RowCounts remote_counts_;
    RowCounts sent_counts_;
    RowCounts crossing_counts_;
    RowCounts live_counts_;
    std::vector<int64_t> sent_nodes_;
    std::vector<int64_t> crossing_edges_;
    std::vector<int64_t> crossing_steps_; ///< step edge of each crossing edge, -1 for none
    std::vector<int64_t> live_edges_;
    Traffic traffic_;
    double seconds_ = 0.0;
};

} // namespace petmad
