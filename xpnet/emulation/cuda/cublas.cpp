// cuBLAS on the host: products of matrices; factors and solutions of batches, and triangular systems, by LAPACK and BLAS.
//
// Products are sums in an order of their own, fused, as on a GPU they may be: exact sums must not depend on it.
#include <cmath>

#include "half.h"
#include "lapack.h"

API int emulated_product(void* stream, std::function<void()> run);

namespace {

struct Sizes { int transpose_a, transpose_b; int64_t m, n, k, lda, ldb, ldc; };
template <class T> using Matrix = std::function<T*(int)>;  // the address of one of a batch of matrices

// Elements of a matrix, of which those of float16 count as float32
template <class T> T load(T x) { return x; }
float load(uint16_t x) { return to_float(x); }
template <class T> void store(T x, T& target) { target = x; }
void store(float x, uint16_t& target) { target = to_half(x); }

template <class T> T of(int, T x) { return x; }
template <class T> std::complex<T> of(int transpose, std::complex<T> x) { return transpose == 2 ? std::conj(x) : x; }
template <class T> T fused(T x, T y, T sum) { return std::fma(x, y, sum); }
template <class T> std::complex<T> fused(std::complex<T> x, std::complex<T> y, std::complex<T> sum) {
  return {std::fma(-x.imag(), y.imag(), std::fma(x.real(), y.real(), sum.real())),
          std::fma(x.imag(), y.real(), std::fma(x.real(), y.imag(), sum.imag()))};
}

constexpr int64_t ROWS = 32;  // of C at a time: their sums fit in registers

// C (m, n) = alpha op(A) (m, k) op(B) (k, n) + beta C, by columns; the terms are added last to first.
template <class T, class A, class C>
void multiply(const Sizes& s, T alpha, const A* a, const A* b, T beta, C* c) {
  std::vector<T> block(s.k * ROWS);
  for (int64_t first = 0; first < s.m; first += ROWS) {
    const int64_t rows = std::min(ROWS, s.m - first);
    for (int64_t p = 0; p < s.k; p++)
      for (int64_t i = 0; i < rows; i++)
        block[p * ROWS + i] = of(s.transpose_a, load(a[s.transpose_a ? (first + i) * s.lda + p : p * s.lda + first + i]));
    for (int64_t j = 0; j < s.n; j++) {
      T sums[ROWS] = {};
      for (int64_t p = s.k - 1; p >= 0; p--) {
        const T y = of(s.transpose_b, load(b[s.transpose_b ? p * s.ldb + j : j * s.ldb + p]));
        for (int64_t i = 0; i < ROWS; i++) sums[i] = fused(block[p * ROWS + i], y, sums[i]);
      }
      for (int64_t i = 0; i < rows; i++) {
        C& result = c[j * s.ldc + first + i];
        store(beta == T(0) ? alpha * sums[i] : alpha * sums[i] + beta * load(result), result);
      }
    }
  }
}

template <class T, class A, class C>
int enqueue(void* h, Sizes sizes, const void* alpha, Matrix<A> a, Matrix<A> b, const void* beta, Matrix<C> c, int count) {
  T x = *(const T*)alpha, y = *(const T*)beta;
  return emulated_product(((Handle*)h)->stream, [=] {
    for (int i = 0; i < count; i++) multiply(sizes, x, a(i), b(i), y, c(i));
  });
}

template <class T> Matrix<T> strided(const void* first, int64_t stride) {
  return [=](int i) { return (T*)first + i * stride; };
}

template <class T> Matrix<T> listed(const void* addresses) {  // in device memory, read when the product is computed
  return [=](int i) { return ((T* const*)addresses)[i]; };
}

}  // namespace

API int cublasCreate_v2(void** h) { return *h = new Handle{}, 0; }
API int cublasDestroy_v2(void* h) { return delete (Handle*)h, 0; }
API int cublasSetStream_v2(void* h, void* stream) { return ((Handle*)h)->stream = stream, 0; }
API int cublasGetStream_v2(void* h, void** stream) { return *stream = ((Handle*)h)->stream, 0; }
API int cublasGetMathMode(void*, int* mode) { return *mode = 0; }
API int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0; }
API int cublasSetPointerMode_v2(void*, int mode) {
  return mode ? (emulated_missing("cuBLAS with scalars in device memory"), 15) : 0;
}

#define SIZES int ta, int tb, int m, int n, int k
#define LEADING Sizes{ta, tb, m, n, k, lda, ldb, ldc}
#define ROUTINES(L, T)                                                                                                 \
  ROUTINE(cublas##L##getrfBatched, count, (void* h, int n, T** a, int lda, int* pivots, int* info, int count),         \
          std::vector<int> own(n + 1);                                                                                 \
          call<T>("getrf", n, n, a[i], lda, pivots ? pivots + i * n : own.data(), info + i);                           \
          for (int j = 0; j < n && !pivots; j++)                                                                       \
            if (own[j] != j + 1) throw std::runtime_error("cublas" #L "getrfBatched without pivots is not emulated"))  \
  ROUTINE(cublas##L##getriBatched, count,                                                                              \
          (void* h, int n, T** a, int lda, int* pivots, T** c, int ldc, int* info, int count),                         \
          for (int j = 0; j < n; j++) std::copy(a[i] + j * lda, a[i] + j * lda + n, c[i] + j * ldc);                   \
          call<T>("getri", n, c[i], ldc, pivots + i * n, WORK(T, 64 * n + 1), info + i))                               \
  API int cublas##L##getrsBatched(void* h, int trans, int n, int k, T** a, int lda, int* pivots, T** b, int ldb,       \
                                  int* host_info, int count) {                                                         \
    *host_info = 0;                                                                                                    \
    return enqueue_each(h, count, [=](ptrdiff_t i) {                                                                   \
      int info;                                                                                                        \
      call<T>("getrs", operation(trans), n, k, a[i], lda, pivots + i * n, b[i], ldb, &info);                           \
    });                                                                                                                \
  }                                                                                                                    \
  API int cublas##L##trsmBatched(void* h, int side, int uplo, int trans, int diag, int m, int n, const T* alpha,       \
                                 T** a, int lda, T** b, int ldb, int count) {                                          \
    return enqueue_each(h, count, [=, x = *alpha](ptrdiff_t i) {                                                       \
      call<T>("trsm", side_of(side), part(uplo), operation(trans), "NU"[diag], m, n, x, a[i], lda, b[i], ldb);         \
    });                                                                                                                \
  }                                                                                                                    \
  API int cublas##L##trsm_v2(void* h, int side, int uplo, int trans, int diag, int m, int n, const T* alpha, T* a,     \
                             int lda, T* b, int ldb) {                                                                 \
    return enqueue(h, [=, x = *alpha] {                                                                                \
      call<T>("trsm", side_of(side), part(uplo), operation(trans), "NU"[diag], m, n, x, a, lda, b, ldb);               \
    });                                                                                                                \
  }                                                                                                                    \
  API int cublas##L##gemm_v2(void* h, SIZES, const T* alpha, T* a, int lda, T* b, int ldb, const T* beta, T* c,        \
                             int ldc) {                                                                                \
    return enqueue<T>(h, LEADING, alpha, strided<T>(a, 0), strided<T>(b, 0), beta, strided<T>(c, 0), 1);               \
  }                                                                                                                    \
  API int cublas##L##gemmBatched(void* h, SIZES, const void* alpha, const void* a, int lda, const void* b, int ldb,    \
                                 const void* beta, void* c, int ldc, int count) {                                      \
    return enqueue<T>(h, LEADING, alpha, listed<T>(a), listed<T>(b), beta, listed<T>(c), count);                       \
  }
ROUTINES(S, float)
ROUTINES(D, double)
ROUTINES(C, std::complex<float>)
ROUTINES(Z, std::complex<double>)

API int cublasGemmStridedBatchedEx(void* h, SIZES, const void* alpha, const void* a, int a_type, int lda,
                                   long long a_stride, const void* b, int b_type, int ldb, long long b_stride,
                                   const void* beta, void* c, int c_type, int ldc, long long c_stride, int count, int, int) {
  enum { FLOAT = 0, HALF = 2 };
  auto multiply = [&](auto sum, auto factor, auto result) {
    using A = decltype(factor);
    using C = decltype(result);
    return enqueue<decltype(sum)>(h, LEADING, alpha, strided<A>(a, a_stride), strided<A>(b, b_stride), beta,
                                  strided<C>(c, c_stride), count);
  };
  const uint16_t half = 0;
  if (a_type == HALF && b_type == HALF && c_type == HALF) return multiply(0.0f, half, half);
  if (a_type == HALF && b_type == HALF && c_type == FLOAT) return multiply(0.0f, half, 0.0f);
  const bool is_one = a_type == b_type && b_type == c_type;  // else CUBLAS_STATUS_NOT_SUPPORTED
  return with_type(is_one ? a_type : -1, 15, [&](auto zero) { return multiply(zero, zero, zero); });
}
API int cublasGemmEx(void* h, SIZES, const void* alpha, const void* a, int a_type, int lda, const void* b, int b_type,
                     int ldb, const void* beta, void* c, int c_type, int ldc, int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type,
                                    ldc, 0, 1, compute, algorithm);
}
