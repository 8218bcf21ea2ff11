"""What each post at a hospital does. All who belong to a hospital read what concerns it."""

from __future__ import annotations

from typing import Final, Literal

from federation.people.models import Post, Role, User

SiteAction = Literal["invite", "run_agent", "revoke", "decide", "describe"]
ADMIN: Final = ""
"""Whoever has no post: the hospital's admin, who does all of it."""
DOES: Final[dict[SiteAction, frozenset[str]]] = {
    "invite": frozenset({ADMIN}),
    "run_agent": frozenset({ADMIN, Post.IT}),
    "revoke": frozenset({ADMIN}),
    "decide": frozenset({ADMIN, Post.OFFICER}),
    "describe": frozenset({ADMIN, Post.RESEARCHER}),
}
"""`run_agent`: its commands, suspending, maintenance. `decide`: approve in the browser, ask for changes,
decline. Everybody may ask a question."""


def may(user: User, action: SiteAction) -> bool:
    """Whether this person does so at their hospital; people of no hospital do none of it."""
    return user.role == Role.SITE_ADMIN and user.post in DOES[action]
