// CUDA C++ on the host: install.py puts this header before the source of CuPy's kernels, and EMULATED_KERNEL after it.
//
// Without EMULATED_FIBERS one thread does all the work, for loops that any number of threads may share; with it, the
// threads of a block are fibers that take turns at __syncthreads().
#pragma once
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <utility>

#define __device__
#define __host__
#define __global__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 { unsigned x, y, z; };
#ifdef EMULATED_FIBERS
static dim3 threadIdx, blockIdx, blockDim, gridDim;
#else
static constexpr dim3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0}, blockDim{1, 1, 1}, gridDim{1, 1, 1};
#endif

using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

static inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
static inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
static inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }

// CUDA's max and min are fmax and fmin: a number wins over NaN, and +0 over -0 in max.
template <class T> static inline T max(T a, T b) {
  if constexpr (std::numeric_limits<T>::is_integer) return a > b ? a : b;
  return a != a ? b : b != b ? a : a > b ? a : b > a ? b : signbit(a) ? b : a;
}
template <class T> static inline T min(T a, T b) {
  if constexpr (std::numeric_limits<T>::is_integer) return a < b ? a : b;
  return a != a ? b : b != b ? a : a < b ? a : b < a ? b : signbit(a) ? a : b;
}

namespace emulated {

template <class F> struct Signature;
template <class... A> struct Signature<void (*)(A...)> {
  static constexpr int count = sizeof...(A);
  static constexpr size_t sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
  template <size_t... I> static void call(void (*kernel)(A...), void** parameters, std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<A>*)parameters[I]...);
  }
};

struct Kernel { int count; const size_t* sizes; void (*launch)(void**, const unsigned*, const unsigned*); };

#ifdef EMULATED_FIBERS
struct Fiber { void* stack_pointer; dim3 thread; bool done; };
static Fiber fibers[1024], *current;
alignas(64) static char stacks[1025][(1 << 14) + 192];  // so that not all tops share one set of the cache
static void* scheduler;

// Save the callee-saved registers of x86-64 on this stack and go on on the other.
__attribute__((naked, noipa)) static void change(void** from, void* to) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n movq %rsp, (%rdi)\n"
      "movq %rsi, %rsp\n popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}

static inline void pause() { change(&current->stack_pointer, scheduler); }

template <class Call> static void run_block(unsigned threads, Call call) {
  static Call* body;
  body = &call;
  for (unsigned t = 0; t < threads; t++) {
    Fiber& fiber = fibers[t];
    void** top = (void**)stacks[t + 1];
    memset(top - 8, 0, 8 * sizeof(void*));
    void (*begin)() = [] {
      (*body)();
      current->done = true;
      pause();
    };
    top[-2] = (void*)begin;  // where the first change to this fiber returns to, its registers being 0
    fiber.stack_pointer = top - 8;
    fiber.thread = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
    fiber.done = false;
  }
  for (bool running = true; running;) {
    running = false;
    for (unsigned t = 0; t < threads; t++) {
      if (fibers[t].done) continue;
      current = &fibers[t];
      threadIdx = current->thread;
      change(&scheduler, current->stack_pointer);
      running = true;
    }
  }
}
#endif

template <auto kernel> static void launch(void** parameters, const unsigned* grid, const unsigned* block) {
  using S = Signature<decltype(kernel)>;
  auto call = [=] { S::call(kernel, parameters, std::make_index_sequence<S::count>()); };
#ifdef EMULATED_FIBERS
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  for (unsigned z = 0; z < grid[2]; z++)
    for (unsigned y = 0; y < grid[1]; y++)
      for (unsigned x = 0; x < grid[0]; x++) {
        blockIdx = {x, y, z};
        run_block(block[0] * block[1] * block[2], call);
      }
#else
  call();
#endif
}

}  // namespace emulated

#ifdef EMULATED_FIBERS
static inline void __syncthreads() { emulated::pause(); }
#endif

#define EMULATED_KERNEL(name)                                                                              \
  extern "C" __attribute__((visibility("default"))) const emulated::Kernel emulated_##name = {             \
      emulated::Signature<decltype(&name)>::count, emulated::Signature<decltype(&name)>::sizes,            \
      emulated::launch<&name>};
