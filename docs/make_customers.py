"""Writes a made-up table of customers as a CSV file, with what such tables have: text, dates, gaps.

30,000 rows and 25 columns: a number that counts the rows, a date, a city of 200, seven columns of few words,
14 of numbers, and `churn`, which an eighth of the customers do. Python promises the stream of random numbers,
and only + - * / are used: the file is the same everywhere.
"""

import argparse
import csv
from datetime import date, timedelta
from pathlib import Path
from random import Random

ROWS = 30_000
WORDS = {
    "plan": ["basic", "plus", "pro"],
    "region": ["north", "east", "south", "west", "centre"],
    "channel": ["shop", "web", "phone", "partner"],
    "payment": ["card", "transfer", "invoice"],
    "device": ["android", "ios", "other"],
    "contract": ["monthly", "yearly", "two years"],
    "language": ["de", "en", "es", "fr", "it", "pl"],
}
NUMBERS = "tenure age income calls minutes data_gb bill discount tickets rating late logins children distance"


def make_row(number: int, draw: Random) -> dict[str, object]:
    """Return a customer by the names of the columns."""
    words = {name: choices[int(draw.random() * len(choices))] for name, choices in WORDS.items()}
    values = {name: draw.random() for name in NUMBERS.split()}
    pressure = 1.3 * (words["contract"] == "monthly") - 0.5 * (words["contract"] == "two years")
    pressure += 0.9 * (words["plan"] == "basic" and words["channel"] == "partner")
    pressure += 0.8 * (words["payment"] == "invoice") * values["late"]
    pressure += 1.6 * (values["bill"] - 0.5) * (1.0 if words["plan"] == "pro" else -0.4)
    pressure += 2.0 * abs(values["age"] - 0.5) + 1.5 * values["tickets"] * values["tickets"]
    pressure -= 1.8 * values["tenure"] + 1.1 * values["rating"]
    risk = min(max(0.3 * pressure - 0.02, 0.01), 0.95)
    churns = draw.random() < risk
    row: dict[str, object] = {"customer_id": 100_000 + number}
    row["signup"] = date(2015, 1, 1) + timedelta(days=int(draw.random() * 3650))
    row |= words
    row["city"] = f"city {int(draw.random() * 200)}"
    row |= {"tenure": int(120 * values["tenure"]), "age": 18 + int(70 * values["age"])}
    row["income"] = round(15_000 + 90_000 * values["income"] * values["income"], 2)
    row |= {"calls": int(60 * values["calls"]), "minutes": round(900 * values["minutes"], 1)}
    row |= {"data_gb": round(80 * values["data_gb"], 3), "bill": round(10 + 110 * values["bill"], 2)}
    row |= {"discount": round(0.4 * values["discount"], 2), "tickets": int(9 * values["tickets"])}
    row |= {"rating": round(1 + 4 * values["rating"], 1), "late": int(12 * values["late"])}
    row |= {"logins": int(200 * values["logins"]), "children": int(4 * values["children"])}
    row["distance"] = round(0.1 + 50 * values["distance"], 1)
    for name, share in (("income", 0.06), ("rating", 0.11), ("region", 0.02)):
        if draw.random() < share:
            row[name] = ""
    return row | {"churn": "yes" if churns else "no"}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("path", type=Path, metavar="FILE.csv")
    draw = Random(0)  # noqa: S311 - no secret
    rows = [make_row(number, draw) for number in range(ROWS)]
    with parser.parse_args().path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
