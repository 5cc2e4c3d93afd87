// In place of CuPy's complex numbers, of which its other headers need the name alone.
#pragma once
template <class T> struct complex { T re, im; };
