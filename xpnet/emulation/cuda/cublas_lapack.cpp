// More of cuBLAS on the host, by LAPACK and BLAS: factors and solutions of batches, triangular systems.
#include "lapack.h"

#define FACTORS(L, T)                                                                                                  \
  API int cublas##L##getrfBatched(void* h, int n, T** a, int lda, int* pivots, int* info, int count) {                 \
    return enqueue_each(h, count, [=](int i) {                                                                         \
      std::vector<int> own(n + 1);                                                                                     \
      call<T>("getrf", n, n, a[i], lda, pivots ? pivots + i * n : own.data(), info + i);                               \
      for (int j = 0; j < n && !pivots; j++)                                                                           \
        if (own[j] != j + 1) throw std::runtime_error("cublas" #L "getrfBatched without pivots is not emulated");      \
    });                                                                                                                \
  }                                                                                                                    \
  API int cublas##L##getriBatched(void* h, int n, T** a, int lda, int* pivots, T** c, int ldc, int* info, int count) { \
    return enqueue_each(h, count, [=](int i) {                                                                         \
      std::vector<T> work(64 * n + 1);                                                                                 \
      for (int j = 0; j < n; j++) std::copy(a[i] + j * lda, a[i] + j * lda + n, c[i] + j * ldc);                       \
      call<T>("getri", n, c[i], ldc, pivots + i * n, work.data(), int(work.size()), info + i);                         \
    });                                                                                                                \
  }                                                                                                                    \
  API int cublas##L##getrsBatched(void* h, int trans, int n, int k, T** a, int lda, int* pivots, T** b, int ldb,       \
                                  int* host_info, int count) {                                                         \
    *host_info = 0;                                                                                                    \
    return enqueue_each(h, count, [=](int i) {                                                                         \
      int info;                                                                                                        \
      call<T>("getrs", operation(trans), n, k, a[i], lda, pivots + i * n, b[i], ldb, &info);                           \
    });                                                                                                                \
  }                                                                                                                    \
  API int cublas##L##trsmBatched(void* h, int side, int uplo, int trans, int diag, int m, int n, const T* alpha,       \
                                 T** a, int lda, T** b, int ldb, int count) {                                          \
    return enqueue_each(h, count, [=, x = *alpha](int i) {                                                             \
      call<T>("trsm", side_of(side), part(uplo), operation(trans), "NU"[diag], m, n, x, a[i], lda, b[i], ldb);         \
    });                                                                                                                \
  }                                                                                                                    \
  API int cublas##L##trsm_v2(void* h, int side, int uplo, int trans, int diag, int m, int n, const T* alpha, T* a,     \
                             int lda, T* b, int ldb) {                                                                 \
    return enqueue(h, [=, x = *alpha] {                                                                                \
      call<T>("trsm", side_of(side), part(uplo), operation(trans), "NU"[diag], m, n, x, a, lda, b, ldb);               \
    });                                                                                                                \
  }                                                                                                                    \
  API int cublas##L##gemm_v2(void* h, int ta, int tb, int m, int n, int k, const T* alpha, T* a, int lda, T* b,        \
                             int ldb, const T* beta, T* c, int ldc) {                                                  \
    return enqueue(h, [=, x = *alpha, y = *beta] {                                                                     \
      call<T>("gemm", operation(ta), operation(tb), m, n, k, x, a, lda, b, ldb, y, c, ldc);                            \
    });                                                                                                                \
  }
FACTORS(S, float)
FACTORS(D, double)
FACTORS(C, std::complex<float>)
FACTORS(Z, std::complex<double>)

API int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0; }
API int cublasSetPointerMode_v2(void*, int mode) {
  return mode ? (emulated_missing("cuBLAS with scalars in device memory"), 15) : 0;
}
API int cublasGetStream_v2(void* h, void** stream) { return *stream = ((Handle*)h)->stream, 0; }
