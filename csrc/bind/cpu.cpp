// Python functions of softbellman._C.cpu: pointers as integers (0 = absent), strides in elements. The operator layer checks
// shapes and types; what could read outside an array is checked here again. The GIL is released while a kernel runs.
#include <pybind11/pybind11.h>

#include <cmath>
#include <stdexcept>
#include <string>

#include "core/portability.h"
#include "losses/cpu_kernels.h"

namespace py = pybind11;

namespace softbellman {

void bind_cpu(py::module_& module);

namespace {

using Address = std::uintptr_t;
using cpu::Matrix;
using cpu::MutableMatrix;
using cpu::Rows;

const void* read(Address address) {
    return reinterpret_cast<const void*>(address);
}
void* write(Address address) {
    return reinterpret_cast<void*>(address);
}
const int64_t* ids(Address address) {
    return reinterpret_cast<const int64_t*>(address);
}

Rows shape_of(int64_t rows, int64_t vocab, int dtype, Address mask, int threads) {
    if (rows < 0) throw std::invalid_argument("rows must not be negative, got " + std::to_string(rows) + ".");
    if (vocab < 1) throw std::invalid_argument("vocab must be at least 1, got " + std::to_string(vocab) + ".");
    if (dtype < kFloat32 || dtype > kFloat16) {
        throw std::invalid_argument("dtype must be a code from 0 to 3, got " + std::to_string(dtype) + ".");
    }
    if (threads < 1) throw std::invalid_argument("threads must be at least 1, got " + std::to_string(threads) + ".");
    return {rows, vocab, dtype, reinterpret_cast<const uint8_t*>(mask), threads};
}

void require(bool present, const char* name) {
    if (!present) throw std::invalid_argument(std::string(name) + " must not be a null pointer.");
}

void require_positive(double number, const char* name) {
    if (!(number > 0.0) || !std::isfinite(number)) {
        throw std::invalid_argument(std::string(name) + " must be positive and finite, got " + std::to_string(number) + ".");
    }
}

// Token ids of real rows must be columns of the row.
void check_ids(const Rows& shape, const int64_t* tokens, const char* name) {
    if (tokens == nullptr) return;
    for (int64_t n = 0; n < shape.rows; ++n) {
        if (shape.mask != nullptr && shape.mask[n] == 0) continue;
        if (tokens[n] < 0 || tokens[n] >= shape.vocab) {
            throw std::invalid_argument(std::string(name) + " must be ids in [0, " + std::to_string(shape.vocab) +
                                        "), got " + std::to_string(tokens[n]) + " in row " + std::to_string(n) + ".");
        }
    }
}

// Matrices and row vectors may be null pointers only where there are no rows.
void require_data(const Rows& shape, std::initializer_list<std::pair<Address, const char*>> arguments) {
    for (const auto& [address, name] : arguments) require(address != 0 || shape.rows == 0, name);
}

void soft_value_forward(Address q, int64_t q_stride, int64_t rows, int64_t vocab, int dtype, double tau, Address prior,
                        int64_t prior_stride, Address actions, Address mask, Address value, Address correction,
                        Address gathered, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_positive(tau, "tau");
    require_data(shape, {{q, "q"}, {value, "value"}, {correction, "correction"}});
    py::gil_scoped_release release;
    check_ids(shape, ids(actions), "actions");
    cpu::soft_value_forward(shape, {read(q), q_stride}, tau, {read(prior), prior_stride}, ids(actions), write(value),
                            write(correction), write(gathered));
}

void soft_value_backward(Address q, int64_t q_stride, int64_t rows, int64_t vocab, int dtype, double tau, Address prior,
                         int64_t prior_stride, Address actions, Address mask, Address value, Address correction,
                         Address grad_value, Address grad_gathered, Address grad_q, int64_t grad_q_stride, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_positive(tau, "tau");
    require_data(shape, {{q, "q"}, {grad_q, "grad_q"}});
    if (grad_value != 0) require_data(shape, {{value, "value"}, {correction, "correction"}});
    py::gil_scoped_release release;
    check_ids(shape, ids(actions), "actions");
    cpu::soft_value_backward(shape, {read(q), q_stride}, tau, {read(prior), prior_stride}, ids(actions), read(value),
                             read(correction), read(grad_value), read(grad_gathered), {write(grad_q), grad_q_stride});
}

void check_steps(int64_t rows, int64_t steps) {
    if (steps >= 1 && rows % steps == 0) return;
    throw std::invalid_argument("steps must divide rows, got " + std::to_string(steps) + " and " + std::to_string(rows) +
                                ".");
}

Sequences sequences_of(int64_t rows, int64_t steps, Address terminal, Address rewards, Address residual,
                       Address grad_residual) {
    check_steps(rows, steps);
    return {steps, static_cast<const uint8_t*>(read(terminal)), read(rewards), write(residual), read(grad_residual)};
}

void soft_bellman_forward(Address q, int64_t q_stride, int64_t rows, int64_t vocab, int dtype, double tau, Address actions,
                          Address rewards, Address terminal, int64_t steps, Address mask, Address residual, Address value,
                          Address correction, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_positive(tau, "tau");
    require_data(shape, {{q, "q"},
                         {actions, "actions"},
                         {rewards, "rewards"},
                         {residual, "residual"},
                         {value, "value"},
                         {correction, "correction"}});
    const Sequences sequences = sequences_of(rows, steps, terminal, rewards, residual, 0);
    py::gil_scoped_release release;
    check_ids(shape, ids(actions), "actions");
    cpu::soft_bellman_forward(shape, {read(q), q_stride}, tau, ids(actions), sequences, write(value), write(correction));
}

void soft_bellman_backward(Address q, int64_t q_stride, int64_t rows, int64_t vocab, int dtype, double tau, Address actions,
                           Address terminal, int64_t steps, Address mask, Address value, Address correction,
                           Address grad_residual, Address grad_q, int64_t grad_q_stride, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_positive(tau, "tau");
    require_data(shape, {{q, "q"},
                         {actions, "actions"},
                         {value, "value"},
                         {correction, "correction"},
                         {grad_residual, "grad_residual"},
                         {grad_q, "grad_q"}});
    const Sequences sequences = sequences_of(rows, steps, terminal, 0, 0, grad_residual);
    py::gil_scoped_release release;
    check_ids(shape, ids(actions), "actions");
    cpu::soft_bellman_backward(shape, {read(q), q_stride}, tau, ids(actions), sequences, read(value), read(correction),
                               {write(grad_q), grad_q_stride});
}

void policy_forward(Address logits, int64_t logits_stride, Address q, int64_t q_stride, int64_t rows, int64_t vocab,
                    int dtype, double tau, int entropy_mode, Address mask, Address value, Address entropy,
                    Address log_normalizer, Address correction, Address value_low, Address effective_tau, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    if (entropy_mode < 0 || entropy_mode > 2) {
        throw std::invalid_argument("entropy_mode must be 0, 1 or 2, got " + std::to_string(entropy_mode) + ".");
    }
    require_data(shape, {{logits, "logits"},
                         {q, "q"},
                         {value, "value"},
                         {entropy, "entropy"},
                         {log_normalizer, "log_normalizer"},
                         {correction, "correction"},
                         {value_low, "value_low"},
                         {effective_tau, "effective_tau"}});
    py::gil_scoped_release release;
    cpu::policy_forward(
        shape, {read(logits), logits_stride}, {read(q), q_stride}, tau, entropy_mode,
        {write(value), write(entropy), write(log_normalizer), write(correction), write(value_low), write(effective_tau)});
}

void policy_backward(Address logits, int64_t logits_stride, Address q, int64_t q_stride, int64_t rows, int64_t vocab,
                     int dtype, Address mask, Address value, Address entropy, Address log_normalizer, Address correction,
                     Address value_low, Address effective_tau, Address grad_value, Address grad_entropy, Address grad_logits,
                     int64_t grad_logits_stride, Address grad_q, int64_t grad_q_stride, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_data(shape, {{logits, "logits"},
                         {q, "q"},
                         {value, "value"},
                         {entropy, "entropy"},
                         {log_normalizer, "log_normalizer"},
                         {correction, "correction"},
                         {value_low, "value_low"},
                         {effective_tau, "effective_tau"}});
    py::gil_scoped_release release;
    cpu::policy_backward(
        shape, {read(logits), logits_stride}, {read(q), q_stride},
        {write(value), write(entropy), write(log_normalizer), write(correction), write(value_low), write(effective_tau)},
        read(grad_value), read(grad_entropy), {write(grad_logits), grad_logits_stride}, {write(grad_q), grad_q_stride});
}

void critic_forward(Address q, int64_t q_stride, int64_t rows, int64_t vocab, int dtype, Address actions, Address targets,
                    double smoothness, Address mask, Address loss, Address td_error, Address mean, Address mean_low,
                    Address spread, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_data(shape, {{q, "q"},
                         {actions, "actions"},
                         {targets, "targets"},
                         {loss, "loss"},
                         {td_error, "td_error"},
                         {mean, "mean"},
                         {mean_low, "mean_low"},
                         {spread, "spread"}});
    py::gil_scoped_release release;
    check_ids(shape, ids(actions), "actions");
    cpu::critic_forward(shape, {read(q), q_stride}, ids(actions), read(targets), smoothness,
                        {write(loss), write(td_error), write(mean), write(mean_low), write(spread)});
}

void critic_backward(Address q, int64_t q_stride, int64_t rows, int64_t vocab, int dtype, Address actions, double smoothness,
                     Address mask, Address td_error, Address mean, Address mean_low, Address grad_loss, Address grad_q,
                     int64_t grad_q_stride, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_data(shape, {{q, "q"},
                         {actions, "actions"},
                         {td_error, "td_error"},
                         {mean, "mean"},
                         {mean_low, "mean_low"},
                         {grad_loss, "grad_loss"},
                         {grad_q, "grad_q"}});
    py::gil_scoped_release release;
    check_ids(shape, ids(actions), "actions");
    cpu::critic_backward(shape, {read(q), q_stride}, ids(actions), smoothness, read(td_error), read(mean), read(mean_low),
                         read(grad_loss), {write(grad_q), grad_q_stride});
}

void erac_forward(Address logits, int64_t logits_stride, Address target_q, int64_t target_q_stride, Address q,
                  int64_t q_stride, int64_t rows, int64_t vocab, int dtype, Address actions, Address rewards,
                  Address terminal, int64_t steps, double tau, double smoothness, Address mask, Address loss,
                  Address td_error, Address targets, Address value, Address entropy, Address mean, Address mean_low,
                  Address spread, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    check_steps(rows, steps);
    require_data(shape, {{logits, "logits"},
                         {target_q, "target_q"},
                         {q, "q"},
                         {actions, "actions"},
                         {rewards, "rewards"},
                         {loss, "loss"},
                         {td_error, "td_error"},
                         {targets, "targets"},
                         {value, "value"},
                         {entropy, "entropy"},
                         {mean, "mean"},
                         {mean_low, "mean_low"},
                         {spread, "spread"}});
    py::gil_scoped_release release;
    check_ids(shape, ids(actions), "actions");
    cpu::erac_forward(shape, {read(logits), logits_stride}, {read(target_q), target_q_stride}, {read(q), q_stride},
                      ids(actions), read(rewards), static_cast<const uint8_t*>(read(terminal)), steps, tau, smoothness,
                      {{write(loss), write(td_error), write(mean), write(mean_low), write(spread)},
                       write(targets),
                       write(value),
                       write(entropy)});
}

// Without targets every row must be fully the oracle's.
void check_targets(const Rows& shape, Address q, Address targets, Address oracle_weight) {
    if (shape.rows > 0 && targets == 0 && (q == 0 || oracle_weight != 0)) {
        throw std::invalid_argument("targets may be a null pointer only with q and without oracle_weight.");
    }
}

void distillation_forward(Address logits, int64_t logits_stride, Address q, int64_t q_stride, int64_t rows, int64_t vocab,
                          int dtype, double tau, Address targets, Address oracle_weight, Address mask, Address loss,
                          Address log_normalizer, Address correction, Address oracle_log_normalizer,
                          Address oracle_correction, int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_positive(tau, "tau");
    require_data(shape, {{logits, "logits"},
                         {loss, "loss"},
                         {log_normalizer, "log_normalizer"},
                         {correction, "correction"},
                         {oracle_log_normalizer, "oracle_log_normalizer"},
                         {oracle_correction, "oracle_correction"}});
    check_targets(shape, q, targets, oracle_weight);
    py::gil_scoped_release release;
    check_ids(shape, ids(targets), "targets");
    cpu::distillation_forward(
        shape, {read(logits), logits_stride}, {read(q), q_stride}, tau, ids(targets), read(oracle_weight),
        {write(loss), write(log_normalizer), write(correction), write(oracle_log_normalizer), write(oracle_correction)});
}

void distillation_backward(Address logits, int64_t logits_stride, Address q, int64_t q_stride, int64_t rows, int64_t vocab,
                           int dtype, double tau, Address targets, Address oracle_weight, Address mask,
                           Address log_normalizer, Address correction, Address oracle_log_normalizer,
                           Address oracle_correction, Address grad_loss, Address grad_logits, int64_t grad_logits_stride,
                           int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_positive(tau, "tau");
    require_data(shape, {{logits, "logits"},
                         {log_normalizer, "log_normalizer"},
                         {correction, "correction"},
                         {oracle_log_normalizer, "oracle_log_normalizer"},
                         {oracle_correction, "oracle_correction"},
                         {grad_loss, "grad_loss"},
                         {grad_logits, "grad_logits"}});
    check_targets(shape, q, targets, oracle_weight);
    py::gil_scoped_release release;
    check_ids(shape, ids(targets), "targets");
    cpu::distillation_backward(
        shape, {read(logits), logits_stride}, {read(q), q_stride}, tau, ids(targets), read(oracle_weight),
        {nullptr, write(log_normalizer), write(correction), write(oracle_log_normalizer), write(oracle_correction)},
        read(grad_loss), {write(grad_logits), grad_logits_stride});
}

void sample_forward(Address logits, int64_t logits_stride, int64_t rows, int64_t vocab, int dtype, double temperature,
                    uint64_t seed, uint64_t offset, uint64_t row_base, Address seed_at, Address offset_at,
                    Address row_numbers, Address forbidden, Address mask, Address tokens, Address log_prob, Address entropy,
                    int threads) {
    const Rows shape = shape_of(rows, vocab, dtype, mask, threads);
    require_positive(temperature, "temperature");
    require_data(shape, {{logits, "logits"}, {tokens, "tokens"}, {log_prob, "log_prob"}, {entropy, "entropy"}});
    py::gil_scoped_release release;
    const NoiseStream noise{seed,
                            offset,
                            row_base,
                            static_cast<const uint64_t*>(read(seed_at)),
                            static_cast<const uint64_t*>(read(offset_at)),
                            static_cast<const int64_t*>(read(row_numbers))};
    cpu::sample_forward(shape, {read(logits), logits_stride}, temperature, noise,
                        static_cast<const uint8_t*>(read(forbidden)), static_cast<int64_t*>(write(tokens)), write(log_prob),
                        write(entropy));
}

// For tests: `x` and `result` hold `count` float32 (dtype 0) or float64 (1) numbers.
void exponential_forward(Address x, int64_t count, int dtype, double scale, Address result) {
    if (dtype > kFloat64) throw py::value_error("dtype must be 0 or 1, got " + std::to_string(dtype));
    const Rows shape = shape_of(1, count, dtype, 0, 1);
    require_positive(scale, "scale");
    require_data(shape, {{x, "x"}, {result, "result"}});
    cpu::exponential_forward(shape, read(x), scale, write(result));
}

}  // namespace

void bind_cpu(py::module_& module) {
    module.def("soft_value_forward", &soft_value_forward);
    module.def("soft_value_backward", &soft_value_backward);
    module.def("soft_bellman_forward", &soft_bellman_forward);
    module.def("soft_bellman_backward", &soft_bellman_backward);
    module.def("policy_forward", &policy_forward);
    module.def("policy_backward", &policy_backward);
    module.def("critic_forward", &critic_forward);
    module.def("critic_backward", &critic_backward);
    module.def("erac_forward", &erac_forward);
    module.def("distillation_forward", &distillation_forward);
    module.def("distillation_backward", &distillation_backward);
    module.def("sample_forward", &sample_forward);
    module.def(
        "ask_for_huge_pages", [](Address data, int64_t bytes) { return cpu::ask_for_huge_pages(write(data), bytes); },
        py::arg("data"), py::arg("bytes"));
    module.attr("HUGE_PAGE_MINIMUM") = cpu::kHugePageMinimum;
    module.def("exponential", &exponential_forward, py::arg("x"), py::arg("count"), py::arg("dtype"), py::arg("scale"),
               py::arg("result"));
}

}  // namespace softbellman
