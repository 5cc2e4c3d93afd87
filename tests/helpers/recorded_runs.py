"""Settings of small trainings to record, and the digests of changed records."""

import hashlib
import json

from xpnet.storage.folder import RunFolder, digest_file
from xpnet.storage.json_files import canonical_json

SETTINGS = """--data small.npz --hidden 7 5 --batch-norm --dropout 0.2 --input-dropout 0.1 --batch-size 32
--init he --optimizer adam --lr 0.01 --schedule cosine --warmup-epochs 1 --weight-decay 0.001 --clip-norm 5
--max-norm 3 --label-smoothing 0.1 --validation 40 --patience 9 --augment-rotate 9 --augment-elastic-alpha 6
--seed 5""".split()  # noqa: SIM905 - as typed
"""Most features, for runs on ``image_data``."""
PLAIN = ["--data", "small.npz", "--hidden", "6", "--batch-size", "60", "--epochs", "3"]
QUIET = ["--quiet", "--no-report", "--out", "runs"]


def seal(folder):
    """Write the digests of the files as they are now, as one would who changes them on purpose."""
    digests = {path.name: digest_file(path) for path in RunFolder(folder).files}
    record = {**json.loads((folder / "run.json").read_text()), "digests": digests}
    digests["run.json"] = digest_record(record)
    (folder / "run.json").write_text(json.dumps(record))


def digest_record(record):
    """The digest of a record, which is among its digests."""
    return hashlib.sha256(canonical_json(record)).hexdigest()
