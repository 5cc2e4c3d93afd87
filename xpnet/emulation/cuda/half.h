// float16, as its bits: g++ has no type for it before version 12.
#pragma once
#include <cstdint>

static inline float to_float(uint16_t bits) {
  typedef short Halves __attribute__((vector_size(16)));
  return __builtin_ia32_vcvtph2ps(Halves{(short)bits})[0];
}
static inline uint16_t to_half(float x) {
  typedef float Floats __attribute__((vector_size(16)));
  return __builtin_ia32_vcvtps2ph(Floats{x}, 0)[0];
}
