// cuRAND on the host, for cupy.random.RandomState: numbers of the same distributions, not those of a card.
#include <functional>
#include <random>

#include <curand_kernel.h>

#define API extern "C" __attribute__((visibility("default")))
API int emulated_enqueue(void* stream, std::function<void()> run);
API void emulated_say_random();

namespace {

struct Generator { void* stream; EmulatedRandom state; };
struct Bits {  // for the distributions of the standard library
  using result_type = uint32_t;
  EmulatedRandom* state;
  static constexpr uint32_t min() { return 0; }
  static constexpr uint32_t max() { return 0xffffffff; }
  uint32_t operator()() { return curand(state); }
};
template <class T, class F> int fill(void* handle, T* out, size_t n, F next) {
  auto* generator = (Generator*)handle;
  return emulated_enqueue(generator->stream, [=] {
    for (size_t i = 0; i < n; i++) out[i] = next(&generator->state);
  });
}

}  // namespace

API int curandCreateGenerator(void** handle, int) {
  emulated_say_random();
  return *handle = new Generator{}, 0;
}
API int curandDestroyGenerator(void*) { return 0; }
API int curandGetVersion(int* version) { return *version = 10300, 0; }
API int curandSetStream(void* handle, void* stream) { return ((Generator*)handle)->stream = stream, 0; }
API int curandSetGeneratorOrdering(void*, int) { return 0; }
API int curandSetPseudoRandomGeneratorSeed(void* handle, unsigned long long seed) {
  auto* generator = (Generator*)handle;
  return emulated_enqueue(generator->stream, [=] { generator->state = {seed, 0, 0}; });
}
API int curandSetGeneratorOffset(void* handle, unsigned long long offset) {
  auto* generator = (Generator*)handle;
  return emulated_enqueue(generator->stream, [=] { generator->state.count = offset; });
}
#define GENERATE(NAME, T, PARAMETERS, expression)                               \
  API int NAME PARAMETERS {                                                     \
    return fill(h, out, n, [=](auto* state) -> T { return expression; });       \
  }
GENERATE(curandGenerate, uint32_t, (void* h, uint32_t* out, size_t n), curand(state))
GENERATE(curandGenerateLongLong, uint64_t, (void* h, uint64_t* out, size_t n), curand_long(state))
GENERATE(curandGenerateUniform, float, (void* h, float* out, size_t n), curand_uniform(state))
GENERATE(curandGenerateUniformDouble, double, (void* h, double* out, size_t n), curand_uniform_double(state))
API int curandGeneratePoisson(void* h, uint32_t* out, size_t n, double mean) {
  return fill(h, out, n, [=](auto* state) {
    Bits bits{state};
    return std::poisson_distribution<uint32_t>(mean)(bits);
  });
}
#define NORMAL(NAME, T, FUNCTION)                                               \
  GENERATE(NAME, T, (void* h, T* out, size_t n, T mean, T deviation),           \
           FUNCTION(mean + deviation * curand_normal_double(state)))
NORMAL(curandGenerateNormal, float, float)
NORMAL(curandGenerateNormalDouble, double, double)
NORMAL(curandGenerateLogNormal, float, std::exp)
NORMAL(curandGenerateLogNormalDouble, double, std::exp)
