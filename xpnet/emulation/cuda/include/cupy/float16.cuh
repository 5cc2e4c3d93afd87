// CuPy's float16, with the assignments that CUDA's have.
#pragma once
#include_next <cupy/float16.cuh>
static inline half& operator+=(half& a, float b) { return a = half(float(a) + b); }
static inline half& operator-=(half& a, float b) { return a = half(float(a) - b); }
static inline half& operator*=(half& a, float b) { return a = half(float(a) * b); }
static inline half& operator/=(half& a, float b) { return a = half(float(a) / b); }
