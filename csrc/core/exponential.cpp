// exp(scale * x) of an array, as the kernels compute it.
#include "core/exponential.h"

#include "core/block.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

template <bool kFused>
struct Exponential {
    Rows shape;
    Matrix x;
    double scale;
    MutableMatrix result;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        const ScaledExp<A, kFused> exponential_of(scale);
        for (int64_t n = first_row; n < last_row; ++n) {
            const A* const from = row_of<A>(x, n);
            A* const to = row_of<A>(result, n);
            for (int64_t i = 0; i < shape.vocab; ++i) to[i] = exponential_of(from[i]);
        }
    }
};

}  // namespace

void exponential(const void* x, int64_t count, int dtype, double scale, void* result) {
    const Rows shape{1, count, dtype, nullptr};
    run_kernel<Exponential>(shape, 1, shape, Matrix{x, count}, scale, MutableMatrix{result, count});
}

}  // namespace softbellman::cpu
