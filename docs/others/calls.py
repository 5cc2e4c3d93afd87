"""The calls: unmodified functions and estimators of others, in the order of the page's table."""

from collections.abc import Callable
from typing import Any

import array_api_extra as xpx
import sklearn
from array_api_compat import array_namespace
from scipy import integrate, signal, special, stats
from scipy.cluster import vq
from sklearn import decomposition, linear_model, metrics, mixture, model_selection, preprocessing
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics import pairwise
from sklearn.naive_bayes import GaussianNB

Call = Callable[[Any, Any], Any]
"""A function of samples, (300, 10), and labels 0 and 1, in a library's arrays or in rp.Array of them."""


def fit(estimator: Any, *methods: str) -> Call:
    """Return the call that fits an estimator: its fitted attributes, and what its methods return."""

    def call(x: Any, y: Any) -> Any:
        model = sklearn.clone(estimator).fit(x, y)
        fitted = {name: value for name, value in vars(model).items() if name.endswith("_") and name[0] != "_"}
        return fitted, [getattr(model, method)(x) for method in methods]

    return call


def guesses(x: Any, y: Any) -> Any:
    """Return labels of which some are wrong."""
    return array_namespace(x).where(x[:, 0] > 20.0, 1 - y, y)


SKLEARN: dict[str, Call] = {
    "StandardScaler": fit(preprocessing.StandardScaler(), "transform"),
    "MinMaxScaler": fit(preprocessing.MinMaxScaler(), "transform"),
    "MaxAbsScaler": fit(preprocessing.MaxAbsScaler(), "transform"),
    "Normalizer": fit(preprocessing.Normalizer(), "transform"),
    "Binarizer": fit(preprocessing.Binarizer(threshold=15.0), "transform"),
    "PolynomialFeatures": fit(preprocessing.PolynomialFeatures(2), "transform"),
    "KernelCenterer": lambda x, _: fit(preprocessing.KernelCenterer(), "transform")(x @ x.T, None),
    "LabelEncoder": lambda _, y: preprocessing.LabelEncoder().fit_transform(y),
    "GaussianNB": fit(GaussianNB(), "predict", "predict_proba"),
    "PCA": fit(decomposition.PCA(3, svd_solver="full"), "transform"),
    "LinearDiscriminantAnalysis": fit(LinearDiscriminantAnalysis(), "predict_proba"),
    "Ridge": fit(linear_model.Ridge(solver="svd"), "predict"),
    "RidgeCV": fit(linear_model.RidgeCV(), "predict"),
    "RidgeClassifier": fit(linear_model.RidgeClassifier(solver="svd"), "predict"),
    "GaussianMixture": fit(mixture.GaussianMixture(2, init_params="random", random_state=0), "predict_proba"),
    "Nystroem": fit(Nystroem(n_components=20, random_state=0), "transform"),
    "accuracy_score": lambda x, y: metrics.accuracy_score(y, guesses(x, y)),
    "balanced_accuracy_score": lambda x, y: metrics.balanced_accuracy_score(y, guesses(x, y)),
    "f1_score": lambda x, y: metrics.f1_score(y, guesses(x, y)),
    "jaccard_score": lambda x, y: metrics.jaccard_score(y, guesses(x, y)),
    "hamming_loss": lambda x, y: metrics.hamming_loss(y, guesses(x, y)),
    "zero_one_loss": lambda x, y: metrics.zero_one_loss(y, guesses(x, y)),
    "cohen_kappa_score": lambda x, y: metrics.cohen_kappa_score(y, guesses(x, y)),
    "confusion_matrix": lambda x, y: metrics.confusion_matrix(y, guesses(x, y)),
    "log_loss": lambda x, y: metrics.log_loss(y, x[:, 0] / 30.0),
    "d2_log_loss_score": lambda x, y: metrics.d2_log_loss_score(y, x[:, 0] / 30.0),
    "brier_score_loss": lambda x, y: metrics.brier_score_loss(y, x[:, 0] / 30.0),
    "mean_squared_error": lambda x, _: metrics.mean_squared_error(x[:, 0], x[:, 1]),
    "mean_absolute_error": lambda x, _: metrics.mean_absolute_error(x[:, 0], x[:, 1]),
    "mean_absolute_percentage_error": lambda x, _: metrics.mean_absolute_percentage_error(x[:, 0], x[:, 1]),
    "mean_squared_log_error": lambda x, _: metrics.mean_squared_log_error(x[:, 0], x[:, 1]),
    "mean_tweedie_deviance": lambda x, _: metrics.mean_tweedie_deviance(x[:, 0], x[:, 1], power=1.5),
    "d2_tweedie_score": lambda x, _: metrics.d2_tweedie_score(x[:, 0], x[:, 1], power=1.5),
    "mean_pinball_loss": lambda x, _: metrics.mean_pinball_loss(x[:, 0], x[:, 1]),
    "explained_variance_score": lambda x, _: metrics.explained_variance_score(x[:, 0], x[:, 1]),
    "r2_score": lambda x, _: metrics.r2_score(x[:, 0], x[:, 1]),
    "max_error": lambda x, _: metrics.max_error(x[:, 0], x[:, 1]),
    "additive_chi2_kernel": lambda x, _: pairwise.additive_chi2_kernel(x),
    "chi2_kernel": lambda x, _: pairwise.chi2_kernel(x),
    "cosine_similarity": lambda x, _: pairwise.cosine_similarity(x),
    "euclidean_distances": lambda x, _: pairwise.euclidean_distances(x),
    "rbf_kernel": lambda x, _: pairwise.rbf_kernel(x, gamma=1e-4),
    "polynomial_kernel": lambda x, _: pairwise.polynomial_kernel(x),
    "sigmoid_kernel": lambda x, _: pairwise.sigmoid_kernel(x / 100.0),
    "laplacian_kernel": lambda x, _: pairwise.laplacian_kernel(x, gamma=1e-3),
    "paired_cosine_distances": lambda x, _: pairwise.paired_cosine_distances(x, x[:, ::-1]),
    "paired_euclidean_distances": lambda x, _: pairwise.paired_euclidean_distances(x, x * x),
    "train_test_split": lambda x, y: model_selection.train_test_split(x, y, random_state=0),
    "cross_val_predict": lambda x, y: model_selection.cross_val_predict(GaussianNB(), x, y),
}
SCIPY: dict[str, Call] = {
    "special.logsumexp": lambda x, _: special.logsumexp(x, axis=1),
    "special.softmax": lambda x, _: special.softmax(x, axis=1),
    "special.log_softmax": lambda x, _: special.log_softmax(x, axis=1),
    "stats.zscore": lambda x, _: stats.zscore(x, axis=0),
    "stats.skew": lambda x, _: stats.skew(x, axis=0),
    "stats.kurtosis": lambda x, _: stats.kurtosis(x, axis=0),
    "stats.moment": lambda x, _: stats.moment(x, 3, axis=0),
    "stats.variation": lambda x, _: stats.variation(x, axis=0),
    "stats.sem": lambda x, _: stats.sem(x, axis=0),
    "stats.gmean": lambda x, _: stats.gmean(x + 1.0, axis=0),
    "stats.hmean": lambda x, _: stats.hmean(x + 1.0, axis=0),
    "stats.pmean": lambda x, _: stats.pmean(x + 1.0, 3, axis=0),
    "stats.gstd": lambda x, _: stats.gstd(x + 1.0, axis=0),
    "stats.describe": lambda x, _: stats.describe(x, axis=0),
    "stats.tvar": lambda x, _: stats.tvar(x, (0.01, 400.0), axis=0),
    "stats.kstat": lambda x, _: stats.kstat(x[:, 0], 3),
    "stats.circmean": lambda x, _: stats.circmean(x, axis=0),
    "stats.directional_stats": lambda x, _: stats.directional_stats(x).mean_direction,
    "cluster.vq.whiten": lambda x, _: vq.whiten(x),
    "integrate.trapezoid": lambda x, _: integrate.trapezoid(x, axis=0),
    "integrate.simpson": lambda x, _: integrate.simpson(x, axis=0),
    "integrate.cumulative_trapezoid": lambda x, _: integrate.cumulative_trapezoid(x, axis=0),
}
EXTRA: dict[str, Call] = {
    "cov": lambda x, _: xpx.cov(x.T),
    "kron": lambda x, _: xpx.kron(x[:, :2], x[:2, :2]),
    "sinc": lambda x, _: xpx.sinc(x / 10.0),
    "nunique": lambda x, _: xpx.nunique(array_namespace(x).round(x)),
    "create_diagonal": lambda x, _: xpx.create_diagonal(x[:, 0]),
    "isclose": lambda x, _: xpx.isclose(x, x * (1.0 + 1e-9)),
    "pad": lambda x, _: xpx.pad(x, 2, constant_values=0.5),
    "setdiff1d": lambda x, _: xpx.setdiff1d(
        array_namespace(x).round(x[:, 0]), array_namespace(x).round(x[:, 1])
    ),
    "one_hot": lambda _, y: xpx.one_hot(y, 2),
}


CALLS = {
    **{f"sklearn {name}": call for name, call in SKLEARN.items()},
    **{f"scipy.{name}": call for name, call in SCIPY.items()},
    **{f"array_api_extra.{name}": call for name, call in EXTRA.items()},
}
LEAVING: dict[str, tuple[Call, str]] = {
    "sklearn LogisticRegression": (
        fit(linear_model.LogisticRegression(max_iter=50), "predict_proba"),
        "SciPy's L-BFGS, compiled, with a BLAS",
    ),
    "sklearn PoissonRegressor": (
        lambda x, y: fit(linear_model.PoissonRegressor(), "predict")(x / 1e3, y),
        "SciPy's L-BFGS, compiled, with a BLAS",
    ),
    "scipy.cluster.vq.vq": (lambda x, _: vq.vq(x, x[:20, :]), "compiled, with a BLAS"),
    "scipy.cluster.vq.kmeans": (lambda x, _: vq.kmeans(x, x[:20, :]), "calls `vq.vq`"),
    "scipy.signal.convolve": (lambda x, _: signal.convolve(x[:, 0], x[:50, 1]), "`np.dot`, or an FFT"),
    "scipy.signal.detrend": (lambda x, _: signal.detrend(x, axis=0), "LAPACK's least squares"),
    "scipy.special.erf": (lambda x, _: special.erf(x / 30.0), "compiled, without a BLAS"),
    "scipy.special.gammaln": (lambda x, _: special.gammaln(x + 1.0), "compiled, without a BLAS"),
}
"""Functions that convert to NumPy and go on in compiled code: the call, and what that code is."""
