// How far an evaluation is from the answers that a model file holds to its own structures.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model.h"
#include "petmad/types.h"

namespace petmad {

using Evaluate = std::function<const Results&(const System&, const Requests&)>;

/// Relative to the largest force of a structure, and of a tensor to its own largest entry.
double largest_deviation(const std::vector<Golden>& structures, const Evaluate& evaluate);

/// What is allowed for a file of this data type.
double self_test_tolerance(const std::string& dtype);

} // namespace petmad
