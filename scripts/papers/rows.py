"""The rows of the table: networks with a published test error, and the settings used here."""

from dataclasses import dataclass

from papers.candidates import CANDIDATES

HELD_OUT = 10_000
"""Training images that settings are compared on."""

LECUN = 'LeCun et al. 1998, "Gradient-based learning applied to document recognition"'
HINTON = "Hinton 2005, as listed on the MNIST page"
SIMARD = (
    'Simard et al. 2003, "Best practices for convolutional neural networks applied to visual '
    'document analysis"'
)
SRIVASTAVA = 'Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting"'


@dataclass(frozen=True)
class Row:
    """A network and how it is trained."""

    key: str
    training: str  # what sets this row apart, for readers
    published: str | None  # test error in per cent, as printed; None: no figure is known
    source: str
    flags: str  # of xpnet train: the chosen setting
    seeds: int = 3  # trained unless the command line says otherwise
    candidates: tuple[str, ...] = ()  # flags of what was compared on the validation images
    note: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The flags, a word an item."""
        return tuple(self.flags.split())


ROWS: tuple[Row, ...] = (
    Row(
        "linear",
        "one layer, squared error",
        "12.0",
        LECUN,
        "--hidden --loss squared-error --init glorot --optimizer adam --lr 0.003 --schedule cosine "
        "--batch-size 256 --epochs 40",
        seeds=5,
        note="squared error of the softmax outputs, where the source's outputs are linear.",
        candidates=CANDIDATES["linear"],
    ),
    Row(
        "softmax",
        "one layer, cross-entropy (softmax regression)",
        "7.5",
        "about 7.5, commonly reported",
        "--hidden --init glorot --optimizer adam --lr 0.001 --schedule cosine --batch-size 256 --epochs 40",
        seeds=5,
        candidates=CANDIDATES["softmax"],
    ),
    Row(
        "lecun-300",
        "cross-entropy",
        "4.7",
        LECUN,
        "--hidden 300 --init he --optimizer adam --lr 0.001 --schedule cosine --batch-size 256 --epochs 20",
    ),
    Row(
        "lecun-300-100",
        "cross-entropy",
        "3.05",
        LECUN,
        "--hidden 300 100 --init he --optimizer adam --lr 0.001 --schedule cosine --batch-size 256 "
        "--epochs 20",
    ),
    Row(
        "hinton-500-300",
        "cross-entropy, weight decay",
        "1.53",
        HINTON,
        "--hidden 500 300 --init he --optimizer adamw --weight-decay 0.1 --lr 0.001 --schedule cosine "
        "--batch-size 256 --epochs 20 --label-smoothing 0.1",
        candidates=CANDIDATES["hinton-500-300"],
        note="label smoothing is xpnet's addition.",
    ),
    Row(
        "simard-800-plain",
        "cross-entropy",
        "1.6",
        SIMARD,
        "--hidden 800 --init he --optimizer adam --lr 0.001 --schedule cosine --batch-size 256 --epochs 20 "
        "--label-smoothing 0.1",
        candidates=CANDIDATES["simard-800-plain"],
        note="label smoothing is xpnet's addition.",
    ),
    Row(
        "simard-800-affine",
        "cross-entropy, affine distortions",
        "1.1",
        SIMARD,
        "--hidden 800 --init he --optimizer adam --lr 0.002 --schedule cosine --batch-size 256 --epochs 40 "
        "--augment-shift 1 --augment-rotate 10 --augment-scale 0.1 --augment-shear 0.15 "
        "--label-smoothing 0.1",
        candidates=CANDIDATES["simard-800-affine"],
        note="label smoothing is xpnet's addition.",
    ),
    Row(
        "elastic-800",
        "cross-entropy, elastic distortions",
        "0.7",
        SIMARD,
        "--recipe simard-800",
        candidates=CANDIDATES["elastic-800"],
    ),
    Row(
        "dropout-1024",
        "cross-entropy, dropout, max-norm",
        "1.06",
        SRIVASTAVA,
        "--recipe dropout-1024",
        candidates=CANDIDATES["dropout-1024"],
        note="batch norm and label smoothing are xpnet's additions, and the source trains for longer. "
        "Without them and with half of the units dropped, one seed reached 1.18.",
    ),
    Row(
        "best-10",
        "cross-entropy, weight decay, input dropout",
        None,
        "none; hand-tuned Adam with weight decay reached 5.1",
        "--recipe best-10",
        seeds=5,
        candidates=CANDIDATES["best-10"],
    ),
    Row(
        "quick",
        "cross-entropy, in seconds",
        None,
        "none",
        "--recipe quick",
        seeds=5,
        candidates=CANDIDATES["quick"],
    ),
)
