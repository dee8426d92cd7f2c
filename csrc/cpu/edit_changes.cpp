// The rows of `corrupt` and `hamming` (edit_draws.h), with the random blocks of a group of rows computed together. First
// comes what decides how much changes: a byte a position (corrupt), a block a row (hamming); then one list of blocks for all
// changes of the group. The density needs the number of changes alone, so nothing is read again. A row longer than a group
// is a group by itself and goes through the buffers a piece at a time.
//
// Compiled with -ffp-contract=off like edits.cpp.
#include "edit_changes.h"

#include <algorithm>
#include <memory>

#include "../common/edit_density.h"
#include "philox_blocks.h"

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

// The touchable positions of the source at hand, ascending, and its tokens.
class Source {
 public:
    explicit Source(const EditProblem& problem)
        : problem_(problem),
          leading_(problem.largest_special == problem.special_count - 1),
          positions_(new std::int32_t[static_cast<std::size_t>(problem.length) + 1]) {}

    void select(std::int64_t b) {
        if (b == selected_) return;
        selected_ = b;
        tokens = problem_.reference(b);
        length = problem_.reference_length(b);
        touchable = 0;
        for (std::int32_t i = 0; i < length; ++i) {
            positions_[touchable] = i;
            touchable += leading_ ? tokens[i] > problem_.largest_special : problem_.touchable(tokens[i]);
        }
    }
    const std::int32_t* positions() const { return positions_.get(); }

    // EditProblem::other_token; one comparison where the special ids are the first ones.
    std::int64_t other_token(std::uint64_t random, std::int64_t token) const {
        if (!leading_) return problem_.other_token(random, token);
        const auto others = static_cast<std::uint64_t>(problem_.alphabet - 1);
        const auto substitute = problem_.special_count + static_cast<std::int64_t>(multiply_high64(random, others));
        return substitute + (substitute >= token);
    }

    const std::int64_t* tokens = nullptr;
    std::int32_t length = 0, touchable = 0;

 private:
    const EditProblem& problem_;
    const bool leading_;
    std::int64_t selected_ = -1;
    std::unique_ptr<std::int32_t[]> positions_;
};

class Changes {
 public:
    explicit Changes(const EditProblem& problem) : problem_(problem), source_(problem) {}

    // A group: rows first .. last, at most kPositions padded positions, or one longer row.
    void draw(std::int64_t first, std::int64_t last) {
        if (problem_.proposal == EditProposal::hamming)
            hamming(first, last);
        else if (last - first > 1 || problem_.length <= kPositions)
            corrupt(first, last);
        else
            corrupt_long(first);
    }

 private:
    bool is_gold(std::int64_t row) const { return problem_.keep_gold && row % problem_.samples == 0; }

    std::int64_t* start_row(std::int64_t row) {
        source_.select(row / problem_.samples);
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

    // The positions `from` .. `to` of the source's list that change, appended to `changes`: their decision bytes stand in
    // the blocks from `block` on, the first of which serves position `origin`.
    std::int32_t decide(std::int64_t row, std::int32_t from, std::int32_t to, std::int32_t origin, std::int64_t block,
                        std::int32_t* changes) {
        const std::int32_t* positions = source_.positions();
        const std::int64_t end = block + (to > from ? (positions[to - 1] - origin) / 16 + 1 : 0);
        for (std::int64_t k = block; k < end; ++k) {
            std::uint8_t* bytes = bytes_ + 16 * (k - block);
            for (int byte = 0; byte < 8; ++byte) bytes[byte] = static_cast<std::uint8_t>(decisions_.first[k] >> 8 * byte);
            for (int byte = 0; byte < 8; ++byte)
                bytes[8 + byte] = static_cast<std::uint8_t>(decisions_.second[k] >> 8 * byte);
        }
        const auto upper = static_cast<std::uint32_t>(problem_.rate_threshold >> kEditTieBits);
        std::int32_t count = 0;
        bool tie = false;
        for (std::int32_t p = from; p < to; ++p) {
            const std::uint32_t byte = bytes_[positions[p] - origin];
            changes[count] = positions[p];
            count += byte < upper;
            tie |= byte == upper;
        }
        if (!tie) return count;
        count = 0;
        for (std::int32_t p = from; p < to; ++p)
            if (decide_change(problem_, bytes_[positions[p] - origin], positions[p], row)) changes[count++] = positions[p];
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
        const std::int32_t each = (problem_.length + 15) / 16;
        decisions_.count = draws_.count = 0;
        for (std::int64_t row = first; row < last; ++row) decisions_.request(kEditDecisions, each, row);
        decisions_.draw(problem_);
        std::int32_t total = 0;
        for (std::int64_t row = first; row < last; ++row) {
            source_.select(row / problem_.samples);
            const std::int32_t count =
                is_gold(row) ? 0 : decide(row, 0, source_.touchable, 0, (row - first) * each, changes_ + total);
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
        const std::int32_t* positions = source_.positions();
        std::int32_t earlier = 0;
        for (std::int32_t origin = 0, from = 0; !is_gold(row) && origin < source_.length; origin += kPositions) {
            const std::int32_t to = static_cast<std::int32_t>(
                std::lower_bound(positions + from, positions + source_.touchable, origin + kPositions) - positions);
            decisions_.count = draws_.count = 0;
            decisions_.request(kEditDecisions + static_cast<std::uint32_t>(origin) / 16, kPositions / 16, row);
            decisions_.draw(problem_);
            const std::int32_t count = decide(row, from, to, origin, 0, changes_);
            const std::int32_t end = earlier + count;
            draws_.request(1 + static_cast<std::uint32_t>(earlier) / 2, (end + 1) / 2 - earlier / 2, row);
            draws_.draw(problem_);
            substitute(out, changes_, earlier, end, 0);
            earlier = end;
            from = to;
        }
        finish_row(row, earlier);
    }

    void hamming(std::int64_t first, std::int64_t last) {
        decisions_.count = 0;
        for (std::int64_t row = first; row < last; ++row) decisions_.request(0, 1, row);
        decisions_.draw(problem_);
        draws_.count = 0;
        for (std::int64_t row = first; row < last; ++row) {
            source_.select(row / problem_.samples);
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
            for (std::int32_t j = 0; j < distance; ++j, ++block) {
                if (distance > kPositions && j % kPositions == 0) {
                    block = draws_.count = 0;
                    draws_.request(1 + static_cast<std::uint32_t>(j), std::min(distance - j, kPositions), row);
                    draws_.draw(problem_);
                }
                const std::int32_t newest = source_.touchable - distance + j;
                std::int32_t i =
                    source_.positions()[multiply_high64(draws_.first[block], static_cast<std::uint64_t>(newest) + 1)];
                if (out[i] != source_.tokens[i]) i = source_.positions()[newest];
                out[i] = source_.other_token(draws_.second[block], source_.tokens[i]);
            }
            finish_row(row, distance);
        }
    }

    const EditProblem& problem_;
    Source source_;
    Blocks decisions_, draws_;
    std::uint8_t bytes_[kPositions + 16];
    std::int32_t changes_[kPositions + 1], counts_[kPositions];
};

}  // namespace

void change_rows(const EditProblem& problem, std::int64_t first, std::int64_t last) {
    Changes changes(problem);
    const std::int64_t group = std::max(1, kPositions / std::max(problem.length, 1));
    for (std::int64_t row = first; row < last; row += group) changes.draw(row, std::min(row + group, last));
}

}  // namespace softbellman::cpu
