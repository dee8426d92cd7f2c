// Draws and scores rows of the proposals that replace tokens one by one, `corrupt` and `hamming`, many rows at a time.
#pragma once

#include "payoffs/edits.h"

namespace softbellman::cpu {

// Rows first .. last of the batch, whose tokens lie inside the vocabulary: what edit_row gives for each of them, bit for
// bit.
void change_rows(const EditProblem& problem, std::int64_t first, std::int64_t last);

}  // namespace softbellman::cpu
