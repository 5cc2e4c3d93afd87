// CUDA C++ on the host: kernels.py puts this header before the source of CuPy's kernels, and EMULATED_KERNEL after it.
//
// It defines one of these, or none:
//   none               one thread does all the work, for loops that any number of threads may share
//   EMULATED_SEQUENCE  all threads do their part, one after the other in any order: where a thread may return from the
//                      loop, or write what another one writes
//   EMULATED_FIBERS    the threads of a block are fibers, which take turns at __syncthreads(); with EMULATED_GRID those
//                      of all blocks are, for kernels whose blocks wait for each other, without shared memory
#pragma once
#ifdef CUPY_JIT_MODE
#include <tuple>
#endif
#include "intrinsics.h"

#define __device__
#define __host__
#define __global__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline
#define __noinline__  // within attributes of newer libstdc++ too
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 { unsigned x, y, z; };
#if defined EMULATED_FIBERS || defined EMULATED_SEQUENCE
static dim3 threadIdx, blockIdx, blockDim, gridDim;
#else
static constexpr dim3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0}, blockDim{1, 1, 1}, gridDim{1, 1, 1};
#endif

extern "C" void emulated_order(uint64_t count, uint64_t* factor, uint64_t* first);
#ifdef EMULATED_FIBERS
#include "fibers.h"
#endif

namespace emulated {

// A parameter in three letters: an array (*) or a value (=); a float, an integer or another type (?); and its size.
template <class T> struct Parameter {
  using Value = std::remove_cv_t<std::remove_pointer_t<T>>;
  static constexpr bool IS_CHARACTER = std::is_same_v<Value, char> || std::is_same_v<Value, unsigned char>;
  static constexpr char ARRAY = std::is_pointer_v<T> ? '*' : '=';
  static constexpr char KIND = std::is_floating_point_v<Value> ? 'f'
                               : std::is_integral_v<Value> && !IS_CHARACTER ? 'i' : '?';
  static constexpr char size() {
    if constexpr (std::is_arithmetic_v<Value>) return '0' + sizeof(Value);
    return '?';
  }
};

template <class F> struct Signature;
template <class... A> struct Signature<void (*)(A...)> {
  static constexpr int count = sizeof...(A);
  static constexpr size_t sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
  static constexpr char types[][3] = {{Parameter<A>::ARRAY, Parameter<A>::KIND, Parameter<A>::size()}..., {}};
  template <size_t... I> static void call(void (*kernel)(A...), void** parameters, std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<A>*)parameters[I]...);
  }
};

struct Kernel {
  int count;
  const size_t* sizes;
  const char* types;
  void (*launch)(void**, const unsigned*, const unsigned*);
};

template <auto kernel> static void launch(void** parameters, const unsigned* grid, const unsigned* block) {
  using S = Signature<decltype(kernel)>;
  auto call = [=] { S::call(kernel, parameters, std::make_index_sequence<S::count>()); };
#if defined EMULATED_FIBERS || defined EMULATED_SEQUENCE
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  const uint64_t count = uint64_t(grid[0]) * grid[1] * grid[2], threads = block[0] * block[1] * block[2];
#endif
#if defined EMULATED_GRID
  emulated::run_blocks(0, count, threads, call);
#elif defined EMULATED_FIBERS
  for (uint64_t first = 0; first < count; first++) run_blocks(first, 1, threads, call);
#elif defined EMULATED_SEQUENCE
  uint64_t factor, first;
  emulated_order(count * threads, &factor, &first);
  for (uint64_t i = 0, number = first; i < count * threads; i++, number = (number + factor) % (count * threads)) {
    const uint64_t t = number % threads, b = number / threads;
    threadIdx = {unsigned(t % block[0]), unsigned(t / block[0] % block[1]), unsigned(t / block[0] / block[1])};
    blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
    call();
  }
#else
  call();
#endif
}

}  // namespace emulated

// The kernel as the driver finds it, by a name of its own; the rest is the function, perhaps of a template.
#define EMULATED_KERNEL(name, ...)                                                                         \
  extern "C" __attribute__((visibility("default"))) const emulated::Kernel emulated_##name = {             \
      emulated::Signature<decltype(&__VA_ARGS__)>::count, emulated::Signature<decltype(&__VA_ARGS__)>::sizes, \
      emulated::Signature<decltype(&__VA_ARGS__)>::types[0], emulated::launch<&__VA_ARGS__>};

// NVRTC has M_PI alone, and kernels define others.
#undef M_E
#undef M_LOG2E
#undef M_LOG10E
#undef M_LN2
#undef M_LN10
#undef M_PI_2
#undef M_PI_4
#undef M_1_PI
#undef M_2_PI
#undef M_2_SQRTPI
#undef M_SQRT2
#undef M_SQRT1_2
