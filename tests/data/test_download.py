"""Test downloading of images from a local server, and that URLs are refused without permission."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vlmrobust.data import RowsError, load_benchmark, samples_from
from vlmrobust.data.rows import Downloader
from vlmrobust.types import open_image

PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\x00\x00\x00\x0c"
    b"IDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82"
)


class Pictures(ThreadingHTTPServer):
    """Serves one picture under every path, after the answers that a path asks for: `/503,503/a.png`."""

    daemon_threads = True
    request_queue_size = 64  # a connection that finds the queue full is tried again a second later

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.lock = threading.Lock()

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Answer(BaseHTTPRequestHandler):
    server: Pictures

    def do_GET(self) -> None:
        with self.server.lock:
            before = self.server.asked.count(self.path)
            self.server.asked.append(self.path)
        first = self.path.split("/")[1].split(",")
        status = first[before] if before < len(first) else "200"
        if status == "torn":
            self.close_connection = True
            return
        code = int(status) if status.isdecimal() else 200
        body = PIXEL if code == 200 and first != ["empty"] else b""
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def pictures() -> Iterator[Pictures]:
    pytest.importorskip("urllib3")
    with Pictures() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def row(sample_id: str, image: object) -> dict[str, object]:
    return {"id": sample_id, "image": image, "question": "Which?", "options": ["red", "blue"], "answer": "A"}


def test_addresses_are_refused_unless_they_are_asked_for(pictures: Pictures) -> None:
    message = (
        r"sample 'q1', field 'image': .* got an address: 'http://127.*a.png'; to fetch it, pass download_urls=True"
    )
    with pytest.raises(RowsError, match=message):
        samples_from([row("q1", pictures.address("/a.png"))])
    assert pictures.asked == []


def test_images_are_fetched_once_each_and_kept_as_bytes(pictures: Pictures) -> None:
    rows = [row(f"q{number}", pictures.address(f"/{number}.png")) for number in range(20)]
    samples = samples_from([*rows, row("bytes", PIXEL)], download_urls=True, check_images=True)
    assert [sample.id for sample in samples] == [*(f"q{number}" for number in range(20)), "bytes"]
    assert {sample.images for sample in samples} == {(PIXEL,)}
    assert sorted(pictures.asked) == sorted(f"/{number}.png" for number in range(20))


@pytest.mark.parametrize("path", ["/503,429,500/a.png", "/torn,torn/a.png"])
def test_what_may_pass_is_tried_again(pictures: Pictures, path: str) -> None:
    assert Downloader(backoff=0)(pictures.address(path)) == PIXEL
    assert pictures.asked == [path] * (path.count(",") + 2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/404/a.png", "got status 404 Not Found"),
        ("/503,503,503,503,503/a.png", "got status 503 Service Unavailable"),
        ("/torn,torn,torn,torn,torn/a.png", "got MaxRetryError"),
        ("/empty/a.png", "got an empty answer"),
    ],
)
def test_what_cannot_be_fetched_names_the_address(pictures: Pictures, path: str, message: str) -> None:
    address = pictures.address(path)
    with pytest.raises(ValueError, match=f"expected an image at '{address}', {message}"):
        Downloader(backoff=0)(address)
    assert len(pictures.asked) <= 4


def test_a_sample_whose_image_cannot_be_fetched_is_named_and_the_others_stay(pictures: Pictures) -> None:
    rows = [row("q1", pictures.address("/a.png")), row("q2", pictures.address("/404/b.png"))]
    samples = samples_from(rows, download_urls=True, on_error="record")
    assert [sample.id for sample in samples] == ["q1"]
    [problem] = samples.problems
    assert problem.startswith(f"row 1: sample 'q2', field 'image': expected an image at '{pictures.address('/404')}")


def test_3dsrbench_as_annotated(pictures: Pictures, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = ("index", "question", "A", "B", "C", "D", "answer", "category", "image_source", "image_url")
    cells = ("VIN6MS3J", "Which is higher?", "glove", "hat", None, None, "B", "height_higher", "MS-COCO")
    features = datasets.Features(dict.fromkeys(names, datasets.Value("string")))
    rows = [dict(zip(names, (*cells, pictures.address("/train2017/1.jpg")), strict=True))]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "3dsrbench_v1-00000-of-00001.parquet")
    [sample] = load_benchmark("3dsrbench", source=tmp_path, download_urls=True)
    assert (sample.id, sample.options, sample.answer) == ("VIN6MS3J", ("glove", "hat"), 1)
    assert open_image(sample.images[0]).size == (1, 1)
    assert sample.group == pictures.address("/train2017/1.jpg")
    with pytest.raises(RowsError, match="pass download_urls=True"):
        load_benchmark("3dsrbench", source=tmp_path)
