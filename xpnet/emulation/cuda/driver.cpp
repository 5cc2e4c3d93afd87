// The CUDA driver and runtime on the host, as far as CuPy's arrays need them: one device, whose memory is the host's.
//
// A stream is a queue: its operations run when something waits for them (a synchronisation, an event, cudaFree), not
// before. While a function of the host runs in one stream, other threads may go on with other streams. Fresh memory,
// pinned memory too, holds the bits of NaN. A kernel's image is "EMULATED:" and the path of a shared library made with
// kernel.h. What is missing here gives cudaErrorNotSupported, whose text names it.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <sys/mman.h>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Status { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_IMAGE = 200,
              NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801 };
const std::map<int, std::pair<const char*, const char*>> ERRORS = {
    {SUCCESS, {"cudaSuccess", "no error"}},
    {INVALID_VALUE, {"cudaErrorInvalidValue", "invalid argument"}},
    {OUT_OF_MEMORY, {"cudaErrorMemoryAllocation", "out of memory"}},
    {INVALID_DEVICE, {"cudaErrorInvalidDevice", "invalid device ordinal: the emulated device is number 0"}},
    {INVALID_IMAGE, {"cudaErrorInvalidKernelImage", "this is no kernel of the emulated device"}},
    {NOT_FOUND, {"cudaErrorSymbolNotFound", "named symbol not found"}},
    {NOT_READY, {"cudaErrorNotReady", "device not ready"}},
    {ILLEGAL_ADDRESS, {"cudaErrorIllegalAddress", "an illegal memory access was encountered"}},
    {LAUNCH_FAILED, {"cudaErrorLaunchFailure", "unspecified launch failure"}},
    {NOT_SUPPORTED, {"cudaErrorNotSupported", "operation not supported"}},
};
constexpr int VERSION = 12090;

struct Stream;
struct Position { Stream* stream; uint64_t count; };  // the first `count` operations of a stream
struct Operation { std::function<void()> run; std::vector<Position> after; bool on_host; };
struct Stream { bool blocking; std::deque<Operation> queue; uint64_t enqueued, finished; bool busy; };
using Event = Position;  // what is recorded
struct Kernel { int count; const size_t* sizes; const char* types; void (*launch)(void**, const unsigned*, const unsigned*); };

enum Count { KERNELS, PRODUCTS, UPLOADS, DOWNLOADS, COPIES, SYNCHRONIZATIONS, COUNTS };
std::atomic<uint64_t> counts[COUNTS];
Stream null_stream{true, {}, 0, 0, false};
std::vector<Stream*> streams;
std::map<char*, size_t> device_memory, pinned_memory;  // sizes by address
std::recursive_mutex mutex;
std::condition_variable_any finished;  // an operation, for threads that wait while another one runs it
using Lock = std::lock_guard<std::recursive_mutex>;
std::string detail, failure;  // what an error of this process is about; why an operation of a stream failed

int fail(Status status, std::string about) {
  Lock lock(mutex);
  detail = std::move(about);
  return status;
}

// The status after operations have run: an error of one of them, which on a GPU would stay, is told once.
int status() { return failure.empty() ? SUCCESS : fail(LAUNCH_FAILED, std::exchange(failure, "")); }

// Handles 1 and 2 are the default streams; that of each thread is not told from the legacy one.
Stream* stream_of(void* handle) { return (uintptr_t)handle <= 2 ? &null_stream : (Stream*)handle; }

sigjmp_buf guard;

// Run an operation of the device, whose errors the next wait tells: exceptions, and addresses that are not mapped.
void run_guarded(const std::function<void()>& run) {
  static const bool is_sanitized = getenv("XPNET_EMULATED_CUDA_SANITIZE") && *getenv("XPNET_EMULATED_CUDA_SANITIZE");
  static thread_local std::vector<char> memory(64 << 10);  // for the handler, where a thread's stack is full
  struct sigaction before[2], own {};
  own.sa_handler = [](int) { siglongjmp(guard, 1); };
  own.sa_flags = SA_ONSTACK;
  stack_t stack_before, stack{memory.data(), 0, memory.size()};
  if (!is_sanitized) {
    sigaltstack(&stack, &stack_before);
    sigaction(SIGSEGV, &own, &before[0]);
    sigaction(SIGBUS, &own, &before[1]);
  }
  if (sigsetjmp(guard, 1)) {
    failure = "an illegal memory access was encountered, in a kernel or in a copy";
  } else {
    try {
      run();
    } catch (const std::exception& error) {
      failure = error.what();
    }
  }
  if (!is_sanitized) {
    sigaction(SIGSEGV, &before[0], nullptr);
    sigaction(SIGBUS, &before[1], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
}

void run_until(const Position& position) {
  Stream* stream = position.stream;
  while (stream->finished < position.count) {
    if (stream->busy) {
      finished.wait(mutex);
      continue;
    }
    Operation operation = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->busy = true;
    for (auto& earlier : operation.after) run_until(earlier);
    if (operation.on_host) mutex.unlock();
    if (operation.on_host) operation.run();
    else run_guarded(operation.run);
    if (operation.on_host) mutex.lock();
    stream->busy = false;
    stream->finished++;
    finished.notify_all();
  }
}

Position end_of(Stream* stream) { return {stream, stream->enqueued}; }

void run_all() {
  run_until(end_of(&null_stream));
  for (auto* stream : streams) run_until(end_of(stream));
}

// The legacy default stream waits for all blocking streams, and they for it.
int enqueue(Stream* stream, std::function<void()> run, std::vector<Position> after = {}, bool on_host = false) {
  Lock lock(mutex);
  if (stream != &null_stream && stream->blocking) after.push_back(end_of(&null_stream));
  if (stream == &null_stream)
    for (auto* other : streams)
      if (other->blocking) after.push_back(end_of(other));
  stream->queue.push_back({std::move(run), std::move(after), on_host});
  stream->enqueued++;
  return SUCCESS;
}

int allocate(std::map<char*, size_t>& memory, void** address, size_t size) {
  Lock lock(mutex);
  if (posix_memalign(address, 512, size ? size : 512)) return OUT_OF_MEMORY;
  memset(*address, 0xff, size);
  memory[(char*)*address] = size;
  return SUCCESS;
}

int release(std::map<char*, size_t>& memory, void* address) {
  Lock lock(mutex);
  run_all();
  memory.erase((char*)address);
  free(address);
  return SUCCESS;
}

bool holds(const std::map<char*, size_t>& memory, const void* address) {
  auto next = memory.upper_bound((char*)address);
  return next != memory.begin() && (char*)address < std::prev(next)->first + std::prev(next)->second;
}
// Whether an address may be an argument of a kernel: null, in memory of the device, or just behind it
bool is_valid(const char* address) {
  auto is_of = [=](auto& memory) { return holds(memory, address) || holds(memory, address - 1); };
  return !address || is_of(device_memory) || is_of(pinned_memory);
}

// Pageable host memory is read at once, as CUDA does; all other copies happen when the stream comes to them.
int copy(void* target, const void* source, size_t size, Stream* stream) {
  Lock lock(mutex);
  counts[!holds(device_memory, source) ? UPLOADS : holds(device_memory, target) ? COPIES : DOWNLOADS]++;
  if (holds(device_memory, source) || holds(pinned_memory, source))
    return enqueue(stream, [=] { memmove(target, source, size); });
  std::vector<char> staged((const char*)source, (const char*)source + size);
  return enqueue(stream, [=, staged = std::move(staged)] { memcpy(target, staged.data(), size); });
}

int attribute(int number) {
  switch (number) {
    case 1: case 2: case 3: return 1024;       // threads of a block, and in x and y
    case 4: return 64;                         // in z
    case 5: return 2147483647;                 // blocks in x
    case 6: case 7: return 65535;              // in y and z
    case 8: return 49152;                      // bytes of shared memory of a block
    case 10: return 32;                        // threads of a warp
    case 12: return 65536;                     // registers of a block
    case 16: return 2;                         // multiprocessors, whose threads are 1024 fibers at most
    case 39: return 2048;                      // threads of a multiprocessor
    case 75: return 9;                         // compute capability, 9.0
    case 87: return 2;                         // throughput of float32 relative to float64
    default: return 0;
  }
}

template <class T> int answer(T* target, T value) {
  *target = value;
  return SUCCESS;
}

}  // namespace

// What the host has asked for so far, by Count; filling memory with NaN, as install.py does, does not count
API void emulated_counts(uint64_t* target) { std::copy(counts, counts + COUNTS, target); }

// For the libraries: an operation of a stream, which may throw
API int emulated_enqueue(void* stream, std::function<void()> run) { return enqueue(stream_of(stream), std::move(run)); }
API int emulated_product(void* stream, std::function<void()> run) {
  counts[PRODUCTS]++;
  return emulated_enqueue(stream, std::move(run));
}
// For functions that are missing, of C and of C++
API int emulated_missing(const char* name) { return fail(NOT_SUPPORTED, std::string(name) + " is not emulated"); }
API void emulated_throw(const char* name) { throw std::runtime_error(std::string(name) + " is not emulated"); }
API void emulated_stop(const char* reason) { throw std::runtime_error(reason); }
API void emulated_say_random() {
  static bool said = fputs("emulated CUDA: random numbers have the right distributions, but are not a card's\n", stderr);
  (void)said;
}
API const char* emulated_detail() { return detail.c_str(); }

// For kernel.h: the stacks of the threads of a block, above a page each that ends the process where one overflows
API char* emulated_stack(unsigned thread) {
  constexpr size_t SIZE = 256 << 10, PAGE = 4096;
  static char* stacks = [] {
    void* all = mmap(nullptr, SIZE * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t i = 0; i < 1024; i++) mprotect((char*)all + i * SIZE, PAGE, PROT_NONE);
    return (char*)all;
  }();
  return stacks + (thread + 1) * SIZE - thread % 64 * 192;  // so that not all tops share one set of the cache
}
// The order of threads that may run in any: the i-th is (i * factor + first) % count. It changes with each launch, and
// is that of the seed.
API void emulated_order(uint64_t count, uint64_t* factor, uint64_t* first) {
  static uint64_t state = [] {
    const char* seed = getenv("XPNET_EMULATED_CUDA_SEED");
    return seed ? strtoull(seed, nullptr, 10) : 0;
  }();
  auto next = [] {
    uint64_t x = state += 0x9E3779B97F4A7C15;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    return (x ^ x >> 27) >> 32;
  };
  *first = next() % count;
  do *factor = count > 2 ? 1 + next() % (count - 1) : 1;
  while (std::gcd(*factor, count) != 1);
}

// The runtime: devices
API const char* cudaGetErrorName(int number) {
  auto error = ERRORS.find(number);
  return error == ERRORS.end() ? "cudaErrorUnknown" : error->second.first;
}
API const char* cudaGetErrorString(int number) {
  static thread_local std::string text;
  auto error = ERRORS.find(number);
  text = error == ERRORS.end() ? "unknown error" : error->second.second;
  const bool is_told = number >= NOT_FOUND ? number != NOT_READY : number == INVALID_VALUE;
  if (is_told && !detail.empty()) text = detail;
  return text.c_str();
}
// The properties of a device up to the number of multiprocessors, as CUDA 12 has them; CUDA 13 lacks two.
template <bool IS_12> int get_properties(void* target, size_t size) {
  struct __attribute__((packed)) Properties {
    char name[256], uuid[16], luid[8];
    unsigned mask, padding;
    size_t memory, shared;
    int registers, warp;
    size_t pitch;
    int threads, block[3], grid[3];
    int clock[IS_12 ? 1 : 0], after_clock[IS_12 ? 0 : 1];
    size_t constant;
    int major, minor;
    size_t texture, texture_pitch;
    int overlap[IS_12 ? 1 : 0], multiprocessors;
  } p{};
  strcpy(p.name, "an emulated device");
  p.memory = size_t(16) << 30, p.shared = attribute(8), p.registers = attribute(12), p.warp = attribute(10);
  for (int i = 0; i < 3; i++) p.block[i] = attribute(2 + i), p.grid[i] = attribute(5 + i);
  p.threads = attribute(1), p.constant = 65536, p.major = attribute(75), p.multiprocessors = attribute(16);
  p.texture = 512, p.texture_pitch = 32;
  memset(target, 0, size);
  memcpy(target, &p, sizeof p);
  return SUCCESS;
}
API int cudaGetDeviceProperties_v2(void* target, int device) {
  return device ? INVALID_DEVICE : get_properties<true>(target, 1032);
}
API int cudaGetDeviceProperties(void* target, int device) {
  return device ? INVALID_DEVICE : get_properties<false>(target, 960);
}
API int cudaGetLastError() { return SUCCESS; }
API int cudaDriverGetVersion(int* version) { return answer(version, VERSION); }
API int cudaRuntimeGetVersion(int* version) { return answer(version, VERSION); }
API int cudaGetDevice(int* device) { return answer(device, 0); }
API int cudaSetDevice(int device) { return device == 0 ? SUCCESS : INVALID_DEVICE; }
API int cudaGetDeviceCount(int* count) { return answer(count, 1); }
API int cudaDeviceGetAttribute(int* value, int number, int) { return answer(value, attribute(number)); }
API int cudaMemGetInfo(size_t* unused, size_t* total) {
  return *unused = *total = size_t(16) << 30, SUCCESS;
}
API int cudaDeviceSynchronize() {
  counts[SYNCHRONIZATIONS]++;
  Lock lock(mutex);
  run_all();
  return status();
}

// Memory
API int cudaMalloc(void** address, size_t size) { return allocate(device_memory, address, size); }
API int cudaFree(void* address) { return address ? release(device_memory, address) : SUCCESS; }
API int cudaHostAlloc(void** address, size_t size, unsigned) { return allocate(pinned_memory, address, size); }
API int cudaFreeHost(void* address) { return release(pinned_memory, address); }
API int cudaPointerGetAttributes(void* target, const void* address) {
  struct Attributes { int type, device; const void *device_pointer, *host_pointer; };
  Lock lock(mutex);
  bool device = holds(device_memory, address), pinned = holds(pinned_memory, address);
  *(Attributes*)target = {device ? 2 : pinned ? 1 : 0, 0, device ? address : nullptr, device ? nullptr : address};
  return SUCCESS;
}
API int cudaMemcpyAsync(void* target, const void* source, size_t size, int, void* stream) {
  return copy(target, source, size, stream_of(stream));
}
API int cudaMemcpy(void* target, const void* source, size_t size, int) {
  copy(target, source, size, &null_stream);
  Lock lock(mutex);
  run_until(end_of(&null_stream));
  return status();
}
API int cudaMemset(void* target, int value, size_t size) {
  return enqueue(&null_stream, [=] { memset(target, value, size); });
}
API int cudaMemsetAsync(void* target, int value, size_t size, void* stream) {
  if ((value & 0xff) != 0xff) counts[COPIES]++;
  return enqueue(stream_of(stream), [=] { memset(target, value, size); });
}

// Streams and events, which are never freed: operations of other streams may name them.
API int cudaStreamCreateWithPriority(void** handle, unsigned flags, int) {
  Lock lock(mutex);
  streams.push_back(new Stream{!(flags & 1), {}, 0, 0, false});
  return answer<void*>(handle, streams.back());
}
API int cudaStreamCreateWithFlags(void** handle, unsigned flags) { return cudaStreamCreateWithPriority(handle, flags, 0); }
API int cudaStreamDestroy(void*) { return SUCCESS; }
API int cudaStreamSynchronize(void* stream) {
  counts[SYNCHRONIZATIONS]++;
  Lock lock(mutex);
  run_until(end_of(stream_of(stream)));
  return status();
}
API int cudaStreamIsCapturing(void*, int* value) { return answer(value, 0); }
API int cudaStreamWaitEvent(void* stream, void* event, unsigned) {
  Lock lock(mutex);
  Event recorded = *(Event*)event;
  return recorded.stream ? enqueue(stream_of(stream), [] {}, {recorded}) : SUCCESS;
}
API int cudaLaunchHostFunc(void* stream, void (*function)(void*), void* argument) {
  return enqueue(stream_of(stream), [=] { function(argument); }, {}, true);
}
API int cudaEventCreateWithFlags(void** event, unsigned) { return answer<void*>(event, new Event{}); }
API int cudaEventDestroy(void*) { return SUCCESS; }
API int cudaEventRecord(void* event, void* stream) {
  Lock lock(mutex);
  return answer((Event*)event, end_of(stream_of(stream)));
}
API int cudaEventQuery(void* event) {
  Lock lock(mutex);
  Event recorded = *(Event*)event;
  return !recorded.stream || recorded.stream->finished >= recorded.count ? SUCCESS : NOT_READY;
}
API int cudaEventSynchronize(void* event) {
  counts[SYNCHRONIZATIONS]++;
  Lock lock(mutex);
  if (((Event*)event)->stream) run_until(*(Event*)event);
  return status();
}

// The driver
API int cuInit(unsigned) { return SUCCESS; }
API int cuDriverGetVersion(int* version) { return answer(version, VERSION); }
API int cuDeviceGet(int* device, int index) { return index ? INVALID_DEVICE : answer(device, 0); }
API int cuDeviceGetCount(int* count) { return answer(count, 1); }
API int cuDeviceGetAttribute(int* value, int number, int) { return answer(value, attribute(number)); }
API int cuGetErrorName(int number, const char** name) { return answer(name, cudaGetErrorName(number)); }
API int cuGetErrorString(int number, const char** text) { return answer(text, cudaGetErrorString(number)); }
API int cuModuleLoadData(void** module, const void* image) {
  const char* mark = "EMULATED:";
  if (strncmp((const char*)image, mark, strlen(mark))) return INVALID_IMAGE;
  *module = dlopen((const char*)image + strlen(mark), RTLD_NOW | RTLD_LOCAL);
  return *module ? SUCCESS : fail(NOT_SUPPORTED, dlerror());
}
API int cuModuleUnload(void*) { return SUCCESS; }
API int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = dlsym(module, (std::string("emulated_") + name).c_str());
  return *function ? SUCCESS : fail(NOT_FOUND, std::string("named symbol not found: ") + name);
}
API int cuModuleGetGlobal_v2(void** address, size_t*, void*, const char* name) {
  return *address = nullptr, fail(NOT_SUPPORTED, std::string("the global variable ") + name + " is not emulated");
}
API int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, void* stream, void** parameters, void**) {
  const unsigned sizes[] = {bx, by, bz, gx, gy, gz};
  for (int i = 0; i < 6; i++)
    if (!sizes[i] || sizes[i] > (unsigned)attribute(2 + i))
      return fail(INVALID_VALUE, "invalid argument: a grid or block of " + std::to_string(sizes[i]) + " in " + "xyz"[i % 3]);
  if (bx * by * bz > 1024)
    return fail(INVALID_VALUE, "invalid argument: a block of " + std::to_string(bx * by * bz) + " threads, of at most 1024");
  if (shared > (unsigned)attribute(8))
    return fail(INVALID_VALUE, "invalid argument: " + std::to_string(shared) + " bytes of shared memory, of at most 49152");
  counts[KERNELS]++;
  auto* kernel = (const Kernel*)function;
  Lock lock(mutex);
  for (int i = 0; i < kernel->count; i++)
    if (kernel->types[3 * i] == '*' && !is_valid(*(char**)parameters[i]))
      return fail(ILLEGAL_ADDRESS, "illegal memory access: argument " + std::to_string(i) +
                                       " of a kernel is an address of the host, or of memory that is freed");
  std::vector<std::vector<char>> values;
  for (int i = 0; i < kernel->count; i++)
    values.emplace_back((char*)parameters[i], (char*)parameters[i] + kernel->sizes[i]);
  return enqueue(stream_of(stream), [=] {
    std::vector<void*> addresses;
    for (auto& value : values) addresses.push_back((void*)value.data());
    unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    kernel->launch(addresses.data(), grid, block);
  });
}
// The threads of all blocks take turns: kernel.h decides it by the kernel.
API int cuLaunchCooperativeKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                  unsigned bz, unsigned shared, void* stream, void** parameters) {
  return cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, parameters, nullptr);
}
API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) { return answer(blocks, 1); }
