"""What a notebook shows of a result: small HTML in which no text is a tag, and nothing runs."""

import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest
from marks import once

import kvae
from kvae import evaluation, markup
from kvae.diagnosis import page

HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>\x1b[31m\u202e&amp;"
TAGS = set("div p strong small table thead tbody tr th td details summary img".split())
ATTRIBUTES = {"style", "scope", "src", "alt"}


class Read(html.parser.HTMLParser):
    """Reads HTML as a browser does: what is a tag, what is text, and what each cell says."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.rows, self.pictures = [], "", [], 0
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS, tag
        for name, value in attributes:
            assert name in ATTRIBUTES, (tag, name)
            if name == "src":
                assert value.startswith("data:image/png;base64,iVBOR")
                self.pictures += 1
            if name == "style":  # of the notebook's own colours, or one that suits all
                assert "background" not in value and "url" not in value
                assert "color" not in value or value.removeprefix("color: ") in (
                    page.ON_ANY.values()
                )
        if tag != "img":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def read(result):
    """What a notebook shows of a result."""
    text = result._repr_html_()
    assert "\x1b" not in text and "\u202e" not in text
    return Read(text)


def test_text_is_no_markup_unless_it_says_so():
    assert markup.marked("<b>") == "&lt;b&gt;" and markup.marked(markup.Markup("<b>")) == "<b>"
    assert markup.marked("'\"") == "&#x27;&quot;"
    shown = Read(markup.table([(HOSTILE, HOSTILE)], head=(HOSTILE, HOSTILE)))
    assert len(shown.rows) == 2 and "<script>alert(1)</script>" in shown.rows[0][0]
    Read(markup.section(HOSTILE, HOSTILE, notes=[HOSTILE]))
    Read(markup.folded(HOSTILE, HOSTILE))


def test_names_of_rows_and_columns_are_headings():
    text = markup.table([("KL", 1)], head=("figure", "nats"), numbers=True)
    assert text.count('<th scope="col"') == 2 and text.count('<th scope="row"') == 1
    assert 'text-align: right; vertical-align: top">1</td>' in text


def test_what_is_long_or_deep_is_cut():
    endless = {"a": 1}
    endless["self"] = endless
    assert len(markup.entries(endless)) < 20_000
    many = markup.entries({str(i): "x" for i in range(10_000)})
    assert "9,500 more" in many and len(Read(many).rows) == 501
    wide = markup.entries({str(i): {str(j): {"x": 0} for j in range(300)} for i in range(300)})
    assert len(Read(wide).rows) < 1_100
    assert len(markup.entries({"text": "x" * 10**6, "list": [0] * 10**6})) < 5_000


def contrast(color, other):
    """The ratio of the luminances of two colours, as WCAG 2 has it."""

    def luminance(text):
        parts = np.array([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(color), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("color", page.ON_ANY.values())
def test_colours_are_readable_in_light_and_in_dark(color):
    assert contrast(color, "#FFFFFF") > 4 and contrast(color, "#111111") > 4


@pytest.fixture(scope="module")
def hostile(make_vae, images):
    """A data set with a hostile name, and what is found of a model on it."""
    data = dataclasses.replace(kvae.data.from_arrays(images, name="bars"), name=HOSTILE)
    vae = make_vae(latent_dim=2, likelihood=kvae.Bernoulli("threshold"))
    return data, vae


@once
def test_a_diagnosis_shows_its_page(hostile):
    data, vae = hostile
    diagnosis = kvae.diagnose(vae, data, what=HOSTILE)
    shown = read(diagnosis)
    assert shown.pictures == 1 and diagnosis.verdict in shown.text
    assert "<script>alert(1)</script>" in shown.text
    assert [row[0] for row in shown.rows[1:]] == [one.name for one in diagnosis.findings]
    for row, finding in zip(shown.rows[1:], diagnosis.findings, strict=True):
        assert row[1:3] == [finding.severity, finding.seen]
        assert row[3] == (f"→ {finding.remedy}" if finding.remedy else "")
    assert repr(diagnosis).startswith("Diagnosis(what=")


def test_an_evaluation_shows_figures_with_errors_and_the_protocol(hostile):
    data, vae = hostile
    one = kvae.evaluate(vae, data, importance_samples=2, samples=0)
    other = kvae.evaluate(vae, data, importance_samples=3, samples=0)
    shown = read(one)
    bound = one.figures["bound"]
    expected = f"{-bound['elbo']:.2f} ± {bound['standard_error']['elbo']:.2f} nats per image"
    assert shown.rows[0] == ["−ELBO", expected]
    assert "Protocol: " in shown.text and "<script>alert(1)</script>" in shown.text
    assert "seed 0" in shown.text and "sha256" in shown.text

    found = kvae.compare(one, one)
    assert isinstance(found, dict) and repr(found) == repr(dict(found))
    assert json.loads(json.dumps(found)) == found
    assert read(found).rows[1:] == [
        ["−ELBO", "+0.000", "+0.000", "+0.000"],
        ["−log p(x)", "+0.000", "+0.000", "+0.000"],
    ]
    assert "the numbers of draws differ" in read(kvae.compare(one, other)).text
    fewer = kvae.evaluate(vae, data, images=1, importance_samples=2, samples=0)
    assert read(kvae.compare(fewer, fewer)).rows[1] == ["−ELBO", "+0.000", "", ""]
    assert "one is of" in read(kvae.compare(one, fewer)).text
    elsewhere = dataclasses.replace(one, protocol={**one.protocol, "observed_hash": "another"})
    assert "<script>alert(1)</script>" in read(kvae.compare(one, elsewhere)).text


def test_scores_show_each_image_and_the_mean(hostile):
    _, vae = hostile
    images = np.random.default_rng(0).integers(256, size=(30, 8, 8, 1)).astype("uint8")
    scores = vae.score(images, draws=2)
    shown = read(scores)
    assert shown.rows[0][0] == "image" and len(shown.rows) == 1 + 20 + 1 + 1
    assert shown.rows[3][:2] == ["2", f"{-scores.log_prob[2]:.2f}"]
    error = scores.log_prob.std(ddof=1) / np.sqrt(30)
    assert shown.rows[-1][:2] == ["mean", f"{-scores.log_prob.mean():.2f} ± {error:.2f}"]
    assert "2 draws of z" in shown.text
    assert len(read(vae.score(images[:1], draws=2)).rows) == 2


def test_outliers_and_factors_show_themselves(hostile):
    data, vae = hostile
    found = evaluation.outliers(vae, data, "train", count=25, draws=2)
    shown = read(found)
    assert shown.rows[1] == [str(found.indices[0]), f"{found.values[0]:.2f}"]
    assert "and 5 more" in shown.text and len(shown.rows) == 21
    labelled = dataclasses.replace(found, labels=np.arange(25))
    assert read(labelled).rows[3][2] == "2"
    codes = np.random.default_rng(0).integers(4, size=(200, 2))
    shown = read(evaluation.factors_of_codes(codes + 0.0, codes, [HOSTILE, "hue"], seeds=1))
    assert shown.rows[0][0] == "MIG" and "<script>alert(1)</script>" in shown.text


def test_an_export_shows_what_goes_in_and_comes_out():
    one = kvae.Exported(
        path=HOSTILE,
        format="onnx",
        part="vae",
        weights="int8",
        inputs={HOSTILE: [None, 4], "classes": [None, "int32"]},
        outputs={"images": [None, 8, 8, 1]},
        difference={"images": 3e-7},
        bytes=9_000,
        bytes_of_float32=20_000,
        nats=0.0214,
    )
    rows = read(one).rows
    assert ["output", "images (batch, 8, 8, 1); 3.0e-07 from the model's"] in rows
    assert ["input", "classes (batch, int32)"] in rows
    assert ["size", "9,000 bytes; with float32 weights 20,000"] in rows
    assert ["cost of the weights", "+0.021 nats per image"] in rows


def test_a_recipe_shows_first_what_differs_from_the_default():
    recipe = kvae.Recipe(beta=4, preset=HOSTILE, background=HOSTILE)
    shown = read(recipe)
    assert [row[0] for row in shown.rows[:3]] == ["preset", "beta", "background"]
    assert shown.rows[1][1] == "4.0" and "Weight of the KL term" in shown.rows[1][2]
    assert len(shown.rows) == len(recipe.as_dict())
    assert repr(recipe).startswith("Recipe(preset=")
    read(kvae.Recipe())
    for name in kvae.presets.PRESETS:
        read(kvae.presets.get(name))


def test_a_card_shows_itself_and_stays_a_dict(make_vae, tmp_path):
    card = {"dataset": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}, "recipe": kvae.Recipe().as_dict()}
    vae = make_vae(card=card)
    shown = read(vae.card)
    assert "<script>alert(1)</script>" in shown.text
    assert ["latent_dim", "3"] in shown.rows and ["beta", "None"] in shown.rows
    assert repr(vae.card) == repr(dict(vae.card))
    vae.card["by"] = HOSTILE
    vae.card |= {"more": 1}
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    assert again.card["more"] == 1 and "onerror" in read(again.card).text
    vae.card = {"own": object()}
    assert "object object at" in read(vae.card).text
    own = {"a": 1}
    vae.card = own
    own["a"] = 2
    assert vae.card["a"] == 1  # what the model has is its own


def test_every_public_result_shows_itself():
    results = ("Diagnosis", "Evaluation", "Explorer", "Exported", "Recipe", "Scores")
    results = [getattr(kvae, name) for name in results]
    results += [evaluation.Comparison, evaluation.Factors, evaluation.Outliers]
    for result in results:
        assert callable(getattr(result, "_repr_html_", None)), result


def test_nothing_that_is_shown_needs_a_script():
    text = markup.section("a", markup.folded("b", markup.entries({"c": {"d": 1}})))
    assert not re.search(r"script|http|onclick|class=", text)
