// The kernels of the payoffs, in one list for both devices: `device` is cpu or cuda.
#pragma once

#include "bind/kernel.h"
#include "payoffs/bleu.h"
#include "payoffs/bleu_completion.h"
#include "payoffs/cider.h"
#include "payoffs/edit_distance.h"
#include "payoffs/edits.h"
#include "payoffs/rouge.h"

#define SB_DEFINE_PAYOFFS(module, device)                                        \
    define_answer(module, "bleu_workspace", device::bleu_workspace);             \
    define(module, "bleu_scores", device::bleu_scores);                          \
    define(module, "bleu_counts", device::bleu_counts);                          \
    define_answer(module, "suffix_workspace", device::suffix_workspace);         \
    define(module, "suffix_values", device::suffix_values);                      \
    define_answer(module, "cider_workspace", device::cider_workspace);           \
    define(module, "cider_scores", device::cider_scores);                        \
    define_answer(module, "rouge_workspace", device::rouge_workspace);           \
    define(module, "rouge_scores", device::rouge_scores);                        \
    define_answer(module, "edit_workspace", device::edit_workspace);             \
    define(module, "edit_distances", device::edit_distances);                    \
    define_answer(module, "completion_workspace", device::completion_workspace); \
    define(module, "completion_values", device::completion_values);              \
    define(module, "edit_rows", device::edit_rows)
