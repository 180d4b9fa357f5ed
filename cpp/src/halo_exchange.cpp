// The matching of edges between ranks, and the messages of a step.
//
// For each pair of ranks the lower one lists its crossing edges (center here, neighbor there,
// vector); the higher one finds for each its own edge back and answers with one byte. Both keep the
// matched ones in the order of the list, so that later messages are rows without any labels.
#include "halo_exchange.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <utility>

#include "petmad/error.h"
#include "stopwatch.h"

namespace petmad {
namespace {

/// An edge as the lower rank describes it to the higher one.
struct EdgeRequest {
    int64_t center;   ///< the lower rank's numbering
    int64_t neighbor; ///< the higher rank's numbering
    double vector[3];
};

template <typename T> void append(Bytes& bytes, const T* values, size_t n) {
    const char* begin = reinterpret_cast<const char*>(values);
    bytes.insert(bytes.end(), begin, begin + n * sizeof(T));
}

template <typename T> std::vector<T> take(const Bytes& bytes, size_t& at, size_t n) {
    PETMAD_CHECK(
        at + n * sizeof(T) <= bytes.size(), "a message between ranks is cut short: ", bytes.size(),
        " bytes, ", at + n * sizeof(T), " expected; all ranks must run the same version of petmad"
    );
    std::vector<T> values(n);
    std::memcpy(values.data(), bytes.data() + at, n * sizeof(T));
    at += n * sizeof(T);
    return values;
}

int64_t total(const RowCounts& counts) {
    return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

double length(const double* vector) { return norm({vector[0], vector[1], vector[2]}); }

[[noreturn]] void fail_unmatched(
    int rank, int peer, int64_t center, int64_t neighbor, double distance, double radius
) {
    detail::fail(
        "edge without partner: rank ", rank, " sees its atom ", center, " and atom ", neighbor,
        " of rank ", peer, " at ", distance, " Å, but rank ", peer,
        " does not see that edge; ghosts must reach ", radius,
        " Å (cutoff + skin) around every rank and name the atoms they copy"
    );
}

std::mutex registry_mutex;
std::map<int64_t, HaloExchange*>& registry() {
    static std::map<int64_t, HaloExchange*> plans;
    return plans;
}

int64_t enter(HaloExchange* plan) {
    static int64_t last_handle = 0;
    const std::lock_guard<std::mutex> lock(registry_mutex);
    registry()[++last_handle] = plan;
    return last_handle;
}

/// Edges of one pair of ranks, found by their ends.
class EdgeIndex {
public:
    EdgeIndex(const std::vector<CrossingEdge>& edges, int peer) : edges_(edges) {
        for (size_t e = 0; e < edges.size(); ++e) {
            if (edges[e].neighbor.rank == peer) {
                order_.push_back(e);
            }
        }
        std::sort(order_.begin(), order_.end(), [&](size_t a, size_t b) {
            return ends(a) < ends(b);
        });
        is_claimed_.assign(order_.size(), false);
    }

    /// The edge back of a request, nearest in its vector; -1 if none is near enough.
    int64_t claim(const EdgeRequest& request) {
        const std::pair<int64_t, int64_t> wanted{request.neighbor, request.center};
        auto at = std::lower_bound(
            order_.begin(), order_.end(), wanted,
            [&](size_t e, const std::pair<int64_t, int64_t>& key) { return ends(e) < key; }
        );
        double nearest = vector_tolerance;
        auto best = order_.end();
        for (; at != order_.end() && ends(*at) == wanted; ++at) {
            const Vec3& vector = edges_[*at].vector;
            const double distance = norm(
                {vector[0] + request.vector[0], vector[1] + request.vector[1],
                 vector[2] + request.vector[2]}
            );
            if (distance < nearest && !is_claimed_[at - order_.begin()]) {
                nearest = distance;
                best = at;
            }
        }
        if (best == order_.end()) {
            return -1;
        }
        is_claimed_[best - order_.begin()] = true;
        return static_cast<int64_t>(*best);
    }

    /// Calls visit(edge) for each edge that nobody claimed.
    template <typename Visit> void visit_unclaimed(Visit&& visit) const {
        for (size_t at = 0; at < order_.size(); ++at) {
            if (!is_claimed_[at]) {
                visit(edges_[order_[at]]);
            }
        }
    }

private:
    std::pair<int64_t, int64_t> ends(size_t e) const {
        return {edges_[e].center, edges_[e].neighbor.owner};
    }

    const std::vector<CrossingEdge>& edges_;
    std::vector<size_t> order_;
    std::vector<bool> is_claimed_;
};

/// Raw edges with a partner, of each rank, in the order both sides keep.
using MatchedEdges = std::vector<std::vector<int64_t>>;

struct RankPair {
    int here;
    int peer;
};

/// Nodes of the atoms that the peer holds ghosts of.
std::vector<int64_t> nodes_of(
    const std::vector<int64_t>& owners, const std::vector<int64_t>& node_of_atom, RankPair ranks
) {
    std::vector<int64_t> nodes;
    for (const int64_t atom : owners) {
        const bool is_known = atom >= 0 && atom < static_cast<int64_t>(node_of_atom.size())
                              && node_of_atom[atom] >= 0;
        PETMAD_CHECK(
            is_known, "rank ", ranks.peer, " holds a ghost of atom ", atom, " of rank ", ranks.here,
            ", which owns ", node_of_atom.size(),
            " atoms and has no such one; pass the owners of the current ghosts and set "
            "`atoms_changed`"
        );
        nodes.push_back(node_of_atom[atom]);
    }
    return nodes;
}

/// The higher rank's part: one byte per request, 1 where the edge back is here.
Bytes answer(
    const std::vector<EdgeRequest>& requests, const std::vector<CrossingEdge>& edges,
    RankPair ranks, double certain_radius, std::vector<int64_t>& matched
) {
    EdgeIndex index(edges, ranks.peer);
    Bytes answers;
    for (const EdgeRequest& request : requests) {
        const int64_t edge = index.claim(request);
        answers.push_back(edge >= 0 ? 1 : 0);
        if (edge >= 0) {
            matched.push_back(edges[edge].raw_edge);
        } else if (length(request.vector) < certain_radius) {
            fail_unmatched(
                ranks.peer, ranks.here, request.center, request.neighbor, length(request.vector),
                certain_radius
            );
        }
    }
    index.visit_unclaimed([&](const CrossingEdge& edge) {
        if (norm(edge.vector) < certain_radius) {
            fail_unmatched(
                ranks.here, ranks.peer, edge.center, edge.neighbor.owner, norm(edge.vector),
                certain_radius
            );
        }
    });
    return answers;
}

/// The lower rank's part: which of the edges it asked for have a partner.
void read_answers(
    const std::vector<Bytes>& answers, const std::vector<CrossingEdge>& edges, int here,
    double certain_radius, MatchedEdges& matched
) {
    std::vector<size_t> next(answers.size(), 0);
    for (const CrossingEdge& edge : edges) {
        const int peer = edge.neighbor.rank;
        if (peer < here) {
            continue;
        }
        PETMAD_CHECK(
            next[peer] < answers[peer].size(), "rank ", peer, " answered ", answers[peer].size(),
            " edges only; all ranks must run the same version of petmad"
        );
        if (answers[peer][next[peer]++] != 0) {
            matched[peer].push_back(edge.raw_edge);
        } else if (norm(edge.vector) < certain_radius) {
            fail_unmatched(
                here, peer, edge.center, edge.neighbor.owner, norm(edge.vector), certain_radius
            );
        }
    }
}

} // namespace

HaloExchange::HaloExchange(
    Transport& transport, const std::vector<RemoteAtom>& remote_atoms,
    const std::vector<CrossingEdge>& edges, const std::vector<int64_t>& node_of_atom,
    double certain_radius
)
    : transport_(&transport), rank_(transport.rank()), n_ranks_(transport.n_ranks()),
      n_remote_(static_cast<int64_t>(remote_atoms.size())), remote_counts_(n_ranks_, 0),
      sent_counts_(n_ranks_, 0), crossing_counts_(n_ranks_, 0), live_counts_(n_ranks_, 0) {
    for (const RemoteAtom& atom : remote_atoms) {
        ++remote_counts_[atom.rank];
    }
    match(
        edges, node_of_atom, transport_->all_to_all(requests(remote_atoms, edges)), certain_radius
    );
    handle_ = enter(this);
}

HaloExchange::~HaloExchange() {
    const std::lock_guard<std::mutex> lock(registry_mutex);
    registry().erase(handle_);
}

HaloExchange& HaloExchange::from_handle(int64_t handle) {
    const std::lock_guard<std::mutex> lock(registry_mutex);
    const auto found = registry().find(handle);
    PETMAD_CHECK(
        found != registry().end(), "there is no halo exchange with handle ", handle,
        "; pass 0 to evaluate without one"
    );
    return *found->second;
}

/// For each rank: owners of the ghosts held here, and, if it is a higher rank, the crossing edges.
std::vector<Bytes> HaloExchange::requests(
    const std::vector<RemoteAtom>& remote_atoms, const std::vector<CrossingEdge>& edges
) {
    std::vector<std::vector<int64_t>> owners(n_ranks_);
    for (const RemoteAtom& atom : remote_atoms) {
        owners[atom.rank].push_back(atom.owner);
    }
    std::vector<std::vector<EdgeRequest>> asked(n_ranks_);
    for (const CrossingEdge& edge : edges) {
        if (edge.neighbor.rank > rank_) {
            asked[edge.neighbor.rank].push_back(
                {edge.center, edge.neighbor.owner, {edge.vector[0], edge.vector[1], edge.vector[2]}}
            );
        }
    }
    std::vector<Bytes> messages(n_ranks_);
    for (int peer = 0; peer < n_ranks_; ++peer) {
        const int64_t sizes[2] = {
            static_cast<int64_t>(owners[peer].size()), static_cast<int64_t>(asked[peer].size())
        };
        if (peer != rank_) {
            append(messages[peer], sizes, 2);
            append(messages[peer], owners[peer].data(), owners[peer].size());
            append(messages[peer], asked[peer].data(), asked[peer].size());
            traffic_.plan += static_cast<int64_t>(messages[peer].size());
        }
    }
    return messages;
}

void HaloExchange::match(
    const std::vector<CrossingEdge>& edges, const std::vector<int64_t>& node_of_atom,
    const std::vector<Bytes>& received, double certain_radius
) {
    std::vector<Bytes> answers(n_ranks_);
    MatchedEdges matched(n_ranks_);
    for (int peer = 0; peer < n_ranks_; ++peer) {
        if (peer == rank_) {
            continue;
        }
        size_t at = 0;
        const auto sizes = take<int64_t>(received[peer], at, 2);
        const auto owners = take<int64_t>(received[peer], at, sizes[0]);
        const auto nodes = nodes_of(owners, node_of_atom, {rank_, peer});
        sent_nodes_.insert(sent_nodes_.end(), nodes.begin(), nodes.end());
        sent_counts_[peer] = sizes[0];
        if (peer < rank_) {
            const auto requests = take<EdgeRequest>(received[peer], at, sizes[1]);
            answers[peer] = answer(requests, edges, {rank_, peer}, certain_radius, matched[peer]);
            traffic_.plan += static_cast<int64_t>(answers[peer].size());
        }
    }
    read_answers(transport_->all_to_all(answers), edges, rank_, certain_radius, matched);
    for (int peer = 0; peer < n_ranks_; ++peer) {
        crossing_counts_[peer] = static_cast<int64_t>(matched[peer].size());
        crossing_edges_.insert(crossing_edges_.end(), matched[peer].begin(), matched[peer].end());
    }
}

void HaloExchange::begin_step(const std::vector<int64_t>* step_of_raw_edge, Transport& transport) {
    transport_ = &transport;
    crossing_steps_ = crossing_edges_;
    if (step_of_raw_edge != nullptr) {
        for (int64_t& edge : crossing_steps_) {
            edge = (*step_of_raw_edge)[edge];
        }
    }
}

void HaloExchange::agree(const bool* keep, char* is_live) {
    Bytes own;
    for (const int64_t edge : crossing_steps_) {
        own.push_back(edge >= 0 && keep[edge] ? 1 : 0);
    }
    Bytes theirs(own.size());
    traffic_.plan += swap(own.data(), crossing_counts_, theirs.data(), crossing_counts_, 1);
    for (size_t k = 0; k < theirs.size(); ++k) {
        if (crossing_steps_[k] >= 0) {
            is_live[crossing_steps_[k]] = own[k] & theirs[k];
        }
    }
}

void HaloExchange::select_live(const std::vector<int64_t>& kept_of_step) {
    live_edges_.clear();
    size_t k = 0;
    for (int peer = 0; peer < n_ranks_; ++peer) {
        const size_t n_before = live_edges_.size();
        for (int64_t n = 0; n < crossing_counts_[peer]; ++n, ++k) {
            const int64_t step = crossing_steps_[k];
            if (step >= 0 && kept_of_step[step] >= 0) {
                live_edges_.push_back(kept_of_step[step]);
            }
        }
        live_counts_[peer] = static_cast<int64_t>(live_edges_.size() - n_before);
    }
}

void HaloExchange::to_ghosts(const char* sent, char* remote, int64_t row_bytes) {
    traffic_.values += swap(sent, sent_counts_, remote, remote_counts_, row_bytes);
}

void HaloExchange::from_ghosts(const char* remote, char* sent, int64_t row_bytes) {
    traffic_.values += swap(remote, remote_counts_, sent, sent_counts_, row_bytes);
}

void HaloExchange::swap_edges(const char* own, char* reversed, int64_t row_bytes) {
    traffic_.messages += swap(own, live_counts_, reversed, live_counts_, row_bytes);
}

int64_t HaloExchange::swap(
    const char* out, const RowCounts& out_counts, char* in, const RowCounts& in_counts,
    int64_t row_bytes
) {
    const Stopwatch stopwatch(seconds_);
    std::vector<Message> send;
    std::vector<Message> receive;
    for (int peer = 0; peer < n_ranks_; ++peer) {
        const int64_t n_out = out_counts[peer] * row_bytes;
        const int64_t n_in = in_counts[peer] * row_bytes;
        if (n_out > 0) {
            send.push_back({peer, const_cast<char*>(out), n_out});
        }
        if (n_in > 0) {
            receive.push_back({peer, in, n_in});
        }
        out += n_out;
        in += n_in;
    }
    transport_->exchange(send, receive);
    return total(out_counts) * row_bytes;
}

} // namespace petmad
