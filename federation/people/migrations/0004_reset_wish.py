from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('people', '0003_attempt'),
    ]

    operations = [
        migrations.DeleteModel(name='Attempt'),
        migrations.CreateModel(
            name='ResetWish',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.CharField(max_length=254)),
                ('at', models.DateTimeField(auto_now_add=True, db_index=True)),
                ('handled_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
    ]
