"""The settings that were compared on validation images, for each row of the table."""

from collections.abc import Mapping


def _each(common: str, *variants: str) -> tuple[str, ...]:
    """Return the flags of each variant, behind those that all have."""
    return tuple(f"{common} {variant}".strip() for variant in variants)


CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "best-10": _each(
        "--schedule cosine",
        ("--activation leaky-relu --init he --epochs 60 --batch-size 128 --optimizer adam --lr 0.005"),
        ("--activation tanh --init glorot --epochs 60 --batch-size 128 --optimizer adam --lr 0.005"),
        (
            "--activation leaky-relu --init he --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.005 --weight-decay 0.0001"
        ),
        (
            "--activation tanh --init glorot --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.005 --weight-decay 0.0001"
        ),
        (
            "--normalize standardize --activation leaky-relu --init he --epochs 60 "
            "--batch-size 128 --optimizer adam --lr 0.005"
        ),
        (
            "--augment-shift 0.5 --augment-rotate 5 --activation leaky-relu --init he "
            "--epochs 60 --batch-size 128 --optimizer adam --lr 0.005"
        ),
        (
            "--activation leaky-relu --init he --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.005 --weight-decay 0.001"
        ),
        (
            "--activation tanh --init glorot --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.005 --weight-decay 0.0003"
        ),
        (
            "--activation leaky-relu --init he --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.005 --weight-decay 0.0003"
        ),
        (
            "--activation leaky-relu --init he --epochs 60 --batch-size 128 "
            "--optimizer adamw --lr 0.005 --weight-decay 0.1"
        ),
        (
            "--activation leaky-relu --input-dropout 0.05 --init he --epochs 60 "
            "--batch-size 128 --optimizer adam --lr 0.005"
        ),
        (
            "--activation leaky-relu --init he --epochs 60 --batch-size 128 "
            "--label-smoothing 0.02 --optimizer adam --lr 0.005 --weight-decay 0.0003"
        ),
        (
            "--activation sigmoid --init glorot --epochs 60 --batch-size 128 "
            "--optimizer adam --lr 0.005 --weight-decay 0.0001"
        ),
        (
            "--activation tanh --init glorot --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.002 --weight-decay 0.0003"
        ),
        (
            "--activation leaky-relu --init he --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.01 --weight-decay 0.0003"
        ),
        (
            "--activation leaky-relu --init he --epochs 60 --batch-size 512 --optimizer adam "
            "--lr 0.01 --weight-decay 0.0003"
        ),
        (
            "--augment-rotate 10 --augment-shear 0.1 --activation leaky-relu --init he "
            "--epochs 60 --batch-size 128 --optimizer adam --lr 0.005 --weight-decay 0.0003"
        ),
        (
            "--activation leaky-relu --input-dropout 0.1 --init he --epochs 60 "
            "--batch-size 128 --optimizer adam --lr 0.005"
        ),
        (
            "--activation leaky-relu --input-dropout 0.05 --init he --epochs 60 "
            "--batch-size 128 --optimizer adam --lr 0.005 --weight-decay 0.0001"
        ),
        (
            "--activation leaky-relu --input-dropout 0.05 --init he --epochs 200 "
            "--batch-size 128 --optimizer adam --lr 0.005"
        ),
        (
            "--activation leaky-relu --input-dropout 0.1 --init he --epochs 60 "
            "--batch-size 128 --optimizer adam --lr 0.005 --weight-decay 0.0002"
        ),
        (
            "--augment-rotate 10 --augment-shear 0.1 --activation leaky-relu "
            "--input-dropout 0.05 --init he --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.005 --weight-decay 0.0001"
        ),
        (
            "--augment-rotate 10 --augment-scale 0.1 --augment-shear 0.2 "
            "--activation leaky-relu --init he --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.005 --weight-decay 0.0001"
        ),
        (
            "--augment-rotate 10 --augment-scale 0.1 --augment-shear 0.2 "
            "--activation leaky-relu --init he --epochs 90 --batch-size 128 --optimizer adam "
            "--lr 0.005 --weight-decay 0.0001"
        ),
        (
            "--activation leaky-relu --input-dropout 0.1 --init he --epochs 200 "
            "--batch-size 128 --optimizer adam --lr 0.008 --weight-decay 0.0002"
        ),
        (
            "--augment-rotate 10 --augment-scale 0.1 --augment-shear 0.2 "
            "--activation leaky-relu --init he --epochs 60 --batch-size 128 --optimizer adam "
            "--lr 0.01 --weight-decay 0.0001"
        ),
    ),
    "dropout-1024": (
        *_each(
            (
                "--hidden 1024 1024 1024 --dropout 0.5 --input-dropout 0.2 --init he --epochs 6 "
                "--batch-size 256 --schedule cosine"
            ),
            "--optimizer adam --lr 0.001 --max-norm 3",
            "--optimizer nesterov --momentum 0.95 --lr 0.05 --max-norm 2",
        ),
        *_each(
            (
                "--hidden 1024 1024 1024 --input-dropout 0.2 --init he --epochs 20 "
                "--batch-size 256 --schedule cosine --optimizer adam"
            ),
            "--dropout 0.5 --lr 0.001 --max-norm 3 --label-smoothing 0.1",
            "--dropout 0.5 --lr 0.001 --max-norm 3",
            "--dropout 0.4 --lr 0.001 --max-norm 3 --label-smoothing 0.1",
            "--dropout 0.5 --lr 0.002 --max-norm 2 --label-smoothing 0.1",
        ),
        *_each(
            (
                "--hidden 1024 1024 1024 --input-dropout 0.2 --init he --epochs 30 "
                "--batch-size 256 --schedule cosine"
            ),
            "--optimizer adam --dropout 0.3 --lr 0.001 --max-norm 3 --label-smoothing 0.1",
            "--optimizer adam --dropout 0.4 --lr 0.001 --max-norm 2 --label-smoothing 0.1",
            (
                "--optimizer adamw --weight-decay 0.1 --dropout 0.3 --lr 0.001 --max-norm 3 "
                "--label-smoothing 0.1"
            ),
            ("--optimizer adam --batch-norm --dropout 0.3 --lr 0.001 --max-norm 3 --label-smoothing 0.1"),
            "--optimizer adam --dropout 0.3 --lr 0.002 --max-norm 2 --label-smoothing 0.1",
        ),
        *_each(
            (
                "--hidden 1024 1024 1024 --input-dropout 0.2 --init he --epochs 80 "
                "--batch-size 256 --schedule cosine"
            ),
            "--optimizer adam --dropout 0.4 --lr 0.002 --max-norm 2 --label-smoothing 0.1",
        ),
        *_each(
            (
                "--hidden 1024 1024 1024 --input-dropout 0.2 --init he --epochs 60 "
                "--batch-size 256 --schedule cosine"
            ),
            ("--optimizer adam --batch-norm --dropout 0.4 --lr 0.003 --max-norm 3 --label-smoothing 0.1"),
        ),
    ),
    "elastic-800": _each(
        (
            "--augment-shift 1 --augment-rotate 10 --augment-scale 0.1 --augment-shear 0.15 "
            "--hidden 800 --init he --epochs 40 --batch-size 256 --optimizer adam "
            "--schedule cosine"
        ),
        "--augment-elastic-alpha 34 --augment-elastic-sigma 4 --lr 0.001",
        "--augment-elastic-alpha 36 --augment-elastic-sigma 6 --lr 0.001",
        "--augment-elastic-alpha 34 --augment-elastic-sigma 4 --lr 0.002",
        "--augment-elastic-alpha 36 --augment-elastic-sigma 6 --lr 0.002",
    ),
    "hinton-500-300": _each(
        "--hidden 500 300 --init he --epochs 20 --batch-size 256 --schedule cosine",
        "--optimizer adam --lr 0.001 --weight-decay 0.0001",
        "--optimizer nesterov --weight-decay 0.0001",
        "--label-smoothing 0.1 --optimizer adam --lr 0.001 --weight-decay 1e-05",
        "--label-smoothing 0.1 --optimizer adamw --lr 0.001 --weight-decay 0.1",
    ),
    "linear": _each(
        (
            "--hidden --init glorot --epochs 40 --batch-size 256 --loss squared-error "
            "--optimizer adam --schedule cosine"
        ),
        "--lr 0.003",
        "--lr 0.001",
    ),
    "quick": _each(
        ("--activation leaky-relu --init he --batch-size 128 --optimizer adam --schedule cosine"),
        "--epochs 25 --lr 0.004",
        "--epochs 25 --lr 0.008",
        "--epochs 25 --lr 0.004 --weight-decay 0.0001",
        "--epochs 25 --lr 0.004 --weight-decay 0.0003",
        "--input-dropout 0.03 --epochs 25 --lr 0.006",
        "--epochs 25 --lr 0.008 --weight-decay 0.0001",
        "--input-dropout 0.05 --epochs 20 --lr 0.008 --weight-decay 0.0001",
        "--input-dropout 0.05 --epochs 16 --lr 0.008 --weight-decay 0.0001",
        "--input-dropout 0.1 --epochs 20 --lr 0.008",
        "--input-dropout 0.1 --epochs 20 --lr 0.008 --weight-decay 0.0002",
        "--input-dropout 0.05 --epochs 20 --lr 0.012 --weight-decay 0.0001",
    ),
    "simard-800-affine": _each(
        (
            "--augment-shift 1 --augment-rotate 10 --augment-scale 0.1 --augment-shear 0.15 "
            "--hidden 800 --init he --epochs 40 --batch-size 256 --optimizer adam --lr 0.002 "
            "--schedule cosine"
        ),
        "",
        "--label-smoothing 0.1",
    ),
    "simard-800-plain": _each(
        "--hidden 800 --init he --epochs 20 --schedule cosine",
        "--batch-size 256 --optimizer adam --lr 0.001",
        "--batch-size 256 --label-smoothing 0.1 --optimizer adam --lr 0.001",
        "--batch-size 128 --optimizer nesterov",
    ),
    "softmax": _each(
        ("--hidden --init glorot --epochs 40 --batch-size 256 --optimizer adam --lr 0.001 --schedule cosine"),
        "",
        "--input-dropout 0.05",
    ),
}
