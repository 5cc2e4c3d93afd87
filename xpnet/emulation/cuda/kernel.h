// CUDA C++ on the host: install.py puts this header before the source of CuPy's kernels, and EMULATED_KERNEL after it.
//
// Without EMULATED_FIBERS one thread does all the work, for loops that any number of threads may share; with it, the
// threads of a block are fibers that take turns at __syncthreads(). With EMULATED_GRID those of all blocks do, for
// kernels whose blocks wait for each other, which have no shared memory here.
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

// CUDA's operations that are never contracted: the compiler cannot see through the empty assembly.
#define EMULATED_ROUNDED(name, T, expression)          \
  static inline T name(T a, T b) {                     \
    T result = expression;                             \
    asm("" : "+x"(result));                            \
    return result;                                     \
  }
EMULATED_ROUNDED(__dadd_rn, double, a + b)
EMULATED_ROUNDED(__dsub_rn, double, a - b)
EMULATED_ROUNDED(__dmul_rn, double, a* b)
EMULATED_ROUNDED(__ddiv_rn, double, a / b)
EMULATED_ROUNDED(__fadd_rn, float, a + b)
EMULATED_ROUNDED(__fsub_rn, float, a - b)
EMULATED_ROUNDED(__fmul_rn, float, a* b)
EMULATED_ROUNDED(__fdiv_rn, float, a / b)
static inline double __dsqrt_rn(double a) { return std::sqrt(a); }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }

template <class T, class S> static inline T same_bits(S x) {
  static_assert(sizeof(T) == sizeof(S));
  T result;
  memcpy(&result, &x, sizeof(T));
  return result;
}
static inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
static inline int __float_as_int(float x) { return same_bits<int>(x); }
static inline float __int_as_float(int x) { return same_bits<float>(x); }

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
struct Block { dim3 index; unsigned alive, arrived, barriers; };
struct Fiber { void* stack_pointer; dim3 thread; Block* block; bool done; };
static Fiber fibers[1024], *current;
static Block blocks[1024];
alignas(64) static char stacks[1025][(1 << 14) + 192];  // so that not all tops share one set of the cache
static void* scheduler;

// Save the callee-saved registers of x86-64 on this stack and go on on the other.
__attribute__((naked, noipa)) static void change(void** from, void* to) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n movq %rsp, (%rdi)\n"
      "movq %rsi, %rsp\n popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}

static inline void pause() { change(&current->stack_pointer, scheduler); }

// A barrier is complete when all threads of the block that have not ended are there.
static void wait_for_block() {
  Block& block = *current->block;
  const unsigned before = block.barriers;
  block.arrived++;
  while (block.barriers == before && block.arrived < block.alive) pause();
  if (block.barriers == before) {
    block.arrived = 0;
    block.barriers++;
  }
}

template <class Call> static void run_blocks(unsigned first, unsigned count, unsigned threads, Call call) {
  static Call* body;
  body = &call;
  if (count * threads > 1024) abort();
  for (unsigned t = 0; t < count * threads; t++) {
    Fiber& fiber = fibers[t];
    void** top = (void**)stacks[t + 1];
    memset(top - 8, 0, 8 * sizeof(void*));
    void (*begin)() = [] {
      (*body)();
      current->done = true;
      current->block->alive--;
      pause();
    };
    top[-2] = (void*)begin;  // where the first change to this fiber returns to, its registers being 0
    const unsigned thread = t % threads, block = first + t / threads;
    fiber.stack_pointer = top - 8;
    fiber.thread = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
    fiber.block = &blocks[t / threads];
    fiber.done = false;
    *fiber.block = {{block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y}, threads, 0, 0};
  }
  for (bool running = true; running;) {
    running = false;
    for (unsigned t = 0; t < count * threads; t++) {
      if (fibers[t].done) continue;
      current = &fibers[t];
      threadIdx = current->thread;
      blockIdx = current->block->index;
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
  const unsigned count = grid[0] * grid[1] * grid[2], threads = block[0] * block[1] * block[2];
#ifdef EMULATED_GRID
  run_blocks(0, count, threads, call);
#else
  for (unsigned first = 0; first < count; first++) run_blocks(first, 1, threads, call);
#endif
#else
  call();
#endif
}

}  // namespace emulated

#ifdef EMULATED_FIBERS
static inline void __syncthreads() { emulated::wait_for_block(); }
static inline void __threadfence() {}
static inline void __nanosleep(unsigned) { emulated::pause(); }
static inline unsigned atomicAdd(unsigned* address, unsigned value) {
  const unsigned before = *address;
  *address += value;
  return before;
}

// All threads of a warp take part.
template <class T> static inline T __shfl_xor_sync(unsigned, T value, int lanes) {
  static T values[1024];
  const unsigned own = emulated::current - emulated::fibers;
  values[own] = value;
  emulated::pause();
  value = values[own ^ lanes];
  emulated::pause();
  return value;
}
#endif

#define EMULATED_KERNEL(name)                                                                              \
  extern "C" __attribute__((visibility("default"))) const emulated::Kernel emulated_##name = {             \
      emulated::Signature<decltype(&name)>::count, emulated::Signature<decltype(&name)>::sizes,            \
      emulated::launch<&name>};
