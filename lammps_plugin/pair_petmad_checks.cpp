// What PairPetmad refuses of LAMMPS's settings, since answers would be wrong.
// SPDX-License-Identifier: GPL-2.0-only
#include "pair_petmad.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "force.h"
#include "group.h"
#include "neighbor.h"

#include "petmad/error.h"

namespace petmad_lammps {

using namespace LAMMPS_NS;

namespace {

/// The group that `comm_modify group` restricts ghosts to, 0 for all: Comm shows it to heirs alone.
struct BorderGroup : Comm {
    static int of(const Comm& comm) { return comm.*(&BorderGroup::bordergroup); }
};

} // namespace

void PairPetmad::check_settings() const {
    check_model();
    PETMAD_CHECK(
        !species_of_type_.empty(), "the atom types have no elements; after `pair_style petmad` "
                                   "write `pair_coeff * *` with one element per type"
    );
    PETMAD_CHECK(
        force->newton_pair, "needs `newton on`, since forces on ghost atoms must be sent home; "
                            "remove `newton off` (the pair part) from the input"
    );
    check_exclusions();
    PETMAD_CHECK(
        !recomputes() || comm->mode == Comm::SINGLE,
        "`mode recompute` needs ghosts of all types "
        "equally deep; remove `comm_modify mode multi`, or use `mode exchange`"
    );
    check_tiles();
    PETMAD_CHECK(
        neighbor->includegroup == 0, "`neigh_modify include` cannot leave atoms out of a many-body "
                                     "model; remove it"
    );
    PETMAD_CHECK(
        BorderGroup::of(*comm) == 0, "`comm_modify group` leaves ghosts out that a many-body model "
                                     "needs; remove it"
    );
}

/// Whole atoms can be left out, by a group excluded from `all` (fix gcmc does so to try a deletion,
/// from its own init() on), but not some of their pairs.
void PairPetmad::check_exclusions() const {
    bool excludes = neighbor->nex_mol > 0;
    for (int k = 0; k < neighbor->nex_group; ++k) {
        excludes = excludes || (neighbor->ex1_group[k] != 0 && neighbor->ex2_group[k] != 0);
    }
    for (int k = 0; k < neighbor->nex_type; ++k) {
        excludes = excludes
                   || (species_of_type_[neighbor->ex1_type[k]] >= 0
                       && species_of_type_[neighbor->ex2_type[k]] >= 0);
    }
    PETMAD_CHECK(
        !excludes, "`neigh_modify exclude` cannot take pairs out of a many-body model; remove it, "
                   "or map the types to NULL and use `pair_style hybrid/overlay`"
    );
}

/// Bits of the groups whose atoms take no part, since they are excluded from `all`, group 0.
int PairPetmad::excluded_groups() const {
    int bits = 0;
    for (int k = 0; k < neighbor->nex_group; ++k) {
        // not ex1_bit and ex2_bit, which Neighbor::init() makes: `run pre no` does not call it
        const int other =
            neighbor->ex1_group[k] == 0 ? neighbor->ex2_group[k] : neighbor->ex1_group[k];
        bits |= group->bitmask[other];
    }
    return bits;
}

/// What `neigh_modify exclude` has been told, to see whether it was told more.
std::vector<int> PairPetmad::exclusions() const {
    std::vector<int> all{neighbor->nex_group, neighbor->nex_type, neighbor->nex_mol};
    for (int k = 0; k < neighbor->nex_group; ++k) {
        all.insert(all.end(), {neighbor->ex1_group[k], neighbor->ex2_group[k]});
    }
    for (int k = 0; k < neighbor->nex_type; ++k) {
        all.insert(all.end(), {neighbor->ex1_type[k], neighbor->ex2_type[k]});
    }
    return all;
}

/// comm_style tiled holds no more than one image of an atom on either side.
void PairPetmad::check_tiles() const {
    if (!recomputes() || comm->style != Comm::TILED) {
        return;
    }
    const Domain& box = *Pointers::domain;
    for (int k = 0; k < 3; ++k) {
        PETMAD_CHECK(
            box.periodicity[k] == 0 || box.prd[k] > ghost_depth(), "`mode recompute` needs ghosts ",
            ghost_depth(), " A deep, but the periodic box is ", box.prd[k],
            " A long and `comm_style tiled` allows no more; use `comm_style brick`, or `mode "
            "exchange`"
        );
    }
}

/// `hybrid` asks init_one only for the pairs it leaves to this style.
void PairPetmad::check_hybrid() const {
    const int n = atom->ntypes + 1;
    for (int i = 1; i < n; ++i) {
        for (int j = i; j < n; ++j) {
            const bool is_mapped = species_of_type_[i] >= 0 && species_of_type_[j] >= 0;
            PETMAD_CHECK(
                !is_mapped || pair_is_ours_[i * n + j], "atom types ", i, " and ", j,
                " have elements here, but the hybrid style gives their pairs to another style; a "
                "many-body model needs all pairs of its types: use `pair_style hybrid/overlay`, or "
                "map the types to NULL"
            );
        }
    }
}

} // namespace petmad_lammps
