"""The page, in a real Chromium, with a real service behind it: what a reader sees, does, and takes away."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from properties import property_checkpoint, property_network
from serving import serving
from structures import small_checkpoint

from kimgnn.client import Client
from kimgnn.evaluation.calibrated import Calibration, ClassCalibration, ValueCalibration
from kimgnn.evaluation.domain import ENERGY_PER_ATOM, SUMMARY, summary
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install kimgnn[dev])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")

KEY = "a key of many letters"
PATIENCE = 60_000
"""Milliseconds to wait for what takes none on an idle machine."""

MINUS = "\N{MINUS SIGN}"

POSCAR = """SiC <img src=x onerror=alert(1)>
1.0
0 2.18 2.18
2.18 0 2.18
2.18 2.18 0
Si C
1 1
direct
0 0 0
0.25 0.25 0.25
"""

CIF = """data_SiC
_cell_length_a 3.1
_cell_length_b 3.2
_cell_length_c 4.4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 Si 0.0 0.0 0.0
C1 C 0.5 0.5 0.4
"""

GERMANIUM = POSCAR.replace("Si C\n1 1", "Ge\n2").replace("2.18", "2.83")


def _known(rng: np.random.Generator) -> dict[str, Any]:
    """A summary of training data: mostly SiC, carbon alone never."""
    species = [["Si", "C"]] * 90 + [["Si", "Si", "C"]] * 10
    spreads = {"gap": (1.2, 0.7), "total": (-14, 1), ENERGY_PER_ATOM: (-7, 0.5)}
    labels = {name: rng.normal(*spread, 100) for name, spread in spreads.items()}
    return {SUMMARY: summary(species, labels | {"eps": 10 ** rng.normal(0.9, 0.3, 100)})}


def _models() -> dict[str, Checkpoint]:
    """Heads of every kind, calibrated; a committee of potentials; and a network with inputs besides the atoms."""
    data = _known(np.random.default_rng(0))
    heads = property_checkpoint(property_network("cgcnn"), max_neighbors=6, ties="break")
    values = {name: ValueCalibration(1.0, 0.05, 1.6, 50) for name in ("gap", "eps", "total")}
    level = Calibration("conformal", 0.9, values, {"metal": ClassCalibration(1.5, 0.2, 50)})
    potential = small_checkpoint(["Si", "C"])
    torch.manual_seed(1)
    spec = potential.spec
    committee = build_network(NetworkSpec(spec.architecture, spec.options, spec.heads, spec.species, members=3)).eval()
    states = [{"name": "temperature", "mean": 300.0, "spread": 50.0}, {"name": "method", "classes": ["PBE", "HSE"]}]
    warm = property_checkpoint(property_network("megnet", state_inputs=states))
    return {
        "crystals": Checkpoint(heads.network, heads.transform, heads.manifest, {}, data, level.to_dict()),
        "committee": Checkpoint(committee, potential.transform, potential.manifest, {}, data),
        "warm": Checkpoint(warm.network, warm.transform, warm.manifest),
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names and paths, as `kimgnn serve` takes them."""
    folder = tmp_path_factory.mktemp("models")
    for name, checkpoint in _models().items():
        save_checkpoint(folder / f"{name}.ckpt", checkpoint)
    return [f"{path.stem}={path}" for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def url(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of all."""
    with serving(tmp_path_factory.mktemp("serving"), *models) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser; every test has a window and a memory of its own."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


Open = Callable[..., Any]


@pytest.fixture
def opened(chromium: Any) -> Iterator[Open]:
    """Open the page of a service; at its end, nothing was asked of another host, and nothing went wrong in the page."""
    contexts, wrong, asked = [], [], []

    def told(message: Any) -> None:
        # Chromium tells of answers of 4xx and of connections that are refused, which some tests are about, and of what
        # reads a drawing often, as only tests do.
        known = ("Failed to load resource", "willReadFrequently")
        if message.type in ("error", "warning") and not any(part in message.text for part in known):
            wrong.append(message.text)

    def open_page(url: str, *, wait: bool = True, **options: Any) -> Any:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", told)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append((url, request.url)))
        page.goto(url)
        if wait:
            page.wait_for_selector(".model")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
    assert [address for url, address in asked if not address.startswith((url, "data:", "blob:"))] == []


def says(page: Any, where: str, pattern: str) -> None:
    """Wait until an element's text has a pattern; by Playwright's own loop, for the page lets nobody run text in it."""
    playwright.expect(page.locator(where)).to_contain_text(re.compile(pattern), timeout=PATIENCE)


def draw(page: Any, text: str, formula: str) -> None:
    """Put text into the field, and wait until its structure is drawn."""
    page.fill("#text", text)
    page.wait_for_selector(f"canvas[aria-label*='{formula}']")


def choose(page: Any, *names: str) -> None:
    """Choose models."""
    for box in page.query_selector_all(".model input"):
        box.set_checked(box.input_value() in names)


def predict(page: Any) -> None:
    """Press the button, and wait for the end."""
    page.click("#predict")
    says(page, "#status", r" s\.$")


def card(page: Any, name: str) -> str:
    """Return what stands in the card of a model."""
    return str(page.inner_text(f"article[aria-label='{name}']"))


def picture(page: Any) -> list[int]:
    """Return how many of the drawing's points have which colour, coarsely, the ground left out."""
    return page.evaluate(
        """() => {
            const canvas = document.getElementById('canvas');
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const counts = new Array(512).fill(0);
            for (let i = 0; i < data.length; i += 4) {
                if (data[i + 3] > 200) counts[(data[i] >> 5) * 64 + (data[i + 1] >> 5) * 8 + (data[i + 2] >> 5)] += 1;
            }
            return counts;
        }"""
    )


def numbers(text: str) -> list[float]:
    """Return all numbers in a text."""
    found = re.findall(r"-?\d+(?:\.\d+)?(?:e[-\d]+)?", text.replace(",", "").replace(MINUS, "-"))
    return [float(number) for number in found]


def test_a_structure_is_drawn_and_predicted(opened: Open, url: str) -> None:
    """From text to error bars: the cards show what the client gets, and a structure's own words are no markup."""
    page = opened(url)
    assert sum(picture(page)) == 0
    draw(page, POSCAR, "CSi")
    assert sum(picture(page)) > 1000
    assert page.inner_text("#legend").split() == ["Si", "1", "Silicon", "C", "1", "Carbon"]
    assert "20.7 Å³" in page.inner_text("#cell")
    choose(page, "crystals", "committee")
    predict(page)
    assert page.query_selector("img") is None

    atoms = Atoms("SiC", scaled_positions=[[0, 0, 0], [0.25] * 3], cell=bulk("SiC", "zincblende", 4.36).cell, pbc=True)
    with Client(url) as client:
        (heads,) = client.predict([atoms], "crystals")
        (energies,) = client.predict([atoms], "committee")
    crystals, committee = card(page, "crystals"), card(page, "committee")
    gap, deviation = heads.properties["gap"][0], heads.deviations["gap"][0]
    value, error = numbers(crystals.partition("gap")[2])[:2]
    assert (value, error) == (pytest.approx(gap, abs=deviation / 10), pytest.approx(deviation, rel=0.05))
    low, high = heads.intervals["gap"][:, 0]
    told = numbers(re.search(r"90 % interval: (.*) eV", crystals)[1])[:2]
    assert told == [pytest.approx(low, abs=deviation / 10), pytest.approx(high, abs=deviation / 10)]
    for name, share in zip(["<= 0.1", "> 0.1"], heads.properties["metal"], strict=True):
        assert f"{name}\n{100 * share:.1f}" in crystals
    assert "With 90 % probability:" in crystals
    assert "Si in 100, C in 100 of 100 training structures" in crystals
    assert "100 training labels" in crystals
    energy, error = numbers(committee.partition("energy per atom")[2])[:2]
    assert energy == pytest.approx(energies.energy / 2, abs=energies.energy_deviation / 10)
    assert error == pytest.approx(energies.energy_deviation / 2, rel=0.05)
    largest = np.linalg.norm(energies.forces, axis=1).max()
    assert numbers(committee.partition("largest force")[2])[0] == pytest.approx(largest, rel=0.1, abs=1e-10)
    assert page.locator("article[aria-label='crystals'] svg.strip rect.bars").count() > 10


def test_an_axis_of_a_logarithm_stays_one_where_the_error_bar_passes_zero(opened: Open, url: str) -> None:
    """Else the bars of labels over many decades would be one."""
    number = {"value": 5.0, "deviation": 6.0, "logarithmic": True, "known": {"min": 1.0, "max": 1e6}}
    axis = opened(url).evaluate("async (number) => (await import('/static/strip.js')).axisOf([number])", number)
    assert axis == pytest.approx([1 / 1.1, 1.1e6, True])


def test_the_session_is_taken_away_with_every_digit(opened: Open, url: str) -> None:
    """CSV and JSON have the columns of `kimgnn predict`, the model's name, and the numbers of the client, exactly."""
    page = opened(url)
    choose(page, "crystals", "committee")
    draw(page, POSCAR, "CSi")
    predict(page)
    draw(page, CIF, "CSi, 2 atoms, cell of 3.10")
    choose(page, "committee")
    predict(page)
    files = {}
    for kind in ("csv", "json"):
        with page.expect_download() as download:
            page.click(f"#{kind}")
        files[kind] = Path(download.value.path()).read_text(encoding="utf-8")
        assert download.value.suggested_filename == f"predictions.{kind}"
    rows = json.loads(files["json"])
    assert [(row["id"], row["model"]) for row in rows] == [
        ("pasted-1", "committee"), ("pasted-1", "crystals"), ("pasted-2", "committee"),
    ]  # fmt: skip
    told = list(csv.DictReader(io.StringIO(files["csv"])))
    for row, cells in zip(rows, told, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert float(cells[name]) == value
        assert (cells["id"], cells["formula"], cells["atoms"]) == (row["id"], "CSi", "2")
    body = {"model": "committee", "structures": [{"format": "cif", "data": CIF}]}
    with Client(url) as client:
        (result,) = client._ask("POST", "/predict", body)["results"]
    assert {name: rows[2][name] for name in result["columns"]} == result["columns"]
    assert page.locator("#table tbody tr").count() == 3
    page.click("#clear")
    assert not page.is_visible("#session")


def test_the_drawing_turns_by_mouse_and_keys(opened: Open, url: str) -> None:
    """And goes back to where it was."""
    page = opened(url)
    draw(page, CIF, "CSi")
    first = picture(page)
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 140)
    page.mouse.up()
    assert picture(page) != first
    page.keyboard.press("0")  # the press of the mouse has given it the keys
    assert picture(page) == first
    for key in ("ArrowLeft", "ArrowUp", "+"):
        page.keyboard.press(key)
        turned = picture(page)
        assert turned != first
        page.keyboard.press("0")
        assert picture(page) == first
    page.keyboard.press("+")
    assert sum(picture(page)) > sum(first)


def test_without_a_mouse(opened: Open, url: str) -> None:
    """Tab reaches everything in the order of reading, what has the keys can be seen, and Ctrl+Enter predicts."""
    page = opened(url)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.id || document.activeElement.tagName")
        if name in reached:
            break
        reached.append(name)
        assert name == "BODY" or page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", name
    expected = ["text", "choose", "example", "clear-input", "format", "canvas", "model-0", "model-1", "model-2"]
    assert [name for name in reached if name in (*expected, "predict")] == [*expected, "predict"]
    assert "BODY" in reached  # and out again: no trap
    page.focus("#text")
    page.keyboard.insert_text(CIF)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#results:not([hidden])")
    assert "CSi" in page.inner_text("#results-title")


def test_every_field_has_a_name(opened: Open, url: str) -> None:
    """Which a screen reader says."""
    page = opened(url)
    choose(page, "warm")
    for element in page.query_selector_all("input, select, textarea, button, canvas, [role=region]"):
        if element.is_visible():
            name = element.evaluate(
                "e => e.ariaLabel || e.textContent.trim() && e.tagName === 'BUTTON' || (e.labels && e.labels.length) "
                "|| document.getElementById(e.getAttribute('aria-labelledby'))?.textContent"
            )
            assert name, element.evaluate("e => e.outerHTML")


def test_what_cannot_be_read_is_told_beside_the_field(opened: Open, url: str) -> None:
    """What is wrong, how it was read, and where to change that; it goes when the text is mended."""
    page = opened(url)
    page.fill("#text", CIF.replace("C1 C 0.5", "C1 C abc"))
    page.wait_for_selector("#input-problem .problem")
    told = page.inner_text("#input-problem")
    assert "pasted-1" in told
    assert "It was read as CIF. If it is not, choose its format." in told
    assert page.get_attribute("#text", "aria-invalid") == "true"
    page.click("#predict")
    page.wait_for_selector("#predict-problem .problem")
    assert "below the text field" in page.inner_text("#predict-problem")
    assert page.evaluate("document.activeElement.id") == "text"
    page.select_option("#format", "poscar")
    says(page, "#input-problem", "Give format cif")
    page.select_option("#format", "")
    draw(page, CIF, "CSi")
    assert page.inner_text("#input-problem") == ""
    assert page.get_attribute("#text", "aria-invalid") == "false"


def test_nothing_to_predict(opened: Open, url: str) -> None:
    """Says so, and what to do; without a model there is nothing to press."""
    page = opened(url)
    page.click("#predict")
    page.wait_for_selector("#predict-problem .problem")
    assert "There is no structure. Paste one" in page.inner_text("#predict-problem")
    choose(page)
    assert page.is_disabled("#predict")


def test_what_a_model_does_not_know(opened: Open, url: str) -> None:
    """An element of no training stops that model alone, and is told before; a composition far away is a warning."""
    page = opened(url)
    choose(page, "crystals", "committee")
    draw(page, GERMANIUM, "Ge2")
    assert page.locator(".model .warning").all_inner_texts() == ["Never saw Ge: it will refuse the structure."] * 2
    predict(page)
    assert "not trained on (got 'Ge')" in card(page, "crystals") or "not trained on (got Ge)" in card(page, "crystals")
    assert not page.is_visible("#session")
    draw(page, POSCAR.replace("Si C\n1 1", "C\n2"), "C2")
    assert page.locator(".model .warning").count() == 0
    predict(page)
    assert "composition is far from the training data" in page.inner_text("article[aria-label='crystals'] .warning")


def test_an_extrapolation_is_said_to_be_one(opened: Open, url: str, models: list[str]) -> None:
    """A value outside of all training labels."""
    page = opened(url)
    choose(page, "crystals")

    def answer(route: Any) -> None:
        result = {"id": "x", "formula": "CSi", "atoms": 2, "columns": {}, "warnings": []}
        prediction = {"properties": {"gap": [9.5]}, "intervals": {"gap": [["-inf"], ["inf"]]}}
        route.fulfill(json={"model": "crystals", "results": [result | {"prediction": prediction}]})

    page.route("**/predict", answer)
    draw(page, POSCAR, "CSi")
    predict(page)
    assert "Outside all labels of the training data" in card(page, "crystals")
    assert f"{MINUS}∞ to ∞ eV" in card(page, "crystals")


def test_states_are_asked_for(opened: Open, url: str) -> None:
    """Only while a model is chosen that needs them, with what is usual; a wrong one is told in the model's card."""
    page = opened(url)
    choose(page, "committee")
    assert page.inner_text("#states") == ""
    choose(page, "warm")
    assert page.input_value("#state-temperature") == "300"
    assert "trained at 300 ± 50" in page.inner_text("#states")
    draw(page, POSCAR, "CSi")
    predict(page)
    usual = numbers(card(page, "warm"))
    page.fill("#state-temperature", "450")
    page.select_option("#state-method", "HSE")
    predict(page)
    assert numbers(card(page, "warm")) != usual
    page.fill("#state-temperature", "warm")
    predict(page)
    assert "temperature" in page.inner_text("article[aria-label='warm'] .problem")


def test_files_are_dropped(opened: Open, url: str) -> None:
    """Several at once, in several formats: each is read by its name, a bad one is told and stops no other."""
    page = opened(url)
    files = {
        "a.cif": CIF,
        "POSCAR": POSCAR,
        "<b>.cif": "data_nothing",
        "two.xyz": "1\nLattice='4 0 0 0 4 0 0 0 4' pbc='T T T'\nSi 0 0 0\n1\npbc='F F F'\nC 0 0 0\n",
        "s.json": json.dumps({"numbers": [14], "positions": [[0, 0, 0]], "pbc": [False] * 3}),
    }
    page.evaluate(
        """files => {
            const data = new DataTransfer();
            for (const [name, text] of Object.entries(files)) data.items.add(new File([text], name));
            const drop = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
            document.getElementById('text').dispatchEvent(drop);
        }""",
        files,
    )
    page.wait_for_selector("#which:not([hidden])")
    names = page.locator("#which option").all_inner_texts()
    assert names == ["a.cif (CSi)", "POSCAR (CSi)", "two.xyz:0 (Si)", "two.xyz:1 (C)", "s.json (Si)"]
    assert page.inner_text("#input-problem").startswith("<b>.cif: ")
    page.select_option("#which", label="two.xyz:1 (C)")
    assert "periodic in 0 directions" in page.inner_text("#cell")
    choose(page, "committee")
    predict(page)
    assert page.locator("#table tbody tr").count() == 5
    assert "two.xyz:1" in page.inner_text("#results-title")
    assert "1 atom" in page.inner_text("#cell")


def test_files_are_chosen(opened: Open, url: str, tmp_path: Path) -> None:
    """One file's text can be edited."""
    (tmp_path / "x.cif").write_text(CIF)
    page = opened(url)
    with page.expect_file_chooser() as chooser:
        page.click("#choose")
    chooser.value.set_files(tmp_path / "x.cif")
    page.wait_for_selector("canvas[aria-label*='CSi']")
    assert page.input_value("#text") == CIF
    draw(page, CIF.replace("C1 C", "Si2 Si"), "Si2")


def test_many_structures_go_in_parts_and_can_be_stopped(opened: Open, url: str) -> None:
    """32 at a time; what is done stays."""
    page = opened(url)
    frame = "2\nLattice='3 0 0 0 3 0 0 0 3' pbc='T T T'\nSi 0 0 0\nC 1.5 1.5 {}\n"
    text = "".join(frame.format(1.4 + 0.001 * place) for place in range(70))
    choose(page, "committee")
    draw(page, text, "CSi")
    sizes = []

    def count(route: Any) -> None:
        sizes.append(len(route.request.post_data_json["structures"]))
        if len(sizes) == 5:
            page.click("#stop")
            route.abort()
        else:
            route.continue_()

    page.route("**/predict", count)
    predict(page)
    assert sizes == [32, 32, 6]
    assert "70 structures, 1 model" in page.inner_text("#status")
    page.click("#predict")
    says(page, "#status", "^Stopped")
    assert page.inner_text("#status") == "Stopped after 32."
    assert "102 predictions" in page.inner_text("#session-count")


def test_a_busy_service_is_waited_for(opened: Open, url: str) -> None:
    """As long as it says, which the reader is told."""
    page = opened(url)
    draw(page, CIF, "CSi")
    choose(page, "committee")
    refused = []

    def busy(route: Any) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(1)
            error = {"error": {"message": "the queue is full", "problems": []}}
            route.fulfill(status=429, headers={"Retry-After": "1"}, json=error)

    page.route("**/predict", busy)
    page.click("#predict")
    says(page, "#status", "trying again in 1 s")
    page.wait_for_selector("#results:not([hidden])")


def test_a_service_that_ends(opened: Open, models: list[str], tmp_path: Path) -> None:
    """Is told, with what to do, and the page can be used on when it is back."""
    with serving(tmp_path, models[0]) as url:
        page = opened(url)
        draw(page, CIF, "CSi")
    page.route("**/*", lambda route: route.abort())  # Chromium's own message names the address, not what failed
    page.click("#predict")
    page.wait_for_selector("#predict-problem .problem")
    assert "the server cannot be reached. Is `kimgnn serve` still running?" in page.inner_text("#predict-problem")
    assert page.is_enabled("#predict")


def test_a_key_is_asked_for(opened: Open, models: list[str], tmp_path: Path) -> None:
    """A wrong one is told; the right one is kept for the tab, across a reload."""
    with serving(tmp_path, models[0], key=KEY) as url:
        page = opened(url, wait=False)
        page.wait_for_selector("#key-form:not([hidden])")
        assert page.inner_text("#key-problem") == ""
        assert page.evaluate("document.activeElement.id") == "key"
        page.keyboard.type("a wrong one")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-problem .problem")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector(".model")
        assert not page.is_visible("#key-form")
        page.reload()
        page.wait_for_selector(".model")
        draw(page, CIF, "CSi")
        predict(page)
        assert KEY not in page.content()


CONTRAST = """() => {
    const channels = color => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const linear = [r, g, b].map(c => c / 255).map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const ground = element => {
        for (let at = element; at; at = at.parentElement) {
            const color = channels(getComputedStyle(at).backgroundColor);
            if (color.length === 3 || color[3] > 0) return light(color);
        }
        return 1;
    };
    const low = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility() || element.disabled) continue;
        const [a, b] = [light(channels(getComputedStyle(element).color)), ground(element)];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${node.data}`);
    }
    return low;
}"""
"""Texts with less contrast than WCAG 2 asks for (AA, 4.5)."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_everything_can_be_read(scheme: str, width: int, opened: Open, url: str) -> None:
    """By day and by night, on a phone and on a desk: contrast, and nothing that sticks out."""
    page = opened(url, color_scheme=scheme, viewport={"width": width, "height": 800})
    page.fill("#text", "nonsense")
    page.wait_for_selector("#input-problem .problem")
    draw(page, GERMANIUM, "Ge2")
    predict(page)
    draw(page, POSCAR, "CSi")
    page.fill("#state-temperature", "cold")
    predict(page)
    for details in page.query_selector_all("details"):
        details.evaluate("e => { e.open = true; }")
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_trusts_nothing(url: str) -> None:
    """It takes scripts and styles from its own host alone, none that stand in it, and no other page shows it inside."""
    import httpx

    for path in ("/", "/static/app.js", "/static/style.css"):
        response = httpx.get(url + path)
        assert response.status_code == 200
        policy = response.headers["Content-Security-Policy"]
        for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
            assert rule in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", response.text)
