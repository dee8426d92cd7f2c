// Fills a kernel's parameter struct from Python keyword arguments, by field name, and checks what it is given. The struct
// names its fields once, in `describe(fields)`, each by a call that says what the field is:
//
//   shape(rows)                      the Rows that the matrices and the numbers of a row have in common; comes first
//   matrix(name, matrix)             [rows, vocab]: a Matrix is read, a MutableMatrix is written
//   number(name, pointer)            one number a row of the accumulator type: const void* is read, void* is written
//   ids(name, pointer)               one int64 a row that is a column of its row (looked at on the CPU alone)
//   array(name, pointer, count)      `count` elements of the pointer's type: const is read
//   positive, not_negative(name, x)  a finite double; temperature(name, x): and one that has an inverse in the type
//   integer(name, i, least, most)    an integer in [least, most]; counter(name, u): any 64 bits
//   steps(name, i)                   an integer that divides rows
//   rule(holds, text)                what several fields must fulfil together
//   tokens(name, matrix)             a TokenMatrix, read; lengths(name, matrix) how many of each of its rows count, or None
//   counted_array(name, p, count)    any number of elements, and how many
//   untyped_array(name, p, count, c) `count` elements of dtype code c, written
//   integers(name, values, count)    a short list of integers
//   optional_id(name, given, id)     an integer, or None
//   within(name, pointer, count, m)  int64 numbers that lie between 0 and m (looked at on the CPU alone)
//
// optional_matrix, optional_number, optional_ids and optional_array are also given as None, or left out. A matrix comes as
// (pointer, stride, rows, vocab, dtype code), with True behind where it is a copy that nobody would see written, tokens
// as (pointer, stride of a source, stride of a row, sources, rows, length, dtype code), another tensor as (pointer,
// elements, dtype code), with a fourth element where it is a copy that nobody would see written.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "core/rows.h"

namespace softbellman {

inline const char* dtype_name(int64_t code) {
    constexpr std::array<const char*, 8> kNames = {"float32", "float64", "bfloat16", "float16",
                                                   "int64",   "int32",   "bool",     "uint8"};
    return code >= 0 && code < static_cast<int64_t>(kNames.size()) ? kNames[static_cast<size_t>(code)] : "unknown";
}

template <class T>
constexpr int code_of() {
    if constexpr (std::is_same_v<T, float>) return kFloat32;
    if constexpr (std::is_same_v<T, double>) return kFloat64;
    if constexpr (std::is_same_v<T, uint8_t>) return kBool;
    if constexpr (std::is_integral_v<T> && sizeof(T) == 8) return kInt64;
    if constexpr (std::is_integral_v<T> && sizeof(T) == 4) return kInt32;
}

// The names of a kernel's fields as interned Python strings, in the order of `describe`; noted at the kernel's first call.
using FieldNames = std::vector<PyObject*>;

class Fields {
 public:
    Fields(PyObject* arguments, FieldNames& names) : arguments_(arguments), names_(names) {}

    void shape(Rows& rows) { shape_ = &rows; }

    template <class AnyMatrix>
    void matrix(const char* name, AnyMatrix& matrix) {
        read_matrix(name, required(name), matrix, shape_->dtype);
    }
    template <class AnyMatrix>
    void optional_matrix(const char* name, AnyMatrix& matrix) {
        if (PyObject* value = given(name)) read_matrix(name, value, matrix, shape_->dtype);
    }

    template <class Void>
    void number(const char* name, Void*& pointer) {
        read_array(name, required(name), pointer, shape_->rows, accumulator());
    }
    template <class Void>
    void optional_number(const char* name, Void*& pointer) {
        if (PyObject* value = given(name)) read_array(name, value, pointer, shape_->rows, accumulator());
    }

    void ids(const char* name, const int64_t*& pointer) {
        array(name, pointer, shape_->rows);
        note_ids(name, pointer);
    }
    void optional_ids(const char* name, const int64_t*& pointer) {
        optional_array(name, pointer, shape_->rows);
        note_ids(name, pointer);
    }

    template <class T>
    void array(const char* name, T*& pointer, int64_t count) {
        read_array(name, required(name), pointer, count, code_of<std::remove_const_t<T>>());
    }
    template <class T>
    void optional_array(const char* name, T*& pointer, int64_t count) {
        if (PyObject* value = given(name)) read_array(name, value, pointer, count, code_of<std::remove_const_t<T>>());
    }
    // As many bytes as there are.
    void optional_bytes(const char* name, void*& pointer, int64_t& count) {
        PyObject* const value = given(name);
        if (value == nullptr) return;
        count = integer_at(name, tuple(name, value, 3), 1);
        read_array(name, value, pointer, count, kUInt8);
    }

    template <class T>
    void counted_array(const char* name, T*& pointer, int64_t& count) {
        PyObject* const value = required(name);
        count = integer_at(name, tuple(name, value, 3), 1);
        read_array(name, value, pointer, count, code_of<std::remove_const_t<T>>());
    }
    template <class T>
    void optional_counted_array(const char* name, T*& pointer, int64_t& count) {
        PyObject* const value = given(name);
        if (value == nullptr) return;
        count = integer_at(name, tuple(name, value, 3), 1);
        read_array(name, value, pointer, count, code_of<std::remove_const_t<T>>());
    }
    void untyped_array(const char* name, void*& pointer, int64_t count, int dtype) {
        read_array(name, required(name), pointer, count, dtype);
    }

    template <class AnyTokens>
    void tokens(const char* name, AnyTokens& matrix, int64_t longest = std::numeric_limits<int32_t>::max()) {
        PyObject* const value = required(name);
        if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != 7) {
            refuse(name, "must be (pointer, source stride, row stride, sources, rows, length, dtype)", text(value));
        }
        const int64_t length = integer_at(name, value, 5), code = integer_at(name, value, 6);
        matrix.source_stride = integer_at(name, value, 1);
        matrix.row_stride = integer_at(name, value, 2);
        matrix.sources = integer_at(name, value, 3);
        matrix.rows = integer_at(name, value, 4);
        if (matrix.sources < 0 || matrix.rows < 0 || length < 0) refuse(name, "must have sizes of at least 0", text(value));
        if (product(matrix.sources, matrix.rows, length) > 0x1p48)
            refuse(name, "must hold at most 2**48 tokens", text(value));
        if (length > longest) {
            refuse(name, "must hold at most " + std::to_string(longest) + " tokens in a row", std::to_string(length));
        }
        matrix.length = static_cast<int32_t>(length);
        if (code != kInt64) refuse(name, "must hold int64 token ids", dtype_name(code));
        matrix.tokens = static_cast<const int64_t*>(address(integer_at(name, value, 0)));
        if (matrix.tokens == nullptr && matrix.count() * length > 0) throw std::invalid_argument(null_text(name));
    }
    template <class AnyTokens>
    void lengths(const char* name, AnyTokens& matrix) {
        optional_array(name, matrix.lengths, matrix.count());
        within(name, matrix.lengths, matrix.count(), matrix.length);
    }
    void within(const char* name, const int64_t* pointer, int64_t count, int64_t most) {
        if (pointer != nullptr) bounded_.at(bounded_count_++) = {name, pointer, count, most};
    }

    template <size_t kMost, class Count>
    void integers(const char* name, int64_t (&values)[kMost], Count& count) {
        const auto list = pybind11::reinterpret_borrow<pybind11::object>(required(name));
        if (!PyList_Check(list.ptr()) && !PyTuple_Check(list.ptr())) refuse(name, "must be a list", text(list.ptr()));
        const auto size = static_cast<size_t>(pybind11::len(list));
        if (size > kMost) refuse(name, "must hold at most " + std::to_string(kMost) + " integers", std::to_string(size));
        for (size_t i = 0; i < size; ++i) values[i] = integer_of(name, PySequence_Fast_GET_ITEM(list.ptr(), i));
        count = static_cast<Count>(size);
    }
    void optional_id(const char* name, bool& present, int64_t& id) {
        PyObject* const value = given(name);
        present = value != nullptr;
        if (present) id = integer_of(name, value);
    }

    void positive(const char* name, double& number) {
        number = real(name);
        if (!(number > 0.0) || !std::isfinite(number)) refuse(name, "must be positive and finite", number);
    }
    void not_negative(const char* name, double& number) {
        number = real(name);
        if (!(number >= 0.0) || !std::isfinite(number)) refuse(name, "must be finite and not negative", number);
    }
    // What numbers of the rows are divided by.
    void temperature(const char* name, double& number) {
        positive(name, number);
        const double largest = shape_->dtype == kFloat64 ? 1e300 : 1e37;
        if (number > largest || number < 1.0 / largest) {
            refuse(name, std::string("must have an inverse in ") + dtype_name(accumulator()), number);
        }
    }

    template <class Integer>
    void integer(const char* name, Integer& number, int64_t least, int64_t most) {
        const int64_t value = integer_of(name, required(name));
        if (value < least || value > most) {
            refuse(name, "must be from " + std::to_string(least) + " to " + std::to_string(most), std::to_string(value));
        }
        number = static_cast<Integer>(value);
    }
    void counter(const char* name, uint64_t& number) {
        PyObject* const value = required(name);
        number = PyLong_AsUnsignedLongLong(value);
        if (number == std::numeric_limits<uint64_t>::max() && PyErr_Occurred() != nullptr) {
            PyErr_Clear();
            refuse(name, "must be an integer from 0 to 2**64 - 1", text(value));
        }
    }
    void steps(const char* name, int64_t& number) {
        number = integer_of(name, required(name));
        if (number >= 1 && shape_->rows % number == 0) return;
        refuse(name, "must divide rows, " + std::to_string(shape_->rows), std::to_string(number));
    }
    // An address that is not looked at, such as that of a stream.
    void handle(const char* name, void*& pointer) { pointer = address(integer_of(name, required(name))); }

    void rule(bool holds, const char* text) const {
        if (!holds) throw std::invalid_argument(std::string(text) + ".");
    }

    // To be called when the last field was described.
    void finish() const {
        if (static_cast<Py_ssize_t>(taken_) != PyDict_GET_SIZE(arguments_)) refuse_unknown();
    }

    const Rows* rows() const { return shape_; }

    // Token ids of real rows must be columns of the row, bounded numbers within their bounds. Needs no GIL.
    void check_ids() const {
        for (size_t k = 0; k < ids_count_; ++k) check_ids(ids_[k].first, ids_[k].second);
        for (size_t k = 0; k < bounded_count_; ++k) {
            const Bounded& all = bounded_[k];
            for (int64_t i = 0; i < all.count; ++i) {
                if (all.numbers[i] >= 0 && all.numbers[i] <= all.most) continue;
                refuse(all.name, "must lie between 0 and " + std::to_string(all.most), std::to_string(all.numbers[i]));
            }
        }
    }

 private:
    int accumulator() const { return shape_->dtype == kFloat64 ? kFloat64 : kFloat32; }

    // The value of the next field; null where it was left out.
    PyObject* next(const char* name) {
        if (index_ == names_.size()) names_.push_back(PyUnicode_InternFromString(name));
        PyObject* const value = PyDict_GetItemWithError(arguments_, names_[index_++]);
        if (value != nullptr) ++taken_;
        return value;
    }
    PyObject* given(const char* name) {
        PyObject* const value = next(name);
        return value == Py_None ? nullptr : value;
    }
    PyObject* required(const char* name) {
        PyObject* const value = next(name);
        if (value == nullptr) throw std::invalid_argument(std::string(name) + " is missing.");
        if (value == Py_None) throw std::invalid_argument(std::string(name) + " must not be None.");
        return value;
    }

    [[noreturn]] static void refuse(const char* name, const std::string& expectation, const std::string& value) {
        throw std::invalid_argument(std::string(name) + " " + expectation + ", got " + value + ".");
    }
    [[noreturn]] static void refuse(const char* name, const std::string& expectation, double value) {
        refuse(name, expectation, std::string(pybind11::str(pybind11::float_(value))));
    }
    // A field was given whose name is none of `describe`.
    [[noreturn]] void refuse_unknown() const {
        std::string unknown, known;
        for (PyObject* name : names_) known += (known.empty() ? "" : ", ") + text(name);
        for (const auto item : pybind11::reinterpret_borrow<pybind11::dict>(arguments_)) {
            const auto same = [&](PyObject* name) { return PyUnicode_Compare(name, item.first.ptr()) == 0; };
            if (std::none_of(names_.begin(), names_.end(), same)) unknown = text(item.first.ptr());
        }
        throw std::invalid_argument(unknown + " is no field of this kernel; its fields are " + known + ".");
    }
    static std::string text(PyObject* value) { return std::string(pybind11::str(pybind11::handle(value))); }

    static int64_t integer_of(const char* name, PyObject* value) {
        const int64_t number = PyLong_Check(value) ? PyLong_AsLongLong(value) : -1;
        if (number == -1 && (!PyLong_Check(value) || PyErr_Occurred() != nullptr)) {
            PyErr_Clear();
            refuse(name, "must be an integer of 64 bits", text(value));
        }
        return number;
    }
    double real(const char* name) {
        PyObject* const value = required(name);
        const double number = PyFloat_AsDouble(value);
        if (number == -1.0 && PyErr_Occurred() != nullptr) {
            PyErr_Clear();
            refuse(name, "must be a number", text(value));
        }
        return number;
    }
    // Of sizes, an empty one counted as 1: what 64 bits might not hold.
    template <class... Sizes>
    static double product(Sizes... sizes) {
        return (static_cast<double>(std::max<int64_t>(sizes, 1)) * ...);
    }
    static void* address(int64_t number) { return reinterpret_cast<void*>(static_cast<uintptr_t>(number)); }

    static PyObject* tuple(const char* name, PyObject* value, Py_ssize_t least) {
        if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) < least || PyTuple_GET_SIZE(value) > least + 1) {
            refuse(name, least == 5 ? "must be (pointer, stride, rows, vocab, dtype)" : "must be (pointer, elements, dtype)",
                   text(value));
        }
        return value;
    }
    static int64_t integer_at(const char* name, PyObject* value, Py_ssize_t position) {
        return integer_of(name, PyTuple_GET_ITEM(value, position));
    }

    template <class AnyMatrix>
    void read_matrix(const char* name, PyObject* value, AnyMatrix& matrix, int dtype) {
        tuple(name, value, 5);
        const int64_t rows = integer_at(name, value, 2), vocab = integer_at(name, value, 3),
                      code = integer_at(name, value, 4);
        if (shape_->vocab == 0) {  // the first matrix gives the size
            if (rows < 0) refuse(name, "must have rows, not fewer than 0", std::to_string(rows));
            if (vocab < 1) refuse(name, "must have a vocab of at least 1", std::to_string(vocab));
            if (code < kFloat32 || code > kFloat16) refuse(name, "must have a dtype code from 0 to 3", std::to_string(code));
            if (product(rows, vocab) > 0x1p62) refuse(name, "must hold at most 2**62 elements", text(value));
            *shape_ = {rows, vocab, static_cast<int>(code), nullptr};
            dtype = shape_->dtype;
        }
        if (rows != shape_->rows || vocab != shape_->vocab) {
            refuse(name, "must have " + size_text(shape_->rows, shape_->vocab), size_text(rows, vocab));
        }
        if (code != dtype) refuse(name, std::string("must be ") + dtype_name(dtype), dtype_name(code));
        matrix.data = address(integer_at(name, value, 0));
        matrix.stride = integer_at(name, value, 1);
        const int64_t least = std::is_same_v<AnyMatrix, MutableMatrix> ? vocab : 0;
        if (rows > 1 && matrix.stride < least) {
            refuse(name, "must have a row stride of at least " + std::to_string(least), std::to_string(matrix.stride));
        }
        if (matrix.data == nullptr && rows > 0) throw std::invalid_argument(null_text(name));
        if (std::is_same_v<AnyMatrix, MutableMatrix> && PyTuple_GET_SIZE(value) > 5 &&
            PyTuple_GET_ITEM(value, 5) == Py_True) {
            throw std::invalid_argument(std::string(name) + " is written, and its rows must be contiguous.");
        }
    }

    template <class T>
    static void read_array(const char* name, PyObject* value, T*& pointer, int64_t count, int dtype) {
        tuple(name, value, 3);
        const int64_t elements = integer_at(name, value, 1), code = integer_at(name, value, 2);
        if (elements < 0) refuse(name, "must have at least 0 elements", std::to_string(elements));
        if (elements != count) {
            refuse(name, "must have " + std::to_string(count) + " elements", std::to_string(elements));
        }
        if (code != dtype) refuse(name, std::string("must be ") + dtype_name(dtype), dtype_name(code));
        if (!std::is_const_v<T> && PyTuple_GET_SIZE(value) > 3) {
            throw std::invalid_argument(std::string(name) + " is written and must be contiguous.");
        }
        pointer = static_cast<T*>(address(integer_at(name, value, 0)));
        if (pointer == nullptr && count > 0) throw std::invalid_argument(null_text(name));
    }

    static std::string null_text(const char* name) { return std::string(name) + " must not be a null pointer."; }
    static std::string size_text(int64_t rows, int64_t vocab) {
        return std::to_string(rows) + " rows of " + std::to_string(vocab);
    }

    void note_ids(const char* name, const int64_t* pointer) {
        if (pointer != nullptr) ids_.at(ids_count_++) = {name, pointer};
    }
    void check_ids(const char* name, const int64_t* tokens) const {
        for (int64_t n = 0; n < shape_->rows; ++n) {
            if (shape_->mask != nullptr && shape_->mask[n] == 0) continue;
            if (tokens[n] >= 0 && tokens[n] < shape_->vocab) continue;
            refuse(name, "must be ids in [0, " + std::to_string(shape_->vocab) + ")",
                   std::to_string(tokens[n]) + " in row " + std::to_string(n));
        }
    }

    PyObject* arguments_;
    FieldNames& names_;
    size_t index_ = 0, taken_ = 0;
    Rows* shape_ = nullptr;
    std::array<std::pair<const char*, const int64_t*>, 4> ids_;
    size_t ids_count_ = 0;

    struct Bounded {
        const char* name;
        const int64_t* numbers;
        int64_t count, most;
    };
    std::array<Bounded, 4> bounded_;
    size_t bounded_count_ = 0;
};

}  // namespace softbellman
