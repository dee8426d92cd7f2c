// Rows of any alignment in 16-byte pieces.
//
// A row of `length` elements is cut into vectors of kLanes = 16 / sizeof(T) elements; vector j covers the elements
// [j * kLanes - lead, j * kLanes - lead + kLanes). Forward passes use lead = 0, so which thread sees which element, and
// with it every bit of the result, does not depend on where the row lies in memory. Backward passes choose the lead that
// makes their stores aligned. A vector inside the row whose address is misaligned is put together from the two aligned
// vectors it straddles (the second is in the L1 cache already: a neighbour needs it too); vectors at the two ends of a
// row are read element by element, so no byte outside the row is touched.
#pragma once
#include "core/launch.cuh"
#include "core/portability.h"

namespace softbellman::cuda {

template <class T>
constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

// How many threads a block gives a row depends on its length alone: never on the number of rows, so that the sums of
// backward passes do not change with the batch (those of forward passes do not depend on it: split_rows.cuh). Short rows
// share a block, a warp each.
struct RowLaunch {
    dim3 grid, block;
};
inline RowLaunch row_launch(std::int64_t rows, std::int64_t vocab, int lanes, unsigned most_threads) {
    const std::int64_t vectors = (vocab + lanes - 1) / lanes;
    if (vectors <= 256) return {dim3(blocks_for(rows, 8)), dim3(kWarpSize, 8)};
    const unsigned threads = vectors <= 2048 ? 128 : vectors <= 8192 ? 256 : vectors <= 65536 ? 512 : 1024;
    return {dim3(blocks_for(rows, 1)), dim3(std::min(threads, most_threads))};
}
inline void check_row_sizes(std::int64_t rows, std::int64_t vocab) {
    if (rows < 0 || vocab < 1 || vocab > (std::int64_t{1} << 30))
        throw std::invalid_argument("rows must be >= 0 and vocab between 1 and 2^30, got rows = " + std::to_string(rows) +
                                    " and vocab = " + std::to_string(vocab) + ".");
}

// The bytes [first, first + 16) of the 32 bytes low, high.
template <int kElementBytes>
__device__ __forceinline__ uint4 straddle(const uint4& low, const uint4& high, int first) {
    unsigned w[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    if (first & 8) {
#pragma unroll
        for (int k = 0; k < 6; ++k) w[k] = w[k + 2];
    }
    if (kElementBytes < 8 && (first & 4)) {
#pragma unroll
        for (int k = 0; k < 5; ++k) w[k] = w[k + 1];
    }
    if (kElementBytes < 4) {
        const unsigned bits = (first & 3) * 8;
#pragma unroll
        for (int k = 0; k < 4; ++k) w[k] = __funnelshift_r(w[k], w[k + 1], bits);
    }
    return {w[0], w[1], w[2], w[3]};
}

template <class T>
struct Packet {
    uint4 bits;
    __device__ __forceinline__ T lane(int k) const {
        T lanes[kLanes<T>];
        std::memcpy(lanes, &bits, 16);
        return lanes[k];
    }
};

template <class T>
class RowReader {
 public:
    static constexpr int kE = kLanes<T>;

    __device__ __forceinline__ RowReader(const T* row, int length, int lead = 0)
        : row_(row - lead), length_(length), lead_(lead) {
        // T-aligned, so a whole number of elements past a 16-byte boundary
        shift_ = static_cast<int>(reinterpret_cast<std::uintptr_t>(row_) % 16 / sizeof(T));
        first_ = lead_ + shift_;
        last_ = lead_ + length_ - kE - (shift_ ? kE - shift_ : 0);
    }
    __device__ __forceinline__ int vectors() const { return (length_ + lead_ + kE - 1) / kE; }

    // The vectors j, j + stride, ... as kCount packets; lanes outside the row hold `fill`.
    template <int kCount>
    __device__ __forceinline__ void read(int j, int stride, T fill, Packet<T> (&packets)[kCount]) const {
        const int begin = j * kE;
        if (begin >= first_ && begin + (kCount - 1) * stride * kE <= last_) {
            const uint4* aligned = reinterpret_cast<const uint4*>(row_ - shift_) + j;
#pragma unroll
            for (int u = 0; u < kCount; ++u) packets[u].bits = __ldg(aligned + u * stride);
            if (shift_) {
                uint4 next[kCount];
#pragma unroll
                for (int u = 0; u < kCount; ++u) next[u] = __ldg(aligned + u * stride + 1);
#pragma unroll
                for (int u = 0; u < kCount; ++u)
                    packets[u].bits = straddle<sizeof(T)>(packets[u].bits, next[u], shift_ * static_cast<int>(sizeof(T)));
            }
            return;
        }
#pragma unroll
        for (int u = 0; u < kCount; ++u) packets[u] = read_near_end(j + u * stride, fill);
    }

    // Whether lane k of vector j lies in the row, and which element it is.
    __device__ __forceinline__ bool inside(int j, int k) const {
        return static_cast<unsigned>(column(j, k)) < static_cast<unsigned>(length_);
    }
    __device__ __forceinline__ int column(int j, int k) const { return j * kE + k - lead_; }
    __device__ __forceinline__ bool complete(int j) const { return j * kE >= lead_ && j * kE + kE <= lead_ + length_; }

 private:
    __device__ __forceinline__ Packet<T> read_near_end(int j, T fill) const {
        const int begin = j * kE;
        Packet<T> packet;
        if (begin >= first_ && begin <= last_) {
            const uint4* aligned = reinterpret_cast<const uint4*>(row_ - shift_) + j;
            packet.bits = __ldg(aligned);
            if (shift_)
                packet.bits = straddle<sizeof(T)>(packet.bits, __ldg(aligned + 1), shift_ * static_cast<int>(sizeof(T)));
            return packet;
        }
        T lanes[kE];
#pragma unroll
        for (int k = 0; k < kE; ++k) lanes[k] = inside(j, k) ? row_[begin + k] : fill;
        std::memcpy(&packet.bits, lanes, 16);
        return packet;
    }

    const T* row_;  // where element -lead would be
    int length_, lead_, shift_, first_, last_;
};

// Writes the vectors of a row whose `lead` was chosen by `store_lead`: 16-byte stores inside the row, single ones at its
// ends.
template <class T>
class RowWriter {
 public:
    static constexpr int kE = kLanes<T>;

    __device__ __forceinline__ RowWriter(T* row, int length, int lead)
        : row_(row - lead), length_(length), lead_(lead), aligned_(reinterpret_cast<std::uintptr_t>(row - lead) % 16 == 0) {}

    __device__ __forceinline__ void write(int j, const T (&lanes)[kE]) const {
        const int begin = j * kE;
        if (aligned_ && begin >= lead_ && begin + kE <= lead_ + length_) {
            uint4 bits;
            std::memcpy(&bits, lanes, 16);
            reinterpret_cast<uint4*>(row_)[j] = bits;
            return;
        }
#pragma unroll
        for (int k = 0; k < kE; ++k)
            if (begin + k >= lead_ && begin + k < lead_ + length_) row_[begin + k] = lanes[k];
    }

 private:
    T* row_;  // where element -lead would be
    int length_, lead_;
    bool aligned_;
};

// The number of elements by which the first vector must start before the row for stores to be aligned.
template <class T>
__device__ __forceinline__ int store_lead(const T* row) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16 / sizeof(T));
}

template <class T>
__device__ __forceinline__ void write_zeros(T* row, int length, int first, int stride) {
    const int lead = store_lead(row);
    const RowWriter<T> writer(row, length, lead);
    const T zeros[kLanes<T>] = {};
    for (int j = first; j * kLanes<T> < length + lead; j += stride) writer.write(j, zeros);
}

}  // namespace softbellman::cuda
