// Threads that share the blocks of one phase after another, at the cost of a few memory accesses a phase.
//
// One thread leads: it calls for_each, which returns when all blocks are done. Others may help, and need not: the
// leader waits only for blocks that somebody has begun, so that helpers which come late, or never, stop nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fisherfield {

using Index = std::ptrdiff_t;

class Team {
 public:
  static constexpr Index max_blocks = 0xffff;

  // body(i) for every i in [0, blocks), each once, by whoever is there; an exception is thrown when all are done.
  template <class Body>
  void for_each(Index blocks, const Body& body) {
    if (blocks == 1) return body(Index(0));
    body_.store(&body, std::memory_order_relaxed);
    call_.store([](const void* b, Index i) { (*static_cast<const Body*>(b))(i); }, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const std::uint64_t phase = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
    ticket_.store(phase << 32 | static_cast<std::uint64_t>(blocks) << 16, std::memory_order_release);
    while (work_on_one()) {
    }
    for (int spins = 0; done_.load(std::memory_order_acquire) < blocks;) wait(spins);
    if (!error_) return;
    const std::exception_ptr error = error_;
    error_ = nullptr;
    std::rethrow_exception(error);
  }

  // Works on blocks until dismissed.
  void help() {
    for (int spins = 0; !dismissed_.load(std::memory_order_acquire);)
      if (work_on_one())
        spins = 0;
      else
        wait(spins);
  }

  // Sends the helpers home: nothing is published after this.
  void dismiss() { dismissed_.store(true, std::memory_order_release); }

 private:
  using Call = void (*)(const void*, Index);

  // A ticket holds the number of the phase (32 bits), its number of blocks (16) and the next block nobody has begun
  // (16). The body is overwritten only when all blocks of its phase are done, so that who takes a ticket has read its
  // body.
  bool work_on_one() {
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    const std::uint64_t block = ticket & 0xffff, blocks = ticket >> 16 & 0xffff;
    if (block == blocks) return false;
    const Call call = call_.load(std::memory_order_relaxed);
    const void* body = body_.load(std::memory_order_relaxed);
    if (!ticket_.compare_exchange_strong(ticket, ticket + 1, std::memory_order_acq_rel)) return true;
    try {
      call(body, static_cast<Index>(block));
    } catch (...) {
      const std::lock_guard<std::mutex> lock(failing_);
      error_ = std::current_exception();
    }
    done_.fetch_add(1, std::memory_order_release);
    return true;
  }

  static void wait(int& spins) {
    if (++spins > 2000) return std::this_thread::yield();
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#endif
  }

  std::atomic<std::uint64_t> ticket_{0};
  std::atomic<const void*> body_{nullptr};
  std::atomic<Call> call_{nullptr};
  std::atomic<Index> done_{0};
  std::atomic<bool> dismissed_{false};
  std::mutex failing_;
  std::exception_ptr error_;
};

}  // namespace fisherfield
