// CUDA's functions of one thread.
#pragma once
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <utility>

#include "half.h"

using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

static inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
static inline int __clzll(long long bits) { return bits ? __builtin_clzll(bits) : 64; }
static inline int __ffs(int bits) { return __builtin_ffs(bits); }
static inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }
static inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
static inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
static inline void __builtin_assume(bool) {}
template <class T> static inline T __ldg(const T* address) { return *address; }

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
static inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }

static inline unsigned short __float2half_rn(float x) { return to_half(x); }
static inline float __half2float(unsigned short x) { return to_float(x); }
static inline unsigned short __half_as_ushort(float x) { return to_half(x); }
static inline float __ushort_as_half(unsigned short x) { return to_float(x); }

// CUDA's max and min are fmax and fmin: a number wins over NaN, and +0 over -0 in max.
template <class T> static inline T max(T a, T b) {
  if constexpr (std::numeric_limits<T>::is_integer) return a > b ? a : b;
  return a != a ? b : b != b ? a : a > b ? a : b > a ? b : signbit(a) ? b : a;
}
template <class T> static inline T min(T a, T b) {
  if constexpr (std::numeric_limits<T>::is_integer) return a < b ? a : b;
  return a != a ? b : b != b ? a : a < b ? a : b < a ? b : signbit(a) ? a : b;
}

static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline double rcbrt(double x) { return 1 / std::cbrt(x); }
static inline float rcbrtf(float x) { return 1 / std::cbrt(x); }
static inline double sinpi(double x) { return std::sin(M_PI * std::remainder(x, 2)); }
static inline double cospi(double x) { return std::cos(M_PI * std::remainder(x, 2)); }
static inline double normcdf(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }
static inline double normcdfinv(double p) {
  if (!(p > 0 && p < 1)) return p == 0 ? -INFINITY : p == 1 ? INFINITY : NAN;
  const double q = p < 0.5 ? p : 1 - p, t = std::sqrt(-2 * std::log(q));  // Abramowitz and Stegun, 26.2.23
  double x = -(t - ((0.010328 * t + 0.802853) * t + 2.515517) / (((0.001308 * t + 0.189269) * t + 1.432788) * t + 1));
  for (int i = 0; i < 4; i++) {  // Halley's steps
    const double error = (normcdf(x) - q) * std::sqrt(2 * M_PI) * std::exp(x * x / 2);
    x -= error / (1 + x * error / 2);
  }
  return p < 0.5 ? x : -x;
}
static inline double erfcinv(double x) { return -normcdfinv(x / 2) * M_SQRT1_2; }
static inline double erfinv(double x) {
  if (std::fabs(x) >= 0.5) return erfcinv(1 - x);
  constexpr double SLOPE = 0.886226925452758;  // of erfinv at 0
  double y = x * SLOPE;
  for (int i = 0; i < 6; i++) y -= (std::erf(y) - x) * SLOPE * std::exp(y * y);  // Newton's steps
  return y;
}
static inline float erfinvf(float x) { return erfinv(x); }
static inline float erfcinvf(float x) { return erfcinv(x); }
static inline float normcdff(float x) { return normcdf(x); }
static inline float normcdfinvf(float x) { return normcdfinv(x); }
static inline double erfcx(double x) {
  if (x < 8) return std::exp(x * x) * std::erfc(x);
  double sum = 1;  // of the asymptotic series
  for (int i = 30; i > 0; i--) sum = 1 - (i - 0.5) / (x * x) * sum;
  return sum / (x * 1.7724538509055160273);
}
// The series of I0 and I1 for large x, which std::cyl_bessel_i refuses
static inline double large_bessel(double x, double a, double b, double c, double d) {
  return std::exp(x) / std::sqrt(2 * M_PI * x) * (1 + (a + (b + (c + d / x) / x) / x) / x);
}
static inline double cyl_bessel_i0(double x) {
  x = std::fabs(x);
  return x < 500 ? std::cyl_bessel_i(0, x) : large_bessel(x, 1 / 8., 9 / 128., 75 / 1024., 3675 / 32768.);
}
static inline double cyl_bessel_i1(double y) {
  const double x = std::fabs(y);
  return std::copysign(
      x < 500 ? std::cyl_bessel_i(1, x) : large_bessel(x, -3 / 8., -15 / 128., -105 / 1024., -4725 / 32768.), y);
}
static inline float cyl_bessel_i0f(float x) { return cyl_bessel_i0(x); }
static inline float cyl_bessel_i1f(float x) { return cyl_bessel_i1(x); }
static inline float erfcxf(float x) { return erfcx(x); }

// Threads take turns: nothing comes between the reading and the writing.
template <class T> struct Same { using type = T; };
#define EMULATED_ATOMIC(name, expression)                                              \
  template <class T> static inline T name(T* address, typename Same<T>::type value) {  \
    const T before = *address;                                                         \
    *address = expression;                                                             \
    return before;                                                                     \
  }
EMULATED_ATOMIC(atomicAdd, before + value)
EMULATED_ATOMIC(atomicSub, before - value)
EMULATED_ATOMIC(atomicExch, value)
EMULATED_ATOMIC(atomicMax, before < value ? value : before)
EMULATED_ATOMIC(atomicMin, value < before ? value : before)
EMULATED_ATOMIC(atomicAnd, before& value)
EMULATED_ATOMIC(atomicOr, before | value)
EMULATED_ATOMIC(atomicXor, before ^ value)
EMULATED_ATOMIC(atomicInc, before >= value ? 0 : before + 1)
EMULATED_ATOMIC(atomicDec, before == 0 || before > value ? value : before - 1)
template <class T>
static inline T atomicCAS(T* address, typename Same<T>::type expected, typename Same<T>::type value) {
  const T before = *address;
  if (before == expected) *address = value;
  return before;
}
