// cuSOLVER on the host, by LAPACK.
#include "lapack.h"

namespace {

template <class T> void eigen(int jobz, int uplo, int n, T* a, int lda, Real<T>* w, int* info) {
  const char job = "NV"[jobz];
  std::vector<T> work(1 + 6 * n + 2 * n * n);
  std::vector<Real<T>> reals(1 + 5 * n + 2 * n * n);
  std::vector<int> integers(3 + 5 * n);
  const int lwork = work.size(), lreals = reals.size(), lintegers = integers.size();
  if constexpr (IS_REAL<T>)
    call<T>("syevd", job, part(uplo), n, a, lda, w, work.data(), lwork, integers.data(), lintegers, info);
  else
    call<T>("heevd", job, part(uplo), n, a, lda, w, work.data(), lwork, reals.data(), lreals, integers.data(), lintegers,
            info);
}

template <class T>
void svd(char ju, char jv, int m, int n, T* a, int lda, Real<T>* s, T* u, int ldu, T* v, int ldv, int* info) {
  const int lwork = 200 * std::max(m, n);
  std::vector<T> work(lwork);
  std::vector<Real<T>> reals(5 * std::min(m, n) + 1);
  ldu = std::max(ldu, 1), ldv = std::max(ldv, 1);
  if constexpr (IS_REAL<T>)
    call<T>("gesvd", ju, jv, m, n, a, lda, s, u, ldu, v, ldv, work.data(), lwork, info);
  else
    call<T>("gesvd", ju, jv, m, n, a, lda, s, u, ldu, v, ldv, work.data(), lwork, reals.data(), info);
}

// As gesvdj: V, not its adjoint
template <class T>
void svd_v(int jobz, int econ, int m, int n, T* a, int lda, Real<T>* s, T* u, int ldu, T* v, int ldv, int* info) {
  const int rows = econ ? std::min(m, n) : n;
  const char job = !jobz ? 'N' : econ ? 'S' : 'A';
  std::vector<T> adjoint((size_t)std::max(rows, 1) * n + 1);
  svd<T>(job, job, m, n, a, lda, s, u, ldu, adjoint.data(), std::max(rows, 1), info);
  for (int i = 0; jobz && i < n; i++)
    for (int j = 0; j < rows; j++) {
      v[i + (size_t)j * ldv] = adjoint[j + (size_t)i * rows];
      if constexpr (!IS_REAL<T>) v[i + (size_t)j * ldv] = std::conj(v[i + (size_t)j * ldv]);
    }
}

template <class T>
void general_eigen(int jobl, int jobr, int n, T* a, int lda, void* w, T* vl, int ldvl, T* vr, int ldvr, int* info) {
  const char left = "NV"[jobl], right = "NV"[jobr];
  const int lwork = 64 * n + 1;
  std::vector<T> work(lwork);
  std::vector<Real<T>> real(2 * n + 1), imaginary(n + 1);
  auto* values = (std::complex<Real<T>>*)w;
  if constexpr (IS_REAL<T>) {
    call<T>("geev", left, right, n, a, lda, real.data(), imaginary.data(), vl, ldvl, vr, ldvr, work.data(), lwork, info);
    for (int i = 0; i < n; i++) values[i] = {real[i], imaginary[i]};
  } else
    call<T>("geev", left, right, n, a, lda, values, vl, ldvl, vr, ldvr, work.data(), lwork, real.data(), info);
}

}  // namespace

API int cusolverDnCreate(void** h) { return *h = new Handle{}, 0; }
API int cusolverDnDestroy(void*) { return 0; }
API int cusolverDnSetStream(void* h, void* stream) { return ((Handle*)h)->stream = stream, 0; }
API int cusolverDnGetStream(void* h, void** stream) { return *stream = ((Handle*)h)->stream, 0; }
API int cusolverGetProperty(int which, int* value) { return *value = which == 0 ? 11 : which == 1 ? 7 : 0, 0; }

#define PARAMETERS(NAME)                                                                              \
  API int cusolverDnCreate##NAME(void** p) { static int any; return *p = &any, 0; }                   \
  API int cusolverDnDestroy##NAME(void*) { return 0; }
PARAMETERS(Params)
PARAMETERS(SyevjInfo)
PARAMETERS(GesvdjInfo)
#define SETTINGS(NAME)                                                                                \
  API int cusolverDnX##NAME##SetTolerance(void*, double) { return 0; }                                \
  API int cusolverDnX##NAME##SetMaxSweeps(void*, int) { return 0; }                                   \
  API int cusolverDnX##NAME##SetSortEig(void*, int) { return 0; }
SETTINGS(gesvdj)
SETTINGS(syevj)

// Work space is LAPACK's own affair here: CuPy allocates one element.
#define SPACE(NAME, ...) API int cusolverDn##NAME##_bufferSize(__VA_ARGS__) { return *size = 1, 0; }
#define ROUTINES(L, T, OR, SY)                                                                                         \
  SPACE(L##potrf, void*, int, int, void*, int, int* size)                                                              \
  SPACE(L##getrf, void*, int, int, void*, int, int* size)                                                              \
  SPACE(L##geqrf, void*, int, int, void*, int, int* size)                                                              \
  SPACE(L##gesvd, void*, int, int, int* size)                                                                          \
  SPACE(L##OR##gqr, void*, int, int, int, void*, int, void*, int* size)                                                \
  SPACE(L##OR##mqr, void*, int, int, int, int, int, void*, int, void*, void*, int, int* size)                          \
  SPACE(L##SY##evd, void*, int, int, int, void*, int, void*, int* size)                                                \
  SPACE(L##SY##evj, void*, int, int, int, void*, int, void*, int* size, void*)                                         \
  SPACE(L##SY##evjBatched, void*, int, int, int, void*, int, void*, int* size, void*, int)                             \
  SPACE(L##gesvdj, void*, int, int, int, int, void*, int, void*, void*, int, void*, int, int* size, void*)             \
  SPACE(L##gesvdjBatched, void*, int, int, int, void*, int, void*, void*, int, void*, int, int* size, void*, int)      \
  API int cusolverDn##L##getrf(void* h, int m, int n, T* a, int lda, void*, int* pivots, int* info) {                  \
    if (!pivots) return emulated_missing("cusolverDn" #L "getrf without pivots"), 9;                                   \
    return enqueue(h, [=] { call<T>("getrf", m, n, a, lda, pivots, info); });                                          \
  }                                                                                                                    \
  ROUTINE(cusolverDn##L##potrf, 1, (void* h, int uplo, int n, T* a, int lda, void*, int, int* info),                   \
          call<T>("potrf", part(uplo), n, a, lda, info))                                                               \
  ROUTINE(cusolverDn##L##potrfBatched, count, (void* h, int uplo, int n, T** a, int lda, int* info, int count),        \
          call<T>("potrf", part(uplo), n, a[i], lda, info + i))                                                        \
  ROUTINE(cusolverDn##L##potrs, 1, (void* h, int uplo, int n, int k, T* a, int lda, T* b, int ldb, int* info),         \
          call<T>("potrs", part(uplo), n, k, a, lda, b, ldb, info))                                                    \
  ROUTINE(cusolverDn##L##potrsBatched, count,                                                                          \
          (void* h, int uplo, int n, int k, T** a, int lda, T** b, int ldb, int* info, int count),                     \
          call<T>("potrs", part(uplo), n, k, a[i], lda, b[i], ldb, info + i))                                          \
  ROUTINE(cusolverDn##L##getrs, 1,                                                                                     \
          (void* h, int trans, int n, int k, T* a, int lda, int* pivots, T* b, int ldb, int* info),                    \
          call<T>("getrs", operation(trans), n, k, a, lda, pivots, b, ldb, info))                                      \
  ROUTINE(cusolverDn##L##geqrf, 1, (void* h, int m, int n, T* a, int lda, T* tau, void*, int, int* info),              \
          call<T>("geqrf", m, n, a, lda, tau, WORK(T, 64 * n + 1), info))                                              \
  ROUTINE(cusolverDn##L##OR##gqr, 1, (void* h, int m, int n, int k, T* a, int lda, T* tau, void*, int, int* info),     \
          call<T>(#OR "gqr", m, n, k, a, lda, tau, WORK(T, 64 * n + 1), info))                                         \
  ROUTINE(cusolverDn##L##OR##mqr, 1, (void* h, int side, int trans, int m, int n, int k, T* a, int lda, T* tau, T* c,  \
                                      int ldc, void*, int, int* info),                                                 \
          call<T>(#OR "mqr", side_of(side), operation(trans), m, n, k, a, lda, tau, c, ldc,                            \
                  WORK(T, 64 * (m + n) + 1), info))                                                                    \
  ROUTINE(cusolverDn##L##gesvd, 1, (void* h, signed char ju, signed char jv, int m, int n, T* a, int lda, Real<T>* s,  \
                                    T* u, int ldu, T* v, int ldv, void*, int, void*, int* info),                       \
          svd<T>(ju, jv, m, n, a, lda, s, u, ldu, v, ldv, info))                                                       \
  ROUTINE(cusolverDn##L##gesvdj, 1, (void* h, int jobz, int econ, int m, int n, T* a, int lda, Real<T>* s, T* u,       \
                                     int ldu, T* v, int ldv, void*, int, int* info, void*),                            \
          svd_v<T>(jobz, econ, m, n, a, lda, s, u, ldu, v, ldv, info))                                                 \
  ROUTINE(cusolverDn##L##gesvdjBatched, count, (void* h, int jobz, int m, int n, T* a, int lda, Real<T>* s, T* u,      \
                                                int ldu, T* v, int ldv, void*, int, int* info, void*, int count),      \
          svd_v<T>(jobz, 0, m, n, a + i * lda * n, lda, s + i * std::min(m, n), u + i * ldu * m, ldu,                  \
                   v + i * ldv * n, ldv, info + i))                                                                    \
  ROUTINE(cusolverDn##L##SY##evd, 1,                                                                                   \
          (void* h, int jobz, int uplo, int n, T* a, int lda, Real<T>* w, void*, int, int* info),                      \
          eigen<T>(jobz, uplo, n, a, lda, w, info))                                                                    \
  ROUTINE(cusolverDn##L##SY##evj, 1,                                                                                   \
          (void* h, int jobz, int uplo, int n, T* a, int lda, Real<T>* w, void*, int, int* info, void*),               \
          eigen<T>(jobz, uplo, n, a, lda, w, info))                                                                    \
  ROUTINE(cusolverDn##L##SY##evjBatched, count,                                                                        \
          (void* h, int jobz, int uplo, int n, T* a, int lda, Real<T>* w, void*, int, int* info, void*, int count),    \
          eigen<T>(jobz, uplo, n, a + i * lda * n, lda, w + i * n, info + i))
ROUTINES(S, float, or, sy)
ROUTINES(D, double, or, sy)
ROUTINES(C, std::complex<float>, un, he)
ROUTINES(Z, std::complex<double>, un, he)

API int cusolverDnXsyevd_bufferSize(void*, void*, int, int, int64_t, int, void*, int64_t, int, void*, int,
                                    size_t* device, size_t* host) {
  return *device = *host = 8, 0;
}
API int cusolverDnXsyevd(void* h, void*, int jobz, int uplo, int64_t n, int type, void* a, int64_t lda, int, void* w,
                         int, void*, size_t, void*, size_t, int* info) {
  return with_type(type, 9, [=](auto zero) {
    using T = decltype(zero);
    return enqueue(h, [=] { eigen<T>(jobz, uplo, n, (T*)a, lda, (Real<T>*)w, info); });
  });
}
API int cusolverDnXgeev_bufferSize(void*, void*, int, int, int64_t, int, void*, int64_t, int, void*, int, void*,
                                   int64_t, int, void*, int64_t, int, size_t* device, size_t* host) {
  return *device = *host = 8, 0;
}
API int cusolverDnXgeev(void* h, void*, int jobl, int jobr, int64_t n, int type, void* a, int64_t lda, int w_type,
                        void* w, int, void* vl, int64_t ldvl, int, void* vr, int64_t ldvr, int, void*, size_t, void*,
                        size_t, int* info) {
  if (w_type < 4) return emulated_missing("cusolverDnXgeev of real eigenvalues"), 9;
  return with_type(type, 9, [=](auto zero) {
    using T = decltype(zero);
    return enqueue(h, [=] { general_eigen<T>(jobl, jobr, n, (T*)a, lda, w, (T*)vl, ldvl, (T*)vr, ldvr, info); });
  });
}
