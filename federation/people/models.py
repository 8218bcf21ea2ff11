"""Who uses FedSlice: users with one role each, and the invitations by which they come."""

from __future__ import annotations

from typing import Any, ClassVar

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.utils.translation import gettext_lazy as _
from django_otp.plugins.otp_totp.models import TOTPDevice

from federation.sites.models import Site
from translations.spoken import ENGLISH, known


class Role(models.TextChoices):
    OPERATOR = "operator", _("operator")
    LEAD = "lead", _("study lead")
    SITE_ADMIN = "site_admin", _("site admin")
    AUDITOR = "auditor", _("auditor")


class Post(models.TextChoices):
    """What somebody does at a hospital; whoever has no post is its admin (federation/people/posts.py)."""

    OFFICER = "officer", _("data protection officer")
    IT = "it", _("hospital IT")
    RESEARCHER = "researcher", _("researcher")


class PeopleManager(UserManager["User"]):
    """Users are found by e-mail address, in any spelling of its letters' case."""

    def create_user(  # type: ignore[override]
        self, email: str, password: str | None = None, **fields: Any
    ) -> User:
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").strip().lower())


class User(AbstractUser):
    """A person. The role decides what they may do; a site admin belongs to one site. E-mail is lower case."""

    username = None  # type: ignore[assignment]
    email = models.EmailField(_("e-mail address"), unique=True)
    role = models.CharField(max_length=16, choices=Role)
    site = models.ForeignKey(Site, null=True, blank=True, on_delete=models.PROTECT, related_name="admins")
    post = models.CharField(max_length=16, choices=Post, blank=True)
    language = models.CharField(max_length=8, blank=True, default="")
    """Of pages and mails, as the person has chosen it; empty: the browser's."""
    browser_language = models.CharField(max_length=8, blank=True, default="")
    """Of the pages when the person last signed in: of the mails of whoever has chosen none."""
    auditor_confirmed_at = models.DateTimeField(null=True, blank=True)
    """When this person's word began to count as an auditor's (federation/people/auditors.py)."""
    time_zone = models.CharField(max_length=64, blank=True)
    """In which this person reads moments; empty: the browser's."""
    steps_put_away = models.BooleanField(default=False)
    """Whether this person wants to see the first steps of their role no longer."""

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[PeopleManager] = PeopleManager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(role=Role.SITE_ADMIN, site__isnull=False)
                | (~models.Q(role=Role.SITE_ADMIN) & models.Q(site__isnull=True)),
                name="site_admins_and_only_they_have_a_site",
            ),
            models.CheckConstraint(
                condition=models.Q(post="") | models.Q(role=Role.SITE_ADMIN),
                name="posts_are_of_a_hospital",
            ),
        ]

    def __str__(self) -> str:
        return self.get_full_name() or self.email

    def get_role_display(self) -> str:  # type: ignore[no-redef]
        """What this person is here: the post at a hospital, else the role."""
        return str(Post(self.post).label if self.post else Role(self.role).label)

    @property
    def reads(self) -> str:
        """The language of mails to this person."""
        return known(self.language or self.browser_language)


class Authenticator(TOTPDevice):
    """An authenticator app (TOTP, RFC 6238). The row's `key` is only a salt: the app's key is derived from it
    and a key outside the database, so that whoever reads the database cannot make codes."""

    class Meta:
        proxy = True

    @property
    def bin_key(self) -> bytes:
        """The 20 bytes that the app shares with us."""
        salt, kept = bytes.fromhex(self.key), settings.SECOND_FACTOR_KEY.encode()
        return HKDF(SHA256(), 20, salt, b"fedslice/second-factor/v1").derive(kept)


class Invitation(models.Model):
    """A single-use link that makes an account. Only the token's SHA-256 is kept."""

    email = models.EmailField()
    role = models.CharField(max_length=16, choices=Role)
    site = models.ForeignKey(
        Site, null=True, blank=True, on_delete=models.CASCADE, related_name="invitations"
    )
    post = models.CharField(max_length=16, choices=Post, blank=True)
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    language = models.CharField(max_length=8, default=ENGLISH)
    """Of the mail, which may be sent again."""
    invited_by = models.ForeignKey(
        User, null=True, on_delete=models.SET_NULL, related_name="invitations_sent"
    )

    class Meta:
        ordering: ClassVar = ["-created_at"]

    def get_role_display(self) -> str:  # type: ignore[no-redef]
        """As whom the person is invited."""
        return str(Post(self.post).label if self.post else Role(self.role).label)

    def __str__(self) -> str:
        return f"{self.role} {self.email}"


class ResetWish(models.Model):
    """Somebody asked for a new password for an address, which may be nobody's. Rows live for an hour."""

    address = models.CharField(max_length=254)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    handled_at = models.DateTimeField(null=True, blank=True)
