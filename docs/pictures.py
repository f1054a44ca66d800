"""Draws the figures of README and documentation, measured on the bundled model: `python docs/pictures.py`."""

from pathlib import Path

import vlmrobust as vr
from vlmrobust.plots.picture import svg_of

FOLDER = Path(__file__).parent / "pages" / "images"


def main() -> None:
    """Ask the bundled model 100 samples under the paper's conditions; draw the report, and its drops of accuracy."""
    report = vr.Evaluator(vr.demo.model(), vr.paper_conditions()).run(vr.demo.samples(100))
    FOLDER.mkdir(exist_ok=True)
    report.plot().savefig(FOLDER / "report.png", dpi=90)
    figure = vr.plots.drops(report, "accuracy").figure
    figure.set_size_inches(7.5, 3)
    (FOLDER / "drops.svg").write_text(svg_of(figure, bbox_inches="tight", facecolor="white"), encoding="utf-8")


if __name__ == "__main__":
    main()
