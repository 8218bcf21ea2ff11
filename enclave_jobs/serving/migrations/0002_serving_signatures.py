import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("serving", "0001_initial"),
        ("sites", "0001_initial"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="servingorder", name="one_order_per_service_and_site"),
        migrations.RenameModel("ServingOrder", "ServingSignature"),
        migrations.AlterField(
            model_name="servingsignature",
            name="service",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="signatures", to="serving.service"
            ),
        ),
        migrations.AddConstraint(
            model_name="servingsignature",
            constraint=models.UniqueConstraint(
                fields=("service", "site"), name="one_signature_per_service_and_site"
            ),
        ),
    ]
