// The CUDA of our kernels, on the host: a block runs as fibers, one a thread, that take turns at barriers.
//
// A fiber runs until it has to wait for others: at __syncthreads, or where a warp works together (tensor-core products,
// shuffles). Running the fibers in ascending and in descending order gives different answers where a barrier is
// missing. Copies that are asynchronous on a GPU arrive when they are waited for, and not before.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// The C library's switch of contexts asks the system about signals each time; sanitizers know that one only.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define CUDA_HOST_OWN_SWITCH
#else
#include <ucontext.h>
#endif

#define FISHERFIELD_CUDA_PRIMITIVES  // those of the machine are left out
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

#ifdef CUDA_HOST_OWN_SWITCH
// Saves what a function has to keep, and the stack; goes on with another.
extern "C" void cuda_host_switch(void** from, void* to);
asm(R"(
.text
.globl cuda_host_switch
.hidden cuda_host_switch
.type cuda_host_switch, @function
cuda_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_host_switch, .-cuda_host_switch
)");
#endif

namespace cuda_host {

// Where a computation is, on a stack of its own.
class Context {
 public:
#ifdef CUDA_HOST_OWN_SWITCH
  void start(std::byte* stack, std::size_t bytes, void (*function)()) {
    auto top = reinterpret_cast<std::uintptr_t>(stack + bytes) / 16 * 16;
    auto* at = reinterpret_cast<void**>(top) - 8;  // six registers, where to go, and no way back
    std::fill_n(at, 8, nullptr);
    at[6] = reinterpret_cast<void*>(function);
    stack_ = at;
  }
  void switch_to(Context& other) { cuda_host_switch(&stack_, other.stack_); }

 private:
  void* stack_ = nullptr;
#else
  void start(std::byte* stack, std::size_t bytes, void (*function)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, function, 0);
  }
  void switch_to(Context& other) { swapcontext(&context_, &other.context_); }

 private:
  ucontext_t context_;
#endif
};

inline uint3 thread_index, block_index, block_size, grid_size;

struct Copy {
  std::byte* to;
  const std::byte* from;
  int bytes, valid;
};

// One thread of a block.
struct Fiber {
  Context context;
  uint3 index;
  bool finished = false, runs = true;
  int parity = 0;                            // of its last exchange
  const char* waits = nullptr;               // for what
  std::vector<std::vector<Copy>> copies{1};  // in groups, the last one open
};

// What the lanes of a warp lay down for the others.
struct Exchange {
  double a[32][4], b[32][2];
  std::uint32_t u[32][4], v[32][2];
};

class Block {
 public:
  Block(unsigned threads, std::size_t shared_bytes, bool descending, std::function<void()> body)
      : fibers_(threads),
        exchange_((threads + 31) / 32 * 2),
        shared_(shared_bytes, std::byte{0xff}),
        body_(std::move(body)),
        descending_(descending) {}

  // Of threads that work together.
  void run() {
    static std::vector<std::unique_ptr<std::byte[]>> stacks;
    current_block = this;
    const unsigned n = static_cast<unsigned>(fibers_.size());
    while (stacks.size() < n) stacks.emplace_back(new std::byte[stack_bytes]);
    for (unsigned i = 0; i < n; ++i) {
      fibers_[i].index = index_of(i);
      fibers_[i].context.start(stacks[i].get(), stack_bytes, &Block::enter);
    }
    for (bool alive = true; alive;) {
      alive = false;
      for (unsigned i = 0; i < n; ++i) {
        now_ = descending_ ? n - 1 - i : i;
        Fiber& fiber = fibers_[now_];
        if (fiber.finished || !fiber.runs) continue;
        alive = true;
        thread_index = fiber.index;
        scheduler_.switch_to(fiber.context);
        if (!error_.empty()) throw std::runtime_error(error_);
      }
      release();
    }
  }

  // Of threads that do not.
  void run_alone() {
    current_block = this;
    const unsigned n = static_cast<unsigned>(fibers_.size());
    alone_ = true;
    for (unsigned i = 0; i < n; ++i) {
      thread_index = index_of(descending_ ? n - 1 - i : i);
      body_();
    }
  }

  // Waits until the others wait for the same: one of the names below.
  void wait(const char* what) {
    if (alone_) throw std::runtime_error("a kernel whose threads work alone waits for others");
    Fiber& fiber = fibers_[now_];
    fiber.waits = what;
    fiber.context.switch_to(scheduler_);
    fiber.waits = nullptr;
  }

  Fiber& fiber() { return fibers_[now_]; }
  unsigned lane() const { return now_ % 32; }
  // Where the lanes of a warp lay down what they have; the next one is another, for the sake of those that still read.
  Exchange& next_exchange() {
    Fiber& fiber = fibers_[now_];
    fiber.parity = 1 - fiber.parity;
    return exchange_[now_ / 32 * 2 + fiber.parity];
  }
  unsigned char* shared() { return reinterpret_cast<unsigned char*>(shared_.data()); }
  bool is_shared(const std::byte* at, int bytes) const {
    return at >= shared_.data() && at + bytes <= shared_.data() + shared_.size();
  }
  void fail(const std::string& message) {
    error_ = message;
    fibers_[now_].context.switch_to(scheduler_);
  }

  static inline Block* current_block;
  static constexpr const char *barrier = "barrier", *product = "product", *shuffle = "shuffle";

 private:
  static constexpr std::size_t stack_bytes = 1 << 16;

  static void enter() {
    Block& block = *current_block;
    block.body_();
    Fiber& fiber = block.fibers_[block.now_];
    fiber.finished = true;
    fiber.context.switch_to(block.scheduler_);
  }

  static uint3 index_of(unsigned i) {
    return {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
  }

  // Lets those go on for whom all have come: the block for __syncthreads, the warp for what it does together.
  void release() {
    const auto at_barrier = [](const Fiber& fiber) { return fiber.finished || fiber.waits == barrier; };
    const bool all = std::all_of(fibers_.begin(), fibers_.end(), at_barrier);
    bool any_alive = false, any_runs = false;
    for (std::size_t begin = 0; begin < fibers_.size(); begin += 32) {
      const char* what = nullptr;
      for (std::size_t i = begin; i < std::min(begin + 32, fibers_.size()); ++i) {
        Fiber& fiber = fibers_[i];
        if (fiber.finished) continue;
        if (what && what != fiber.waits) throw std::runtime_error("lanes of a warp wait for different things");
        what = fiber.waits;
        fiber.runs = all || what != barrier;
        any_alive = true;
        any_runs = any_runs || fiber.runs;
      }
    }
    if (any_alive && !any_runs) throw std::runtime_error("a barrier that not all threads reach");
  }

  std::vector<Fiber> fibers_;
  std::vector<Exchange> exchange_;
  std::vector<std::byte> shared_;
  std::function<void()> body_;
  Context scheduler_;
  unsigned now_ = 0;
  bool descending_, alone_ = false;
  std::string error_;
};

inline Block& block() { return *Block::current_block; }

template <class T>
T as(std::uint32_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

}  // namespace cuda_host

#define threadIdx cuda_host::thread_index
#define blockIdx cuda_host::block_index
#define blockDim cuda_host::block_size
#define gridDim cuda_host::grid_size

inline void __syncthreads() { cuda_host::block().wait(cuda_host::Block::barrier); }

namespace fisherfield::cuda {

inline unsigned char* shared_memory() { return cuda_host::block().shared(); }

template <int bytes>
void copy_async(void* shared, const void* global, int valid) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  auto* to = static_cast<std::byte*>(shared);
  const bool aligned =
      (reinterpret_cast<std::uintptr_t>(shared) | (valid ? reinterpret_cast<std::uintptr_t>(global) : 0)) % bytes == 0;
  if (!aligned || valid < 0 || valid > bytes || !cuda_host::block().is_shared(to, bytes))
    cuda_host::block().fail("a copy that is not aligned or leaves shared memory");
  cuda_host::block().fiber().copies.back().push_back({to, static_cast<const std::byte*>(global), bytes, valid});
  std::memset(to, 0xff, bytes);  // not there before it is waited for
}

inline void commit_copies() { cuda_host::block().fiber().copies.emplace_back(); }

template <int groups>
void wait_copies() {
  auto& open = cuda_host::block().fiber().copies;
  while (open.size() > groups + 1) {
    for (const auto& copy : open.front()) {
      std::memset(copy.to, 0, copy.bytes);
      std::memcpy(copy.to, copy.from, copy.valid);
    }
    open.erase(open.begin());
  }
}

inline void mma_f64(double (&c)[2], double a, double b) {
  auto& held = cuda_host::block().next_exchange();
  const unsigned lane = cuda_host::block().lane(), g = lane / 4, t = lane % 4;
  held.a[lane][0] = a;  // (g, t)
  held.b[lane][0] = b;  // (t, g)
  cuda_host::block().wait(cuda_host::Block::product);
  for (int e = 0; e < 2; ++e)
    for (unsigned k = 0; k < 4; ++k) c[e] = std::fma(held.a[4 * g + k][0], held.b[4 * (2 * t + e) + k][0], c[e]);
}

// A (row, k) and B (k, column) of a product 16 x 8 x depth, from what the lanes hold.
template <int depth, class A, class B>
void mma_16x8(float (&c)[4], const A& a_at, const B& b_at) {
  const unsigned lane = cuda_host::block().lane(), g = lane / 4, t = lane % 4;
  for (unsigned e = 0; e < 4; ++e) {
    const unsigned row = g + 8 * (e / 2), column = 2 * t + e % 2;
    double sum = c[e];
    for (unsigned k = 0; k < depth; ++k) sum += double(a_at(row, k)) * b_at(k, column);
    c[e] = float(sum);
  }
}

inline const cuda_host::Exchange& exchanged(const unsigned (&a)[4], const unsigned (&b)[2]) {
  auto& held = cuda_host::block().next_exchange();
  std::copy_n(a, 4, held.u[cuda_host::block().lane()]);
  std::copy_n(b, 2, held.v[cuda_host::block().lane()]);
  cuda_host::block().wait(cuda_host::Block::product);
  return held;
}

inline void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const auto& held = exchanged(a, b);
  // PTX ISA, mma.m16n8k8 with tf32: a0 (g, t), a1 (g + 8, t), a2 (g, t + 4), a3 (g + 8, t + 4); b0 (t, g), b1 (t + 4,
  // g)
  mma_16x8<8>(
      c,
      [&](unsigned row, unsigned k) {
        return cuda_host::as<float>(held.u[row % 8 * 4 + k % 4][row / 8 + 2 * (k / 4)] & ~0x1fffu);
      },
      [&](unsigned k, unsigned column) { return cuda_host::as<float>(held.v[column * 4 + k % 4][k / 4] & ~0x1fffu); });
}

inline void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const auto& held = exchanged(a, b);
  // PTX ISA, mma.m16n8k16 with bf16: two neighbours a register, the first in the low half; a0 (g, 2t), a1 (g + 8, 2t),
  // a2 (g, 2t + 8), a3 (g + 8, 2t + 8); b0 (2t, g), b1 (2t + 8, g)
  const auto half = [](std::uint32_t pair, unsigned k) {
    return cuda_host::as<float>(k % 2 ? pair & 0xffff0000u : pair << 16);
  };
  mma_16x8<16>(
      c, [&](unsigned row, unsigned k) { return half(held.u[row % 8 * 4 + k % 8 / 2][row / 8 + 2 * (k / 8)], k); },
      [&](unsigned k, unsigned column) { return half(held.v[column * 4 + k % 8 / 2][k / 8], k); });
}

inline unsigned as_tf32(float x) { return (cuda_host::bits_of(x) + 0x1000u) & ~0x1fffu; }  // ties away from zero

inline unsigned as_bf16(float x) {
  const std::uint32_t bits = cuda_host::bits_of(x);
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;  // ties to even
}
inline unsigned as_bf16_pair(float first, float second) { return as_bf16(first) | as_bf16(second) << 16; }
inline float bits_as_float(unsigned bits) { return cuda_host::as<float>(bits); }

template <class T>
T warp_sum(T value) {
  auto& block = cuda_host::block();
  const unsigned lane = block.lane();
  for (unsigned offset = 16; offset > 0; offset /= 2) {
    auto& held = block.next_exchange();
    held.a[lane][0] = double(value);
    block.wait(cuda_host::Block::shuffle);
    const T other = lane + offset < 32 ? T(held.a[lane + offset][0]) : value;
    value += other;
  }
  return value;
}

}  // namespace fisherfield::cuda
