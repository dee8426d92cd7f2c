// What the launchers of all families share: dispatch on the element type and the device, the loop of a block over rows, and
// how many packets a thread reads before it uses the first.
#pragma once
#include "core/reduce.cuh"
#include "core/row_states.cuh"
#include "core/split_rows.cuh"

namespace softbellman::cuda {

// The most threads a row gets; float64 arithmetic needs more registers a thread than 1024 threads leave it.
template <class T>
constexpr int kForwardThreads = sizeof(T) == 8 ? 512 : 1024;
constexpr int kBackwardThreads = 256;
constexpr int kPacketsOneInput = 4;     // 64 bytes in flight a thread
constexpr int kPacketsTwoInputs = 2;    // 32 bytes of each
constexpr int kPacketsThreeInputs = 1;  // 16 bytes of each
constexpr int kPacketsBackward = 2;     // the stores need registers too

template <class T>
struct TypeTag {
    using type = T;
};

template <class Body>
void dispatch_dtype(int dtype, Body body) {
    switch (dtype) {
        case kFloat32:
            return body(TypeTag<float>{});
        case kFloat64:
            return body(TypeTag<double>{});
        case kBFloat16:
            return body(TypeTag<BFloat16>{});
        case kFloat16:
            return body(TypeTag<Float16>{});
    }
    throw std::invalid_argument("dtype must be one of the codes 0, 1, 2, 3, got " + std::to_string(dtype) + ".");
}

// Calls `body` with the element type of the rows, on their device, and reports a launch that could not start. Nothing where
// there are no rows.
template <class Body>
void launch_rows(const char* kernel, const Rows& shape, const Launch& launch, Body body) {
    check_row_sizes(shape.rows, shape.vocab);
    if (shape.rows == 0) return;
    const DeviceGuard guard(launch.device);
    dispatch_dtype(shape.dtype, body);
    check_launch(kernel);
}

template <class A>
__device__ __forceinline__ void set(A* vector, std::int64_t row, A value) {
    if (vector != nullptr) vector[row] = value;
}
template <class A>
__device__ __forceinline__ A get(const A* vector, std::int64_t row, A otherwise) {
    return vector != nullptr ? vector[row] : otherwise;
}

// A block's rows: for (row = first_row(); row < rows; row += row_step()), the same for all threads of a row.
__device__ __forceinline__ std::int64_t first_row() {
    return std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
}
__device__ __forceinline__ std::int64_t row_step() {
    return std::int64_t{gridDim.x} * blockDim.y;
}
__device__ __forceinline__ int warp_lane() {
    return static_cast<int>(threadIdx.x % kWarpSize);
}
__device__ __forceinline__ bool is_masked(const std::uint8_t* mask, std::int64_t row) {
    return mask != nullptr && mask[row] == 0;
}

// An id outside the vocabulary must not read outside the row: it gives NaN.
template <class T>
__device__ __forceinline__ Accumulator<T> element_or_nan(const T* row, std::int64_t column, int length) {
    if (column < 0 || column >= length) return Accumulator<T>(NAN);
    return to_accumulator(row[column]);
}

// The sum of weigh(x(w), w) over a row, in every thread of the row; all of them must call.
template <class T, class Weigh>
__device__ __forceinline__ Accumulator<T> row_total(const T* row, int length, const Weigh& weigh) {
    using A = Accumulator<T>;
    const RowReader<T> reader(row, length);
    const int stride = static_cast<int>(blockDim.x);
    A sum = A(0);
    for (int j = static_cast<int>(threadIdx.x); j < reader.vectors(); j += stride) {
        Packet<T> packet[1];
        reader.template read<1>(j, stride, from_accumulator<T>(-infinity<A>()), packet);
        A x[kLanes<T>];
        widen(packet[0], x);
#pragma unroll
        for (int k = 0; k < kLanes<T>; ++k)
            if (reader.inside(j, k)) sum += weigh(x[k], reader.column(j, k));
    }
    sum = row_reduce(sum, A(0), [](A a, A b) { return a + b; });
    if (blockDim.x == kWarpSize) return __shfl_sync(kFullWarp, sum, 0);
    SB_SHARED(A, total, 1);
    if (threadIdx.x == 0) total[0] = sum;
    __syncthreads();
    sum = total[0];
    __syncthreads();
    return sum;
}

// A normaliser saved in the accumulator's precision is wrong by up to |normaliser| * 2^-25 in the exponent of every
// probability of its row. The forward pass saves a factor that mends it; past this size the weights themselves come near to
// overflowing, and the backward pass sums the row once more.
template <class A>
__device__ __forceinline__ bool is_coarse(A normalizer) {
    constexpr A kLimit = sizeof(A) == 4 ? A(1 << 27) : A(std::int64_t{1} << 56);
    return larger(normalizer, -normalizer) > kLimit && larger(normalizer, -normalizer) < infinity<A>();
}

// What rounding took from the sum a + b, `a` the part of it that may be large.
template <class A>
__device__ __forceinline__ A lost(A a, A b, A rounded) {
    return rounded - rounded == A(0) ? (a - rounded) + b : A(0);
}

// Backward passes reduce nothing as a rule, so a long row is shared out among blocks (gridDim.y): four rounds of a block
// each, fewer where that would leave multiprocessors without a block.
inline RowLaunch elementwise_launch(std::int64_t rows, std::int64_t vocab, int lanes, int packets, int device) {
    RowLaunch launch = row_launch(rows, vocab, lanes, kBackwardThreads);
    if (launch.block.y != 1) return launch;
    const std::int64_t vectors = (vocab + lanes - 1) / lanes, wanted = std::int64_t{2} * multiprocessors(device);
    for (std::int64_t rounds = 4; rounds > 0; rounds /= 2) {
        const std::int64_t per_block = rounds * packets * launch.block.x;
        launch.grid.y = static_cast<unsigned>(std::min<std::int64_t>((vectors + per_block - 1) / per_block, 1024));
        if (rows * launch.grid.y >= wanted) break;
    }
    return launch;
}

}  // namespace softbellman::cuda
