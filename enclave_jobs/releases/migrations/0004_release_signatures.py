import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("releases", "0003_which_result_of_a_sweep"),
        ("sites", "0001_initial"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="order", name="one_order_per_release_and_site"),
        migrations.RenameModel("Order", "ReleaseSignature"),
        migrations.AlterField(
            model_name="releasesignature",
            name="release",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="signatures", to="releases.release"
            ),
        ),
        migrations.AddConstraint(
            model_name="releasesignature",
            constraint=models.UniqueConstraint(
                fields=("release", "site"), name="one_signature_per_release_and_site"
            ),
        ),
    ]
