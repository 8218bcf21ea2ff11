"""`{% terms %} … {% endterms %}`: the words in between that few readers know lead to the glossary."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.base import Node, NodeList, Parser, Token
from django.utils.safestring import SafeString, mark_safe

from frontend.help.linked import linked

register = template.Library()


class Terms(Node):
    """What stands between the tags, rendered, with the links in it."""

    def __init__(self, nodelist: NodeList) -> None:
        self.nodelist = nodelist

    def render(self, context: Any) -> SafeString:
        """It was escaped when it was rendered; links are all that is added."""
        return mark_safe(linked(self.nodelist.render(context)))  # noqa: S308


@register.tag("terms")
def terms(parser: Parser, _token: Token) -> Terms:
    """Ends with `endterms`."""
    nodelist = parser.parse(("endterms",))
    parser.delete_first_token()
    return Terms(nodelist)
