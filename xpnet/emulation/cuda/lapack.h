// LAPACK and BLAS by name: libraries.py passes their addresses, from SciPy.
#pragma once
#include <algorithm>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

API int emulated_enqueue(void* stream, std::function<void()> run);
API int emulated_missing(const char* name);

namespace {

struct Handle { void* stream; };
std::map<std::string, void*> routines;

template <class T> constexpr char LETTER = 0;
template <> constexpr char LETTER<float> = 's';
template <> constexpr char LETTER<double> = 'd';
template <> constexpr char LETTER<std::complex<float>> = 'c';
template <> constexpr char LETTER<std::complex<double>> = 'z';
template <class T> struct RealOf { using type = T; };
template <class T> struct RealOf<std::complex<T>> { using type = T; };
template <class T> using Real = typename RealOf<T>::type;
template <class T> constexpr bool IS_REAL = std::is_floating_point_v<T>;

template <class T> T* pointer(T& x) { return &x; }
template <class T> T* pointer(T*& x) { return x; }

// Call a routine of type T; it takes addresses of everything.
template <class T, class... A> void call(const char* name, A... arguments) {
  auto routine = routines.find(LETTER<T> + std::string(name));
  if (routine == routines.end()) throw std::runtime_error(std::string("LAPACK's ") + name + " is not emulated");
  ((void (*)(decltype(pointer(arguments))...))routine->second)(pointer(arguments)...);
}

int enqueue(void* handle, std::function<void()> run) {
  return emulated_enqueue(((Handle*)handle)->stream, std::move(run));
}
template <class F> int enqueue_each(void* handle, int count, F run) {
  return enqueue(handle, [=] {
    for (ptrdiff_t i = 0; i < count; i++) run(i);
  });
}

// What CUDA's enumerations mean in LAPACK
char part(int uplo) { return uplo == 0 ? 'L' : 'U'; }
char operation(int transposed) { return "NTC"[transposed]; }
char side_of(int side) { return "LR"[side]; }

// Return f of a zero of the type that a cudaDataType names, or the status of what is not supported.
template <class F> int with_type(int type, int unsupported, F f) {
  switch (type) {
    case 0: return f(float());
    case 1: return f(double());
    case 4: return f(std::complex<float>());
    case 5: return f(std::complex<double>());
  }
  return emulated_missing("linear algebra of these data types"), unsupported;
}

}  // namespace

// A function of CUDA of type T, which enqueues what is to be done with the matrix number i of a batch
#define ROUTINE(NAME, COUNT, PARAMETERS, ...)                                \
  API int NAME PARAMETERS {                                                  \
    return enqueue_each(h, COUNT, [=](ptrdiff_t i) { __VA_ARGS__; });        \
  }
#define WORK(T, size) std::vector<T>(size).data(), int(size)

API void emulated_set_routine(const char* name, void* address) { routines[name] = address; }
