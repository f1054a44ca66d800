"""Draws the figure of the documentation, measured on the bundled model: `python docs/pictures.py`."""

from pathlib import Path

import vlmrobust as vr

FOLDER = Path(__file__).parent / "pages" / "images"


def main() -> None:
    """Ask the bundled model 100 samples under the paper's conditions, and draw the report."""
    report = vr.Evaluator(vr.demo.model(), vr.paper_conditions()).run(vr.demo.samples(100))
    FOLDER.mkdir(exist_ok=True)
    report.plot().savefig(FOLDER / "report.png", dpi=90)


if __name__ == "__main__":
    main()
