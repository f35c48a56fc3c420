"""The page in a browser, from an empty one to answers: where gradio, Playwright and Chromium are."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from taskvec.app.offer import Offer
from taskvec.heads import Means
from taskvec.models.interface import Decoding
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if BROWSER is None:
    pytest.skip("no Chromium is here", allow_module_level=True)

from taskvec.app.page import serving  # noqa: E402 (which takes what was looked for above)

PATIENCE = 60_000  # milliseconds that anything may take on a busy machine


@pytest.fixture
def address(small_directory: Path, small_model: MaeVqgan, small_means: Means, tmp_path: Path) -> Iterator[str]:
    """Of a page with task vectors at every site, whose answers are means of codes: no head leaves them as they are."""
    sites = small_model.sites("quadrant")
    means = {stack: mean[0] for stack, mean in small_means.items()}
    everywhere = torch.ones(len(sites), dtype=torch.bool)
    vectors = TaskVectors.select(
        small_model, sites, everywhere, means, task="mine", metric="mse", decoding=Decoding("expected", 1.5)
    )
    vectors.save_pretrained(tmp_path / "vectors" / "mine")
    with serving(Offer([str(small_directory)], [tmp_path / "vectors"]), "127.0.0.1", None) as url:
        yield url


@pytest.fixture
def visits(address: str) -> Iterator[Callable]:
    """Opens the page for another visitor, who asks nothing of anyone but its own server."""
    elsewhere, wrong = [], []
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])

        def visit():
            opened = browser.new_context(viewport={"width": 360, "height": 780}).new_page()
            opened.set_default_timeout(PATIENCE)
            opened.on(
                "request",
                lambda one: None if one.url.startswith((address, "data:", "blob:")) else elsewhere.append(one.url),
            )
            opened.on("pageerror", lambda error: wrong.append(str(error)))
            opened.goto(address)
            opened.wait_for_selector("#heads button")
            return opened

        yield visit
        browser.close()
    assert elsewhere == []
    assert wrong == []


def test_an_image_is_dropped_and_answered(visits: Callable, image_file: Callable[..., Path], tmp_path: Path) -> None:
    page = visits()
    assert "Drop an image" in page.inner_text("#answers")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    page.set_input_files("#queries input[type=file]", [str(image_file("query.png")), str(broken)])
    page.wait_for_selector("#answers img >> nth=2")
    assert page.locator("#answers .tv-error").all_inner_texts() == [
        "broken.png cannot be read as an image: its content is of no known format"
    ]
    patched = "#answers figure.tv-patched img"
    before = page.get_attribute(patched, "src")

    page.click("#heads [data-head='decoder L1 H1']")
    page.wait_for_selector("#heads button.tv-off")
    assert "switched off" in page.inner_text("#tokens")
    page.wait_for_function("([shown, before]) => document.querySelector(shown).src != before", arg=[patched, before])
    page.click("#heads button.tv-off")
    page.wait_for_function("([shown, before]) => document.querySelector(shown).src == before", arg=[patched, before])

    page.click("text=Try a drawn scene")
    page.wait_for_selector("#answers figcaption:has-text('MSE')")
    assert page.locator("#answers figure").count() == 7

    page.click("button[role=tab]:has-text('Make a task')")
    page.click("text=Find task vectors")
    page.wait_for_selector("#progress .tv-error")
    assert page.inner_text("#progress") == "there are no inputs yet: drop 10 pairs or more, matched by their names"


def test_two_visitors_at_once_get_the_answers_that_each_gets_alone(
    visits: Callable, image_file: Callable[..., Path]
) -> None:
    files = [str(image_file(f"{seed}.png", seed=seed)) for seed in (1, 2)]
    patched = "#answers figure.tv-patched img"

    def drop(page, file: str) -> None:
        page.set_input_files("#queries input[type=file]", [file])

    def answer(page) -> str:
        page.wait_for_selector(patched)
        return page.get_attribute(patched, "src")

    def picture(page, source: str) -> str:
        """The bytes behind a source, which is an address of each visitor's own."""
        read = "async (url) => Array.from(new Uint8Array(await (await fetch(url)).arrayBuffer())).join()"
        return page.evaluate(read, source)

    alone = []
    for file in files:
        page = visits()
        drop(page, file)
        alone.append(picture(page, answer(page)))
        page.close()
    assert alone[0] != alone[1]
    both = [visits(), visits()]
    for page, file in zip(both, files, strict=True):
        drop(page, file)
    together = [(page, answer(page)) for page in both]
    assert [picture(*one) for one in together] == alone
    (first, shown), (second, kept) = together
    first.click("#heads [data-head='decoder L1 H1']")
    first.wait_for_function("([where, before]) => document.querySelector(where).src != before", arg=[patched, shown])
    assert second.locator("#heads button.tv-off").count() == 0
    assert second.get_attribute(patched, "src") == kept
    third = visits()
    drop(third, files[0])
    assert picture(third, answer(third)) == alone[0]  # with no head switched off


def test_all_that_was_dropped_goes_with_the_server(
    small_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serving(Offer([str(small_directory)]), "127.0.0.1", None):
        (place,) = tmp_path.glob("taskvec-app-*")
        assert Path(os.environ["GRADIO_TEMP_DIR"]).parent == place
        with (
            pytest.raises(ValueError, match=r"the page cannot be at 192\.0\.2\.1, any port from 7860 to 7959: "),
            serving(Offer([str(small_directory)]), "192.0.2.1", None),  # an address that nobody has
        ):
            pass
    assert list(tmp_path.iterdir()) == []
