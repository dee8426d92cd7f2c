// The rows of `corrupt` and `hamming` (edit_draws.h), with the random blocks of a group of rows computed together. First
// comes what decides how much changes: a byte a position (corrupt), a block a row (hamming); then one list of blocks for all
// changes of the group. The density needs the number of changes alone, so nothing is read again. A row longer than a group
// is a group by itself and goes through the buffers a piece at a time.
//
// Compiled with -ffp-contract=off like edits.cpp.
#include "payoffs/edit_changes.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "core/philox_blocks.h"
#include "core/simd.h"
#include "payoffs/edit_density.h"

#if SB_X86_DISPATCH
#include <emmintrin.h>
#endif

namespace softbellman::cpu {
namespace {

constexpr std::int32_t kPositions = 1024;  // of a group of rows, or of a piece

// Block requests and their answers.
struct Blocks {
    std::int64_t count = 0;
    std::uint32_t index[kPositions + kPhiloxGroup], row[kPositions + kPhiloxGroup];
    std::uint64_t first[kPositions + kPhiloxGroup], second[kPositions + kPhiloxGroup];

    // `blocks` consecutive ones of a row.
    void request(std::uint32_t start, std::int32_t blocks, std::int64_t of_row) {
        for (std::int32_t k = 0; k < blocks; ++k) {
            index[count + k] = start + static_cast<std::uint32_t>(k);
            row[count + k] = static_cast<std::uint32_t>(of_row);
        }
        count += blocks;
    }
    void draw(const EditProblem& problem) { philox_blocks(index, row, count, problem.seed, problem.offset, first, second); }
};

// The source at hand: its tokens, and where they are touchable.
class Source {
 public:
    explicit Source(const EditProblem& problem)
        : problem_(problem),
          leading_(problem.largest_special == problem.special_count - 1),
          identity_(new std::int32_t[static_cast<std::size_t>(problem.length())]) {
        std::iota(identity_.get(), identity_.get() + problem.length(), 0);
    }

    // The source of a row.
    void select(std::int64_t row) {
        if (row >= gold && row - gold < problem_.samples) return;
        const std::int64_t b = row / problem_.samples;
        gold = b * problem_.samples;
        tokens = problem_.reference(b);
        length = problem_.reference_length(b);
        touchable = 0;
        if (leading_)
            for (std::int32_t i = 0; i < length; ++i) touchable += tokens[i] > problem_.largest_special;
        else
            for (std::int32_t i = 0; i < length; ++i) touchable += problem_.touchable(tokens[i]);
        listed_ = false;
    }
    bool is_touchable(std::int32_t i) const { return touchable == length || problem_.touchable(tokens[i]); }

    // The touchable positions, ascending.
    const std::int32_t* positions() {
        if (touchable == length) return identity_.get();
        if (!listed_) {
            list_.resize(static_cast<std::size_t>(length) + 1);
            std::int32_t count = 0;
            for (std::int32_t i = 0; i < length; ++i) {
                list_[static_cast<std::size_t>(count)] = i;
                count += problem_.touchable(tokens[i]);
            }
            listed_ = true;
        }
        return list_.data();
    }

    // EditProblem::other_token; one comparison where the special ids are the first ones.
    std::int64_t other_token(std::uint64_t random, std::int64_t token) const {
        if (!leading_) return problem_.other_token(random, token);
        const auto others = static_cast<std::uint64_t>(problem_.alphabet - 1);
        const auto substitute = problem_.special_count + static_cast<std::int64_t>(multiply_high64(random, others));
        return substitute + (substitute >= token);
    }

    std::int64_t gold = INT64_MAX;  // its first row
    const std::int64_t* tokens = nullptr;
    std::int32_t length = 0, touchable = 0;

 private:
    const EditProblem& problem_;
    const bool leading_;
    bool listed_ = false;
    std::unique_ptr<std::int32_t[]> identity_;
    std::vector<std::int32_t> list_;
};

// Which of the 16 bytes of a decision block lie below `upper`, 0 to 256, and which are equal to it.
struct Decisions {
    std::uint32_t below, equal;
};

inline Decisions compare_bytes(std::uint64_t first, std::uint64_t second, std::uint32_t upper) {
#if SB_X86_DISPATCH
    const __m128i bytes = _mm_set_epi64x(static_cast<std::int64_t>(second), static_cast<std::int64_t>(first));
    const __m128i limit = _mm_set1_epi8(static_cast<char>(upper)), largest = _mm_set1_epi8(static_cast<char>(upper - 1));
    const auto not_above = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(bytes, largest), bytes));
    const auto same = _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, limit));
    return {upper == 0 ? 0u : static_cast<std::uint32_t>(not_above), upper > 255 ? 0u : static_cast<std::uint32_t>(same)};
#else
    Decisions result{0, 0};
    for (int i = 0; i < 16; ++i) {
        const auto byte = static_cast<std::uint32_t>((i & 8 ? second : first) >> (8 * (i & 7))) & 0xff;
        result.below |= static_cast<std::uint32_t>(byte < upper) << i;
        result.equal |= static_cast<std::uint32_t>(byte == upper) << i;
    }
    return result;
#endif
}

inline std::int32_t lowest_bit(std::uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    std::int32_t bit = 0;
    while ((bits >> bit & 1) == 0) ++bit;
    return bit;
#endif
}

class Changes {
 public:
    explicit Changes(const EditProblem& problem) : problem_(problem), source_(problem) {}

    // A group: rows first .. last, at most kPositions padded positions, or one longer row.
    void draw(std::int64_t first, std::int64_t last) {
        if (problem_.proposal == EditProposal::hamming)
            hamming(first, last);
        else if (last - first > 1 || problem_.length() <= kPositions)
            corrupt(first, last);
        else
            corrupt_long(first);
    }

 private:
    // Of the selected source's rows.
    bool is_gold(std::int64_t row) const { return problem_.keep_gold && row == source_.gold; }

    std::int64_t* start_row(std::int64_t row) {
        source_.select(row);
        std::int64_t* out = problem_.edited + row * problem_.width;
        std::copy_n(source_.tokens, source_.length, out);
        std::fill(out + source_.length, out + problem_.width, problem_.pad);
        problem_.edited_lengths[row] = source_.length;
        return out;
    }

    void finish_row(std::int64_t row, std::int32_t changed) {
        const EditDifference difference{changed, 0, 0, true};
        const std::int32_t n = source_.touchable;
        const double value = problem_.proposal == EditProposal::corrupt ? corrupt_density(problem_, n, difference)
                                                                        : hamming_density(problem_, n, difference);
        problem_.log_density[row] = mixed_density(problem_, value, changed == 0);
    }

    // The positions first .. last of the source that change go to `changes`; returns how many. Their bytes stand in the
    // blocks from `block` on; `first` is a multiple of 16.
    std::int32_t decide(std::int64_t row, std::int32_t first, std::int32_t last, std::int64_t block, std::int32_t* changes) {
        const auto upper = static_cast<std::uint32_t>(problem_.rate_threshold >> kEditTieBits);
        std::int32_t count = 0;
        for (std::int32_t origin = first; origin < last; origin += 64) {
            std::uint64_t changing = 0, open = 0;
            for (std::int32_t i = origin; i < std::min(origin + 64, last); i += 16, ++block) {
                const Decisions decisions = compare_bytes(decisions_.first[block], decisions_.second[block], upper);
                changing |= static_cast<std::uint64_t>(decisions.below) << (i - origin);
                open |= static_cast<std::uint64_t>(decisions.equal) << (i - origin);
            }
            const std::uint64_t inside = last - origin < 64 ? (std::uint64_t{1} << (last - origin)) - 1 : ~std::uint64_t{0};
            for (open &= inside; open != 0; open &= open - 1) {
                const std::int32_t bit = lowest_bit(open);
                changing |= static_cast<std::uint64_t>(decide_change(problem_, upper, origin + bit, row)) << bit;
            }
            for (changing &= inside; changing != 0; changing &= changing - 1) {
                changes[count] = origin + lowest_bit(changing);
                count += source_.is_touchable(changes[count]);
            }
        }
        return count;
    }

    // Writes changes begin .. end of a row; block j / 2 of its substitutes is number `block` + j / 2 - begin / 2 of the
    // list.
    void substitute(std::int64_t* out, const std::int32_t* changes, std::int32_t begin, std::int32_t end,
                    std::int64_t block) {
        for (std::int32_t j = begin; j < end; ++j) {
            const std::int64_t k = block + j / 2 - begin / 2;
            const std::int32_t i = changes[j - begin];
            out[i] = source_.other_token(j & 1 ? draws_.second[k] : draws_.first[k], source_.tokens[i]);
        }
    }

    void corrupt(std::int64_t first, std::int64_t last) {
        const std::int32_t each = (problem_.length() + 15) / 16;
        decisions_.count = draws_.count = 0;
        for (std::int64_t row = first; row < last; ++row) decisions_.request(kEditDecisions, each, row);
        decisions_.draw(problem_);
        std::int32_t total = 0;
        for (std::int64_t row = first; row < last; ++row) {
            source_.select(row);
            const std::int32_t count =
                is_gold(row) ? 0 : decide(row, 0, source_.length, (row - first) * each, changes_ + total);
            counts_[row - first] = count;
            draws_.request(1, (count + 1) / 2, row);
            total += count;
        }
        draws_.draw(problem_);
        std::int64_t block = 0;
        total = 0;
        for (std::int64_t row = first; row < last; ++row) {
            const std::int32_t count = counts_[row - first];
            substitute(start_row(row), changes_ + total, 0, count, block);
            finish_row(row, count);
            block += (count + 1) / 2;
            total += count;
        }
    }

    void corrupt_long(std::int64_t row) {
        std::int64_t* out = start_row(row);
        std::int32_t begin = 0;
        for (std::int32_t origin = 0; !is_gold(row) && origin < source_.length; origin += kPositions) {
            decisions_.count = draws_.count = 0;
            decisions_.request(kEditDecisions + static_cast<std::uint32_t>(origin) / 16, kPositions / 16, row);
            decisions_.draw(problem_);
            const std::int32_t last = std::min(origin + kPositions, source_.length);
            const std::int32_t end = begin + decide(row, origin, last, 0, changes_);
            draws_.request(1 + static_cast<std::uint32_t>(begin) / 2, (end + 1) / 2 - begin / 2, row);
            draws_.draw(problem_);
            substitute(out, changes_, begin, end, 0);
            begin = end;
        }
        finish_row(row, begin);
    }

    // The changes of a row by `hamming`; their blocks stand in the list from `block` on. At most 64 touchable positions:
    // those taken are the bits of a word, which waits for no memory.
    void substitute_few(std::int64_t* out, std::int32_t distance, std::int64_t block) {
        const std::int32_t* positions = source_.positions();
        std::uint64_t taken = 0;
        for (std::int32_t newest = source_.touchable - distance; newest < source_.touchable; ++newest, ++block) {
            const std::uint64_t drawn = multiply_high64(draws_.first[block], static_cast<std::uint64_t>(newest) + 1);
            const std::uint64_t rank = taken >> drawn & 1 ? static_cast<std::uint64_t>(newest) : drawn;
            taken |= std::uint64_t{1} << rank;
            const std::int32_t i = positions[rank];
            out[i] = source_.other_token(draws_.second[block], source_.tokens[i]);
        }
    }

    // Any number of them; more changes than a piece holds are drawn here, piece by piece.
    void substitute_many(std::int64_t row, std::int64_t* out, std::int32_t distance, std::int64_t block) {
        const std::int32_t* positions = source_.positions();
        for (std::int32_t j = 0; j < distance; ++j, ++block) {
            if (distance > kPositions && j % kPositions == 0) {
                block = draws_.count = 0;
                draws_.request(1 + static_cast<std::uint32_t>(j), std::min(distance - j, kPositions), row);
                draws_.draw(problem_);
            }
            const std::int32_t newest = source_.touchable - distance + j;
            const std::uint64_t limit = static_cast<std::uint64_t>(newest) + 1;
            std::int32_t i = positions[multiply_high64(draws_.first[block], limit)];
            if (out[i] != source_.tokens[i]) i = positions[newest];
            out[i] = source_.other_token(draws_.second[block], source_.tokens[i]);
        }
    }

    void hamming(std::int64_t first, std::int64_t last) {
        decisions_.count = 0;
        for (std::int64_t row = first; row < last; ++row) decisions_.request(0, 1, row);
        decisions_.draw(problem_);
        draws_.count = 0;
        for (std::int64_t row = first; row < last; ++row) {
            source_.select(row);
            const std::int32_t distance =
                is_gold(row) ? 0 : distance_of(problem_, source_.touchable, decisions_.first[row - first]);
            counts_[row - first] = distance;
            if (last - first > 1 || distance <= kPositions) draws_.request(1, distance, row);
        }
        draws_.draw(problem_);
        std::int64_t block = 0;
        for (std::int64_t row = first; row < last; ++row) {
            const std::int32_t distance = counts_[row - first];
            std::int64_t* out = start_row(row);
            if (source_.touchable <= 64)
                substitute_few(out, distance, block);
            else
                substitute_many(row, out, distance, block);
            block += distance;
            finish_row(row, distance);
        }
    }

    const EditProblem& problem_;
    Source source_;
    Blocks decisions_, draws_;
    std::int32_t changes_[kPositions + 1], counts_[kPositions];
};

}  // namespace

void change_rows(const EditProblem& problem, std::int64_t first, std::int64_t last) {
    Changes changes(problem);
    const std::int64_t group = std::max(1, kPositions / std::max(problem.length(), 1));
    for (std::int64_t row = first; row < last; row += group) changes.draw(row, std::min(row + group, last));
}

}  // namespace softbellman::cpu
