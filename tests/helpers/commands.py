"""Commands as a user types them, inside this process."""

import json

from xpnet.__main__ import main


def printed(capsys, *words):
    """Standard output of a command that succeeds and says nothing else."""
    assert main([*map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def printed_json(capsys, *words):
    return json.loads(printed(capsys, *words, "--json"))


def complaint(capsys, *words):
    """The one line, on standard error, of a command that is refused."""
    assert main([*map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err[:7]) == ("", 1, "xpnet: ")
    return err[7:-1]
