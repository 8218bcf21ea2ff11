"""Every text is there in every language, with the same placeholders, in the form that gettext reads."""

from __future__ import annotations

import gettext
import io
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from translations import catalogues, po
from translations.spoken import ENGLISH, LANGUAGES

OTHERS = sorted(LANGUAGES.keys() - {ENGLISH})
DOMAINS = ("django", "manifest_summary", "error_catalogue", "site_agent")


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated(tool: ModuleType, domain: str, language: str) -> None:
    """`make messages` puts the missing ones into the catalogue; CONTRIBUTING.md says how to go on."""
    assert set(tool.DOMAINS) == set(DOMAINS)
    found = tool.faults(domain, language)
    assert not found, "\n".join([f"{len(found)} texts; make messages, then translate:", *found[:40]])


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_stands_as_the_tool_writes_it(tool: ModuleType, domain: str, language: str) -> None:
    """So two people who change it meet only where they change the same text."""
    path = catalogues.path(domain, language)
    assert path.read_text("utf-8") == po.write(tool.merged(domain, language))


@pytest.mark.parametrize(
    ("catalogue", "fault"),
    [
        ('msgid "%(n)d rows"\nmsgstr "%(n)d Zeilen"\n', ""),
        ('msgid "%(n)d rows"\nmsgstr ""\n', "untranslated"),
        ('#, fuzzy\nmsgid "%(n)d rows"\nmsgstr "%(n)d Zeilen"\n', "fuzzy"),
        ('msgid "%(n)d rows"\nmsgstr "%(m)d Zeilen"\n', "other placeholders"),
        ('msgid "%(n)d rows"\nmsgstr "Zeilen"\n', "other placeholders"),
        ('msgid "%(n)d rows"\nmsgstr "%(n)d Zeilen\\n"\n', "other placeholders"),
        ("", "untranslated"),
        ('msgid "%(n)d rows"\nmsgstr "%(n)d Zeilen"\n\nmsgid "old"\nmsgstr "alt"\n', "gone"),
    ],
)
def test_a_text_that_is_missing_or_wrong_is_found(
    tool: ModuleType, catalogue: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "texts", lambda _domain: [po.CatalogueMessage("%(n)d rows")])
    monkeypatch.setattr(catalogues, "LOCALE", tmp_path)
    path = catalogues.path("django", "de")
    path.parent.mkdir(parents=True)
    path.write_text(catalogue)
    found = tool.faults("django", "de")
    assert all(fault in line for line in found) and bool(found) == bool(fault)


def test_a_plural_needs_both_forms(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = po.CatalogueMessage("%(n)d row", "%(n)d rows", said=("%(n)d Zeile", ""))
    monkeypatch.setattr(tool, "texts", lambda _domain: [message])
    monkeypatch.setattr(catalogues, "LOCALE", tmp_path)
    path = catalogues.path("django", "de")
    path.parent.mkdir(parents=True)
    path.write_text(po.write([message]))
    assert tool.faults("django", "de")
    path.write_text(po.write([message._replace(said=("eine Zeile", "%(n)d Zeilen"))]))
    assert tool.faults("django", "de"), "one of them lacks the number"
    path.write_text(po.write([message._replace(said=("%(n)d Zeile", "%(n)d Zeilen"))]))
    assert not tool.faults("django", "de")


def test_the_search_finds_texts_of_code_and_templates(tool: ModuleType) -> None:
    code = (
        '_("one")\nngettext("a", "b", n)\npgettext("verb", "open")\n_("two " "parts")\n_(known)\nother("x")\n'
    )
    assert [(m.context, m.text, m.plural) for m in tool.in_code(code, "here")] == [
        ("", "one", ""), ("", "a", "b"), ("verb", "open", ""), ("", "two parts", ""),
    ]  # fmt: skip
    page = (
        "{% load i18n %}{% translate 'Hello' %}{% translate \"Open\" context 'verb' %}"
        "{% blocktranslate count n=n %}one{% plural %}{{ n }} of them{% endblocktranslate %}"
        '{% include "x" with a=_("inside") %}'
    )
    assert {(m.context, m.text, m.plural) for m in tool.in_template(page, "here")} == {
        ("", "Hello", ""), ("verb", "Open", ""), ("", "one", "%(n)s of them"), ("", "inside", ""),
    }  # fmt: skip


def test_a_text_made_at_run_time_is_refused(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="no literal"):
        list(tool.in_code('_(f"{n} rows")', "here"))


AWKWARD = [
    po.CatalogueMessage('with "quotes" and \\', said=("mit „Gänsefüßchen“ und \\ \n Zeilen",)),
    po.CatalogueMessage("%(n)d row", "%(n)d rows", said=("%(n)d Zeile", "%(n)d Zeilen")),
    po.CatalogueMessage("Open", context="verb", said=("Öffnen",)),
    po.CatalogueMessage("Open", said=("Offen",)),
]


def test_what_is_written_is_read_again_and_gettext_understands_it() -> None:
    assert sorted(po.read(po.write(AWKWARD))) == sorted(AWKWARD)
    spoken = gettext.GNUTranslations(io.BytesIO(po.compiled(AWKWARD)))
    assert spoken.gettext(AWKWARD[0].text) == AWKWARD[0].said[0]
    assert [spoken.ngettext("%(n)d row", "%(n)d rows", n) for n in (0, 1, 2)] == [
        "%(n)d Zeilen", "%(n)d Zeile", "%(n)d Zeilen",
    ]  # fmt: skip
    assert (spoken.pgettext("verb", "Open"), spoken.gettext("Open")) == ("Öffnen", "Offen")


def test_a_fuzzy_or_half_a_translation_is_not_shown() -> None:
    spoken = gettext.GNUTranslations(
        io.BytesIO(
            po.compiled(
                [
                    po.CatalogueMessage("a", said=("b",), fuzzy=True),
                    po.CatalogueMessage("c", "d", said=("e", "")),
                ]
            )
        )
    )
    assert spoken.gettext("a") == "a" and spoken.ngettext("c", "d", 1) == "c"


@pytest.mark.skipif(not shutil.which("msgfmt"), reason="gettext's own tools are not installed")
@pytest.mark.parametrize("domain", DOMAINS)
def test_gettexts_own_compiler_agrees(domain: str, tmp_path: Path) -> None:
    path, made = catalogues.path(domain, "de"), tmp_path / "its.mo"
    subprocess.run(["msgfmt", "--check-format", "--check-domain", "-o", made, path], check=True)
    its = gettext.GNUTranslations(io.BytesIO(made.read_bytes()))
    ours = gettext.GNUTranslations(io.BytesIO(po.compiled(po.read(path.read_text("utf-8")))))
    for message in po.read(path.read_text("utf-8")):
        if message.plural:
            assert its.ngettext(message.text, message.plural, 2) == ours.ngettext(
                message.text, message.plural, 2
            )
        elif not message.context:
            assert its.gettext(message.text) == ours.gettext(message.text)


def test_django_reads_a_catalogue_under_the_name_of_its_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed text is never shown from an older file, and two versions of FedSlice can share a folder."""
    monkeypatch.setattr(catalogues, "LOCALE", tmp_path / "locale")
    path = catalogues.path("django", "de")
    path.parent.mkdir(parents=True)
    found = []
    for said in ("alt", "neu"):
        path.write_text(po.write([po.CatalogueMessage("a", said=(said,))]))
        folder = catalogues.for_django(tmp_path / "state")
        assert catalogues.for_django(tmp_path / "state") == folder
        made = folder / "de" / "LC_MESSAGES" / "django.mo"
        found.append((folder, gettext.GNUTranslations(io.BytesIO(made.read_bytes())).gettext("a")))
    assert [said for _folder, said in found] == ["alt", "neu"] and found[0][0] != found[1][0]
