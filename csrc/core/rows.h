// What a kernel is told about its data, in plain structs that host, device and binding share. Pointers are untyped where the
// element type is a run-time code; strides count elements; null means absent.
//
// A kernel's own parameter struct (PolicyForward, ...) is made of these and says with `describe` what each field is. Its
// launchers are cpu::name(parameters, threads) and cuda::name(parameters, launch). csrc/bind/fields.h fills the struct by
// field name and checks it, so that a launcher may trust what it gets.
#pragma once

#include <cstdint>

namespace softbellman {

// The integer that names an element type across the Python boundary; the first four are the types of matrices.
enum DtypeCode : int {
    kFloat32 = 0,
    kFloat64 = 1,
    kBFloat16 = 2,
    kFloat16 = 3,
    kInt64 = 4,
    kInt32 = 5,
    kBool = 6,
    kUInt8 = 7
};

// The size and the type that all matrices of a kernel have, and which rows are real. Numbers of a row are of the accumulator
// type A of `dtype`: float64 for float64, else float32.
struct Rows {
    int64_t rows = 0;
    int64_t vocab = 0;
    int dtype = kFloat32;
    const uint8_t* mask = nullptr;  // [rows]; null: every row is real. Others are not read and give zeros.
};

struct Matrix {
    const void* data = nullptr;
    int64_t stride = 0;
};

// A gradient may lie where its own matrix lies, with its stride: a row is read before it is written.
struct MutableMatrix {
    void* data = nullptr;
    int64_t stride = 0;
};

}  // namespace softbellman
