// A product in tiles of registers. The right factor is packed, a panel of kWidth columns after the other, in blocks of the
// inner index that fit the second-level cache; a tile of kHeight rows and kWidth columns then stays in registers while its
// inner index runs. The left factor is read where it lies if its rows are contiguous, else packed by tiles too.
//
// With fewer rows than columns the product is computed as its transpose, C^T = B^T A^T, and stored across: packed is always
// the smaller factor, so that the weights of a large vocabulary are read once, where they lie.
#include "core/product.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/portability.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kInnerBlock = 512;      // of the inner index, at most
constexpr int64_t kPackedColumns = 2048;  // of the right factor, packed together
constexpr int64_t kTaskTiles = 12;        // tiles of the left factor that a task has, one below the other
constexpr int64_t kTaskPanels = 16;       // and panels of the right factor

// One block of the inner index: what every tile needs to know.
struct Block {
    int64_t inner = 0;              // its length
    Strided left;                   // from its first index on
    bool packs_left = false;        // else `left.column` is 1
    const float* packed = nullptr;  // the panels of the right factor
    float* out = nullptr;           // from the first column of the panels on
    int64_t out_row = 0, out_column = 0;
    const float* row_bias = nullptr;  // of the first block alone, by rows and by columns of the tiles
    const float* column_bias = nullptr;
    float scale = 1.0f;
    bool adds = false;
};

// Before a loop over the rows of a tile, whose sums must be registers.
#if defined(__clang__)
#define SB_UNROLLED _Pragma("unroll")
#elif defined(__GNUC__)
#define SB_UNROLLED _Pragma("GCC unroll 16")
#else
#define SB_UNROLLED
#endif

#if defined(__GNUC__)
template <int kLanes>
struct Register {
    typedef float type __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float))));
};
#else
template <int kLanes>
struct Register {
    struct type {
        float lanes[kLanes];
    };
};
#endif

template <int kLanes, int kHeight>
struct Tiles {
    static constexpr int kWidth = 2 * kLanes;
    using Vector = typename Register<kLanes>::type;

    static SB_INLINE void multiply_add(Vector& sum, float factor, const Vector& values) {
#if defined(__GNUC__)
        sum += factor * values;
#else
        for (int lane = 0; lane < kLanes; ++lane) sum.lanes[lane] += factor * values.lanes[lane];
#endif
    }

    // The sums of one tile, [kHeight, kWidth]. `left` is at its first row; its rows are `height` apart in memory, its inner
    // index `step`.
    static SB_INLINE void sums(const float* left, int64_t height, int64_t step, const float* panel, int64_t inner,
                               float* tile) {
        Vector sum[kHeight][2] = {};
        for (int64_t k = 0; k < inner; ++k) {
            Vector first, second;
            std::memcpy(&first, panel, sizeof(Vector));
            std::memcpy(&second, panel + kLanes, sizeof(Vector));
            panel += kWidth;
            SB_UNROLLED
            for (int row = 0; row < kHeight; ++row) {
                const float factor = left[row * height];
                multiply_add(sum[row][0], factor, first);
                multiply_add(sum[row][1], factor, second);
            }
            left += step;
        }
        SB_UNROLLED
        for (int row = 0; row < kHeight; ++row) {
            std::memcpy(tile + row * kWidth, &sum[row][0], sizeof(Vector));
            std::memcpy(tile + row * kWidth + kLanes, &sum[row][1], sizeof(Vector));
        }
    }

    // Put a tile where it belongs: its rows `first_row` and on, its columns `first_column` and on.
    static SB_INLINE void store(const Block& block, const float* tile, int64_t first_row, int64_t rows, int64_t first_column,
                                int64_t columns) {
        const auto value = [&](int64_t row, int64_t column, float before) {
            float start = block.adds ? before : 0.0f;
            if (block.row_bias != nullptr) start = block.row_bias[first_row + row];
            if (block.column_bias != nullptr) start = block.column_bias[first_column + column];
            return start + block.scale * tile[row * kWidth + column];
        };
        float* const out = block.out + first_row * block.out_row + first_column * block.out_column;
        if (block.out_column == 1) {
            for (int64_t row = 0; row < rows; ++row) {
                float* const line = out + row * block.out_row;
                for (int64_t column = 0; column < columns; ++column) line[column] = value(row, column, line[column]);
            }
        } else {
            for (int64_t column = 0; column < columns; ++column) {
                float* const line = out + column * block.out_column;
                for (int64_t row = 0; row < rows; ++row) line[row] = value(row, column, line[row]);
            }
        }
    }

    // Rows of the left factor, tile by tile, the inner index outside, rows inside; the last tile is filled up with zeros.
    static SB_INLINE void pack_left(const Block& block, int64_t first_row, int64_t rows, float* packed) {
        for (int64_t top = 0; top < rows; top += kHeight) {
            const int64_t height = std::min<int64_t>(kHeight, rows - top);
            const float* const source = block.left.data + (first_row + top) * block.left.row;
            for (int64_t k = 0; k < block.inner; ++k) {
                for (int64_t row = 0; row < height; ++row) {
                    packed[k * kHeight + row] = source[row * block.left.row + k * block.left.column];
                }
                for (int64_t row = height; row < kHeight; ++row) packed[k * kHeight + row] = 0.0f;
            }
            packed += kHeight * block.inner;
        }
    }

    // Rows [first_row, last_row) of the left factor times columns [first_column, last_column) of the right.
    static SB_INLINE void task(const Block& block, int64_t first_row, int64_t last_row, int64_t first_column,
                               int64_t last_column, float* packed_left) {
        alignas(64) float tile[kHeight * kWidth];
        const int64_t rows = last_row - first_row;
        const int64_t whole = rows / kHeight * kHeight;  // rows of tiles that are read where they lie
        if (block.packs_left) {
            pack_left(block, first_row, rows, packed_left);
        } else if (whole < rows) {
            pack_left(block, first_row + whole, rows - whole, packed_left);
        }
        for (int64_t column = first_column; column < last_column; column += kWidth) {
            const float* const panel = block.packed + column * block.inner;
            const int64_t width = std::min<int64_t>(kWidth, last_column - column);
            for (int64_t top = 0; top < rows; top += kHeight) {
                const int64_t height = std::min<int64_t>(kHeight, rows - top);
                if (block.packs_left) {
                    sums(packed_left + top * block.inner, 1, kHeight, panel, block.inner, tile);
                } else if (top < whole) {
                    sums(block.left.data + (first_row + top) * block.left.row, block.left.row, 1, panel, block.inner, tile);
                } else {
                    sums(packed_left, 1, kHeight, panel, block.inner, tile);
                }
                store(block, tile, first_row + top, height, column, width);
            }
        }
    }

    // One panel of the right factor: the inner index outside, columns inside; missing columns are zeros.
    static SB_INLINE void pack_panel(const Strided& right, int64_t inner, int64_t columns, float* panel) {
        if (right.column == 1) {
            for (int64_t k = 0; k < inner; ++k) {
                std::memcpy(panel + k * kWidth, right.data + k * right.row, static_cast<size_t>(columns) * sizeof(float));
                for (int64_t column = columns; column < kWidth; ++column) panel[k * kWidth + column] = 0.0f;
            }
            return;
        }
        for (int64_t k = 0; k < inner; ++k) {
            for (int64_t column = 0; column < columns; ++column) {
                panel[k * kWidth + column] = right.data[k * right.row + column * right.column];
            }
            for (int64_t column = columns; column < kWidth; ++column) panel[k * kWidth + column] = 0.0f;
        }
    }
};

// The tiles for a set of instructions, as functions that are compiled for it.
struct Kernels {
    int64_t height, width;
    void (*task)(const Block&, int64_t, int64_t, int64_t, int64_t, float*);
    void (*pack_panel)(const Strided&, int64_t, int64_t, float*);
};

#define SB_PRODUCT_KERNELS(name, target, lanes, tile_height)                                                 \
    target void task_##name(const Block& block, int64_t first_row, int64_t last_row, int64_t first_column,   \
                            int64_t last_column, float* packed_left) {                                       \
        Tiles<lanes, tile_height>::task(block, first_row, last_row, first_column, last_column, packed_left); \
    }                                                                                                        \
    target void pack_##name(const Strided& right, int64_t inner, int64_t columns, float* panel) {            \
        Tiles<lanes, tile_height>::pack_panel(right, inner, columns, panel);                                 \
    }                                                                                                        \
    constexpr Kernels kernels_##name{tile_height, 2 * lanes, &task_##name, &pack_##name};

SB_PRODUCT_KERNELS(baseline, , 4, 6)
#if SB_X86_DISPATCH
SB_PRODUCT_KERNELS(avx2, SB_TARGET_AVX2, 8, 6)
SB_PRODUCT_KERNELS(avx512, SB_TARGET_AVX512, 16, 14)
#endif

const Kernels& kernels() {
#if SB_X86_DISPATCH
    if (simd_level() == SimdLevel::kAvx512) return kernels_avx512;
    if (simd_level() == SimdLevel::kAvx2) return kernels_avx2;
#endif
    return kernels_baseline;
}

int64_t in_steps(int64_t length, int64_t step) {
    return (length + step - 1) / step;
}

// Kept by each thread that asks, since to allocate it anew costs a tenth of a small product.
float* scratch(size_t elements, int which) {
    thread_local std::vector<float> kept[2];
    if (kept[which].size() < elements) kept[which].resize(elements);
    return kept[which].data();
}

Product transposed(const Product& arguments) {
    Product other = arguments;
    std::swap(other.rows, other.columns);
    other.left = {arguments.right.data, arguments.right.column, arguments.right.row};
    other.right = {arguments.left.data, arguments.left.column, arguments.left.row};
    return other;
}

}  // namespace

void product(const Product& arguments, int threads) {
    const bool across = arguments.rows < arguments.columns;
    const Product wanted = across ? transposed(arguments) : arguments;
    const Kernels& use = kernels();
    if (wanted.rows <= 0 || wanted.columns <= 0) return;

    Block block;
    block.scale = wanted.scale;
    block.out_row = across ? 1 : wanted.out_row;
    block.out_column = across ? wanted.out_row : 1;
    block.packs_left = wanted.left.column != 1;
    // Equal blocks of the inner index; without one there is a block of length 0, which stores the bias.
    const int64_t blocks = std::max<int64_t>(1, in_steps(wanted.inner, kInnerBlock));
    const int64_t inner_step = std::max<int64_t>(1, in_steps(wanted.inner, blocks));
    const int64_t panel_width = std::min(kPackedColumns, in_steps(wanted.columns, use.width) * use.width);
    float* const packed = scratch(static_cast<size_t>(panel_width * inner_step), 0);
    const int64_t row_step = use.height * kTaskTiles, column_step = use.width * kTaskPanels;
    const auto packed_left = static_cast<size_t>(block.packs_left ? row_step * inner_step : use.height * inner_step);

    for (int64_t left_column = 0; left_column < wanted.columns; left_column += kPackedColumns) {
        const int64_t columns = std::min(kPackedColumns, wanted.columns - left_column);
        for (int64_t number = 0; number < blocks; ++number) {
            const int64_t from = std::min(number * inner_step, wanted.inner);
            block.inner = std::min(inner_step, wanted.inner - from);
            block.left = wanted.left;
            block.left.data += from * wanted.left.column;
            block.out = wanted.out + left_column * block.out_column;
            block.adds = wanted.keep || number > 0;
            block.row_bias = number == 0 && across ? wanted.bias : nullptr;
            block.column_bias = number == 0 && !across && wanted.bias != nullptr ? wanted.bias + left_column : nullptr;
            block.packed = packed;
            parallel_rows(in_steps(columns, use.width), threads, use.width * block.inner, [&](int64_t first, int64_t last) {
                for (int64_t panel = first; panel < last; ++panel) {
                    const int64_t column = panel * use.width;
                    const Strided part = {
                        wanted.right.data + from * wanted.right.row + (left_column + column) * wanted.right.column,
                        wanted.right.row, wanted.right.column};
                    use.pack_panel(part, block.inner, std::min(use.width, columns - column), packed + column * block.inner);
                }
            });
            const int64_t across_tasks = in_steps(columns, column_step),
                          tasks = in_steps(wanted.rows, row_step) * across_tasks;
            const int workers = static_cast<int>(std::min<int64_t>(std::max(threads, 1), tasks));
            run_chunks(tasks, 1, workers, [&](int64_t first, int64_t last) {
                float* const own = scratch(packed_left, 1);
                for (int64_t task = first; task < last; ++task) {
                    const int64_t row = task / across_tasks * row_step, column = task % across_tasks * column_step;
                    use.task(block, row, std::min(row + row_step, wanted.rows), column,
                             std::min(column + column_step, columns), own);
                }
            });
        }
    }
}

bool product_is_faster() {
    static const bool faster = [] {
        const char* const wanted = std::getenv("SOFTBELLMAN_PRODUCTS");
        const std::string name = wanted == nullptr ? "" : wanted;
        if (name == "native") return true;
        if (name == "blas") return false;
#if SB_X86_DISPATCH
        __builtin_cpu_init();
        return simd_level() == SimdLevel::kAvx512 && __builtin_cpu_is("amd") != 0;
#else
        return false;
#endif
    }();
    return faster;
}

}  // namespace softbellman::cpu
