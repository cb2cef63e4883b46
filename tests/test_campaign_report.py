"""The page of a campaign is whole, honest, works offline, and survives whatever a campaign may hold."""

import io
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import HUNG
from PIL import Image

from sciwm.core.frame import Frame
from sciwm.core.molecules import frame_from_smiles
from sciwm.discovery.analysis import scorecard
from sciwm.discovery.problem.hypothesis import (
    Candidate,
    Failure,
    Hypothesis,
    Measurement,
    Prediction,
    verdict_of,
)
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.report.campaign import cards, drawings, geometries
from sciwm.report.campaign.amounts import Amounts
from sciwm.report.campaign.record import CampaignRecord, ModelCard
from sciwm.report.campaign.report import write_campaign_report
from sciwm.report.live import LiveView, round_line

UNITS = {"electron_affinity": "eV", "solvation_energy": "kcal/mol"}

CORES = ("O=C1C={0}C(=O)C={1}C1", "O=C1C=CC(=O)c2cc({0})c({1})cc12", "N#Cc1c({0})cc({1})cc1C#N")
GROUPS = ("F", "Cl", "C", "OC", "C#N", "C(F)(F)F", "[N+](=O)[O-]", "N(C)C", "C(=O)O", "S(C)(=O)=O")

HOSTILE = '<script>document.title = "owned"</script> & "quoted"'


def molecules():
    """Distinct substituted quinones and nitriles, in a fixed order."""
    return [
        core.format(first, second)
        for k, first in enumerate(GROUPS)
        for second in GROUPS[k:]
        for core in ("O=C1C=C({0})C(=O)C=C1{1}", *CORES[1:])
    ]


def gain(smiles, values):
    return values["electron_affinity"][..., None]


def trade(smiles, values):
    return np.stack([values["electron_affinity"], -values["solvation_energy"]], axis=-1)


def made_up(count=60, goals=1, seed=0, rounds=5):
    """Hypotheses of a campaign whose model is right about its errors and gets better with time.

    A few are rejected, a few fail, a sixth are controls, and one in twenty predictions is far off.
    """
    rng = np.random.default_rng(seed)
    names = list(UNITS)[:goals]
    merit = gain if goals == 1 else trade
    pool = molecules()
    found = []
    for k in range(count):
        number = k * rounds // count
        control = k % 6 == 5
        smiles = pool[k] if k < len(pool) else f"{'C' * (k // 50)}OC{'N' * (k % 50)}"
        candidate = Candidate(
            smiles,
            ("library", "genetic", "fragments", "selfies edits")[int(rng.integers(4))],
            tuple(pool[int(j)] for j in rng.integers(0, 10, size=0 if number == 0 else 2)),
        )
        truth = rng.normal([2.6 if control else 2.7 + 0.12 * number, -12.0], [0.35, 3.0])
        spread = np.array([0.25, 2.2]) / (1 + 0.3 * number)
        mean = truth + rng.normal(size=2) * spread * (3.0 if k % 20 == 7 else 1.0)
        predictions = {
            name: Prediction(
                float(mean[j]), float(0.8 * spread[j]),
                float(mean[j] - 1.645 * spread[j]), float(mean[j] + 1.645 * spread[j]),
                "a pair of atoms closer than any in training" if k % 20 == 7 else None,
            )
            for j, name in enumerate(names)
        }  # fmt: skip
        score = tuple(
            merit([smiles], {n: np.array(p.mean) for n, p in predictions.items()}).tolist()
        )
        one = Hypothesis(
            candidate, number, "control" if control else "chosen",
            "drawn at random" if control else "upper confidence bound 3.1, unlike the others",
            f"gp-{number}", predictions, score,
        )  # fmt: skip
        if k % 11 == 3:
            reason = "SA score 6.1 above 4.5" if k % 2 else "PAINS alert quinone_A(370)"
            failure = Failure("gate", reason)
            one = replace(one, decision="rejected", why=reason, failure=failure, predictions={})
        elif k % 13 == 4:
            failure = Failure("calculation", "the self-consistent cycle did not converge in 250")
            one = replace(one, failure=failure, cost=float(rng.uniform(1, 9)))
        else:
            measurements = {n: Measurement(float(truth[j])) for j, n in enumerate(names)}
            values = {n: np.array(m.value) for n, m in measurements.items()}
            one = replace(
                one, measurements=measurements, measured_score=tuple(merit([smiles], values).tolist()),
                cost=float(rng.uniform(1, 9)), verdict=verdict_of(predictions, measurements),
            )  # fmt: skip
        found.append(one)
    return found


def record_of(hypotheses, number=1, **more):
    names = list(UNITS)[:number]
    best = scorecard.ranked(hypotheses)[:3]
    texts = ["maximize electron_affinity", "minimize solvation_energy"][:number]
    entries = {
        "name": "quinones",
        "objective": "; ".join(texts),
        "goals": texts,
        "units": {name: UNITS[name] for name in names},
        "merit": gain if number == 1 else trade,
        "hypotheses": hypotheses,
        "budget_calls": 120,
        "budget_seconds": 900.0,
        "baselines": {
            "random": [(float(k), 2.6 + 0.2 * math.log(k)) for k in range(1, 60)],
            "genetic algorithm": [(float(k), 2.6 + 0.26 * math.log(k)) for k in range(1, 60)],
        },
        "model_cost": dict.fromkeys(names, 0.0021),
        "reference_cost": dict.fromkeys(names, 4.7),
        "geometries": {h.candidate.smiles: frame_from_smiles(h.candidate.smiles) for h in best},
        "models": [
            ModelCard(
                f"gp-{k}", k != 3, dict.fromkeys(names, 0.3 - 0.03 * k), 10 * k + 10,
                "error on the last round grew from 0.21 to 0.24" if k == 3 else "error fell",
            )
            for k in range(5)
        ],
    }  # fmt: skip
    return CampaignRecord(**(entries | more))


class Anatomy(HTMLParser):
    """Unbalanced tags of a page, the scripts it runs, and the text it shows."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "hr"})

    def __init__(self, html):
        super().__init__()
        self.open, self.faults, self.scripts, self.text = [], [], 0, []
        self.feed(html)
        self.faults += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        kinds = dict(attributes)
        self.scripts += tag == "script" and kinds.get("type") != "application/json"

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes what is not open")

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def written(record, tmp_path):
    return write_campaign_report(record, tmp_path / "campaign.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_campaign_report(
        record_of(made_up()), tmp_path_factory.mktemp("campaign") / "page.html"
    )


# What the page says


def test_the_page_is_well_formed_and_names_nothing_outside_itself(page):
    html = page.read_text()
    assert Anatomy(html).faults == []
    assert re.findall(r"\b(?:https?|ftp|wss?):[^\s\"'<]*", html) == []
    assert "@import" not in html


def test_the_same_campaign_gives_the_same_page(page, tmp_path):
    assert written(record_of(made_up()), tmp_path) == page.read_text()
    assert written(record_of(made_up(seed=1)), tmp_path) != page.read_text()


def test_the_page_states_the_numbers_of_the_scorecard(page):
    found, text = made_up(), " ".join(Anatomy(page.read_text()).text)
    best = scorecard.ranked(found)[0]
    covered = scorecard.coverage(found, ["electron_affinity"])
    assert f"{best.measurements['electron_affinity'].value:.2f} eV" in text
    assert f"{100 * covered.value:.0f} %" in text
    assert f"{100 * covered.low:.0f} to {100 * covered.high:.0f} %, n = {covered.trials}" in text
    assert "hits" in text
    assert f"{len(scorecard.paid(found))} of 120" in text
    assert "did not converge" in text
    assert "2,238" in text  # reference over model


def test_every_section_is_there(page):
    headings = re.findall(r"<h2>(.*?)</h2>", page.read_text())
    assert headings == [
        "Best candidates", "Their structures", "Predicted against measured", "Calibration",
        "Progress", "What failed, and where", "Cost of one outcome", "What each proposer earned",
        "Models", "All measured hypotheses",
    ]  # fmt: skip


def test_two_goals_have_a_front(tmp_path):
    html = written(record_of(made_up(goals=2), number=2), tmp_path)
    assert "<h2>Pareto front</h2>" in html
    assert Anatomy(html).faults == []


def test_text_of_others_cannot_become_markup(tmp_path):
    found = made_up(30)
    found[0] = replace(
        found[0], candidate=Candidate(HOSTILE, HOSTILE, (HOSTILE,)), why=HOSTILE, model=HOSTILE,
        failure=Failure("worker", HOSTILE),
        predictions={"electron_affinity": Prediction(1, 1, 0, 9, HOSTILE)},
    )  # fmt: skip
    record = record_of(
        found, name=HOSTILE, objective=HOSTILE, goals=[HOSTILE],
        models=[ModelCard(HOSTILE, True, {HOSTILE: 1.0}, 1, HOSTILE)],
        baselines={HOSTILE: [(1.0, 1.0)]},
        geometries={HOSTILE: Frame(np.array([8]), np.zeros((1, 3)))},
    )  # fmt: skip
    html = written(record, tmp_path)
    plain = written(record_of(made_up(30)), tmp_path)
    assert Anatomy(html).faults == []
    assert Anatomy(html).scripts == Anatomy(plain).scripts
    assert html.count("<script>document") == 0
    assert HOSTILE in unescape(html)


def test_the_anatomy_finds_markup_that_was_not_escaped(page):
    broken = page.read_text().replace("did not converge", HOSTILE, 1)
    assert Anatomy(broken).scripts > Anatomy(page.read_text()).scripts


def failures_only():
    return [
        replace(h, failure=Failure("embedding", "no structure"), measurements={}, measured_score=())
        for h in made_up(12)
    ]


def boundless():
    """Intervals that are unknown or have no end, and values that are not finite."""
    odd = [
        Prediction(2.0, 1.0, -math.inf, math.inf),
        Prediction(2.0, math.inf, -math.inf, 3.0),
        Prediction(math.nan, math.nan, math.nan, math.nan),
        Prediction(2.0, 0.0, 2.0, 2.0),
    ]
    return [
        replace(h, predictions={"electron_affinity": odd[k % 4]}, score=(math.nan,))
        for k, h in enumerate(made_up(24))
        if h.measurements
    ]


def unmeasurable():
    return [
        replace(
            h, measurements={"electron_affinity": Measurement(math.nan)}, measured_score=(math.nan,)
        )
        for h in made_up(12)
    ]


@pytest.mark.parametrize(
    "hypotheses",
    [
        [],
        made_up(1, rounds=1),
        made_up(12, rounds=1),
        failures_only(),
        boundless(),
        unmeasurable(),
        [replace(h, predictions={}, score=()) for h in made_up(12)],
        [replace(h, decision="control") for h in made_up(12)],
        [replace(h, cost=0.0) for h in made_up(12)],
    ],
    ids=["empty", "single", "one round", "failures", "boundless", "unmeasurable", "unpredicted",
         "controls", "free"],
)  # fmt: skip
def test_any_campaign_has_a_page_without_empty_figures(hypotheses, tmp_path):
    html = written(record_of(hypotheses, models=[], baselines={}), tmp_path)
    assert Anatomy(html).faults == []
    assert not re.search(r">\s*(nan|inf|-inf)\b", html)
    assert len(re.findall(r"<h2>", html)) >= 10
    for section in re.findall(r"<section>.*?</section>", html, re.DOTALL):
        assert any(sign in section for sign in ("<p", "<table", "<svg", "<canvas", "<img"))


def test_two_goals_with_nothing_measured_have_a_page(tmp_path):
    assert Anatomy(written(record_of([], number=2), tmp_path)).faults == []


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return written(record_of(made_up(2000)), tmp_path_factory.mktemp("large"))


def test_two_thousand_hypotheses_make_a_page_of_moderate_size(large):
    assert large.count("<tr>") > 1500
    assert len(large) < 4_000_000


# Its parts


def test_formulas_are_drawn_alike_every_time_and_carry_no_addresses():
    first = drawings.formula("CC(=O)Oc1ccccc1C(=O)O")
    assert first == drawings.formula("CC(=O)Oc1ccccc1C(=O)O")
    assert first != drawings.formula("CC(=O)Oc1ccccc1C(=O)N")
    assert first.startswith("<svg ")
    assert "xmlns" not in first
    assert Anatomy(first).faults == []


@pytest.mark.parametrize("smiles", ["", "not a molecule", "C1CC", "CC.CC", "C" * 300])
def test_what_has_no_formula_gets_a_sentence(smiles):
    assert "no formula" in drawings.formula(smiles)


def test_an_interval_is_drawn_from_end_to_end_and_its_dot_tells_the_verdict():
    inside = drawings.interval(Prediction(5, 1, 4, 6), Measurement(5.5), 0, 10)
    assert '<rect x="40.00" width="20.00"' in inside
    assert 'x1="55.00" x2="55.00"' in inside
    assert drawings.GREEN in inside
    outside = drawings.interval(Prediction(5, 1, 4, 6), Measurement(9.0), 0, 10)
    assert drawings.ORANGE in outside


def test_a_structure_turns_once_around_without_changing_shape_or_hand():
    frame = frame_from_smiles("C[C@H](N)C(=O)O")
    motion = geometries.turning(frame)
    start = frame.positions - frame.positions[0]
    for places in motion.positions[:: geometries.TURN // 6]:
        here = places - places[0]
        assert np.allclose(here @ here.T, start @ start.T)
        assert np.linalg.det(here[1:4]) == pytest.approx(np.linalg.det(start[1:4]))
    widths = np.ptp(motion.positions[0], axis=0)
    assert widths[0] == widths.max()


def test_structures_that_are_not_finite_are_named_not_drawn():
    broken = Frame(np.array([6]), np.full((1, 3), math.nan))
    assert "No view of C" in geometries.gallery({"C": broken}, {"C": "1: C"})[0]


@pytest.mark.parametrize(
    ("prediction", "text"),
    [
        (Prediction(2.0, 1, 1.5, 2.5), "2.00 (1.50 to 2.50)"),
        (Prediction(2.0, 1, -math.inf, 2.5), "2.00 (below 2.50)"),
        (Prediction(2.0, 1, -math.inf, math.inf), "2.00 (no bounds)"),
        (Prediction(math.nan, 1, math.nan, math.nan), "- (interval unknown)"),
        (None, "-"),
    ],
)
def test_intervals_are_written_as_people_read_them(prediction, text):
    assert Amounts("eV", 2).predicted(prediction) == text


def test_values_have_two_digits_of_their_typical_interval():
    assert Amounts.of(made_up(), "electron_affinity", "eV").decimals == 2
    assert Amounts.of([], "electron_affinity", "eV").decimals == 2


def test_a_verdict_is_told_by_a_word_as_well_as_by_colour():
    refuted = replace(made_up(1)[0], verdict="refuted")
    assert "refuted" in cards.mark(refuted)
    assert "fail" in cards.mark(refuted)


# In a browser

POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">"
)
"""Forbids the browser to fetch anything, and makes it complain of every attempt."""

PROBE = """
<script>
const out = {};
const box = document.querySelector(".hypotheses");
const column = title => [...box.querySelectorAll("thead th")].findIndex(
  head => head.textContent.startsWith(title));
const cells = title => [...box.querySelectorAll("tbody tr")].map(row => row.cells[column(title)].textContent);
const click = title => box.querySelectorAll("thead button")[column(title)].click();
const input = box.querySelector("input");
const search = text => { input.value = text; input.dispatchEvent(new Event("input")); };
const shown = () => [...box.querySelectorAll("tbody tr")].filter(row => row.offsetHeight > 0);
out.rows = cells("place").length;
out.first = cells("place");
click("electron affinity"); out.rising = cells("electron affinity");
click("electron affinity"); out.falling = cells("electron affinity");
click("proposer"); out.words = cells("proposer");
const before = performance.now();
search("refuted"); out.refuted = shown().map(row => row.textContent.includes("refuted"));
search("nothing like this"); out.none = shown().length;
out.count = box.querySelector("output").textContent;
search(""); out.all = shown().length;
click("z"); out.milliseconds = performance.now() - before;
out.title = document.title;
out.wide = document.documentElement.scrollWidth - innerWidth;
out.resources = performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:"));
out.colours = [...document.querySelectorAll("canvas")].map(canvas => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
});
const result = document.createElement("pre");
result.id = "probe"; result.textContent = JSON.stringify(out); document.body.append(result);
</script>
"""


def browser():
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium or google-chrome on this machine to draw the page with")
    return found


def opened(path, folder, *options):
    """What a headless browser makes of a page, and what its console says."""
    done = subprocess.run(
        [
            browser(), "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-background-networking", "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1100,1400", *options, path.as_uri(),
        ],
        capture_output=True, timeout=HUNG, check=True, text=True, errors="replace",
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probed(html, folder):
    """The page under a policy that forbids every request, with its table searched and sorted."""
    path = folder / "probed.html"
    html = html.replace("<head>", f"<head>{POLICY}", 1).replace("</body>", f"{PROBE}</body>", 1)
    path.write_text(html, encoding="utf-8")
    text, complaints = opened(path, folder, "--dump-dom")
    found = re.search(r'<pre id="probe">(.*?)</pre>', text, re.DOTALL)
    return json.loads(unescape(found[1])) if found else {}, complaints


@pytest.fixture(scope="module")
def seen(page, tmp_path_factory):
    return probed(page.read_text(), tmp_path_factory.mktemp("browser"))


@pytest.mark.browser
def test_a_browser_has_nothing_to_complain_about_and_nothing_to_fetch(seen):
    found, complaints = seen
    assert complaints == []
    assert found["resources"] == []
    assert found["title"] == "What the campaign quinones found"
    assert found["wide"] <= 0  # no sideways scrolling


def test_the_table_is_sorted_by_a_click_and_back_by_another(seen):
    found, _ = seen
    values = [float(text) for text in found["rising"]]
    assert len(values) == found["rows"] == len([h for h in made_up() if h.measurements])
    assert values == sorted(values)
    assert [float(text) for text in found["falling"]] == sorted(values, reverse=True)
    assert found["words"] == sorted(found["words"])
    assert found["first"] == [str(k) for k in range(1, found["rows"] + 1)]


def test_the_table_is_searched(seen):
    found, _ = seen
    assert len(found["refuted"]) == sum(h.verdict == "refuted" for h in made_up())
    assert all(found["refuted"])
    assert found["none"] == 0
    assert found["count"] == f"0 of {found['rows']} shown"
    assert found["all"] == found["rows"]


def test_every_structure_is_drawn(seen):
    found, _ = seen
    assert len(found["colours"]) == 3
    assert min(found["colours"]) > 20


def test_the_browser_checks_find_a_broken_script_a_request_and_an_empty_view(page, tmp_path):
    html = page.read_text().replace("function draw() {", "function draw() { lost();")
    html = html.replace("</body>", '<img src="https://example.invalid/x.png"></body>')
    found, complaints = probed(html, tmp_path)
    assert any("lost is not defined" in line for line in complaints)
    assert any("Content Security Policy" in line for line in complaints)
    assert max(found["colours"]) <= 1


def test_unknown_values_are_sorted_to_the_end(tmp_path):
    found = made_up(30)
    lost = next(k for k, h in enumerate(found) if h.measurements)
    found[lost] = replace(found[lost], predictions={})
    seen, complaints = probed(written(record_of(found), tmp_path), tmp_path)
    assert complaints == []
    assert seen["all"] == seen["rows"]


def test_a_table_of_two_thousand_rows_answers_at_once(large, tmp_path):
    found, complaints = probed(large, tmp_path)
    assert complaints == []
    assert found["rows"] > 1500
    assert found["milliseconds"] < 20_000  # half a second, were nothing else running


@pytest.mark.browser
def test_a_browser_draws_the_page(page, tmp_path):
    picture = tmp_path / "page.png"
    _, complaints = opened(page, tmp_path, f"--screenshot={picture}", "--virtual-time-budget=3000")
    assert complaints == []
    with Image.open(picture) as image:
        colours = np.asarray(image.convert("RGB")).astype(int)
    red, green, blue = np.moveaxis(colours, -1, 0)
    # Oxygen in formulas, and the dots of confirmed predictions.
    assert ((red > 230) & (green < 60) & (blue < 60)).sum() > 50
    assert ((red < 40) & (green > 140) & (blue > 90) & (blue < 140)).sum() > 50


# In the terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_round_has_one_line(capsys):
    found = made_up()
    view = LiveView(120, 900.0, UNITS)
    for number in range(5):
        for one in scorecard.paid([h for h in found if h.round == number]):
            view.measured(one)
        view.round_ended(number, [h for h in found if h.round <= number])
    view.close()
    printed = capsys.readouterr().err
    lines = printed.splitlines()
    assert len(lines) == 5
    assert "\r" not in printed
    assert re.fullmatch(
        r"round 4: 12 proposed, \d rejected by gates, \d+ measured, \d failed; "
        r"best \S+: electron_affinity [\d.]+ eV \(predicted [\d.]+ to [\d.]+\); "
        r"coverage \d+ % \(\d+ to \d+ %\)",
        lines[-1],
    )


def test_a_terminal_shows_the_budget_that_runs_out_first(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    found = scorecard.paid(made_up())
    seconds = sum(h.cost for h in found)
    with LiveView(len(found) * 4, 2 * seconds, UNITS) as view:
        for one in found:
            view.measured(one)
        view.round_ended(0, found)
    shown = terminal.getvalue()
    assert " 50 % of budget" in shown.split("\r")[-1]
    assert f"{len(found)}/{4 * len(found)} runs" in shown
    assert "round 0:" in shown


def test_a_resumed_campaign_has_spent_what_it_spent(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    found = scorecard.paid(made_up())
    LiveView(2 * len(found), 1e9, UNITS, before=found).close()
    assert " 50 % of budget" in terminal.getvalue()


def test_the_best_of_a_line_meets_the_requirements(capsys):
    found = made_up()
    best = scorecard.ranked(found)[0]
    limit = best.measurements["electron_affinity"].value - 0.001
    text = f"maximize electron_affinity; require electron_affinity < {limit} eV"
    for objective, named in ((None, True), (Objective.parse(text, UNITS), False)):
        with LiveView(120, 900.0, UNITS, objective=objective) as view:
            view.round_ended(0, found)
        assert (best.candidate.smiles in capsys.readouterr().err) == named


def test_an_empty_round_has_a_line_and_no_budget_is_refused():
    assert round_line(0, [], {}).startswith("round 0: 0 proposed")
    with pytest.raises(ValueError, match="total_calls=0"):
        LiveView(0, 10.0)
