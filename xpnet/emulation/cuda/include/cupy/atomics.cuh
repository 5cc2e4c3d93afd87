// In place of CuPy's atomic operations, which the kernels of xpnet do not use.
#pragma once
