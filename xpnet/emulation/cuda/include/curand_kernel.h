// cuRAND's device functions: Philox 4x32-10 for all three generators, so the distributions of a card, not its numbers.
#pragma once
#include <cmath>
#include <cstdint>

struct EmulatedRandom { uint64_t seed, sequence, count; };
struct curandState : EmulatedRandom { uint64_t rest[3]; };
struct curandStateMRG32k3a : EmulatedRandom { uint64_t rest[6]; };
struct curandStatePhilox4_32_10_t : EmulatedRandom { uint64_t rest[5]; };

inline void curand_init(uint64_t seed, uint64_t sequence, uint64_t offset, EmulatedRandom* state) {
  state->seed = seed, state->sequence = sequence, state->count = offset;
}
inline uint32_t curand(EmulatedRandom* state) {
  const uint64_t n = state->count++;
  uint32_t c[4] = {uint32_t(n >> 2), uint32_t(n >> 34), uint32_t(state->sequence), uint32_t(state->sequence >> 32)};
  uint32_t k[2] = {uint32_t(state->seed), uint32_t(state->seed >> 32)};
  for (int i = 0; i < 10; i++) {
    const uint64_t p = 0xD2511F53ull * c[0], q = 0xCD9E8D57ull * c[2];
    const uint32_t next[4] = {uint32_t(q >> 32) ^ c[1] ^ k[0], uint32_t(q), uint32_t(p >> 32) ^ c[3] ^ k[1], uint32_t(p)};
    for (int j = 0; j < 4; j++) c[j] = next[j];
    k[0] += 0x9E3779B9, k[1] += 0xBB67AE85;
  }
  return c[n & 3];
}
inline uint64_t curand_long(EmulatedRandom* state) {
  const uint64_t high = curand(state);
  return high << 32 | curand(state);
}
inline float curand_uniform(EmulatedRandom* state) { return ((curand(state) >> 8) + 1) * 0x1p-24f; }  // (0, 1]
inline double curand_uniform_double(EmulatedRandom* state) { return ((curand_long(state) >> 11) + 1) * 0x1p-53; }
inline double curand_normal_double(EmulatedRandom* state) {
  const double u = curand_uniform_double(state), v = curand_uniform_double(state);
  return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
}
inline float curand_normal(EmulatedRandom* state) { return curand_normal_double(state); }
