// cuBLAS on the host, as far as matrix products of float32 and float64 need it.
//
// Sums are made in an order of their own, fused, as on a GPU they may be: exact sums must not depend on it.
// A call of a function that is missing here ends the process.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

API int emulated_enqueue(void* stream, std::function<void()> run);

namespace {

struct Handle { void* stream; };
struct Sizes { bool transpose_a, transpose_b; int64_t m, n, k, lda, ldb, ldc; };
template <class T> using Matrix = std::function<T*(int)>;  // the address of one of a batch of matrices

constexpr int64_t ROWS = 32;  // of C at a time: their sums fit in registers

// C (m, n) = alpha op(A) (m, k) op(B) (k, n) + beta C, by columns; the terms are added last to first.
template <class T> void multiply(const Sizes& s, T alpha, const T* a, const T* b, T beta, T* c) {
  std::vector<T> block(s.k * ROWS);
  for (int64_t first = 0; first < s.m; first += ROWS) {
    const int64_t rows = std::min(ROWS, s.m - first);
    for (int64_t p = 0; p < s.k; p++)
      for (int64_t i = 0; i < rows; i++)
        block[p * ROWS + i] = s.transpose_a ? a[(first + i) * s.lda + p] : a[p * s.lda + first + i];
    for (int64_t j = 0; j < s.n; j++) {
      T sums[ROWS] = {};
      for (int64_t p = s.k - 1; p >= 0; p--) {
        const T y = s.transpose_b ? b[p * s.ldb + j] : b[j * s.ldb + p];
        for (int64_t i = 0; i < ROWS; i++) sums[i] = std::fma(block[p * ROWS + i], y, sums[i]);
      }
      for (int64_t i = 0; i < rows; i++) {
        T& result = c[j * s.ldc + first + i];
        result = beta == 0 ? alpha * sums[i] : alpha * sums[i] + beta * result;
      }
    }
  }
}

template <class T>
int enqueue(void* h, Sizes sizes, const void* alpha, Matrix<T> a, Matrix<T> b, const void* beta, Matrix<T> c, int count) {
  T x = *(const T*)alpha, y = *(const T*)beta;
  return emulated_enqueue(((Handle*)h)->stream, [=] {
    for (int i = 0; i < count; i++) multiply<T>(sizes, x, a(i), b(i), y, c(i));
  });
}

template <class T> Matrix<T> strided(const void* first, int64_t stride) {
  return [=](int i) { return (T*)first + i * stride; };
}

template <class T> Matrix<T> listed(const void* addresses) {  // in device memory, read when the product is computed
  return [=](int i) { return ((T* const*)addresses)[i]; };
}

}  // namespace

API int cublasCreate_v2(void** handle) { *handle = new Handle{}; return 0; }
API int cublasDestroy_v2(void* handle) { delete (Handle*)handle; return 0; }
API int cublasSetStream_v2(void* handle, void* stream) { ((Handle*)handle)->stream = stream; return 0; }
API int cublasGetMathMode(void*, int* mode) { *mode = 0; return 0; }

#define SIZES int ta, int tb, int m, int n, int k
#define LEADING Sizes{ta != 0, tb != 0, m, n, k, lda, ldb, ldc}
#define BATCHED(LETTER, T)                                                                                             \
  API int cublas##LETTER##gemmBatched(void* h, SIZES, const void* alpha, const void* a, int lda, const void* b,        \
                                      int ldb, const void* beta, void* c, int ldc, int count) {                        \
    return enqueue<T>(h, LEADING, alpha, listed<T>(a), listed<T>(b), beta, listed<T>(c), count);                       \
  }
BATCHED(S, float)
BATCHED(D, double)

API int cublasGemmStridedBatchedEx(void* h, SIZES, const void* alpha, const void* a, int a_type, int lda,
                                   long long a_stride, const void* b, int b_type, int ldb, long long b_stride,
                                   const void* beta, void* c, int c_type, int ldc, long long c_stride, int count, int, int) {
  if (a_type != b_type || b_type != c_type || a_type > 1) return 15;  // CUBLAS_STATUS_NOT_SUPPORTED
  auto call = [&](auto zero) {
    using T = decltype(zero);
    return enqueue<T>(h, LEADING, alpha, strided<T>(a, a_stride), strided<T>(b, b_stride), beta,
                      strided<T>(c, c_stride), count);
  };
  return a_type == 0 ? call(0.0f) : call(0.0);  // CUDA_R_32F, CUDA_R_64F
}
API int cublasGemmEx(void* h, SIZES, const void* alpha, const void* a, int a_type, int lda, const void* b, int b_type,
                     int ldb, const void* beta, void* c, int c_type, int ldc, int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type,
                                    ldc, 0, 1, compute, algorithm);
}
