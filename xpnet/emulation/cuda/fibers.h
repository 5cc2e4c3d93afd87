// Threads of a block as fibers, which take turns at barriers; those of a warp can exchange values.
#pragma once

extern "C" char* emulated_stack(unsigned thread);
extern "C" void emulated_stop(const char* reason);  // an exception

namespace emulated {

struct Barrier { unsigned alive, arrived, barriers; };
struct Block : Barrier { dim3 index; };
struct Fiber { void* stack_pointer; dim3 thread; Block* block; Barrier* warp; bool done; };
static Fiber fibers[1024], *current;
static Block blocks[1024];
static Barrier warps[1024];
static bool progress;  // has any thread done more than wait in this round?
static void* scheduler;

// Save the callee-saved registers of x86-64 on this stack and go on on the other.
__attribute__((naked, noipa)) static void change(void** from, void* to) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n movq %rsp, (%rdi)\n"
      "movq %rsi, %rsp\n popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}

static inline void pause() { change(&current->stack_pointer, scheduler); }

// A barrier is complete when all threads that have not ended are there.
static void wait_for(Barrier& barrier) {
  const unsigned before = barrier.barriers;
  barrier.arrived++;
  progress = true;
  while (barrier.barriers == before && barrier.arrived < barrier.alive) pause();
  if (barrier.barriers == before) {
    barrier.arrived = 0;
    barrier.barriers++;
    progress = true;
  }
}

// Run `count` blocks from the `first` one on, in turns.
template <class Call> static void run_blocks(unsigned first, unsigned count, unsigned threads, Call call) {
  static Call* body;
  body = &call;
  const unsigned total = count * threads;
  if (total > 1024) emulated_stop("more than 1024 threads that wait for each other are not emulated");
  for (unsigned t = 0; t < total; t++) {
    Fiber& fiber = fibers[t];
    void** top = (void**)emulated_stack(t);
    memset(top - 8, 0, 8 * sizeof(void*));
    void (*begin)() = [] {
      (*body)();
      current->done = true;
      current->block->alive--;
      current->warp->alive--;
      progress = true;
      pause();
    };
    top[-2] = (void*)begin;  // where the first change to this fiber returns to, its registers being 0
    const unsigned thread = t % threads, block = first + t / threads, warp = thread / 32 * 32;
    fiber = {top - 8, {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y},
             &blocks[t / threads], &warps[t - thread % 32], false};
    *fiber.block = {{threads, 0, 0}, {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y}};
    *fiber.warp = {threads - warp < 32 ? threads - warp : 32, 0, 0};
  }
  uint64_t factor, start;
  emulated_order(total, &factor, &start);
  for (bool running = true; running;) {
    running = progress = false;
    uint64_t next = start;
    for (unsigned i = 0; i < total; i++) {
      Fiber& fiber = fibers[next];
      next += factor;
      if (next >= total) next -= total;
      if (fiber.done) continue;
      current = &fiber;
      threadIdx = fiber.thread;
      blockIdx = fiber.block->index;
      change(&scheduler, fiber.stack_pointer);
      running = true;
    }
    if (running && !progress) emulated_stop("the threads of a kernel wait for each other without end");
  }
}

// Return the value that the thread of the warp with a number gives, among those that have not ended.
template <class T> static inline T exchange(T value, unsigned lane, bool valid = true) {
  static T values[1024];
  const unsigned own = current - fibers, first = current->warp - warps;
  values[own] = value;
  wait_for(*current->warp);
  if (valid && lane < 32) value = values[first + lane];
  wait_for(*current->warp);
  return value;
}
static inline unsigned lane() { return (current - fibers) - (current->warp - warps); }

}  // namespace emulated

static inline void __syncthreads() { emulated::wait_for(*emulated::current->block); }
static inline void __syncwarp(unsigned = 0) { emulated::wait_for(*emulated::current->warp); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __nanosleep(unsigned) { emulated::progress = true, emulated::pause(); }

template <class T> static inline T __shfl_sync(unsigned, T value, int lane, int width = 32) {
  return emulated::exchange(value, emulated::lane() / width * width + lane % width);
}
template <class T> static inline T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
  const unsigned lane = emulated::lane(), to = lane ^ mask;
  return emulated::exchange(value, to, to / width <= lane / width);
}
template <class T> static inline T __shfl_down_sync(unsigned, T value, unsigned by, int width = 32) {
  return emulated::exchange(value, emulated::lane() + by, emulated::lane() % width + by < (unsigned)width);
}
template <class T> static inline T __shfl_up_sync(unsigned, T value, unsigned by, int width = 32) {
  return emulated::exchange(value, emulated::lane() - by, emulated::lane() % width >= by);
}
static inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned bits = 0;
  for (unsigned i = 0; i < 32; i++) {
    const unsigned count = emulated::current->warp->alive;
    const int value = emulated::exchange(predicate, i);
    if (i < count && value) bits |= 1u << i;
  }
  return bits;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
static inline unsigned __ballot(int predicate) { return __ballot_sync(0, predicate); }
static inline int __any(int predicate) { return __any_sync(0, predicate); }
static inline int __all(int predicate) { return __all_sync(0, predicate); }
