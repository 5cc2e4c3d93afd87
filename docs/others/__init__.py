"""Functions of scikit-learn, SciPy and array-api-extra, for docs/functions_of_others.py."""

from checkout import need

need("sklearn", "scipy", "array_api_extra", fix='pip install -e ".[others]"')
