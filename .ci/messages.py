"""The catalogues of other languages against the texts of the code (`make messages`).

With --write each catalogue gets the texts that are new, untranslated, and loses those that are gone; without,
it ends with 1 where one is untranslated, fuzzy, gone, or translated with other placeholders.
`--missing DOMAIN` prints what is untranslated as JSON, `--merge DOMAIN FILE` puts translations of such a file
in: {English: German}, of a plural [one, many], of a text with a context "context\\u0004English".
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from translations import catalogues, po  # noqa: E402
from translations.spoken import ENGLISH, LANGUAGES  # noqa: E402

DOMAINS = {
    "django": ("frontend", "federation", "enclave_jobs"),
    "manifest_summary": ("manifest_summary",),
    "error_catalogue": (),
    "site_agent": ("site_agent",),
}
"""Of each catalogue the packages whose texts it holds. The errors' are the entries themselves."""
SINGLE = {"_", "_l", "gettext", "gettext_lazy", "gettext_noop", "marked"}
PLURAL = {"ngettext", "ngettext_lazy", "_ngettext"}
CONTEXT = {"pgettext", "pgettext_lazy"}
PLACEHOLDER = re.compile(r"%\(\w+\)[^a-zA-Z%]*[a-zA-Z]|%[sdgif]|%%|\{\w*(?:[!:][^}]*)?\}|<[^>]+>")


def texts(domain: str) -> list[po.CatalogueMessage]:
    """Every text of this catalogue's code, each once."""
    found: dict[tuple[str, str], po.CatalogueMessage] = {}
    for message in _errors() if domain == "error_catalogue" else _of_packages(DOMAINS[domain]):
        known = found.setdefault(message.key, message)
        if message.plural and not known.plural:
            found[message.key] = message
    return list(found.values())


def _errors() -> Iterator[po.CatalogueMessage]:
    from error_catalogue import CATALOGUE
    from error_catalogue.check_texts import TEMPLATES

    for entry in CATALOGUE.values():
        yield from (po.CatalogueMessage(text) for text in (entry.message, entry.hint) if text)
    yield from map(po.CatalogueMessage, TEMPLATES)


def _of_packages(packages: Iterable[str]) -> Iterator[po.CatalogueMessage]:
    for package in packages:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield from in_code(path.read_text("utf-8"), str(path))
        for kind in ("*.html", "*.txt"):
            for path in sorted((REPOSITORY / package).rglob(kind)):
                yield from in_template(path.read_text("utf-8"), str(path))


def in_code(source: str, where: str) -> Iterator[po.CatalogueMessage]:
    """Texts in calls of gettext's functions. A text that is no literal is a mistake."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        wanted = 1 if name in SINGLE else 2 if name in PLURAL | CONTEXT else 0
        if isinstance(node.func, ast.Attribute) and name in ("_", "_l"):
            wanted = 0
        if not wanted or len(node.args) < wanted:
            continue
        said = [arg.value for arg in node.args[:wanted] if isinstance(arg, ast.Constant)]
        if len(said) < wanted:
            if name == "_" and not isinstance(node.args[0], ast.JoinedStr):
                continue  # `_(known)`: a text that is marked where it stands
            raise ValueError(f"{where}:{node.lineno}: no literal in {name}()")
        yield _message(name, [str(text) for text in said])


def _message(name: str, said: list[str]) -> po.CatalogueMessage:
    if name in PLURAL:
        return po.CatalogueMessage(said[0], said[1], said=("", ""))
    return po.CatalogueMessage(said[1], context=said[0]) if name in CONTEXT else po.CatalogueMessage(said[0])


def in_template(source: str, where: str) -> Iterator[po.CatalogueMessage]:
    """Texts in Django's translation tags, as Django itself reads them."""
    _django()
    from django.utils.translation.template import templatize

    literal = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    call = re.compile(rf"\b(_|n?p?gettext)\(\s*{literal}(?:\s*,\s*{literal})?(?:\s*,\s*{literal})?", re.S)
    for found in call.finditer(templatize(source, origin=where)):
        said = [ast.literal_eval(text) for text in found.groups()[1:] if text]
        if found[1] == "npgettext":
            yield po.CatalogueMessage(said[1], said[2], said[0], said=("", ""))
        else:
            yield _message(found[1], said)


def _django() -> None:
    import django
    from django.apps import apps

    if not apps.ready:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "federation.settings")
        django.setup()


def kept(domain: str, language: str) -> dict[tuple[str, str], po.CatalogueMessage]:
    """What the catalogue holds; in the middle of a merge or rebase, what both sides hold."""
    path = catalogues.path(domain, language)
    source = path.read_text("utf-8") if path.exists() else ""
    sources = [source] if "<<<<<<<" not in source else [_staged(path, stage) for stage in (2, 3)]
    messages = [message for one in sources for message in po.read(one)]
    return {message.key: message for message in sorted(messages, key=lambda message: all(message.said))}


def _staged(path: Path, stage: int) -> str:
    name = path.relative_to(REPOSITORY).as_posix()
    git = ["git", "-C", str(REPOSITORY), "show", f":{stage}:{name}"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout  # noqa: S603


def merged(domain: str, language: str) -> list[po.CatalogueMessage]:
    """The code's texts with the catalogue's translations."""
    have, result = kept(domain, language), []
    for message in texts(domain):
        known = have.get(message.key)
        if known is not None and bool(known.plural) == bool(message.plural):
            message = message._replace(said=known.said, fuzzy=known.fuzzy)
        result.append(message)
    return result


def faults(domain: str, language: str) -> list[str]:
    """What is wrong with a catalogue, a line each."""
    wanted, have, found = texts(domain), kept(domain, language), []
    for message in wanted:
        known = have.get(message.key)
        if known is None or not all(known.said):
            found.append(f"untranslated: {message.text!r}")
        elif known.fuzzy:
            found.append(f"fuzzy: {message.text!r}")
        elif known.plural != message.plural:
            found.append(f"another plural: {message.text!r}")
        else:
            found += [
                f"other placeholders: {message.text!r} -> {said!r}"
                for said in known.said
                if not _fits(message, said)
            ]
    gone = have.keys() - {message.key for message in wanted}
    return [
        f"{domain} ({language}): {fault}"
        for fault in [*found, *(f"gone: {key[1]!r}" for key in sorted(gone))]
    ]


def _fits(message: po.CatalogueMessage, said: str) -> bool:
    """The same placeholders and tags; of a plural, those of the one or the many. White space at the ends and
    a line's end too, where lines are put together."""
    own = sorted(PLACEHOLDER.findall(said))
    forms = [message.text, *([message.plural] if message.plural else [])]
    ends = all(message.text.endswith(end) == said.endswith(end) for end in ("\n", " "))
    starts = all(message.text.startswith(start) == said.startswith(start) for start in ("\n", " "))
    return ends and starts and own in [sorted(PLACEHOLDER.findall(form)) for form in forms]


def _merge(domain: str, language: str, file: Path) -> int:
    given, result, used = json.loads(file.read_text("utf-8")), [], set[str]()
    for message in merged(domain, language):
        name = f"{message.context}\x04{message.text}" if message.context else message.text
        if name in given:
            used.add(name)
            said = given[name] if isinstance(given[name], list) else [given[name]]
            message = message._replace(said=tuple(said), fuzzy=False)
        result.append(message)
    catalogues.path(domain, language).write_text(po.write(result), "utf-8")
    unknown = given.keys() - used
    sys.stdout.write("".join(f"no such text: {name!r}\n" for name in sorted(unknown)))
    return 1 if unknown else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", default="de")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--missing", choices=DOMAINS)
    parser.add_argument("--merge", nargs=2, metavar=("DOMAIN", "FILE"))
    chosen = parser.parse_args()
    _django()
    if chosen.merge:
        return _merge(chosen.merge[0], chosen.language, Path(chosen.merge[1]))
    if chosen.missing:
        missing = [message for message in merged(chosen.missing, chosen.language) if not all(message.said)]
        missing_words = {message.text: [message.plural] if message.plural else "" for message in missing}
        sys.stdout.write(json.dumps(missing_words, ensure_ascii=False, indent=0) + "\n")
        return 0
    found = []
    for language in LANGUAGES.keys() - {ENGLISH}:
        for domain in DOMAINS:
            if chosen.write:
                path = catalogues.path(domain, language)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(po.write(merged(domain, language)), "utf-8")
            found += faults(domain, language)
    sys.stdout.write("".join(f"{fault}\n" for fault in found))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
