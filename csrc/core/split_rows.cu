// How much memory the blocks of a row need to meet in.
#include "core/split_rows.cuh"

#include "core/families.cuh"

namespace softbellman::cuda {

std::int64_t row_workspace(std::int64_t rows, std::int64_t vocab, int dtype, int device) {
    check_row_sizes(rows, vocab);
    std::int64_t bytes = 0;
    dispatch_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const RowStrands strands = cut_row(vocab, kLanes<T>);
        if (blocks_for_a_row(rows, strands, device) > 1)
            bytes = rows * strands.count * kMostStateNumbers * static_cast<std::int64_t>(sizeof(Accumulator<T>));
    });
    return bytes;
}

}  // namespace softbellman::cuda
