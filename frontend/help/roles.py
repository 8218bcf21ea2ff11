"""A page of help for each role: what one is there for, and the four things that one does, in order."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class RolePage(NamedTuple):
    """`does`: what is done, each in a sentence or two."""

    key: str
    title: str | Promise
    intro: str | Promise
    does: tuple[str | Promise, ...]


PAGES = (
    RolePage(
        "site-admin",
        _("Hospital's admin"),
        _(
            "You connect your hospital, offer its data and decide on studies. No row and no text "
            "ever leaves through these pages."
        ),
        (
            _(
                "Connect the agent: your hospital's page shows one command, to be run on a machine "
                "inside. It makes the keys there and says what is missing."
            ),
            _(
                "Offer a dataset: python -m site_agent dataset add FILE. Only a card with counts is "
                "published, after you have read it."
            ),
            _(
                "Decide: a study that asks stands on your first page. Read its room, ask, wish for "
                "changes or decline; what binds is python -m site_agent approve."
            ),
            _(
                "Invite colleagues: a data protection officer, IT, researchers. Each sees what the post"
                " needs."
            ),
        ),
    ),
    RolePage(
        "officer",
        _("Data protection officer"),
        _(
            "You read what a study would do with your hospital's data, and decide. All that it says"
            " is in the study's room, in the same words as at the terminal."
        ),
        (
            _(
                "Read the six sentences at its top; all of it, in detail, folds out below with each "
                "word explained."
            ),
            _(
                "Ask in the thread, wish for changes, or decline with a reason. Nothing runs while your"
                " hospital has not signed."
            ),
            _(
                "Your yes in the browser is not yet binding. It binds when the approval key, which you "
                "or a deputy hold, signs the same fingerprint."
            ),
            _("Afterwards the room is the record: what left, round by round, with receipts, to be printed."),
        ),
    ),
    RolePage(
        "it",
        _("Hospital's IT"),
        _("You run the agent. It only connects outward, to one address, and computes inside the hospital."),
        (
            _(
                "Install it from the start-up kit: as a systemd service, in a container, or with Python"
                " by hand."
            ),
            _(
                "Look at Connection: each row that fails says what to do, and has a text for the "
                "firewall team."
            ),
            _(
                "Announce maintenance: runs wait for you, or go on without your hospital as their "
                "quorum allows."
            ),
            _(
                "Move to another machine with python -m site_agent move; two machines with one identity"
                " are refused."
            ),
        ),
    ),
    RolePage(
        "researcher",
        _("Researcher at a hospital"),
        _(
            "You describe your hospital's datasets and follow its studies. You decide nothing, and "
            "may ask everything."
        ),
        (
            _("Describe a dataset: what it is of, period, licence, legal basis, contact."),
            _("Read the studies that your hospital takes part in, and ask their leads."),
            _("Look at results: scores are of all hospitals together; none exist for a single one."),
            _("Search finds studies, runs and datasets from every page: press /."),
        ),
    ),
    RolePage(
        "lead",
        _("Study's lead"),
        _(
            "You make a study, ask hospitals, and launch it. You never see rows, and parameters "
            "only if the hospitals release them."
        ),
        (
            _("Invite hospitals and see that two of them offer a dataset."),
            _(
                "Draft the study: each step has defaults that work. The review shows exactly what "
                "hospitals will read."
            ),
            _(
                "Freeze it: its model is tried, and the hospitals are asked. Answer what they ask; "
                "changes bring it back to the draft."
            ),
            _("Launch it when all have signed, watch it, compare it, and ask for the release of its result."),
        ),
    ),
    RolePage(
        "auditor",
        _("Auditor"),
        _("You check that what ran is what was approved, without trusting this server."),
        (
            _("Have another auditor confirm you; until then your word does not count."),
            _("Say your word on measurements: what an enclave may run takes an operator and an auditor."),
            _(
                "Read the log: each entry stands in a tree that can only grow, and raw evidence can be "
                "fetched."
            ),
            _("Export a bundle and verify it on a machine of your own: python manage.py verify_bundle FILE."),
        ),
    ),
    RolePage(
        "operator",
        _("Operator"),
        _(
            "You keep the coordinator running. It holds no rows and no parameters in clear, and is "
            "believed by nobody."
        ),
        (
            _("Register a base model and put forward the reference values of the release that you run."),
            _("Invite leads and auditors; set up your second factor first."),
            _("Look at Operations: workers, queues, disks, what is kept and for how long."),
            _(
                "Back up the database and the blobs; docs/operations.md says how, and what to do when "
                "something breaks."
            ),
        ),
    ),
)
