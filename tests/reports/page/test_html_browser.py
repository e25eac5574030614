"""The page in a real browser: on a phone and a desk, light and dark, and on paper."""

from __future__ import annotations

import base64

import pytest

from tests.reports.examples import full, measured, partial, whole_report
from tests.reports.page.browser import CHROMIUM, browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]
LONG = "encoder/a_very_long_name_of_a_variant_that_has_no_place_to_break_" * 2
# The widest element that stands out of the page, if one does.
OUTSIDE = """(() => {
  const out = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1);
  return out.map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40));
})()"""


@pytest.fixture(scope="module")
def tab():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    reports = {
        "few": whole_report(variants=[measured("float32"), measured("int8")]),
        "many": whole_report(variants=[measured(f"trial-{i}-pruned-clustered-int8") for i in range(8)]),
        "long": whole_report(title=LONG, variants=[full(LONG), partial(f"{LONG}2")], command=f"tfgreen {LONG}"),
    }
    return {name: report.save(tmp_path_factory.mktemp(name))[1] for name, report in reports.items()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 800, 1000, 1200])
@pytest.mark.parametrize("name", ["few", "many", "long"])
def test_it_fits_logs_nothing_and_asks_for_nothing(tab, pages, name, width, scheme):
    tab.open(pages[name], width, scheme=scheme)
    tab.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.run("document.documentElement.scrollWidth") == width and tab.run(OUTSIDE) == []
    spoken = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in tab.events if event["method"] in spoken] == []
    asked = [e["params"]["request"]["url"] for e in tab.events if e["method"] == "Network.requestWillBeSent"]
    assert asked == [pages[name].resolve().as_uri()]
    assert tab.run("CSS.supports('selector(:is(a))') && document.styleSheets[0].cssRules.length") > 20


def light(color):
    red, green, blue = (int(part) for part in color[color.index("(") + 1 : -1].split(",")[:3])
    return red + green + blue > 3 * 128


@pytest.mark.parametrize("element", ["h1", "small", ".plot text", "td .value"])
def test_text_follows_the_colour_scheme(tab, pages, element):
    seen = {}
    for scheme in ("light", "dark"):
        tab.open(pages["few"], 1200, scheme=scheme)
        style = f"getComputedStyle(document.querySelector('{element}'))"
        ink = tab.run(f"{style}.{'fill' if 'text' in element else 'color'}")
        seen[scheme] = (light(tab.run("getComputedStyle(document.body).backgroundColor")), light(ink))
    assert seen == {"light": (True, False), "dark": (False, True)}


def test_a_footnote_is_found_though_it_is_folded(tab, pages):
    tab.open(pages["few"], 1200)
    assert tab.run("document.querySelector('#n2').checkVisibility({contentVisibilityAuto: true})") is False
    tab.run("document.querySelector('a[href=\"#n2\"]').click()")
    assert tab.run("document.querySelector('#n2').closest('details').open")


def test_on_paper_it_is_light_and_whole(tab, pages):
    tab.open(pages["few"], 794, scheme="dark", media="print")
    assert light(tab.run("getComputedStyle(document.body).backgroundColor"))
    assert tab.run("document.querySelector('#n2').getBoundingClientRect().height") > 5  # what is folded is printed
    assert tab.run("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
    paper = base64.b64decode(tab.ask("Page.printToPDF", printBackground=True)["data"])
    assert paper.startswith(b"%PDF") and 1 <= paper.count(b"/Type /Page\n") <= 12
