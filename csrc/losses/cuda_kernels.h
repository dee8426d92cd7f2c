// The CUDA launchers, one group a family: raw device pointers (null = absent), sizes, strides in elements, the element
// type's code, and at the end the device and the stream. Statistic vectors hold `rows` elements of the accumulator type. A
// call checks its sizes, selects the device, launches on the stream and restores the caller's device; it never waits. Bad
// arguments raise std::invalid_argument, a failed launch std::runtime_error.
#pragma once
#include <cstdint>

namespace softbellman::cuda {

// How many devices can be used (0 without a driver or on any error), and the version of the CUDA runtime linked in, such as
// 13000 (0 on an error). Neither throws.
int device_count() noexcept;
int runtime_version() noexcept;

// Few long rows are shared among blocks where the caller gives them a place to meet: `partials`, row_workspace bytes of
// device memory for `rows` at least as many as the call has, 16-byte aligned, and `tickets`, kTickets numbers that are 0
// (they are 0 again when the launch has ended; launches that may overlap need their own). Null pointers, or 0 bytes: a block
// a row. The results are the same bits either way.
constexpr int kTickets = 1024;
std::int64_t row_workspace(std::int64_t rows, std::int64_t vocab, int dtype, int device);

void soft_value_forward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype, double tau,
                        const void* prior, std::int64_t prior_stride, const std::int64_t* actions, const std::uint8_t* mask,
                        void* value, void* correction, void* gathered, void* partials, unsigned* tickets, int device,
                        void* stream);
void soft_value_backward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype, double tau,
                         const void* prior, std::int64_t prior_stride, const std::int64_t* actions, const std::uint8_t* mask,
                         const void* value, const void* correction, const void* grad_value, const void* grad_gathered,
                         void* grad_q, std::int64_t grad_q_stride, int device, void* stream);

// The soft value of every row, without a prior, and the residuals of the sequences of `steps` rows each.
void soft_bellman_forward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype, double tau,
                          const std::int64_t* actions, const void* rewards, const std::uint8_t* terminal, std::int64_t steps,
                          const std::uint8_t* mask, void* residual, void* value, void* correction, void* partials,
                          unsigned* tickets, int device, void* stream);
void soft_bellman_backward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype,
                           double tau, const std::int64_t* actions, const std::uint8_t* terminal, std::int64_t steps,
                           const std::uint8_t* mask, const void* value, const void* correction, const void* grad_residual,
                           void* grad_q, std::int64_t grad_q_stride, int device, void* stream);

void policy_forward(const void* logits, std::int64_t logits_stride, const void* q, std::int64_t q_stride, std::int64_t rows,
                    std::int64_t vocab, int dtype, double tau, int entropy_mode, const std::uint8_t* mask, void* value,
                    void* entropy, void* log_normalizer, void* correction, void* value_low, void* effective_tau,
                    void* partials, unsigned* tickets, int device, void* stream);
void policy_backward(const void* logits, std::int64_t logits_stride, const void* q, std::int64_t q_stride, std::int64_t rows,
                     std::int64_t vocab, int dtype, const std::uint8_t* mask, const void* value, const void* entropy,
                     const void* log_normalizer, const void* correction, const void* value_low, const void* effective_tau,
                     const void* grad_value, const void* grad_entropy, void* grad_logits, std::int64_t grad_logits_stride,
                     void* grad_q, std::int64_t grad_q_stride, int device, void* stream);

void critic_forward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype,
                    const std::int64_t* actions, const void* targets, double smoothness, const std::uint8_t* mask,
                    void* loss, void* td_error, void* mean, void* mean_low, void* spread, void* partials, unsigned* tickets,
                    int device, void* stream);
void critic_backward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype,
                     const std::int64_t* actions, double smoothness, const std::uint8_t* mask, const void* td_error,
                     const void* mean, const void* mean_low, const void* grad_loss, void* grad_q, std::int64_t grad_q_stride,
                     int device, void* stream);

// Rows are positions of sequences of `steps` rows; the gradient of the loss is critic_backward.
void erac_forward(const void* logits, std::int64_t logits_stride, const void* target_q, std::int64_t target_q_stride,
                  const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype,
                  const std::int64_t* actions, const void* rewards, const std::uint8_t* terminal, std::int64_t steps,
                  double tau, double smoothness, const std::uint8_t* mask, void* loss, void* td_error, void* targets,
                  void* value, void* entropy, void* mean, void* mean_low, void* spread, void* partials, unsigned* tickets,
                  int device, void* stream);

void distillation_forward(const void* logits, std::int64_t logits_stride, const void* q, std::int64_t q_stride,
                          std::int64_t rows, std::int64_t vocab, int dtype, double tau, const std::int64_t* targets,
                          const void* oracle_weight, const std::uint8_t* mask, void* loss, void* log_normalizer,
                          void* correction, void* oracle_log_normalizer, void* oracle_correction, void* partials,
                          unsigned* tickets, int device, void* stream);
void distillation_backward(const void* logits, std::int64_t logits_stride, const void* q, std::int64_t q_stride,
                           std::int64_t rows, std::int64_t vocab, int dtype, double tau, const std::int64_t* targets,
                           const void* oracle_weight, const std::uint8_t* mask, const void* log_normalizer,
                           const void* correction, const void* oracle_log_normalizer, const void* oracle_correction,
                           const void* grad_loss, void* grad_logits, std::int64_t grad_logits_stride, int device,
                           void* stream);

void sample_forward(const void* logits, std::int64_t logits_stride, std::int64_t rows, std::int64_t vocab, int dtype,
                    double temperature, std::uint64_t seed, std::uint64_t offset, std::uint64_t row_base,
                    const std::uint64_t* seed_at, const std::uint64_t* offset_at, const std::int64_t* row_numbers,
                    const std::uint8_t* forbidden, const std::uint8_t* mask, std::int64_t* tokens, void* log_prob,
                    void* entropy, void* partials, unsigned* tickets, int device, void* stream);

}  // namespace softbellman::cuda
