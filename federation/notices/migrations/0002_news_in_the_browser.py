from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

TOPICS = [
    ("asked", "Something is asked of you: an approval, a launch, a release, serving"),
    ("talk", "Somebody has written to you about a study"),
    ("trouble", "A run waits for a hospital, or a hospital could not do its work"),
    ("ended", "A run has ended, or its parameters are released"),
]


def keep_wishes(apps: Any, schema_editor: Any) -> None:
    """Who wanted no mails wants none of any topic."""
    unwanted = apps.get_model("notices", "Unwanted")
    muted = apps.get_model("notices", "Muted").objects.values_list("user_id", flat=True)
    unwanted.objects.bulk_create(
        unwanted(user_id=user, topic=topic) for user in muted for topic, _words in TOPICS
    )


class Migration(migrations.Migration):
    dependencies = [
        ("notices", "0001_initial"),
        ("studies", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Unwanted",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("topic", models.CharField(choices=TOPICS, max_length=16)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="unwanted",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="unwanted",
            constraint=models.UniqueConstraint(fields=("user", "topic"), name="one_wish_per_person_and_topic"),
        ),
        migrations.RunPython(keep_wishes, migrations.RunPython.noop),
        migrations.DeleteModel(name="Muted"),
        migrations.AddField("notice", "by_mail", models.BooleanField(default=True)),
        migrations.AddField("notice", "read_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddIndex(
            "notice",
            models.Index(condition=models.Q(("read_at", None)), fields=["user"], name="unread_notices"),
        ),
        migrations.AddIndex("notice", models.Index(fields=["user", "-id"], name="notices_of_a_person")),
    ]
