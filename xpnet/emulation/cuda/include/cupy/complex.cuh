// CuPy's complex numbers where a kernel uses them; else the name alone, which its other headers need: it compiles faster.
#pragma once
#ifdef EMULATED_COMPLEX
#include_next <cupy/complex.cuh>
#else
template <class T> struct complex { T re, im; };
template <class T> static inline T norm(T x) { return x * x; }
template <class T> static inline T conj(T x) { return x; }
template <class T> static inline T real(T x) { return x; }
template <class T> static inline T imag(T) { return 0; }
#endif
