// cuFFT on the host: transforms of any sizes, by factors; a prime factor p takes p operations for each element.
#include <cmath>
#include <complex>
#include <cstdint>
#include <functional>
#include <numeric>
#include <type_traits>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
API int emulated_enqueue(void* stream, std::function<void()> run);

namespace {

using Complex = std::complex<double>;
using ComplexFloat = std::complex<float>;
using Sizes = std::vector<int64_t>;
enum Type { R2C = 0x2a, C2R = 0x2c, D2Z = 0x6a, Z2D = 0x6c };
struct Layout { Sizes embed; int64_t stride, distance; };
struct Plan { void* stream; Sizes n; Layout in, out; int type; int64_t batch; };
std::vector<Plan*> plans;

int64_t product(const Sizes& n) { return std::accumulate(n.begin(), n.end(), int64_t(1), std::multiplies<>()); }
Sizes half_of(Sizes n) {
  n.back() = n.back() / 2 + 1;
  return n;
}

// out[k] = sum over j of in[j * step] roots[j k skip], the roots being the powers of exp(-+2 pi i / their number)
void transform(const Complex* in, Complex* out, int64_t n, int64_t step, const std::vector<Complex>& roots, int64_t skip) {
  if (n == 1) {
    *out = *in;
    return;
  }
  int64_t p = 2;
  while (n % p && p * p <= n) p++;
  if (n % p) p = n;
  const int64_t m = n / p, total = roots.size();
  for (int64_t r = 0; r < p; r++) transform(in + r * step, out + r * m, m, step * p, roots, skip * p);
  std::vector<Complex> part(p);
  for (int64_t k = 0; k < m; k++) {
    for (int64_t r = 0; r < p; r++) part[r] = out[r * m + k] * roots[r * k * skip % total];
    for (int64_t q = 0; q < p; q++) {
      Complex sum = 0;
      for (int64_t r = 0; r < p; r++) sum += part[r] * roots[r * q % p * m * skip % total];
      out[q * m + k] = sum;
    }
  }
}

// Transform an array of sizes n along an axis.
void transform_axis(std::vector<Complex>& data, const Sizes& n, size_t axis, int sign) {
  const int64_t size = n[axis], inner = product({n.begin() + axis + 1, n.end()});
  std::vector<Complex> roots(size), line(size), result(size);
  for (int64_t j = 0; j < size; j++) {
    const long double angle = sign * 2 * 3.141592653589793238462643383279502884L * j / size;
    roots[j] = {double(cosl(angle)), double(sinl(angle))};
  }
  for (int64_t outer = 0; outer < (int64_t)data.size(); outer += inner * size)
    for (int64_t first = outer; first < outer + inner; first++) {
      for (int64_t j = 0; j < size; j++) line[j] = data[first + j * inner];
      transform(line.data(), result.data(), size, 1, roots, 1);
      for (int64_t j = 0; j < size; j++) data[first + j * inner] = result[j];
    }
}

// The place in memory of the element with a number in an array of sizes n
int64_t place(const Layout& layout, const Sizes& n, int64_t number) {
  int64_t result = 0, factor = 1;
  for (size_t i = n.size(); i-- > 0;) {
    result += number % n[i] * factor;
    number /= n[i];
    factor *= layout.embed[i];
  }
  return result * layout.stride;
}

// Of the half of a real signal's transform: the axes but the last one are transformed back, then the rest is filled in.
std::vector<Complex> whole_of(std::vector<Complex> part, const Sizes& n) {
  const Sizes part_n = half_of(n);
  for (size_t axis = 0; axis + 1 < n.size(); axis++) transform_axis(part, part_n, axis, 1);
  const int64_t last = n.back(), kept = part_n.back();
  std::vector<Complex> data(product(n));
  for (int64_t row = 0; row < (int64_t)data.size() / last; row++)
    for (int64_t j = 0; j < last; j++) {
      const Complex x = j < kept ? part[row * kept + j] : std::conj(part[row * kept + last - j]);
      data[row * last + j] = j == 0 || 2 * j == last ? Complex(x.real()) : x;
    }
  return data;
}

template <class I, class O> void execute_one(const Plan& p, const I* from, O* to, int sign) {
  constexpr bool FROM_REAL = std::is_floating_point_v<I>, TO_REAL = std::is_floating_point_v<O>;
  const Sizes in_n = TO_REAL ? half_of(p.n) : p.n, out_n = FROM_REAL ? half_of(p.n) : p.n;
  std::vector<Complex> data(product(in_n));
  for (size_t i = 0; i < data.size(); i++) data[i] = Complex(from[place(p.in, in_n, i)]);
  if constexpr (TO_REAL) {
    data = whole_of(std::move(data), p.n);
    transform_axis(data, p.n, p.n.size() - 1, 1);
  } else
    for (size_t axis = 0; axis < p.n.size(); axis++) transform_axis(data, p.n, axis, sign);
  const int64_t last = p.n.back(), kept = out_n.back(), size = product(out_n);
  for (int64_t i = 0; i < size; i++) {
    const Complex x = data[i / kept * last + i % kept];
    if constexpr (TO_REAL) to[place(p.out, out_n, i)] = x.real();
    else to[place(p.out, out_n, i)] = O(x);
  }
}

template <class I, class O> int execute(int handle, const void* from, void* to, int sign) {
  return emulated_enqueue(plans[handle]->stream, [=, p = *plans[handle]] {
    for (int64_t b = 0; b < p.batch; b++)
      execute_one(p, (const I*)from + b * p.in.distance, (O*)to + b * p.out.distance, sign);
  });
}

int make_plan(int handle, Sizes n, int type, int batch, size_t* work) {
  Plan& p = *plans[handle];
  p.n = n, p.type = type, p.batch = batch;
  const Sizes half = half_of(n);
  p.in = p.out = {n, 1, product(n)};
  if (type == R2C || type == D2Z) p.out = {half, 1, product(half)};
  if (type == C2R || type == Z2D) p.in = {half, 1, product(half)};
  return *work = 0;
}

}  // namespace

API int cufftCreate(int* handle) {
  plans.push_back(new Plan{});
  return *handle = plans.size() - 1, 0;
}
API int cufftDestroy(int) { return 0; }
API int cufftGetVersion(int* version) { return *version = 11000, 0; }
API int cufftSetAutoAllocation(int, int) { return 0; }
API int cufftSetWorkArea(int, void*) { return 0; }
API int cufftSetStream(int handle, void* stream) { return plans[handle]->stream = stream, 0; }
API int cufftMakePlan1d(int handle, int n, int type, int batch, size_t* work) {
  return make_plan(handle, {n}, type, batch, work);
}
API int cufftMakePlanMany(int handle, int rank, int* n, int* in_embed, int in_stride, int in_distance, int* out_embed,
                          int out_stride, int out_distance, int type, int batch, size_t* work) {
  make_plan(handle, {n, n + rank}, type, batch, work);
  Plan& p = *plans[handle];
  if (in_embed) p.in = {{in_embed, in_embed + rank}, in_stride, in_distance};
  if (out_embed) p.out = {{out_embed, out_embed + rank}, out_stride, out_distance};
  return 0;
}
API int cufftExecC2C(int h, void* i, void* o, int sign) { return execute<ComplexFloat, ComplexFloat>(h, i, o, sign); }
API int cufftExecZ2Z(int h, void* i, void* o, int sign) { return execute<Complex, Complex>(h, i, o, sign); }
API int cufftExecR2C(int h, void* i, void* o) { return execute<float, ComplexFloat>(h, i, o, -1); }
API int cufftExecD2Z(int h, void* i, void* o) { return execute<double, Complex>(h, i, o, -1); }
API int cufftExecC2R(int h, void* i, void* o) { return execute<ComplexFloat, float>(h, i, o, 1); }
API int cufftExecZ2D(int h, void* i, void* o) { return execute<Complex, double>(h, i, o, 1); }
