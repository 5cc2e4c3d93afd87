// Before the source of CuPy's random generators, which launches its kernels with <<<>>>: libraries.py replaces that.
#pragma once
#include <functional>

#define EMULATED_FIBERS
#include <kernel.h>

typedef void* cudaStream_t;
extern "C" int emulated_enqueue(void* stream, std::function<void()> run);
extern "C" void emulated_say_random();

static void emulated_grid(void* stream, int blocks, int threads, std::function<void()> run) {
  emulated_say_random();
  emulated_enqueue(stream, [=] {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < (unsigned)blocks; blockIdx.x++)
      for (threadIdx.x = 0; threadIdx.x < (unsigned)threads; threadIdx.x++) run();
  });
}
