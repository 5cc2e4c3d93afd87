// The functions of CuPy that call Thrust, on the host; they have the names of CuPy's.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "half.h"

#define API __attribute__((visibility("default")))
extern "C" API int emulated_enqueue(void* stream, std::function<void()> run);

namespace {

using Shape = std::vector<ptrdiff_t>;
struct Half { uint16_t bits; };

// NaN is last, as in NumPy.
struct Less {
  template <class T> bool operator()(T a, T b) const { return a < b || (b != b && a == a); }
  bool operator()(Half a, Half b) const { return (*this)(to_float(a.bits), to_float(b.bits)); }
  template <class T> bool operator()(std::complex<T> a, std::complex<T> b) const {
    auto kind = [](auto z) { return 2 * std::isnan(z.real()) + std::isnan(z.imag()); };
    const int x = kind(a), y = kind(b);
    if (x != y) return x < y;
    if (x < 2 && a.real() != b.real()) return a.real() < b.real();
    return x % 2 == 0 && a.imag() < b.imag();
  }
};

using Types = std::tuple<int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, Half, float, double,
                         std::complex<float>, std::complex<double>, bool>;  // by their number in CuPy

// Enqueue f with a zero of the type that has a number.
template <size_t I = 0, class F> void enqueue(size_t type, intptr_t stream, F f) {
  if constexpr (I < std::tuple_size_v<Types>) {
    if (type != I) return enqueue<I + 1>(type, stream, f);
    emulated_enqueue((void*)stream, [=] { f(std::tuple_element_t<I, Types>()); });
  } else
    throw std::runtime_error("a sort of this data type is not emulated");
}

size_t size_of(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), size_t(1), std::multiplies<size_t>());
}
template <class T> void sort_indices(size_t* first, size_t n, const T* keys) {
  std::stable_sort(first, first + n, [=](size_t i, size_t j) { return Less()(keys[i], keys[j]); });
}

}  // namespace

API void thrust_sort(int type, void* data, size_t*, const Shape& shape, intptr_t stream, void*) {
  enqueue(type, stream, [=, size = size_of(shape), n = (size_t)shape.back()](auto zero) {
    auto* row = (decltype(zero)*)data;
    for (auto* end = row + size; row < end; row += n) std::stable_sort(row, row + n, Less());
  });
}
API void thrust_argsort(int type, size_t* indices, void* data, void*, const Shape& shape, intptr_t stream, void*) {
  enqueue(type, stream, [=, size = size_of(shape), n = (size_t)shape.back()](auto zero) {
    for (size_t row = 0; row < size; row += n) {
      std::iota(indices + row, indices + row + n, 0);
      sort_indices(indices + row, n, (decltype(zero)*)data + row);
    }
  });
}
API void thrust_lexsort(int type, size_t* indices, void* keys, size_t count, size_t n, intptr_t stream, void*) {
  enqueue(type, stream, [=](auto zero) {
    std::iota(indices, indices + n, 0);
    for (size_t i = 0; i < count; i++) sort_indices(indices, n, (decltype(zero)*)keys + i * n);
  });
}
