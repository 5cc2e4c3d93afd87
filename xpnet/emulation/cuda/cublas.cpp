// Matrix products of cuBLAS on the host; cublas_lapack.cpp has more of it.
//
// Sums are made in an order of their own, fused, as on a GPU they may be: exact sums must not depend on it.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <functional>
#include <vector>

#include "half.h"

#define API extern "C" __attribute__((visibility("default")))

API int emulated_product(void* stream, std::function<void()> run);
API int emulated_missing(const char* name);

namespace {

struct Handle { void* stream; };
struct Sizes { int transpose_a, transpose_b; int64_t m, n, k, lda, ldb, ldc; };
template <class T> using Matrix = std::function<T*(int)>;  // the address of one of a batch of matrices

template <class T> T of(int, T x) { return x; }
template <class T> std::complex<T> of(int transpose, std::complex<T> x) { return transpose == 2 ? std::conj(x) : x; }
template <class T> T fused(T x, T y, T sum) { return std::fma(x, y, sum); }
template <class T> std::complex<T> fused(std::complex<T> x, std::complex<T> y, std::complex<T> sum) {
  return {std::fma(-x.imag(), y.imag(), std::fma(x.real(), y.real(), sum.real())),
          std::fma(x.imag(), y.real(), std::fma(x.real(), y.imag(), sum.imag()))};
}

constexpr int64_t ROWS = 32;  // of C at a time: their sums fit in registers

// C (m, n) = alpha op(A) (m, k) op(B) (k, n) + beta C, by columns; the terms are added last to first.
template <class T> void multiply(const Sizes& s, T alpha, const T* a, const T* b, T beta, T* c) {
  std::vector<T> block(s.k * ROWS);
  for (int64_t first = 0; first < s.m; first += ROWS) {
    const int64_t rows = std::min(ROWS, s.m - first);
    for (int64_t p = 0; p < s.k; p++)
      for (int64_t i = 0; i < rows; i++)
        block[p * ROWS + i] = of(s.transpose_a, s.transpose_a ? a[(first + i) * s.lda + p] : a[p * s.lda + first + i]);
    for (int64_t j = 0; j < s.n; j++) {
      T sums[ROWS] = {};
      for (int64_t p = s.k - 1; p >= 0; p--) {
        const T y = of(s.transpose_b, s.transpose_b ? b[p * s.ldb + j] : b[j * s.ldb + p]);
        for (int64_t i = 0; i < ROWS; i++) sums[i] = fused(block[p * ROWS + i], y, sums[i]);
      }
      for (int64_t i = 0; i < rows; i++) {
        T& result = c[j * s.ldc + first + i];
        result = beta == T(0) ? alpha * sums[i] : alpha * sums[i] + beta * result;
      }
    }
  }
}

template <class T>
int enqueue(void* h, Sizes sizes, const void* alpha, Matrix<T> a, Matrix<T> b, const void* beta, Matrix<T> c, int count) {
  T x = *(const T*)alpha, y = *(const T*)beta;
  return emulated_product(((Handle*)h)->stream, [=] {
    for (int i = 0; i < count; i++) multiply<T>(sizes, x, a(i), b(i), y, c(i));
  });
}

template <class T> Matrix<T> strided(const void* first, int64_t stride) {
  return [=](int i) { return (T*)first + i * stride; };
}

template <class T> Matrix<T> listed(const void* addresses) {  // in device memory, read when the product is computed
  return [=](int i) { return ((T* const*)addresses)[i]; };
}

// float16, whose sums are of float32; c may be of float32 too
template <class C>
int enqueue_half(void* h, Sizes s, float alpha, const uint16_t* a, int64_t a_stride, const uint16_t* b, int64_t b_stride,
                 float beta, C* c, int64_t c_stride, int count) {
  return emulated_product(((Handle*)h)->stream, [=] {
    for (int64_t i = 0; i < count; i++) {
      auto widen = [](const auto* from, int64_t columns, int64_t leading, int64_t rows) {
        std::vector<float> wide(columns ? leading * (columns - 1) + rows : 0);
        std::transform(from, from + wide.size(), wide.begin(), [](auto x) { return to_float(x); });
        return wide;
      };
      auto x = widen(a + i * a_stride, s.transpose_a ? s.m : s.k, s.lda, s.transpose_a ? s.k : s.m);
      auto y = widen(b + i * b_stride, s.transpose_b ? s.k : s.n, s.ldb, s.transpose_b ? s.n : s.k);
      auto z = widen(c + i * c_stride, s.n, s.ldc, s.m);
      multiply<float>(s, alpha, x.data(), y.data(), beta, z.data());
      for (int64_t j = 0; j < s.n; j++)
        for (int64_t k = j * s.ldc; k < j * s.ldc + s.m; k++) from_float(z[k], c[i * c_stride + k]);
    }
  });
}

}  // namespace

API int cublasCreate_v2(void** handle) { *handle = new Handle{}; return 0; }
API int cublasDestroy_v2(void* handle) { delete (Handle*)handle; return 0; }
API int cublasSetStream_v2(void* handle, void* stream) { ((Handle*)handle)->stream = stream; return 0; }
API int cublasGetMathMode(void*, int* mode) { *mode = 0; return 0; }

#define SIZES int ta, int tb, int m, int n, int k
#define LEADING Sizes{ta, tb, m, n, k, lda, ldb, ldc}
#define BATCHED(LETTER, T)                                                                                             \
  API int cublas##LETTER##gemmBatched(void* h, SIZES, const void* alpha, const void* a, int lda, const void* b,        \
                                      int ldb, const void* beta, void* c, int ldc, int count) {                        \
    return enqueue<T>(h, LEADING, alpha, listed<T>(a), listed<T>(b), beta, listed<T>(c), count);                       \
  }
BATCHED(S, float)
BATCHED(D, double)
BATCHED(C, std::complex<float>)
BATCHED(Z, std::complex<double>)

API int cublasGemmStridedBatchedEx(void* h, SIZES, const void* alpha, const void* a, int a_type, int lda,
                                   long long a_stride, const void* b, int b_type, int ldb, long long b_stride,
                                   const void* beta, void* c, int c_type, int ldc, long long c_stride, int count, int, int) {
  enum { FLOAT = 0, DOUBLE = 1, HALF = 2, COMPLEX_FLOAT = 4, COMPLEX_DOUBLE = 5 };
  auto half = [&](auto* target) {
    return enqueue_half(h, LEADING, *(const float*)alpha, (const uint16_t*)a, a_stride, (const uint16_t*)b, b_stride,
                        *(const float*)beta, target, c_stride, count);
  };
  if (a_type == HALF && b_type == HALF && c_type == HALF) return half((uint16_t*)c);
  if (a_type == HALF && b_type == HALF && c_type == FLOAT) return half((float*)c);
  auto call = [&](auto zero) {
    using T = decltype(zero);
    return enqueue<T>(h, LEADING, alpha, strided<T>(a, a_stride), strided<T>(b, b_stride), beta,
                      strided<T>(c, c_stride), count);
  };
  if (a_type == b_type && b_type == c_type) switch (a_type) {
      case FLOAT: return call(0.0f);
      case DOUBLE: return call(0.0);
      case COMPLEX_FLOAT: return call(std::complex<float>());
      case COMPLEX_DOUBLE: return call(std::complex<double>());
    }
  return emulated_missing("a matrix product of these data types"), 15;  // CUBLAS_STATUS_NOT_SUPPORTED
}
API int cublasGemmEx(void* h, SIZES, const void* alpha, const void* a, int a_type, int lda, const void* b, int b_type,
                     int ldb, const void* beta, void* c, int c_type, int ldc, int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type,
                                    ldc, 0, 1, compute, algorithm);
}
