// The product of two float32 matrices: C = scale * A B, plus a bias of the columns or what C holds.
//
// PyTorch's own products are those of its BLAS, and are used wherever that has kernels for the processor at hand. MKL, which
// its wheels bring, runs its AVX2 kernels on processors of AMD that have AVX-512, at half their speed (docs/performance.md).
// There the output layer, most of the work of a loss over a vocabulary, is computed here.
//
// An element is a sum over the inner index in one fixed order: it has the same bits whatever the number of threads, and
// whichever rows and columns are computed with it.
#pragma once

#include <cstdint>

namespace softbellman::cpu {

// A matrix that is read: element (i, j) at data[i * row + j * column].
struct Strided {
    const float* data = nullptr;
    int64_t row = 0, column = 0;
};

struct Product {
    int64_t rows = 0, columns = 0, inner = 0;
    Strided left, right;   // [rows, inner] and [inner, columns]
    float* out = nullptr;  // [rows, columns], whose rows are contiguous
    int64_t out_row = 0;
    const float* bias = nullptr;  // [columns], or none
    float scale = 1.0f;
    bool keep = false;  // whether the product is added to what `out` holds; there is no bias then
};

// `out` must not overlap what is read.
void product(const Product& arguments, int threads);

// Whether this is faster than PyTorch's BLAS on this processor, decided once per process. The environment variable
// SOFTBELLMAN_PRODUCTS (native, blas) decides instead, for tests and for measurements.
bool product_is_faster();

}  // namespace softbellman::cpu
